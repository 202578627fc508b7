"""Smoothing of scores over time."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

REACH = 4.0
"""Standard deviations after which a Gaussian counts as zero."""


def smooth(scores: NDArray[np.float32], sigma: float, breaks: Sequence[int] = ()) -> NDArray[np.float32]:
    """Return scores smoothed by a Gaussian of `sigma` snippets, the ends continued; 0 leaves them as they are.

    What lies on either side of each of `breaks`, ascending places within the scores, does not meet.
    """
    reach = int(np.ceil(REACH * sigma))
    if reach == 0:
        return scores
    parts = [gaussian(part, sigma, reach) for part in np.split(scores.astype(np.float64), breaks)]
    return np.clip(np.concatenate(parts), 0.0, 1.0).astype(np.float32)


def gaussian(values: NDArray[np.float64], sigma: float, reach: int) -> NDArray[np.float64]:
    """Return values, shape (N,), under a Gaussian of `sigma` cut off after `reach` places, the ends continued."""
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, reach, mode="edge")
    smoothed: NDArray[np.float64] = np.convolve(padded, kernel / kernel.sum(), mode="valid")
    return smoothed
