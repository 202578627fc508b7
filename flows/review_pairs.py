"""The Prefect flow `review-pairs`: pairs go to reviewers in Label Studio, and once they are through, into the dataset.

A run sends what has no task yet, looks how far the reviewers are, and leaves its process until it is time to look
again. Each look begins at the beginning: tasks that are there are not sent again, and decisions that are known not
stored again. So a run may be stopped anywhere, and a new one goes on where it was.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from contextlib import chdir
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

from prefect import flow, get_run_logger
from prefect.artifacts import create_table_artifact
from prefect.client.schemas.objects import FlowRun, State
from prefect.context import FlowRunContext
from prefect.states import Completed, Failed
from pydantic import Field

from annotation.label_studio.client import StudioClient
from annotation.label_studio.review_project import ReviewProject, open_reviews
from annotation.label_studio.review_pull import PulledReviews, pull_reviews
from annotation.label_studio.serving import Serving
from flows.awaiting import begun_at, leave_until
from flows.build_instruct import config_of, healing_task, log_to_prefect, run_plan, shown_progress
from pipeline.errors import HolmesError, UnavailableError
from pipeline.review.items import Selection
from pipeline.workspace import Workspace

FLOW_NAME = "review-pairs"

ROOT_VARIABLE = "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT"

Share = Annotated[float, Field(gt=0, le=100)]
Percent = Annotated[float, Field(ge=0, le=100)]
PollSeconds = Annotated[float, Field(ge=10, le=7 * 24 * 3600)]
DeadlineHours = Annotated[float, Field(ge=0, le=365 * 24)]


@flow(name=FLOW_NAME, persist_result=False)
def review_pairs(
    workspace: str,
    *,
    sample: Share = 100.0,
    double: Percent = 0.0,
    seed: int = 0,
    project: int | None = None,
    document_root: Path | None = None,
    url_prefix: str | None = None,
    video_root: Path | None = None,
    poll_every_s: PollSeconds = 600.0,
    deadline_h: DeadlineHours = 72.0,
    config: Path | None = None,
    overrides: Sequence[str] = (),
) -> State[None]:
    """Have people review the pairs of a workspace in Label Studio, and build the dataset with their decisions.

    Relative paths are taken from the folder that the flow was deployed from, the repository.

    Args:
        workspace: a workspace that was built.
        sample: share of the pairs that go to review, in percent.
        double: share of these that two people review, in percent.
        seed: the same seed draws the same pairs.
        project: number of a project to use; by default the workspace's own, made where there is none.
        document_root: folder of local files that the server serves; by default what
            LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT says.
        url_prefix: address of `video_root` instead.
        video_root: folder of videos that `url_prefix` stands for.
        poll_every_s: look so often whether the reviews are in; a hint of the webhook's receiver wakes the run earlier.
        deadline_h: hours from the begin of the run after which it fails if reviews are missing.
        config: YAML file of the build's settings; by default those of the workspace's latest build.
        overrides: single settings of the build as `section.key=value`.
    """
    log_to_prefect()
    run = current_run()
    try:
        settings, folder = config_of(workspace, config, overrides)
        root = document_root or (None if url_prefix else _root_of_environment())
        serving = Serving(document_root=root, url_prefix=url_prefix, video_root=video_root)
        selection = Selection(sample_percent=sample, seed=seed)
        deadline = begun_at(run) + timedelta(hours=deadline_h)
        try:
            publish_sent(send_task(workspace, serving, selection, double, project))
            pulled = pull_task(workspace, project)
            publish_reviews(workspace, pulled)
            missing = what_is_missing(pulled)
            if not missing:
                with chdir(folder):
                    summary = run_plan(settings, first="filter")
                done = f"{pulled.export.tasks} task(s) are through; {summary.stages[-1].rows} rows in {summary.dataset}"
                return Completed(message=done)
        except UnavailableError as fault:
            # people take days, in which a server may well be away, or a build in the workspace
            get_run_logger().warning("%s", fault)
            missing = str(fault)
        now = datetime.now(UTC)
        if now >= deadline:
            return Failed(name="TimedOut", message=f"{missing}: after {deadline_h:g} h; decisions so far are kept")
        leave_until(run, min(now + timedelta(seconds=poll_every_s), deadline), missing)
    except HolmesError as fault:
        get_run_logger().error("%s", fault)
        return Failed(message=str(fault))


def current_run() -> FlowRun:
    """Return the run that this process works on."""
    context = FlowRunContext.get()
    if context is None or context.flow_run is None:
        raise RuntimeError("outside of a flow run")
    return context.flow_run


@healing_task(name="send")
def send_task(
    workspace: str, serving: Serving, selection: Selection, double_percent: float, project: int | None
) -> ReviewProject:
    """Send the pairs that have no task yet."""
    with shown_progress("send", FLOW_NAME) as show:
        return open_reviews(
            Workspace(workspace),
            StudioClient(),
            serving,
            selection=selection,
            double_percent=double_percent,
            project_id=project,
            on_progress=lambda done, total: show("send", done, total),
        )


@healing_task(name="pull")
def pull_task(workspace: str, project: int | None) -> PulledReviews:
    """Fetch the reviews, whole or not at all, and store the new decisions."""
    with shown_progress("pull", FLOW_NAME) as show:
        return pull_reviews(
            Workspace(workspace),
            StudioClient(),
            project_id=project,
            on_progress=lambda done, total: show("pull", done, total),
        )


def what_is_missing(pulled: PulledReviews) -> str:
    """Return what reviewers have not done yet, as a person reads it; empty once they are through."""
    missing = {"wait for a reviewer": pulled.waiting, "wait for a second reviewer": pulled.wants_second}
    said = [f"{count} {what}" for what, count in missing.items() if count]
    return f"of {pulled.export.tasks} task(s) {' and '.join(said)}" if said else ""


def publish_sent(sent: ReviewProject) -> None:
    """Tell what was sent, and which pairs were not."""
    get_run_logger().info("%s", sent)
    for pair_id, fault in sent.skipped:
        get_run_logger().warning("%s: %s", pair_id, fault)


def publish_reviews(workspace: str, pulled: PulledReviews) -> None:
    """Leave the counts as a table of the run, and every remark in its log."""
    get_run_logger().info("%s", pulled)
    for remark in pulled.remarks:
        get_run_logger().warning("%s", remark)
    rows = [{"what": what, "count": count} for what, count in counts_of(pulled).items()]
    create_table_artifact(rows, key=FLOW_NAME, description=f"Reviews of {workspace}")


def counts_of(pulled: PulledReviews) -> dict[str, Any]:
    """Return how far the reviewers are, and what they decided; shares of agreement are None where nobody agrees."""
    statistics = pulled.statistics
    left_out = Counter(fault.reason for fault in pulled.export.left_out)
    return {
        "tasks": pulled.export.tasks,
        "waiting": pulled.waiting,
        "waiting for a second reviewer": pulled.wants_second,
        "skipped": pulled.export.skipped,
        "decisions added": pulled.imported.added,
        "decisions known": pulled.imported.known,
        "corrected": len(pulled.export.corrected),
        **{f"left out: {reason}": count for reason, count in left_out.items()},
        **{f"faults: {reason}": count for reason, count in Counter(f.reason for f in pulled.imported.faults).items()},
        **{f"reviewer {one.name}": one.decided for one in statistics.reviewers},
        "answers judged by several": statistics.several,
        "decided alike": statistics.observed,
        "kappa": statistics.kappa,
        "in conflict": len(statistics.conflicts),
    }


def _root_of_environment() -> Path | None:
    root = os.environ.get(ROOT_VARIABLE)
    return Path(root) if root else None
