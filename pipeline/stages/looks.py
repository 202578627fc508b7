"""looks: what a video looks like, of those that could be copies of one another."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from pipeline.config import VideoConfig
from pipeline.dataset.copies import could_be_copies
from pipeline.errors import RecordError
from pipeline.records import Look, Video
from pipeline.stages.base import Outcome, TableOnly, Travelling, Unit, in_step
from pipeline.workspace import Workspace


class LooksStage(Travelling[Video, Look], TableOnly):
    """Look at every content that another one equals in length: nothing else can be its copy."""

    name = "looks"
    record_type = Look

    def __init__(self, workspace: Workspace, video: VideoConfig) -> None:
        self._workspace = workspace
        self._video = video

    def identity(self) -> Mapping[str, Any]:
        return {"code": 1}

    def units(self) -> Iterator[Unit[Video]]:
        for video in could_be_copies(self._workspace.videos.records()):
            yield Unit(key=video.sha256, record_id=video.video_id, payload=video)

    def sources(self) -> str:
        return self._workspace.videos.digest()

    def reads(self, payload: Video) -> str:
        return payload.path

    def work(self, units: Iterable[Unit[Video]], brief: None) -> Iterator[Outcome[Look]]:  # noqa: ARG002
        from pipeline.video.pool import VideoPool

        with VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool:
            for unit, made in in_step(units, lambda videos: pool.map(look_at_file, (video.path for video in videos))):
                if isinstance(made, RecordError):
                    yield Outcome(rejected=[(unit.record_id, made)])
                else:
                    yield Outcome(rows=[Look(sha256=unit.payload.sha256, pictures=made)])


def look_at_file(path: str) -> str:
    """Look at one file; runs in a worker process."""
    from pipeline.video.look import look_at

    return look_at(path)
