"""`holmes detect --table`: many videos, on this machine or a Ray cluster, into a table that grows and is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Literal

from pipeline.config import RayConfig
from pipeline.infer.found import TABLE, DetectStage, Finding, make_detect_stage
from pipeline.infer.settings import DetectSettings
from pipeline.needs import device_of_worker
from pipeline.stages.base import StageReport
from pipeline.stages.executor import Executor, LocalExecutor
from pipeline.stages.run import Progress, run_stage
from pipeline.storage import Storage
from pipeline.tables import Table
from pipeline.workspace import Workspace

# A video takes seconds to minutes: small shards, so that little is lost with a worker and the table grows.
_SHARD_VIDEOS = 8


def detect_into(
    folder: str,
    videos: Sequence[str],
    settings: DetectSettings,
    *,
    on: Literal["local", "ray"] = "local",
    address: str | None = None,
    on_progress: Progress | None = None,
) -> StageReport:
    """Bring the table of a folder up to date with the videos: what was looked at under the same settings stays.

    Videos that are not named any more leave the table.

    Raises:
        UnavailableError: another process writes to that table.
        SetupError: a model cannot be loaded, or the cluster cannot do the work.
    """
    workspace = Workspace(folder)
    stage = DetectStage(settings, videos)
    executor: Executor = LocalExecutor()
    if on == "ray":
        from flows.cluster.executor import RayExecutor

        there = Workspace(folder if "://" in folder else str(Path(folder).absolute()))
        config = RayConfig(address=address, shard_units=_SHARD_VIDEOS)
        make = partial(make_detect_stage, replace(settings, device=device_of_worker(settings.device)))
        executor = RayExecutor(make, there, config, folder=Path.cwd(), decoders=1)
    with workspace.locked(will_build=False):
        return run_stage(
            stage, found_in(workspace.storage), shard_rows=_SHARD_VIDEOS, on_progress=on_progress, executor=executor
        )


def found_in(storage: Storage) -> Table[Finding]:
    """Open the table of what was found."""
    return Table(storage, TABLE, Finding)
