"""Making of a sample world: every video staged, rendered and encoded, then the tables beside them."""

from __future__ import annotations

import errno
import multiprocessing
import os
import re
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from random import Random

from pipeline.errors import DataError, SetupError
from pipeline.sample.plan import DURATION_S, FPS, VideoPlan, plan_world
from pipeline.sample.staging import stage
from pipeline.sample.tables import TABLES, Clicked, write_tables
from pipeline.video.pool import end_with_parent

VIDEOS = "videos"
_OWN_VIDEO = re.compile(r"s\d+_cam\d_\d{4,}\.mp4(\.part)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class SampleSummary:
    """What a sample world holds."""

    videos: int
    normal: int
    events: int
    scenes: int
    seconds: float

    def __str__(self) -> str:
        return (
            f"{self.videos} videos ({self.normal} normal) of {self.scenes} scenes, {self.seconds / 60:.1f} minutes, "
            f"{self.events} abnormal events"
        )


def make_sample(
    out: Path,
    *,
    videos: int,
    seed: int,
    workers: int = 0,
    on_progress: Callable[[int, int], None] = lambda *_: None,
    duration_s: tuple[float, float] = DURATION_S,
) -> SampleSummary:
    """Render a world of `videos` videos into the folder `out`, in `workers` processes (0: one per core).

    The files are the same, byte for byte, for the same arguments, whatever the number of workers. Files of an earlier
    world in the folder are replaced; others are left alone. `on_progress` is called with videos done and in all.

    Raises:
        DataError: if `out`, or a folder that is needed below it, is a file.
        SetupError: if a value is out of range, the disk refuses, or a worker is killed.
    """
    if videos < 1:
        raise SetupError(f"videos={videos}: at least 1 is needed")
    if not 14 <= duration_s[0] <= duration_s[1]:
        raise SetupError(f"duration_s={duration_s}: expected shortest and longest in seconds, at least 14")
    plans = plan_world(videos, seed, duration_s)
    try:
        _prepare(out)
        clicked = _render_all(plans, out / VIDEOS, workers, on_progress)
        write_tables(out, clicked, seed)
    except OSError as fault:
        raise SetupError(f"{fault.filename or out}: cannot be written: {fault.strerror or fault}") from fault
    except BrokenProcessPool:
        raise SetupError(f"{out}: a worker process was killed; is there enough memory? Try fewer workers") from None
    return SampleSummary(
        videos=videos,
        normal=sum(not plan.categories for plan in plans),
        events=sum(len(video.events) for video in clicked),
        scenes=len({plan.scene for plan in plans}),
        seconds=sum(plan.duration_s for plan in plans),
    )


def _prepare(out: Path) -> None:
    """Make the folders and remove what an earlier world left in them, so that tables never name other videos."""
    for folder in (out, out / VIDEOS):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as fault:
            if fault.errno in (errno.EEXIST, errno.ENOTDIR):
                raise DataError(f"{folder}: a folder is needed, but a file is in its place") from None
            raise
    for name in TABLES:
        (out / name).unlink(missing_ok=True)
    for file in sorted((out / VIDEOS).iterdir()):
        if _OWN_VIDEO.fullmatch(file.name):
            file.unlink()


def _render_all(
    plans: Sequence[VideoPlan], folder: Path, workers: int, on_progress: Callable[[int, int], None]
) -> list[Clicked]:
    """Render all videos and return what is clicked in them, in the order of the plans."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    count = min(workers or cores, len(plans))
    on_progress(0, len(plans))
    if count == 1:
        made = []
        for plan in plans:
            made.append(_render_one(plan, folder))
            on_progress(len(made), len(plans))
        return made
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(count, context, end_with_parent, (os.getpid(),)) as pool:
        # The longest first, so that no worker is left with one at the end.
        queue = sorted(plans, key=lambda plan: -plan.num_frames)
        futures: dict[Future[Clicked], VideoPlan] = {pool.submit(_render_one, plan, folder): plan for plan in queue}
        done: dict[int, Clicked] = {}
        try:
            for future in as_completed(futures):
                done[futures[future].index] = future.result()
                on_progress(len(done), len(plans))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[plan.index] for plan in plans]


def _render_one(plan: VideoPlan, folder: Path) -> Clicked:
    """Render one video to its file, which appears whole or not at all."""
    import cv2

    from pipeline.sample.render import Painter, encode

    cv2.setNumThreads(1)
    shot = stage(plan)
    painter = Painter(shot, plan.seed * 1_000_003 + plan.index, f"CAM {plan.scene[5:]}-{plan.camera[3:]}")
    part = folder / f"{plan.video_id}.mp4.part"
    encode(part, (painter.frame(i) for i in range(plan.num_frames)))
    part.replace(folder / f"{plan.video_id}.mp4")
    return Clicked.of(plan, shot, Random(f"{plan.seed}:{plan.index}:clicks"))


__all__ = ["DURATION_S", "FPS", "VIDEOS", "SampleSummary", "make_sample"]
