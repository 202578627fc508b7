"""splits: decides once, at the head of a build, which videos are trained on and which are held out."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any

from pipeline.config import ExportConfig
from pipeline.dataset.splits import decide_splits
from pipeline.records import VideoSplit, digest
from pipeline.schema import content_key, from_arrow
from pipeline.stages.base import Outcome, TableOnly, Unit, fingerprint_of
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)


class SplitsStage(TableOnly):
    """Decide about all videos together; what was decided under the same settings stands."""

    name = "splits"
    record_type = VideoSplit

    def __init__(self, workspace: Workspace, config: ExportConfig, *, unlabelled_is_normal: bool = False) -> None:
        self._workspace = workspace
        self._config = config
        self._unlabelled_is_normal = unlabelled_is_normal

    def identity(self) -> Mapping[str, Any]:
        return {"code": 1, **self._config.model_dump(include={"validation_fraction", "test_fraction"})}

    def units(self) -> Iterator[Unit[VideoSplit]]:
        for row in self._decided:
            yield Unit(key=content_key(row), record_id=row.video_id, payload=row)

    def sources(self) -> str:
        tables = (self._workspace.videos, self._workspace.glances, self._workspace.looks)
        return digest([table.digest() for table in tables], self._unlabelled_is_normal)

    def run(self, units: Iterable[Unit[VideoSplit]]) -> Iterator[Outcome[VideoSplit]]:
        told: set[str | None] = {None}
        for unit in units:
            if unit.payload.note not in told:
                logger.warning("splits: %s", unit.payload.note)
                told.add(unit.payload.note)
            yield Outcome(rows=[unit.payload])

    @cached_property
    def _decided(self) -> list[VideoSplit]:
        # Once for the stage: everything is compared with everything that is as long.
        clicked = set(self._workspace.glances.arrow(["video_id"]).column("video_id").to_pylist())
        videos = list(self._workspace.videos.records())
        return decide_splits(
            videos, self._workspace.looks.records(), clicked, self._earlier(), self._config,
            unlabelled_is_normal=self._unlabelled_is_normal,
        )  # fmt: skip

    def _earlier(self) -> list[VideoSplit]:
        """Return what was decided before under these settings."""
        ours = fingerprint_of(self)
        return [
            row
            for batch in self._workspace.splits.batches()
            for row, made_under in zip(
                from_arrow(VideoSplit, [batch]), batch.column("fingerprint").to_pylist(), strict=True
            )
            if made_under == ours
        ]
