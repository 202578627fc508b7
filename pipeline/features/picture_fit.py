"""How a picture of any shape meets an encoder that was trained on squares."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Fit = Literal["aspect", "letterbox", "stretch", "tiles", "crop"]
Image = NDArray[np.uint8]

_GREY = 127
_GRID = 32  # pixels from one place of a convolutional network's last layer to the next


def fit_picture(frame: Image, side: int, fit: Fit) -> list[Image]:
    """Return squares of `side` pixels: one, or several that cover the picture from end to end for `tiles`.

    For `aspect` it is a rectangle whose shorter side is about `side`, both in whole steps of 32 pixels.

    Args:
        frame: RGB, shape (H, W, 3).
        side: of the squares.
        fit: letterbox adds grey margins, stretch changes the aspect, crop keeps the middle.
    """
    height, width = frame.shape[:2]
    match fit:
        case "aspect":
            scale = side / min(height, width)
            return [_resized(frame, _on_grid(width * scale), _on_grid(height * scale))]
        case "stretch":
            return [_resized(frame, side, side)]
        case "letterbox":
            scale = side / max(height, width)
            small = _resized(frame, max(1, round(width * scale)), max(1, round(height * scale)))
            square = np.full((side, side, 3), _GREY, dtype=np.uint8)
            top, left = (side - small.shape[0]) // 2, (side - small.shape[1]) // 2
            square[top : top + small.shape[0], left : left + small.shape[1]] = small
            return [square]
    scale = side / min(height, width)
    scaled = _resized(frame, max(side, round(width * scale)), max(side, round(height * scale)))
    room_y, room_x = scaled.shape[0] - side, scaled.shape[1] - side
    count = 1 if fit == "crop" else -(-max(scaled.shape[:2]) // side)
    shares = [0.5] if count == 1 else np.linspace(0, 1, count).tolist()
    corners = [(round(room_y * share), round(room_x * share)) for share in shares]
    return [scaled[top : top + side, left : left + side] for top, left in corners]


def _on_grid(length: float) -> int:
    return max(1, round(length / _GRID)) * _GRID


def _resized(frame: Image, width: int, height: int) -> Image:
    import cv2

    smaller = width < frame.shape[1]
    resized: Image = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA if smaller else cv2.INTER_LINEAR)
    return resized
