"""Small videos in which something moves, to build a dataset from."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def write_video(path: Path, speed: int, frames: int = 80) -> None:
    """Write 8 s of a bright square that moves by `speed` pixels a frame over a noisy background."""
    noise = np.random.default_rng(0).integers(90, 110, size=(120, 160, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for index in range(frames):
            image = noise.copy()
            left = (10 + index * speed) % 120
            image[40:80, left : left + 30] = 240
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())
