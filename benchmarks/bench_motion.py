"""Real-time factor of the `motion` encoder on 320x240 at 30 fps, from the file to the features.

The processor's time of one worker is measured; on n idle cores n workers are n times as fast. Peak memory is printed
for one and for ten times the length: it must not grow with it.

    python benchmarks/bench_motion.py [--seconds 60]
"""

from __future__ import annotations

import argparse
import multiprocessing
import resource
import tempfile
import time
from fractions import Fraction
from pathlib import Path

FPS, WIDTH, HEIGHT = 30, 320, 240


def make_video(path: Path, seconds: int) -> None:
    """Write moving blocks over a noisy ground."""
    import av
    import numpy as np

    rng = np.random.default_rng(0)
    ground = rng.integers(60, 140, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(seconds * FPS):
            picture = ground.copy()
            for block in range(6):
                left, top = (index * (block + 1)) % (WIDTH - 24), 10 + block * 36
                picture[top : top + 30, left : left + 20] = 40 * block
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def encode(path: Path, seconds: int) -> tuple[float, float]:
    """Return the processor's seconds and the peak memory in MiB that encoding takes."""
    from pipeline.features.base import FeatureJob
    from pipeline.features.motion import encode_motion
    from pipeline.records import Video

    video = Video(
        video_id="v", path=str(path), sha256="", fps=float(FPS), num_frames=seconds * FPS, duration_s=float(seconds),
        width=WIDTH, height=HEIGHT, codec="h264", label=None, split=None, source="",
    )  # fmt: skip
    started = time.process_time()
    encode_motion((FeatureJob(video=video, stride_frames=16, path=path.with_suffix(".npy")), "auto"))
    return time.process_time() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=int, default=60)
    seconds = parser.parse_args().seconds
    with tempfile.TemporaryDirectory() as folder:
        for length in (seconds, 10 * seconds):
            path = Path(folder) / f"{length}.mp4"
            make_video(path, length)
            # A process of its own, whose peak memory is that of this video alone.
            with multiprocessing.get_context("spawn").Pool(1) as pool:
                busy_s, peak_mb = pool.apply(encode, (path, length))
            print(
                f"{length} s of video: {busy_s:.1f} s of one core, {length / busy_s:.0f}x real time; {peak_mb:.0f} MB"
            )


if __name__ == "__main__":
    main()
