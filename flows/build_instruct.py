"""The Prefect flow `build-instruct`: the plan of `holmes build` with retries, limits, logs and artifacts in sight.

Prefect keeps order, retries and sight; which rows are done is known by the tables of the workspace alone. So no task
result is cached or stored, and a run of a finished workspace makes nothing.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, cast
from uuid import UUID

import httpx
from prefect import Task, flow, get_run_logger, task
from prefect.artifacts import (
    create_link_artifact,
    create_markdown_artifact,
    create_progress_artifact,
    create_table_artifact,
    update_progress_artifact,
)
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from flows.left_out import left_out
from flows.plan import BuildSummary, read_run_config, run_step, run_steps
from pipeline.config import BuildConfig, apply_override, load_config, parse_config
from pipeline.errors import ConfigError, HolmesError, UnavailableError
from pipeline.stages.base import StageReport
from pipeline.stages.run import Progress
from pipeline.workspace import Workspace

P = ParamSpec("P")
R = TypeVar("R")

RETRY_DELAYS_S = (10.0, 60.0, 300.0)
PROGRESS_EVERY_S = 5.0

DEMO_FOLDER = Path("demo")
DEMO_VIDEOS = 24

ENGINE_LOGGERS = ("pipeline", "annotation", "flows")


@flow(name="build-instruct", persist_result=False)
def build_instruct(
    config: Path | None = None,
    settings: BuildConfig | None = None,
    overrides: Sequence[str] = (),
    workspace: str | None = None,
) -> State[None]:
    """Build the instruction dataset; run again, it does only what is not done.

    Relative paths are taken from the folder that the flow was deployed from, the repository. Without config, settings
    and overrides it builds the sample world of `make demo`.

    Args:
        config: YAML file of settings, as for `holmes build -c`.
        settings: all settings in place, instead of a file.
        overrides: single settings as `section.key=value`, as for `holmes build --set`; they win over both.
        workspace: folder of everything that the build makes; wins over all of them.
    """
    log_to_prefect()
    try:
        if config is None and settings is None and not overrides:
            config = make_demo_config()
        summary = run_plan(choose_config(config, settings, overrides, workspace))
    except HolmesError as fault:
        get_run_logger().error("%s", fault)
        return Failed(message=str(fault))
    return Completed(message=f"{summary.stages[-1].rows} rows in {summary.dataset}")


@task(name="sample", cache_policy=NO_CACHE, persist_result=False)
def make_demo_config() -> Path:
    """Make the sample world of `make demo` unless it is there, and return its config file."""
    config_file = DEMO_FOLDER / "config.yaml"
    if config_file.is_file():
        return config_file
    from flows.demo import make_demo_world

    with shown_progress("sample") as show:
        return make_demo_world(DEMO_FOLDER, videos=DEMO_VIDEOS, seed=0, on_progress=show)


def choose_config(
    config: Path | None, settings: BuildConfig | None, overrides: Sequence[str], workspace: str | None
) -> BuildConfig:
    """Merge the flow's parameters into one checked configuration.

    Raises:
        ConfigError: naming the key, the value and the limit, or that file and settings were both given.
    """
    if settings is None:
        return load_config(config, overrides, workspace)
    if config is not None:
        raise ConfigError(f"config={config} and settings exclude each other; change single settings by overrides")
    values = settings.model_dump(mode="json", exclude_unset=True)
    for override in overrides:
        apply_override(values, override)
    if workspace is not None:
        values["workspace"] = workspace
    return parse_config(values, origin="settings")


def config_of(workspace: str, config: Path | None, overrides: Sequence[str]) -> tuple[BuildConfig, Path]:
    """Return the configuration to build a workspace with, and the folder that its relative paths start from.

    Without a config file it is that of the workspace's latest run.

    Raises:
        ConfigError: as `load_config`.
        SetupError: if there is no file, and nothing was built there.
    """
    if config is not None:
        return load_config(config, overrides, workspace), Path()
    settings, folder = read_run_config(Workspace(workspace), overrides)
    # it may have been moved since
    here = workspace if "://" in workspace else str(Path(workspace).resolve())
    return settings.model_copy(update={"workspace": here}), folder


def run_plan(config: BuildConfig, *, first: str | None = None) -> BuildSummary:
    """Run every stage of the plan, or those from `first` on, as a task of its own, and publish what came out."""
    summary = run_steps(
        config,
        lambda name, _: run_stage_task.with_options(name=name)(name, config),
        # Also after a failure: the counts up to there say where it stopped.
        on_end=lambda reports: _publish_counts(config, reports),
        first=first,
    )
    for sentence in left_out(summary.stages, summary.workspace):
        get_run_logger().warning("%s", sentence)
    create_link_artifact(
        summary.report.resolve().as_uri(),
        key="build-instruct-report",
        link_text="report of the build",
        description=f"Report of {config.workspace}, on the machine of the worker",
    )
    return summary


def may_heal(_task: Any, _run: Any, state: State[Any]) -> bool:
    """Tell whether waiting can help: not where the data, the call or the set-up is at fault."""
    fault = state.data
    return isinstance(fault, UnavailableError) or not isinstance(fault, HolmesError)


def healing_task(name: str) -> Callable[[Callable[P, R]], Task[P, R]]:
    """Make a task that is tried again where waiting can help; Prefect stores no result of it, the workspace knows."""
    return task(
        name=name,
        retries=len(RETRY_DELAYS_S),
        retry_delay_seconds=list(RETRY_DELAYS_S),
        retry_condition_fn=may_heal,
        cache_policy=NO_CACHE,
        persist_result=False,
    )


@healing_task(name="stage")
def run_stage_task(name: str, config: BuildConfig) -> StageReport:
    """Run one stage; what it committed before a fault is kept, and a retry goes on from there."""
    with shown_progress(name) as show:
        return run_step(name, Workspace(config.workspace), config, show)


@contextmanager
def shown_progress(stage: str, flow_name: str = "build-instruct") -> Iterator[Progress]:
    """Yield a progress callback that moves the stage's progress artifact of a flow's run."""
    # The function is declared to return a coroutine as well, which it does only where a loop is running.
    artifact = cast(UUID, create_progress_artifact(0.0, key=f"{flow_name}-{stage}", description=f"Progress of {stage}"))
    shown_at = time.monotonic()

    def move_to(percent: float) -> None:
        try:
            update_progress_artifact(artifact, percent)
        except httpx.HTTPError as fault:
            # Sight may fail for a while; the work need not.
            get_run_logger().warning("%s: progress not shown: %s", stage, fault)

    def show(_stage: str, done: int, total: int) -> None:
        nonlocal shown_at
        if time.monotonic() - shown_at >= PROGRESS_EVERY_S:
            shown_at = time.monotonic()
            move_to(100.0 * done / total)

    yield show
    move_to(100.0)


def _publish_counts(config: BuildConfig, reports: Sequence[StageReport]) -> None:
    create_table_artifact(
        [
            {
                "stage": report.stage,
                "made": report.made,
                "kept": report.kept,
                "rows": report.rows,
                "rejected": sum(report.rejected.values()),
                "seconds": report.seconds,
            }
            for report in reports
        ],
        key="build-instruct-stages",
        description=f"Stages of {config.workspace}",
    )
    create_markdown_artifact(
        rejects_as_markdown(reports), key="build-instruct-rejects", description=f"Rejects of {config.workspace}"
    )


def rejects_as_markdown(reports: Sequence[StageReport]) -> str:
    """Return a Markdown table of the rejects, by stage and reason."""
    rows = [
        f"| {report.stage} | {reason} | {count} |" for report in reports for reason, count in report.rejected.items()
    ]
    if not rows:
        return "Nothing was rejected."
    return "\n".join(["| stage | reason | rejected |", "|---|---|---:|", *rows])


def log_to_prefect() -> None:
    """Send the engine's log to the logs of the run, as PREFECT_LOGGING_EXTRA_LOGGERS would, which nobody has to set."""
    extra = logging.getLogger("prefect.extra")
    for package in ENGINE_LOGGERS:
        engine = logging.getLogger(package)
        engine.setLevel(extra.getEffectiveLevel())
        for handler in extra.handlers:
            # Python's logging adds a handler once, however often it is asked to.
            engine.addHandler(handler)
