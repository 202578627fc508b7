"""Where a shot ends, patch by patch: neither light, nor a flash, nor what passes close to the camera is a cut."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_ROWS, _COLUMNS, _SIDE = 6, 8, 12  # patches of a picture, and pixels of a patch's side
_TEXTURED = 6.0  # grey levels of deviation; below it lies noise
_ALIKE = 0.7  # correlation, which is above 0.9 where nothing moves
_TELLING = 12  # patches with texture from which a picture can be told from another
_SHARE_AT_CUT = 0.4


@dataclass(frozen=True, slots=True)
class Layout:
    """A small grey picture in patches without their mean, shape (48, 144), and their deviations, shape (48,)."""

    patches: NDArray[np.float32]
    deviation: NDArray[np.float32]


def layout_of(grey: NDArray[np.uint8 | np.float32]) -> Layout:
    """Return the layout of a grey picture of any size, in 256 levels."""
    import cv2

    small = cv2.resize(grey, (_COLUMNS * _SIDE, _ROWS * _SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    patches = small.reshape(_ROWS, _SIDE, _COLUMNS, _SIDE).swapaxes(1, 2).reshape(_ROWS * _COLUMNS, -1)
    patches -= patches.mean(axis=1, keepdims=True)
    return Layout(patches, np.sqrt(np.square(patches).mean(axis=1)))


def is_cut(now: Layout, *before: Layout) -> bool:
    """Tell whether a picture shows another scene than each of those before: few of its textured patches look alike.

    A picture without texture shows none: a flash, or darkness between two shots.
    """
    textured = now.deviation > _TEXTURED
    if textured.sum() < _TELLING:
        return False
    alike = np.any([_correlations(now, other) > _ALIKE for other in before], axis=0)
    return bool(alike[textured].mean() < _SHARE_AT_CUT)


def _correlations(a: Layout, b: Layout) -> NDArray[np.float32]:
    shared = (a.patches * b.patches).mean(axis=1)
    return np.asarray(shared / np.maximum(a.deviation * b.deviation, 1e-3), dtype=np.float32)
