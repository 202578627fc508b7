"""score: from features to anomaly scores by a trained sampler."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FeaturesConfig, SamplerConfig
from pipeline.devices import pick_device
from pipeline.errors import RecordError, SetupError
from pipeline.features.base import open_features, snippet_edges, snippet_s, snippets_that_begin
from pipeline.needs import Needs, needs_of_device
from pipeline.records import FeatureFile, Reason, Scores, Video, digest
from pipeline.sampler.curve import LONG_LOSS_S, ScoreCurve
from pipeline.schema import content_key
from pipeline.stages.array_files import ArrayFiles
from pipeline.stages.base import Outcome, Travelling, Unit
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.sampler.model_io import TrainedSampler


FeaturedVideo = tuple[Video, FeatureFile]
"""A video and its features."""


@dataclass(frozen=True, slots=True)
class _Sampler:
    """A trained sampler: its folder, and the hash of its weights or of what it was trained on."""

    folder: str
    identity: str


class ScoreStage(Travelling[FeaturedVideo, Scores]):
    """Score every video that has features with the configured sampler, or with one trained here on the clicks."""

    name = "score"
    record_type = Scores

    def __init__(self, workspace: Workspace, config: SamplerConfig, features: FeaturesConfig | None = None) -> None:
        """Take the settings of the sampler, and of the features that it is trained on and scores, where known."""
        self._workspace = workspace
        self._config = config
        self._features = features
        self._files = ArrayFiles(workspace, "scores")
        self._loaded: TrainedSampler | None = None

    @cached_property
    def _identity(self) -> str:
        if self._config.weights is not None:
            from pipeline.sampler.model_io import weights_digest

            return weights_digest(Path(self._config.weights))
        from pipeline.sampler.data import load_corpus
        from pipeline.sampler.training import training_key

        return training_key(load_corpus(self._workspace), self._config)

    def identity(self) -> Mapping[str, Any]:
        return {"code": 2, "sampler": self._identity}

    def units(self) -> Iterator[Unit[FeaturedVideo]]:
        videos = {video.video_id: video for video in self._workspace.videos.records()}
        for features in self._workspace.features.records():
            video = videos.get(features.video_id)
            if video is not None:
                key = digest(content_key(features), video.num_frames, video.fps, video.lost)
                yield Unit(key=key, record_id=features.video_id, payload=(video, features))

    def needs(self) -> Needs | None:
        if not self._workspace.storage.is_local:
            # The sampler lies where it was trained.
            return None
        return needs_of_device(self._config.device, memory_mb=2048)

    def reads(self, payload: FeaturedVideo) -> str:
        return str(self._workspace.storage.local_path(payload[1].path))

    def brief(self) -> _Sampler:
        """Return the sampler, trained where it is not up to date."""
        if self._config.weights is not None:
            return _Sampler(self._config.weights, self._identity)
        from pipeline.sampler.training import ensure_sampler

        folder, _ = ensure_sampler(self._workspace, self._config, features=self._features)
        return _Sampler(str(folder), self._identity)

    def work(self, units: Iterable[Unit[FeaturedVideo]], brief: _Sampler) -> Iterator[Outcome[Scores]]:
        from pipeline.sampler.model_io import load_sampler

        if self._loaded is None:
            self._loaded = load_sampler(Path(brief.folder), pick_device(self._config.device, "sampler.device"))
            if self._config.weights is not None:
                self._check(self._loaded)
        for unit in units:
            try:
                yield Outcome(rows=[self._score(self._loaded, brief.identity, *unit.payload)])
            except RecordError as fault:
                yield Outcome(rejected=[(unit.record_id, fault)])

    def is_intact(self, row: Scores) -> bool:
        """Tell whether the file of a row is there."""
        return self._files.has(row.path)

    def finish(self) -> None:
        """Remove files that belong to no row."""
        self._files.sweep(self._workspace.scores.arrow(["path"]).column("path").to_pylist())

    def _check(self, sampler: TrainedSampler) -> None:
        """Compare how the training's videos were seen with how these are; width and rhythm are compared as they score.

        Raises:
            SetupError: a setting differs.
        """
        seen = {} if self._features is None else self._features.seen()
        for name, value in sampler.features.items():
            if seen.get(name, value) != value and name not in {"encoder", "stride_frames"}:
                raise SetupError(
                    f"the sampler was trained with features.{name}={value}; the features are made with {seen[name]}"
                )

    def _score(self, sampler: TrainedSampler, identity: str, video: Video, features: FeatureFile) -> Scores:
        scores = score_features(self._workspace, sampler, video, features)
        buffer = io.BytesIO()
        np.save(buffer, scores)
        path = self._workspace.scores_file(video.video_id)
        self._workspace.storage.write(path, buffer.getvalue())
        return Scores(
            video_id=video.video_id,
            path=path,
            num_snippets=len(scores),
            stride_frames=features.stride_frames,
            sampler=identity,
            sha256=sha256(buffer.getvalue()).hexdigest(),
        )


class WorkspaceScorer:
    """Scores videos by a trained sampler from the features that a workspace holds, and writes nothing.

    Attributes:
        theta: the score from which a peak is an event.
        version: hash of the sampler.
    """

    def __init__(self, workspace: Workspace, folder: Path, device: str = "auto") -> None:
        """Load the sampler in a folder.

        Raises:
            SetupError: there is none, or no such device.
        """
        from pipeline.sampler.model_io import load_sampler, weights_digest

        self._workspace = workspace
        self._sampler = load_sampler(folder, pick_device(device, "sampler.device"))
        self._features = {features.video_id: features for features in workspace.features.records()}
        self.theta = self._sampler.theta
        self.version = weights_digest(folder)

    def curve(self, video: Video) -> ScoreCurve:
        """Return the scores of a video.

        Raises:
            RecordError: NO_FEATURES, it has none; or their file is unreadable.
            SetupError: the sampler was trained on features of another kind.
        """
        features = self._features.get(video.video_id)
        if features is None:
            raise RecordError(Reason.NO_FEATURES, f"{video.video_id} has no features")
        scores = score_features(self._workspace, self._sampler, video, features)
        lost = video.long_losses(LONG_LOSS_S)
        return ScoreCurve(scores, features.stride_frames, video.num_frames, video.fps, lost)


def score_features(
    workspace: Workspace, sampler: TrainedSampler, video: Video, features: FeatureFile
) -> NDArray[np.float32]:
    """Return the anomaly scores of a video whose features a workspace holds, float32 in [0, 1], shape (T,).

    Raises:
        SetupError: the sampler was trained on features of another kind.
        RecordError: the file of the features is unreadable.
    """
    if (features.encoder, features.stride_frames) != (sampler.encoder, sampler.stride_frames):
        # A stride of 0 are equal parts of the video.
        raise SetupError(
            f"the sampler was trained on {sampler.encoder} every {sampler.stride_frames} frames; the features are "
            f"{features.encoder} every {features.stride_frames} frames"
        )
    stored = open_features(workspace.storage.local_path(features.path))
    count, stride = features.num_snippets, features.stride_frames
    edges = snippet_edges(video.num_frames, count, stride)
    breaks = snippets_that_begin(chain.from_iterable(video.long_losses(LONG_LOSS_S)), edges)
    return sampler.score(stored, snippet_s(video.num_frames, count, stride, video.fps), breaks)
