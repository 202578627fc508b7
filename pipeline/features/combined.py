"""Several encoders at once: their features side by side, those of vision models scaled to length 1.

Motion comes first, and keeps its units: fast is not the same as slow.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice, tee
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.features.base import (
    EncodedVideo,
    FeatureEncoder,
    FeatureJob,
    FeatureStream,
    Floats,
    LiveFeatures,
    num_snippets,
    of_unit_length,
    open_features,
    write_features,
)
from pipeline.features.motion import MotionEncoder
from pipeline.needs import Keeping, Needs, Placed, needs_of_all
from pipeline.video.readers import ReaderName

_BLOCK = 32  # snippets


class CombinedEncoder:
    """Encodes every video by each of several encoders."""

    def __init__(self, name: str, parts: Mapping[str, FeatureEncoder]) -> None:
        self.name = name
        self._parts = parts

    def identity(self) -> Mapping[str, Any]:
        """Return what decides the features: the parts, in their order."""
        return {"encoder": self.name, "version": 1, "parts": [part.identity() for part in self._parts.values()]}

    def needs(self) -> Needs | None:
        """Return what the parts take up together, None where one of them cannot travel."""
        return needs_of_all([part.needs() if isinstance(part, Placed) else None for part in self._parts.values()])

    def keep(self) -> None:
        """Keep the models of all parts."""
        for part in self._parts.values():
            if isinstance(part, Keeping):
                part.keep()

    def encode(self, jobs: Iterable[FeatureJob]) -> Iterator[EncodedVideo | RecordError]:
        """Write the file of every job from those of the parts, which are removed."""
        wholes, *copies = tee(jobs, len(self._parts) + 1)
        encoded = [
            part.encode(map(partial(_part_job, place), copy))
            for place, (part, copy) in enumerate(zip(self._parts.values(), copies, strict=True))
        ]
        # The parts first: they take the jobs when they can, and `wholes` must not hold them up.
        for *made, job in zip(*encoded, wholes, strict=True):
            paths = [_part_path(job.path, place) for place in range(len(made))]
            try:
                faults = [fault for fault in made if isinstance(fault, RecordError)]
                yield faults[0] if faults else self._join(job, paths)
            except RecordError as fault:
                yield fault
            finally:
                for path in paths:
                    path.unlink(missing_ok=True)

    def _join(self, job: FeatureJob, paths: Sequence[Path]) -> EncodedVideo:
        arrays = [open_features(path) for path in paths]
        count = num_snippets(job.video.num_frames, job.stride_frames)
        blocks = (
            np.concatenate(
                [_alike(name, a[:, at : at + _BLOCK]) for name, a in zip(self._parts, arrays, strict=True)], 2
            )
            for at in range(0, count, _BLOCK)
        )
        return write_features(job.path, count, job.video.video_id, blocks)


class CombinedStream:
    """Computes the features of several encoders in this process. See `FeatureStream`."""

    def __init__(self, parts: Mapping[str, FeatureStream]) -> None:
        self._parts = parts

    def blocks(self, path: str | Path, stride_frames: int, reader: ReaderName) -> Iterator[Floats]:
        """Yield features of all parts, block by block."""
        rows = [_rows(name, part.blocks(path, stride_frames, reader)) for name, part in self._parts.items()]
        joined = (np.concatenate(of_snippet, axis=1) for of_snippet in zip(*rows, strict=True))
        while block := list(islice(joined, _BLOCK)):
            yield np.stack(block, axis=1)

    def live(self, width: int, height: int, fps: float, stride_frames: int) -> LiveCombined:
        """Return what computes the features of frames that come one by one."""
        return LiveCombined({name: part.live(width, height, fps, stride_frames) for name, part in self._parts.items()})


class LiveCombined:
    """Computes features of several encoders as frames come. See `LiveFeatures`."""

    def __init__(self, parts: Mapping[str, LiveFeatures]) -> None:
        self.size = max(part.size for part in parts.values())
        self._parts = parts
        self._waiting: dict[str, list[Floats]] = {name: [] for name in parts}

    def wants(self, index: int) -> bool:
        """Tell whether any part wants the frame."""
        return any(part.wants(index) for part in self._parts.values())

    def add(self, index: int, frame: NDArray[np.uint8], time_s: float) -> list[Floats]:
        """Give the frame to the parts that want it, in their size."""
        import cv2

        for name, part in self._parts.items():
            if part.wants(index):
                small = cv2.resize(frame, part.size, interpolation=cv2.INTER_AREA)
                self._waiting[name] += part.add(index, small, time_s)
        return self._finished()

    def finish(self, count: int) -> list[Floats]:
        """Return what is left of the snippets up to `count`."""
        for name, part in self._parts.items():
            self._waiting[name] += part.finish(count)
        return self._finished()

    def _finished(self) -> list[Floats]:
        ready = min(len(rows) for rows in self._waiting.values())
        parts = [[_alike(name, row) for row in rows[:ready]] for name, rows in self._waiting.items()]
        for rows in self._waiting.values():
            del rows[:ready]
        return [np.concatenate(of_snippet) for of_snippet in zip(*parts, strict=True)]


def _rows(name: str, blocks: Iterable[Floats]) -> Iterator[Floats]:
    """Yield the features of one snippet after the other, shape (crops, dim)."""
    for block in blocks:
        yield from _alike(name, block).swapaxes(0, 1)


def _alike(name: str, features: NDArray[np.floating]) -> Floats:
    values: Floats = np.asarray(features, dtype=np.float32)
    if name == MotionEncoder.name:
        return values
    return of_unit_length(values)


def _part_job(place: int, job: FeatureJob) -> FeatureJob:
    return replace(job, path=_part_path(job.path, place))


def _part_path(path: Path, place: int) -> Path:
    return path.with_name(f"{path.stem}.part{place}{path.suffix}")
