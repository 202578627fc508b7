"""Three small films, an eventful one and two calm ones, and the tables that name them and their clicks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np

from pipeline.records import NORMAL

FPS, SECONDS = 10, 12
LABELS = {"Fight_one_x264": "Fighting", "calm street": NORMAL, "calm yard": NORMAL}


def pictures(seed: int) -> list[np.ndarray]:
    """Return the frames of a noisy place of its own, in which a block goes its own way."""
    rng = np.random.default_rng(seed)
    place = rng.integers(40, 160, (6, 8, 3)).repeat(8, axis=0).repeat(8, axis=1)
    found = []
    for index in range(FPS * SECONDS):
        picture = place.copy()
        # Slow enough that a frame more or less is the same moment, and never twice at the same place.
        x, y = (4 + (seed + 1) * index) % 52, ((seed + 2) * index // 3) % 31
        picture[y : y + 17, x : x + 12] = 240
        found.append(picture.astype(np.uint8))
    return found


def write(
    path: Path, frames: list[np.ndarray], *, fps: int = FPS, crf: int = 18, size: tuple[int, int] = (64, 48)
) -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=fps, options={"preset": "ultrafast", "crf": str(crf)})
        stream.width, stream.height, stream.pix_fmt = *size, "yuv420p"
        for picture in frames:
            frame = av.VideoFrame.from_ndarray(picture, "rgb24").reformat(width=size[0], height=size[1])
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def film_all(folder: Path) -> None:
    folder.mkdir(parents=True)
    for seed, name in enumerate(LABELS):
        write(folder / f"{name}.mp4", pictures(seed))


def write_tables(home: Path, clicks: Sequence[int]) -> None:
    """Write videos.csv and clicks.csv, with clicks on frames of the eventful film."""
    rows = [f"{name},videos/{name}.mp4,{label}" for name, label in LABELS.items()]
    (home / "videos.csv").write_text("\n".join(["video_id,file,label", *rows]) + "\n")
    lines = [f"Fight_one_x264,{frame}" for frame in clicks]
    (home / "clicks.csv").write_text("\n".join(["video-id,glance", *lines]) + "\n")


def frames_of(path: Path) -> tuple[list[np.ndarray], list[float]]:
    with av.open(str(path)) as container:
        decoded = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in decoded], [float(frame.time or 0) for frame in decoded]
