"""Which frames of a video are asked for: checks and orders that all readers share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def frame_indices(num_frames: int, start_frame: int, end_frame: int | None, step: int) -> NDArray[np.int64]:
    """Return every `step`-th index of [start_frame, end_frame), int64.

    Raises:
        IndexError: where the range leaves [0, num_frames].
    """
    end_frame = num_frames if end_frame is None else end_frame
    if not 0 <= start_frame <= end_frame <= num_frames:
        raise IndexError(f"frames [{start_frame}, {end_frame}) outside [0, {num_frames})")
    return np.arange(start_frame, end_frame, step, dtype=np.int64)


def unique_frames(indices: Sequence[int], num_frames: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the distinct indices in increasing order, and for each index asked for its place among them.

    Raises:
        IndexError: for an index outside [0, num_frames).
    """
    asked = np.asarray(indices, dtype=np.int64)
    outside = asked[(asked < 0) | (asked >= num_frames)]
    if len(outside):
        raise IndexError(f"frame {outside[0]} outside [0, {num_frames})")
    distinct, places = np.unique(asked, return_inverse=True)
    return distinct, places
