"""Short videos with a commotion that motion features see."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

RATE = 16
_WIDTH, _HEIGHT = 128, 96


def write_video(path: Path, seconds: float = 20.0, events: tuple[tuple[float, float], ...] = ((8.0, 12.0),)) -> Path:
    """Write a grey scene in which a white square dashes about during the events and nothing else moves."""
    ground = np.tile(np.linspace(60, 160, _WIDTH, dtype=np.uint8), (_HEIGHT, 1))
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=RATE, options={"preset": "ultrafast", "g": "16"})
        stream.width, stream.height, stream.pix_fmt = _WIDTH, _HEIGHT, "yuv420p"
        for index in range(max(1, round(seconds * RATE))):
            picture = ground.copy()
            if any(start <= index / RATE < end for start, end in events):
                left = index * 7 % (_WIDTH - 32)
                picture[30:62, left : left + 32] = 255
            frame = av.VideoFrame.from_ndarray(np.repeat(picture[..., None], 3, axis=2), format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, RATE)
            output.mux(stream.encode(frame))
        output.mux(stream.encode())
    return path
