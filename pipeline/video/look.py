"""What a video looks like, in a few bytes: enough to know its copies, whatever codec and size they were written in."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.video.pyav_decoder import PyavDecoder

_PICTURES = 8
_SIDE_PX = 16
_FLAT = 4.0
"""Deviation of grey values below which a thumbnail shows nothing: what little there is must not be blown up."""

_BLANK = 3.0
"""Deviation of grey values below which a thumbnail is of one colour or noise. Scenes by day, by night and under a
street lamp have 12 and more, noise of a deviation of 60 a pixel 2.5."""


def is_blank(frames: NDArray[np.uint8]) -> bool:
    """Tell whether none of some frames, RGB uint8, shape (N, H, W, 3), shows more than one colour or noise.

    A dark or covered lens gives such pictures, and a camera without a signal. A video model, asked about one, describes
    what it was trained on.
    """
    import cv2

    thumbnails = (cv2.resize(frame, (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA) for frame in frames)
    return all(cv2.cvtColor(thumbnail, cv2.COLOR_RGB2GRAY).std() < _BLANK for thumbnail in thumbnails)


def look_at(path: str | Path) -> str:
    """Return grey thumbnails of moments spread evenly over a video, as text that `look_vectors` reads.

    Raises:
        RecordError: where one of these frames cannot be decoded.
    """
    import cv2

    decoder = PyavDecoder(Path(path))
    try:
        times_s = decoder.timeline.times_s
        moments_s = (np.arange(_PICTURES) + 0.5) / _PICTURES * decoder.timeline.recorded_end_s
        shown = np.searchsorted(times_s, moments_s, side="right") - 1
        frames, repeats = np.unique(shown, return_counts=True)
        # One picture in memory at a time, however large it is.
        pictures = [
            cv2.resize(frame.to_ndarray(format="gray"), (_SIDE_PX, _SIDE_PX), interpolation=cv2.INTER_AREA)
            for _, frame in decoder.decode(frames)
        ]
    finally:
        decoder.close()
    # A rotation flag would turn the stored picture: a copy that bakes it in shows it turned.
    upright = np.rot90(np.repeat(np.stack(pictures), repeats, axis=0), decoder.quarter_turns, axes=(1, 2))
    return base64.b64encode(np.ascontiguousarray(upright, dtype=np.uint8).tobytes()).decode("ascii")


def look_vectors(looks: list[str]) -> NDArray[np.float32]:
    """Return unit vectors, shape (len(looks), D): the product of two is near 1 where the videos are copies.

    The light, and what a fixed camera always shows, are taken away, so that only what changes counts: two scenes of one
    place have little in common. A video in which nothing changes gives zeros, and is like nothing.
    """
    raw = np.frombuffer(b"".join(base64.b64decode(look) for look in looks), dtype=np.uint8)
    pictures = raw.reshape(len(looks), _PICTURES, -1).astype(np.float32)
    pictures -= pictures.mean(axis=2, keepdims=True)
    pictures /= np.maximum(pictures.std(axis=2, keepdims=True), _FLAT)
    changes = (pictures - pictures.mean(axis=1, keepdims=True)).reshape(len(looks), -1)
    length = np.linalg.norm(changes, axis=1, keepdims=True)
    vectors: NDArray[np.float32] = np.divide(changes, length, out=np.zeros_like(changes), where=length > 0)
    return vectors
