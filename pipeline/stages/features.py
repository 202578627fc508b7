"""features: from videos to one feature file each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipeline.config import FeaturesConfig, VideoConfig
from pipeline.errors import RecordError
from pipeline.features.base import FeatureEncoder, FeatureJob
from pipeline.features.factory import make_encoder
from pipeline.needs import Keeping, Needs, Placed
from pipeline.records import FeatureFile, Video
from pipeline.schema import content_key
from pipeline.stages.array_files import ArrayFiles
from pipeline.stages.base import Outcome, Travelling, Unit, in_step
from pipeline.workspace import Workspace


class FeaturesStage(Travelling[Video, FeatureFile]):
    """Encode every video. The encoder can be replaced, e.g. by one that costs nothing."""

    name = "features"
    record_type = FeatureFile

    def __init__(
        self, workspace: Workspace, config: FeaturesConfig, video: VideoConfig, encoder: FeatureEncoder | None = None
    ) -> None:
        self._workspace = workspace
        self._config = config
        self._video = video
        self._encoder = encoder or make_encoder(config, video)
        self._files = ArrayFiles(workspace, "features")

    def identity(self) -> Mapping[str, Any]:
        return {
            "code": 1,
            "stride_frames": self._config.snippet_frames,
            **self._video.identity(),
            **self._encoder.identity(),
        }

    def units(self) -> Iterator[Unit[Video]]:
        for video in self._workspace.videos.records():
            # A new label or split asks for no new features.
            key = content_key(replace(video, label=None, split=None))
            yield Unit(key=key, record_id=video.video_id, payload=video)

    def sources(self) -> str:
        return self._workspace.videos.digest()

    def needs(self) -> Needs | None:
        return self._encoder.needs() if isinstance(self._encoder, Placed) else None

    def reads(self, payload: Video) -> str:
        return payload.path

    def keep(self) -> None:
        if isinstance(self._encoder, Keeping):
            self._encoder.keep()

    def work(self, units: Iterable[Unit[Video]], brief: None) -> Iterator[Outcome[FeatureFile]]:  # noqa: ARG002
        for unit, made in in_step(units, lambda videos: self._encoder.encode(map(self._job, videos))):
            if isinstance(made, RecordError):
                yield Outcome(rejected=[(unit.record_id, made)])
                continue
            row = FeatureFile(
                video_id=unit.record_id,
                encoder=self._encoder.name,
                crops=made.crops,
                num_snippets=made.num_snippets,
                dim=made.dim,
                stride_frames=self._config.snippet_frames,
                path=self._workspace.features_file(unit.record_id),
                sha256=made.sha256,
            )
            yield Outcome(rows=[row])

    def _job(self, video: Video) -> FeatureJob:
        path = self._workspace.storage.local_path(self._workspace.features_file(video.video_id))
        return FeatureJob(video=video, stride_frames=self._config.snippet_frames, path=path)

    def is_intact(self, row: FeatureFile) -> bool:
        """Tell whether the file of a row is there."""
        return self._files.has(row.path)

    def finish(self) -> None:
        """Remove files that belong to no row."""
        self._files.sweep(self._workspace.features.arrow(["path"]).column("path").to_pylist())
