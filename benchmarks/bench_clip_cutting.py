"""Several overlapping clips of a ten-minute video, against the way published with Holmes-VAU.

That way reads every frame of a clip with decord's `get_batch` and writes it with OpenCV as mp4v, one clip after the
other.

Run: python benchmarks/bench_clip_cutting.py [--repeats N] [--json FILE]
"""

from __future__ import annotations

from pathlib import Path

import av  # noqa: F401  (imported before the clock starts)
import cv2
import decord
from video_bench import FPS, Measures, Target, main, video

from pipeline.video.cut import ClipSpan, cut_clips

SPANS_S = [(40, 50), (44, 56), (48, 58), (240, 252), (246, 260)]
SPANS = [(start * FPS, end * FPS) for start, end in SPANS_S]


def _written(folder: Path) -> Measures:
    return {"bytes": sum(path.stat().st_size for path in folder.iterdir())}


def published(path: Path, folder: Path) -> Measures:
    """Cut as Holmes-VAU's published script does."""
    reader = decord.VideoReader(str(path))
    for start, end in SPANS:
        frames = reader.get_batch(range(start, end)).asnumpy()
        size = frames.shape[2], frames.shape[1]
        target = str(folder / f"{start}_{end}.mp4")
        writer = cv2.VideoWriter(target, cv2.VideoWriter_fourcc(*"mp4v"), reader.get_avg_fps(), size)
        for frame in frames:
            writer.write(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR))
        writer.release()
    return _written(folder)


def together(path: Path, folder: Path) -> Measures:
    """Cut all clips in one call."""
    outcomes = cut_clips(path, [ClipSpan(*span, folder / "{}_{}.mp4".format(*span)) for span in SPANS])
    assert all(isinstance(outcome, Path) for outcome in outcomes)
    return _written(folder)


def one_by_one(path: Path, folder: Path) -> Measures:
    """Cut each clip in a call of its own, so that nothing is shared between them."""
    for span in SPANS:
        cut_clips(path, [ClipSpan(*span, folder / "{}_{}.mp4".format(*span))])
    return _written(folder)


if __name__ == "__main__":
    ten_minutes = video(minutes=10)
    main(
        "Clip cutting: five overlapping clips of 10 minutes, 320x240, 25 frames per second, H.264",
        {
            "Holmes-VAU's script": (published, ten_minutes),
            "holmes, one call": (together, ten_minutes),
            "holmes, a call per clip": (one_by_one, ten_minutes),
        },
        [
            Target("cpu_s", "holmes, one call", "Holmes-VAU's script", 0.6),
            Target("bytes", "holmes, one call", "Holmes-VAU's script", 0.5),
            Target("cpu_s", "holmes, a call per clip", "Holmes-VAU's script", 0.6),
        ],
    )
