"""One frame in 16 of an hour at 224x224, and eight frames of a clip in it, against decord and ffmpeg's bare decoding.

Run: python benchmarks/bench_frame_sampling.py [--repeats N] [--json FILE]
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import av  # noqa: F401  (imported before the clock starts)
import decord
from video_bench import Measures, Target, main, video

from pipeline.video.readers import open_reader

SIZE = (224, 224)
STEP = 16
CLIP = [50_000 + 31 * index for index in range(8)]
DECORD_BATCH = 32


def every_16th_holmes(path: Path, _: Path) -> Measures:
    """Stream the frames, as the feature stage does."""
    with open_reader(path, size=SIZE) as reader:
        return {"frames": sum(1 for _ in reader.iter_frames(step=STEP))}


def every_16th_decord(path: Path, _: Path) -> Measures:
    """Fetch the frames in batches, on one thread, which is decord's cheapest way."""
    reader = decord.VideoReader(str(path), width=SIZE[0], height=SIZE[1], num_threads=1)
    indices = list(range(0, len(reader), STEP))
    batches = [indices[first : first + DECORD_BATCH] for first in range(0, len(indices), DECORD_BATCH)]
    return {"frames": sum(len(reader.get_batch(batch).asnumpy()) for batch in batches)}


def bare_decode_ffmpeg(path: Path, _: Path) -> Measures:
    """Decode every frame on one thread and throw it away: no conversion, no scaling."""
    subprocess.run(["ffmpeg", "-v", "error", "-threads", "1", "-i", path, "-f", "null", "-"], check=True)
    return {"frames": 0}


def clip_holmes(path: Path, _: Path) -> Measures:
    """Open the hour and fetch eight frames of one clip."""
    with open_reader(path, size=SIZE) as reader:
        return {"frames": len(reader.frames_at(CLIP))}


def clip_decord(path: Path, _: Path) -> Measures:
    """Open the hour and fetch eight frames of one clip."""
    reader = decord.VideoReader(str(path), width=SIZE[0], height=SIZE[1], num_threads=1)
    return {"frames": len(reader.get_batch(CLIP).asnumpy())}


if __name__ == "__main__":
    hour, ten_minutes = video(minutes=60), video(minutes=10)
    main(
        "Frame sampling: 60 minutes, 320x240, 25 frames per second, H.264",
        {
            "1 in 16, holmes": (every_16th_holmes, hour),
            "1 in 16, holmes, 10 minutes only": (every_16th_holmes, ten_minutes),
            "1 in 16, decord": (every_16th_decord, hour),
            "bare decode, ffmpeg -f null": (bare_decode_ffmpeg, hour),
            "8 frames of a clip, holmes": (clip_holmes, hour),
            "8 frames of a clip, decord": (clip_decord, hour),
        },
        [
            Target("cpu_s", "1 in 16, holmes", "bare decode, ffmpeg -f null", 1.1),
            Target("cpu_s", "1 in 16, holmes", "1 in 16, decord", 0.7),
            Target("cpu_s", "8 frames of a clip, holmes", "8 frames of a clip, decord", 0.5),
        ],
    )
