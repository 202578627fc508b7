"""The training videos of a workspace, and batches of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from pipeline.config import Recipe
from pipeline.errors import DataError
from pipeline.features.base import open_features, snippet_edges, snippet_s
from pipeline.records import NORMAL
from pipeline.sampler.inputs import (
    Floats,
    InputScale,
    arrange,
    arranged_dim,
    measure_scale,
    scaled,
    segment_bounds,
    to_segments,
)
from pipeline.sampler.losses import Targets
from pipeline.workspace import Workspace


@dataclass(frozen=True)
class LabelledVideo:
    """A video with features and with a label or clicks.

    Attributes:
        glances: snippets that hold a click, ascending, each once.
        snippet_s: seconds of a snippet.
        split: train; or validation, where the manifest says so.
        copies: the same for all copies of a video.
        content: sha256 of the video file.
        sha256: of the features file.
    """

    video_id: str
    path: Path
    num_snippets: int
    snippet_s: float
    is_abnormal: bool
    glances: tuple[int, ...]
    split: str
    copies: str
    content: str
    sha256: str

    @property
    def identity(self) -> tuple[object, ...]:
        """All that training takes from the video, for fingerprints."""
        shown = (self.content, self.sha256, self.snippet_s)
        return (self.video_id, *shown, self.is_abnormal, self.glances, self.split, self.copies)

    @cached_property
    def glance_distance_s(self) -> NDArray[np.float32]:
        """Seconds from the middle of each snippet to the nearest click's snippet, infinite without clicks."""
        if not self.glances:
            return np.full(self.num_snippets, np.inf, dtype=np.float32)
        apart = np.abs(np.arange(self.num_snippets)[:, None] - np.array(self.glances)[None, :]).min(axis=1)
        return np.asarray(apart * self.snippet_s, dtype=np.float32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Corpus:
    """The labelled videos of a workspace, and what their features have in common."""

    videos: tuple[LabelledVideo, ...]
    encoder: str
    dim: int
    stride_frames: int


def load_corpus(workspace: Workspace) -> Corpus:
    """Collect the videos to train on: those of the train split with features and a label.

    A validation split that the manifest names chooses among networks, so that it is there too. One that was drawn is
    too small for that, and is held out as the test split is.

    Raises:
        DataError: if there are no normal or no abnormal ones, their features are of several kinds, or their splits are
            not decided.
    """
    decided = workspace.decided_splits()
    clicks: dict[str, list[int]] = {}
    for glance in workspace.glances.records():
        clicks.setdefault(glance.video_id, []).append(glance.frame_index)
    known = {video.video_id: video for video in workspace.videos.records()}
    kinds: dict[tuple[str, int, int, int], list[str]] = {}
    videos = []
    for row in workspace.features.records():
        video = known.get(row.video_id)
        if video is None or (video.label is None and row.video_id not in clicks):
            continue
        split = decided[row.video_id]
        if split.split != "train" and (split.split, split.decided_by) != ("validation", "manifest"):
            continue
        kinds.setdefault((row.encoder, row.dim, row.crops, row.stride_frames), []).append(row.video_id)
        edges = snippet_edges(video.num_frames, row.num_snippets, row.stride_frames)
        glances = np.unique(np.searchsorted(edges[1:-1], clicks.get(row.video_id, []), side="right")).tolist()
        videos.append(
            LabelledVideo(
                video_id=row.video_id,
                path=workspace.storage.local_path(row.path),
                num_snippets=row.num_snippets,
                snippet_s=snippet_s(video.num_frames, row.num_snippets, row.stride_frames, video.fps),
                is_abnormal=bool(glances) or video.label != NORMAL,
                glances=tuple(glances),
                split=split.split,
                copies=split.copies,
                content=video.sha256,
                sha256=row.sha256,
            )
        )
    if len(kinds) > 1:
        found = "; ".join(
            f"{encoder} of {dim} values, {crops} crop(s), {_rhythm(stride)}: {len(names)} videos such as {min(names)}"
            for (encoder, dim, crops, stride), names in sorted(kinds.items())
        )
        raise DataError(f"{workspace.url}: features of several kinds: {found}")
    abnormal = sum(video.is_abnormal for video in videos)
    if not 0 < abnormal < len(videos):
        raise DataError(
            f"{workspace.url}: the sampler needs normal and abnormal training videos with features; there are "
            f"{len(videos) - abnormal} and {abnormal}"
        )
    [(encoder, dim, _, stride_frames)] = kinds
    # Sorted, so that neither batches nor folds depend on the order in which files were found.
    ordered = tuple(sorted(videos, key=lambda video: video.video_id))
    return Corpus(videos=ordered, encoder=encoder, dim=dim, stride_frames=stride_frames)


def _rhythm(stride_frames: int) -> str:
    return f"every {stride_frames} frames" if stride_frames else "equal parts of a video"


class FeatureSource:
    """Features of labelled videos, arranged and scaled as a recipe says; small sets stay in memory."""

    _KEEP_VALUES = 1 << 27  # float32 values, half a gigabyte
    _KEEP_ARRANGED = 1 << 29  # of those that cost time to arrange

    def __init__(self, videos: Sequence[LabelledVideo], recipe: Recipe, scale: InputScale | None = None) -> None:
        self.recipe = recipe
        self.scale = scale
        self._kept: dict[str, Floats] = {}
        shapes = [open_features(video.path).shape for video in videos]
        values = sum(crops * count for crops, count, _ in shapes) * arranged_dim(shapes[0][2], recipe)
        arranges = recipe.pooling != "none" or recipe.standardise or recipe.unit_length or recipe.context != "none"
        self._keeps = values < (self._KEEP_ARRANGED if arranges else self._KEEP_VALUES)

    def arranged(self, video: LabelledVideo) -> Floats:
        """Return a video's features before scaling, shape (crops, T, D)."""
        if video.video_id not in self._kept:
            values = arrange(open_features(video.path), self.recipe)
            if not self._keeps:
                return values
            self._kept[video.video_id] = values
        return self._kept[video.video_id]

    def read(self, video: LabelledVideo) -> Floats:
        """Return what the network sees of a video, shape (crops, T, D)."""
        return scaled(self.arranged(video), self.scale)

    def fit(self, videos: Sequence[LabelledVideo]) -> None:
        """Measure the scale over training videos, where the recipe asks for one."""
        if self.recipe.standardise:
            self.scale = measure_scale(lambda: map(self.arranged, videos))


@dataclass(frozen=True, slots=True)
class Batch:
    """As many normal as abnormal videos, the normal ones first; features of shape (2B, crops, T, D).

    `lengths` is None where no video is padded.
    """

    features: torch.Tensor
    lengths: torch.Tensor | None
    targets: Targets

    def parts(self, snippets: int) -> Iterator[Batch]:
        """Yield parts that hold at most so many snippets, all crops counted, but at least a pair of videos."""
        pairs = self.targets.pairs
        _, crops, count, _ = self.features.shape
        # No loss looks across pairs, so that nothing smaller than a pair would give the gradient of the whole.
        at_once = max(1, snippets // (2 * crops * count))
        if at_once >= pairs:
            yield self
            return
        for first in range(0, pairs, at_once):
            end = min(pairs, first + at_once)
            targets = self.targets.part(first, end)
            # Of the padding only what this part's longest video leaves.
            longest = targets.glances.shape[1]
            rows = [slice(first, end), slice(pairs + first, pairs + end)]
            features = torch.cat([self.features[row, :, :longest] for row in rows])
            padded = bool((targets.lengths < features.shape[2]).any())
            yield Batch(features=features, lengths=targets.lengths if padded else None, targets=targets)


class Batches:
    """The batch of every training step, a function of seed and step alone: training resumes without replaying."""

    def __init__(self, videos: Sequence[LabelledVideo], source: FeatureSource, recipe: Recipe, seed: int) -> None:
        self._normal = [video for video in videos if not video.is_abnormal]
        self._abnormal = [video for video in videos if video.is_abnormal]
        self._source = source
        self._recipe = recipe
        self._seed = seed
        self._half = min(recipe.batch_videos, max(len(self._normal), len(self._abnormal)))
        self._longest = min(recipe.segments, max(video.num_snippets for video in videos))

    def at(self, step: int) -> Batch:
        """Return the batch of a step, counted from 0."""
        chosen = [self._normal[i] for i in self._draw(len(self._normal), step, 0)]
        chosen += [self._abnormal[i] for i in self._draw(len(self._abnormal), step, 1)]
        rng = np.random.default_rng((self._seed, step, 2))
        parts = [segment_bounds(video.num_snippets, self._recipe.segments) for video in chosen]
        first = self._pick_crops(self._source.read(chosen[0]), rng)
        features = np.zeros((len(chosen), first.shape[0], self._longest, first.shape[2]), dtype=np.float32)
        for row, (video, bounds) in enumerate(zip(chosen, parts, strict=True)):
            values = first if row == 0 else self._pick_crops(self._source.read(video), rng)
            features[row, :, : len(bounds) - 1] = to_segments(values, bounds)
        lengths = torch.tensor([len(bounds) - 1 for bounds in parts])
        glances, distance_s = self._clicks(chosen[self._half :], parts[self._half :])
        padded = bool((lengths < self._longest).any())
        return Batch(
            features=torch.from_numpy(features),
            lengths=lengths if padded else None,
            targets=Targets(lengths=lengths, glances=glances, glance_distance_s=distance_s),
        )

    def _draw(self, count: int, step: int, stream: int) -> NDArray[np.int64]:
        """Return the videos of a step: one shuffled round after the other, so that all come equally often."""
        places = np.arange(step * self._half, (step + 1) * self._half)
        rounds = {
            number: np.random.default_rng((self._seed, number, stream)).permutation(count)
            for number in range(int(places[0]) // count, int(places[-1]) // count + 1)
        }
        return np.array([rounds[place // count][place % count] for place in places.tolist()])

    def _pick_crops(self, values: Floats, rng: np.random.Generator) -> Floats:
        wanted = self._recipe.crops
        if not 0 < wanted < len(values):
            return values
        return values[np.sort(rng.choice(len(values), wanted, replace=False))]

    def _clicks(
        self, videos: Sequence[LabelledVideo], parts: Sequence[NDArray[np.int64]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        glances = torch.zeros(len(videos), self._longest, dtype=torch.bool)
        distance_s = torch.full((len(videos), self._longest), torch.inf)
        for row, (video, bounds) in enumerate(zip(videos, parts, strict=True)):
            held_by = np.searchsorted(bounds, np.array(video.glances, dtype=np.int64), side="right") - 1
            glances[row, held_by] = True
            nearest = np.minimum.reduceat(video.glance_distance_s, bounds[:-1])
            distance_s[row, : len(nearest)] = torch.from_numpy(nearest)
        return glances, distance_s
