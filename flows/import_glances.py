"""The Prefect flow `import-glances`: what people clicked in Label Studio comes into a workspace, and into its dataset.

It is `holmes labelstudio pull`, and where asked for `holmes build` after it, with retries, logs and artifacts in sight.
A run after which nothing was clicked finds nothing new, and its build makes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import chdir
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import State
from prefect.states import Completed, Failed

from annotation.label_studio.click_pull import PullSummary, pull_glances
from annotation.label_studio.client import StudioClient
from flows.build_instruct import config_of, healing_task, log_to_prefect, run_plan, shown_progress
from pipeline.config import BuildConfig
from pipeline.errors import HolmesError
from pipeline.workspace import Workspace

FLOW_NAME = "import-glances"

SKIPPED_SHOWN = 500
"""Rows of the artifact of what was skipped; the file's own report and the log have all."""


@flow(name=FLOW_NAME, persist_result=False)
def import_glances(
    workspace: str,
    *,
    project: int | None = None,
    tolerance_s: float = 1.0,
    build: bool = False,
    config: Path | None = None,
    overrides: Sequence[str] = (),
) -> State[None]:
    """Fetch the clicks of a workspace's project from Label Studio, and on request build the dataset with them.

    Relative paths are taken from the folder that the flow was deployed from, the repository.

    Args:
        workspace: a workspace that `holmes labelstudio init-glance` made a project for.
        project: number of another project.
        tolerance_s: clicks of one class this close mean one event, for the agreement.
        build: go on with the build, for which the clicks fetched are among the settings' `glances`.
        config: YAML file of the build's settings; by default those of the workspace's latest build.
        overrides: single settings of the build as `section.key=value`.
    """
    log_to_prefect()
    try:
        pulled = pull_task(workspace, project, tolerance_s)
        publish_pull(workspace, pulled)
        message = f"{pulled.news}: {pulled.clicks} click(s) of {pulled.tasks} task(s) in {pulled.path}"
        if build:
            settings, folder = config_of(workspace, config, overrides)
            clicks = str(Path(pulled.path).resolve())
            with chdir(folder):
                summary = run_plan(with_glances(settings, clicks))
            message += f"; {summary.stages[-1].rows} rows in {summary.dataset}"
    except HolmesError as fault:
        get_run_logger().error("%s", fault)
        return Failed(message=str(fault))
    return Completed(message=message)


@healing_task(name="pull")
def pull_task(workspace: str, project: int | None, tolerance_s: float) -> PullSummary:
    """Fetch the clicks, whole or not at all; a server that fails is asked again later."""
    with shown_progress("pull", FLOW_NAME) as show:
        return pull_glances(
            Workspace(workspace),
            StudioClient(),
            project_id=project,
            tolerance_s=tolerance_s,
            on_progress=lambda done, total: show("pull", done, total),
        )


def with_glances(settings: BuildConfig, path: str) -> BuildConfig:
    """Return the settings with a file among their `glances`, where it is not there already."""
    if any(Path(name).resolve() == Path(path).resolve() for name in settings.glances):
        return settings
    return settings.model_copy(update={"glances": [*settings.glances, path]})


def publish_pull(workspace: str, pulled: PullSummary) -> None:
    """Leave the counts, and what was skipped and why, as tables of the run."""
    get_run_logger().info("%s", pulled)
    create_table_artifact(counts_of(pulled), key=FLOW_NAME, description=f"Clicks of {workspace}")
    for fault in pulled.faults:
        get_run_logger().warning("%s", fault)
    shown = pulled.faults[:SKIPPED_SHOWN]
    said = f"{len(pulled.faults)} skipped in {workspace}"
    create_table_artifact(
        [{"place": fault.place, "reason": fault.reason, "detail": fault.detail} for fault in shown],
        key=f"{FLOW_NAME}-skipped",
        description=said if len(shown) == len(pulled.faults) else f"{said}, the first {len(shown)} of them",
    )


def counts_of(pulled: PullSummary) -> list[dict[str, Any]]:
    """Return what came as rows of `what` and `count`; shares of agreement are in percent, None where nobody agrees."""
    seen = pulled.agreement
    counts: dict[str, Any] = {
        "tasks": pulled.tasks,
        "clicks": pulled.clicks,
        "marks to ignore": pulled.marks,
        "nothing abnormal": pulled.nothing_abnormal,
        "new": pulled.new,
        "withdrawn": pulled.withdrawn,
        "tasks deleted meanwhile": len(pulled.gone),
        **{f"annotator {name}": count for name, count in pulled.annotators.items()},
        **{f"skipped: {reason}": count for reason, count in Counter(fault.reason for fault in pulled.faults).items()},
        "videos seen by several": seen.videos,
        "clicks matched, %": _percent(seen.matched),
        "same verdict, %": _percent(seen.same_verdict),
    }
    return [{"what": what, "count": count} for what, count in counts.items()]


def _percent(share: float | None) -> float | None:
    return None if share is None else round(100.0 * share, 1)
