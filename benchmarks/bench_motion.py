"""Real-time factor of the `motion` encoder, from the file to the features, and its memory on an hour-long video.

Two workers encode a video each, a few minutes of 320x240 at 30 fps made by repeating --video, real footage, without
encoding it anew; without --video a noisy scene with moving blocks is repeated. The factor is given by the clock, which
other work on the machine slows, and by the workers' processor time, as idle cores would show it. Then one video of
--short and one of --long minutes are encoded, each in a process of its own, and their peaks of memory compared.

    python benchmarks/bench_motion.py [--video FILE] [--workers 2] [--short 5] [--long 60]
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from fractions import Fraction
from pathlib import Path
from typing import Any

from video_bench import loop, memory_mb

from pipeline.features.base import FeatureJob
from pipeline.features.motion import encode_motion
from pipeline.records import Video
from pipeline.video.probe import probe

FPS, WIDTH, HEIGHT = 30, 320, 240
SCENE_S = 10


def make_scene(path: Path) -> None:
    """Write moving blocks over a noisy ground."""
    import av
    import numpy as np

    rng = np.random.default_rng(0)
    ground = rng.integers(60, 140, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "veryfast"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(SCENE_S * FPS):
            picture = ground.copy()
            for block in range(6):
                left, top = (index * (block + 1)) % (WIDTH - 24), 10 + block * 36
                picture[top : top + 30, left : left + 20] = 40 * block
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def repeat(scene: Path, path: Path, minutes: float) -> Path:
    """Write at least so many minutes of a scene."""
    loop(scene, path, int(-(-minutes * 60 // probe(scene).duration_s)))
    return path


def probed(path: Path) -> Video:
    """Return the record of a video."""
    found = probe(path)
    return Video(
        video_id="v", path=str(path), sha256="", fps=found.fps, num_frames=found.num_frames,
        duration_s=found.duration_s, width=found.width, height=found.height, codec=found.codec, label=None, split=None,
        source="",
    )  # fmt: skip


def encode(video: Video) -> tuple[float, float]:
    """Return the processor's seconds and the peak memory in MiB that encoding a video takes."""
    started = time.process_time()
    encode_motion((FeatureJob(video=video, stride_frames=16, path=Path(video.path).with_suffix(".npy")), "auto"))
    return time.process_time() - started, memory_mb("VmHWM")


def ready(_: int) -> None:
    """Let a worker start and import what encoding needs, so that neither is measured."""


def pool(workers: int) -> Any:
    """Return processes that start from nothing."""
    made = multiprocessing.get_context("spawn").Pool(workers)
    made.map(ready, range(workers), chunksize=1)
    return made


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, help="real footage to repeat")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--short", type=float, default=5, help="minutes")
    parser.add_argument("--long", type=float, default=60, help="minutes")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = arguments.video or folder / "scene.mp4"
        if arguments.video is None:
            make_scene(scene)
        videos = [probed(repeat(scene, folder / f"{n}.mp4", arguments.short)) for n in range(arguments.workers)]
        with pool(arguments.workers) as workers:
            started = time.perf_counter()
            encoded = workers.map(encode, videos, chunksize=1)
            wall_s = time.perf_counter() - started
        video_s, busy_s = sum(video.duration_s for video in videos), sum(busy_s for busy_s, _ in encoded)
        print(
            f"{arguments.workers} workers, {video_s / 60:.0f} minutes of video: {video_s / wall_s:.1f}x real time by "
            f"the clock, {arguments.workers * video_s / busy_s:.1f}x by processor time, {video_s / busy_s:.1f}x a core"
        )
        peaks = []
        for minutes in (arguments.short, arguments.long):
            video = probed(repeat(scene, folder / f"long{minutes}.mp4", minutes))
            with pool(1) as workers:
                [(busy_s, peak_mb)] = workers.map(encode, [video])
            peaks.append(peak_mb)
            print(
                f"{video.duration_s / 60:.0f} minutes: {video.duration_s / busy_s:.1f}x real time on one core, "
                f"peak {peak_mb:.0f} MB"
            )
        print(f"peak of the longer over the shorter: {peaks[1] / peaks[0]:.2f}")


if __name__ == "__main__":
    main()
