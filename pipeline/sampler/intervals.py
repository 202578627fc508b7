"""Half-open intervals as arrays: stretches of a mask, joining, overlap."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int64]


def runs(mask: NDArray[np.bool_]) -> IntArray:
    """Return the stretches in which `mask` is true as [start, end) pairs, ascending: shape (n, 2)."""
    steps = np.diff(np.concatenate(([0], mask.astype(np.int8), [0])))
    return np.column_stack((np.flatnonzero(steps == 1), np.flatnonzero(steps == -1)))


def join(intervals: IntArray, gap: float = 0.0) -> IntArray:
    """Join intervals, ascending in start and in end, that overlap, touch or lie less than `gap` apart: shape (n, 2)."""
    if len(intervals) < 2:
        return intervals
    starts, ends = intervals.T
    distance = starts[1:] - ends[:-1]
    apart = (distance > 0) & (distance >= gap)
    return np.column_stack((starts[np.append(True, apart)], ends[np.append(apart, True)]))


def temporal_iou(first: NDArray[np.generic], second: NDArray[np.generic]) -> NDArray[np.float64]:
    """Return the intersection over union of every pair of non-empty intervals.

    Args:
        first: [start, end) pairs, shape (n, 2).
        second: as `first`, shape (m, 2), in the same unit.

    Returns:
        Ratios in [0, 1], shape (n, m).
    """
    a, b = first.astype(np.float64)[:, None], second.astype(np.float64)[None]
    shared = np.minimum(a[..., 1], b[..., 1]) - np.maximum(a[..., 0], b[..., 0])
    shared = np.maximum(shared, 0.0)
    union = (a[..., 1] - a[..., 0]) + (b[..., 1] - b[..., 0]) - shared
    return np.asarray(shared / union, dtype=np.float64)


def middle(mask: NDArray[np.bool_]) -> int:
    """Return the middle one of the true positions: of equally good places none is at an edge without need."""
    positions = np.flatnonzero(mask)
    return int(positions[len(positions) // 2])
