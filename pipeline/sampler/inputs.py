"""From stored features to what the network sees: the same in training and in use."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import Recipe
from pipeline.features.base import of_unit_length
from pipeline.features.motion import DIM, pool_positions

Floats = NDArray[np.float32]

_CALM_QUANTILE = 0.25
_POOLED_AT_ONCE = 4096  # snippets
_CLIP = 4.0  # standard deviations; a rare extreme must not outweigh everything else


@dataclass(frozen=True, eq=False)
class InputScale:
    """Means and deviations over the training videos, float32, shape (D,)."""

    mean: Floats
    deviation: Floats


def arrange(features: NDArray[np.floating], recipe: Recipe) -> Floats:
    """Take a part of features, pool, compress and compare them as the recipe says, all but their scaling.

    Args:
        features: of one video, shape (crops, T, dim).
        recipe: part, pooling, unit_length, context and standardise are read.

    Returns:
        Shape (crops, T, D).
    """
    if recipe.part != "all":
        features = features[..., :DIM] if recipe.part == "motion" else features[..., DIM:]
    if recipe.pooling == "positions":
        # Pooled, a video of hours fits into memory easily; as it is stored, it need not.
        parts = [
            _pooled(np.asarray(features[:, first : first + _POOLED_AT_ONCE], dtype=np.float32))
            for first in range(0, features.shape[1], _POOLED_AT_ONCE)
        ]
        values = np.concatenate(parts, axis=1)
    else:
        values = np.asarray(features, dtype=np.float32)
    if recipe.unit_length:
        values = of_unit_length(values)
    if recipe.standardise:
        values = np.sign(values) * np.sqrt(np.abs(values))
    if recipe.context == "video":
        # How crowded or windy a place is shows in its calm moments; what departs from them is what happens there.
        calm = np.quantile(values, _CALM_QUANTILE, axis=1, keepdims=True).astype(np.float32)
        values = np.concatenate([values, values - calm], axis=-1)
    return values


def _pooled(features: Floats) -> Floats:
    """Pool motion, which comes first, and keep what another encoder put beside it."""
    return np.concatenate([pool_positions(features[..., :DIM]), features[..., DIM:]], axis=-1)


def arranged_dim(dim: int, recipe: Recipe) -> int:
    """Return how many values `arrange` makes of a snippet's `dim` features."""
    return arrange(np.zeros((1, 1, dim), dtype=np.float32), recipe).shape[2]


def measure_scale(videos: Callable[[], Iterable[Floats]]) -> InputScale:
    """Measure the scale of arranged features, each of shape (crops, T, D), in memory for one of them at a time."""
    count = sum(video.shape[0] * video.shape[1] for video in videos())
    mean = sum(video.sum(axis=(0, 1), dtype=np.float64) for video in videos()) / count
    variance = sum(np.square(video - mean).sum(axis=(0, 1)) for video in videos()) / count
    deviation = np.sqrt(variance)
    # A feature that never changes says nothing and must not be blown up where it does.
    return InputScale(mean.astype(np.float32), np.where(deviation > 1e-6, deviation, np.inf).astype(np.float32))


def scaled(values: Floats, scale: InputScale | None) -> Floats:
    """Apply the scale of the training videos."""
    if scale is None:
        return values
    return np.clip((values - scale.mean) / scale.deviation, -_CLIP, _CLIP)


def segment_bounds(count: int, segments: int) -> NDArray[np.int64]:
    """Return where the parts of a video begin and end, shape (parts + 1,), of at most `segments` parts."""
    return np.linspace(0, count, min(count, segments) + 1).astype(np.int64)


def to_segments(values: Floats, bounds: NDArray[np.int64]) -> Floats:
    """Average snippets over parts, shape (crops, parts, D)."""
    if len(bounds) - 1 == values.shape[1]:
        return values
    sums = np.add.reduceat(values, bounds[:-1], axis=1)
    return np.asarray(sums / np.diff(bounds)[None, :, None], dtype=np.float32)
