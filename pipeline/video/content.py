"""What footage shows, in signs from which no picture can be drawn: enough to tell a copy, and where in it a clip lies.

Of every moment two signs are kept for each of 64 cells: whether the cell is brighter or darker than the one to its
right (the place; the difference hash of D. Hackett, with a margin), and than itself at the clip's other moments (what
changes). Both are 0 where the difference is within the noise of a codec.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.video.timeline import Timeline

MOMENTS = 4
"""Moments of a clip that its signs are of."""

ALIKE = 0.7
"""Likeness from which two clips are of one footage."""

_ROWS, _COLUMNS = 8, 9
_MARGIN = 3.0
"""Grey values, of 255, that a cell must differ by."""

_STEP_S = 0.1
"""Shifts of a copy that are told apart: half of it is a frame or two."""

Cells = NDArray[np.float32]
"""Mean grey of the cells of some pictures: shape (..., 8, 9), in [0, 255]."""

Signs = NDArray[np.int8]
"""-1, 0 or 1 of every moment of a clip: shape (2, MOMENTS, 8, 8), the place and what changes."""


def moments_of(timeline: Timeline, start_s: float, end_s: float) -> list[int]:
    """Return the frames shown at `MOMENTS` moments, spread evenly over [start_s, end_s)."""
    places_s = start_s + (np.arange(MOMENTS) + 0.5) / MOMENTS * (end_s - start_s)
    return [timeline.frame_at(time_s) for time_s in places_s.tolist()]


def read_cells(decoder: PyavDecoder, frames: Sequence[int]) -> Cells:
    """Return the cells of the pictures at `frames`, in any order: shape (len(frames), 8, 9), upright.

    Raises:
        RecordError: where one of them does not decode.
    """
    import cv2

    wanted, places = np.unique(np.array(frames, dtype=np.int64), return_inverse=True)
    pictures = [
        # Turned first, so that a copy that bakes the rotation in has the same cells.
        cv2.resize(
            np.ascontiguousarray(np.rot90(frame.to_ndarray(format="gray"), decoder.quarter_turns)),
            (_COLUMNS, _ROWS),
            interpolation=cv2.INTER_AREA,
        )
        for _, frame in decoder.decode(wanted)
    ]
    cells: Cells = np.stack(pictures).astype(np.float32)[places]
    return cells


def signs_of(cells: Cells) -> Signs:
    """Return the signs of clips from their cells, shape (..., MOMENTS, 8, 9): shape (..., 2, MOMENTS, 8, 8)."""
    place = cells[..., :-1] - cells[..., 1:]
    changes = (cells - cells.mean(axis=-3, keepdims=True))[..., :-1]
    differences = np.stack([place, changes], axis=-4)
    signs: Signs = (np.sign(differences) * (np.abs(differences) > _MARGIN)).astype(np.int8)
    return signs


def likeness(one: Signs, other: Signs) -> NDArray[np.float32]:
    """Return how like two clips are, in [-1, 1], over shape (..., 2, MOMENTS, 8, 8): the lower of place and changes.

    Where both show nothing, in a place without contours or without change, that says nothing; where they show nothing
    at all the likeness is 0.
    """
    a, b = (signs.reshape(*signs.shape[:-3], -1).astype(np.float32) for signs in (one, other))
    lengths = np.sqrt((a**2).sum(axis=-1) * (b**2).sum(axis=-1))
    shows = ((a != 0) | (b != 0)).mean(axis=-1) > 1 / 64
    cosine = np.divide((a * b).sum(axis=-1), lengths, out=np.zeros_like(lengths), where=lengths > 0)
    lower = np.where(shows, cosine, np.inf).min(axis=-1)
    found: NDArray[np.float32] = np.where(np.isinf(lower), 0, lower).astype(np.float32)
    return found


def as_text(signs: Signs) -> str:
    """Return the signs of a clip as text."""
    bits = np.packbits(np.stack([signs > 0, signs < 0]).ravel())
    return base64.b64encode(bits.tobytes()).decode("ascii")


def from_text(text: str) -> Signs:
    """Return the signs that `as_text` wrote.

    Raises:
        ValueError: the text is none of that.
    """
    shape = (2, MOMENTS, _ROWS, _COLUMNS - 1)
    bits = np.frombuffer(base64.b64decode(text, validate=True), dtype=np.uint8)
    if len(bits) * 8 != 2 * np.prod(shape):
        raise ValueError(f"{len(bits)} bytes of signs, {np.prod(shape) // 4} are expected")
    above, below = np.unpackbits(bits).reshape(2, *shape).astype(np.int8)
    signs: Signs = above - below
    return signs


def signs_of_span(path: str | Path, start_s: float, end_s: float | None) -> Signs:
    """Return the signs of [start_s, end_s) of a video; None is its end.

    Raises:
        RecordError: where one of its moments does not decode.
    """
    decoder = PyavDecoder(Path(path))
    try:
        timeline = decoder.timeline
        span_s = (start_s, timeline.duration_s if end_s is None else end_s)
        return signs_of(read_cells(decoder, moments_of(timeline, *span_s)))
    finally:
        decoder.close()


def find_shift(
    path: str | Path, clips: Sequence[tuple[float, float, Signs]], most_s: float
) -> tuple[float, list[float]]:
    """Find by how many seconds a copy shows clips later than its original does.

    Args:
        path: the copy.
        clips: start_s, end_s in the original, and the signs, of each clip.
        most_s: largest shift that is looked at, to either side.

    Returns:
        The shift, the smallest of those that fit equally well, and the likeness of each clip there.

    Raises:
        RecordError: where the copy cannot be read.
    """
    decoder = PyavDecoder(Path(path))
    try:
        timeline = decoder.timeline
        step_s = max(1 / timeline.fps, _STEP_S)
        steps = int(most_s / step_s)
        shifts_s = sorted((number * step_s for number in range(-steps, steps + 1)), key=abs)
        frames = np.array(
            [[moments_of(timeline, start + shift, end + shift) for start, end, _ in clips] for shift in shifts_s]
        )
        wanted, places = np.unique(frames, return_inverse=True)
        cells = read_cells(decoder, wanted.tolist())
    finally:
        decoder.close()
    known = np.stack([signs for _, _, signs in clips])
    alike = [likeness(signs_of(cells[at]), known) for at in places.reshape(frames.shape)]
    best = int(np.argmax([round(float(found.mean()), 3) for found in alike]))
    return shifts_s[best], alike[best].tolist()
