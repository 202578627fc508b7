"""Decoding in the process that uses the frames."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from pipeline.errors import RecordError
from pipeline.models.clip_files import ClipJob
from pipeline.models.clip_frames import ClipFrames


class InlineDecoding:
    """Stands in for a `VideoPool` where there can be none: clips are decoded when they are waited for."""

    workers = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *fault: object) -> None:
        pass

    def submit(self, fn: Callable[[ClipJob], ClipFrames], item: ClipJob) -> Callable[[], ClipFrames | RecordError]:
        """Return what calls `fn(item)`, for its result or the `RecordError` that it raises."""

        def outcome() -> ClipFrames | RecordError:
            try:
                return fn(item)
            except RecordError as fault:
                return fault

        return outcome
