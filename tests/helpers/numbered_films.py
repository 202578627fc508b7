"""Films whose every frame shows its own number as bright and dark squares, to ask a player what it shows."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import numpy as np

SIZE = (256, 128)
BITS = 8
DRAW_ON_CANVAS = """() => {
  const video = document.querySelector('video');
  const canvas = document.createElement('canvas');
  [canvas.width, canvas.height] = [256, 128];
  const context = canvas.getContext('2d');
  context.drawImage(video, 0, 0, 256, 128);
  let number = 0;
  for (let bit = 0; bit < 8; bit++) {
    const x = (bit % 4) * 64 + 32, y = Math.floor(bit / 4) * 64 + 32;
    if (context.getImageData(x, y, 1, 1).data[0] > 128) number |= 1 << bit;
  }
  return [number, video.currentTime];
}"""
"""Returns the number that a page's video shows, and its time."""


def write_film(path: Path, starts: list[int], time_base: Fraction, rate: Fraction) -> Path:
    """Write an H.264 film of at most 256 frames that start at `starts`, counted in `time_base`."""
    with av.open(str(path), "w", options={"video_track_timescale": str(time_base.denominator)}) as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height = SIZE
        stream.pix_fmt = "yuv420p"
        stream.options = {"crf": "18", "g": "50"}
        stream.codec_context.time_base = time_base
        stream.time_base = time_base
        for number, start in enumerate(starts):
            frame = av.VideoFrame.from_ndarray(_picture(number), format="rgb24")
            frame.pts, frame.time_base = start, time_base
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def _picture(number: int) -> np.ndarray:
    bits = np.array([(number >> bit) & 1 for bit in range(BITS)], dtype=np.uint8).reshape(2, 4)
    return np.repeat(np.kron(bits, np.ones((64, 64), dtype=np.uint8))[..., None] * 200 + 28, 3, axis=2)
