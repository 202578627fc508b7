"""The scenes that the recipe trains on, rendered once into a folder."""

from __future__ import annotations

import json
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.lib.format import open_memmap
from numpy.typing import NDArray

from pipeline.sample.plan import plan_world
from pipeline.stages.run import Progress
from pipeline.tiny.marks import GRID, MARKS
from pipeline.tiny.scenes import NUM_FRAMES, SIDE, cut_clips
from pipeline.video.pool import end_with_parent

SEED = 20_611_013
"""Seed of the scenes. Whoever measures what the model sees in new scenes takes another one."""

_DURATION_S = (16.0, 30.0)
_MOST_CLIPS = 12  # of one video: three of each of three events, and three of ordinary life
_MARK_BYTES = -(-len(MARKS) // 8)


@dataclass(frozen=True, eq=False, kw_only=True)
class Scenes:
    """Rendered clips, memory-mapped.

    Attributes:
        frames: RGB uint8, shape (clips, NUM_FRAMES, SIDE, SIDE, 3).
        marks: packed bits, uint8, shape (clips, NUM_FRAMES, GRID, GRID, ceil(len(MARKS) / 8)).
        clips: caption, category, place and night of each clip.
    """

    frames: NDArray[np.uint8]
    marks: NDArray[np.uint8]
    clips: list[dict[str, Any]]


def render_scenes(folder: Path, videos: int, on_progress: Progress) -> Scenes:
    """Return the clips of `videos` videos, rendered into `folder` unless they are there from an earlier run."""
    done = folder / f"clips-{videos}.json"
    if not done.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _render(folder, done, videos, on_progress)
    clips = json.loads(done.read_text(encoding="utf-8"))
    frames, marks = (np.load(folder / f"{name}-{videos}.npy", mmap_mode="r") for name in ("frames", "marks"))
    return Scenes(frames=frames[: len(clips)], marks=marks[: len(clips)], clips=clips)


def _render(folder: Path, done: Path, videos: int, on_progress: Progress) -> None:
    most = videos * _MOST_CLIPS
    frames = open_memmap(  # type: ignore[no-untyped-call]
        folder / f"frames-{videos}.npy", "w+", np.uint8, (most, NUM_FRAMES, SIDE, SIDE, 3)
    )  # sparse: what is not written takes no room
    marks = open_memmap(  # type: ignore[no-untyped-call]
        folder / f"marks-{videos}.npy", "w+", np.uint8, (most, NUM_FRAMES, GRID, GRID, _MARK_BYTES)
    )
    clips: list[dict[str, Any]] = []
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(None, context, end_with_parent, (os.getpid(),)) as pool:
        cut = pool.map(cut_clips, plan_world(videos, SEED, _DURATION_S), chunksize=8)
        for number, of_video in enumerate(cut, 1):
            for clip in of_video:
                frames[len(clips)], marks[len(clips)] = clip.frames, clip.marks
                clips.append(clip.facts)
            on_progress("scenes", number, videos)
    frames.flush()
    marks.flush()
    done.write_text(json.dumps(clips), encoding="utf-8")
