"""Flow runs that leave their process while they wait for people, and what wakes them before their time.

A waiting run is a scheduled one: it holds no process, so that a worker or the server may be started anew meanwhile,
and a worker takes it up again when its time has come. Prefect's own suspension has no time at which to look again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import NoReturn

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterDeploymentId,
    FlowRunFilterState,
    FlowRunFilterStateName,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.client.schemas.responses import DeploymentResponse, OrchestrationResult, SetStateStatus
from prefect.exceptions import ObjectNotFound, Pause
from prefect.settings import PREFECT_API_URL
from prefect.states import Scheduled

from pipeline.errors import SetupError, UnavailableError

AWAITING = "AwaitingReviews"
"""Name of the state of a run that waits for people."""

SOON_S = 60.0
"""Time in which a scheduled run counts as about to begin. Prefect looks for a free slot every 30 s."""

ONLY_WOKEN = ("review-pairs",)
"""Flows of which a hint starts no run: it would send pairs that nobody asked to send."""


def leave_until(run: FlowRun, at: datetime, message: str) -> NoReturn:
    """End the process of a run; a worker begins it anew at a time, or once it is woken.

    Raises:
        SetupError: the run has no deployment, so that nobody would begin it anew, or the server refuses.
        Pause: otherwise, which Prefect takes as the order to leave.
    """
    if run.deployment_id is None:
        raise SetupError(f"flow run {run.name}: only a deployed flow can wait: prefect deployment run, or flow.serve")
    state: State[None] = Scheduled(name=AWAITING, scheduled_time=at, message=message)
    with _explained(), get_client(sync_client=True) as client:
        answer: OrchestrationResult[None] = client.set_flow_run_state(run.id, state)
    if answer.status != SetStateStatus.ACCEPT or answer.state is None:
        raise SetupError(f"flow run {run.name} cannot wait: {answer.details}")
    raise Pause(state=answer.state)


def begun_at(run: FlowRun) -> datetime:
    """Return when a run began for the first time."""
    with _explained(), get_client(sync_client=True) as client:
        return client.read_flow_run(run.id).start_time or datetime.now(UTC)


def check_deployment(name: str) -> None:
    """Find out whether there is such a deployment, `flow/deployment`.

    Raises:
        SetupError: there is none.
        UnavailableError: the Prefect server does not answer.
    """
    with _explained(), get_client(sync_client=True) as client:
        _find(client, name)


def hint_deployment(name: str, workspace: str, project: int | None = None) -> str:
    """Wake the runs of a deployment that wait for people, or else start one; return what was done.

    A run that has not begun yet will see everything by itself, so that none is started beside it.

    Args:
        name: `flow/deployment`.
        workspace: parameter of a run that is started.
        project: likewise, unless None.

    Raises:
        SetupError: there is no such deployment.
        UnavailableError: the Prefect server does not answer.
    """
    with _explained(), get_client(sync_client=True) as client:
        deployment = _find(client, name)
        waiting = _runs(client, deployment, FlowRunFilterState(name=FlowRunFilterStateName(any_=[AWAITING])))
        for run in waiting:
            _wake(client, run)
        if waiting:
            return f"{name}: woke {', '.join(run.name for run in waiting)}"
        if name.partition("/")[0] in ONLY_WOKEN:
            return f"{name}: no run waits"
        parameters = {"workspace": workspace} | ({} if project is None else {"project": project})
        for run in _runs(client, deployment, _in_state(StateType.SCHEDULED, StateType.PENDING)):
            if _begins_soon(run) and parameters.items() <= run.parameters.items():
                return f"{name}: {run.name} is about to begin"
        started = client.create_flow_run_from_deployment(deployment.id, parameters=parameters)
    return f"{name}: started {started.name}"


def _wake(client: SyncPrefectClient, run: FlowRun) -> None:
    message = run.state.message if run.state else None
    state: State[None] = Scheduled(name=AWAITING, scheduled_time=datetime.now(UTC), message=message)
    client.set_flow_run_state(run.id, state)


def _find(client: SyncPrefectClient, name: str) -> DeploymentResponse:
    if len(name.split("/")) != 2:
        raise SetupError(f"{name}: a deployment is named flow/deployment, such as import-glances/import-glances")
    try:
        return client.read_deployment_by_name(name)
    except ObjectNotFound:
        raise SetupError(f"{name}: no such deployment on {client.api_url}; prefect deploy --all makes ours") from None


def _runs(client: SyncPrefectClient, deployment: DeploymentResponse, state: FlowRunFilterState) -> list[FlowRun]:
    of_deployment = FlowRunFilterDeploymentId(any_=[deployment.id])
    return client.read_flow_runs(flow_run_filter=FlowRunFilter(deployment_id=of_deployment, state=state))


def _begins_soon(run: FlowRun) -> bool:
    """Tell whether a run waits for a worker or a slot only, and not for the hour that a schedule says."""
    at = run.next_scheduled_start_time
    return at is None or at <= datetime.now(UTC) + timedelta(seconds=SOON_S)


def _in_state(*types: StateType) -> FlowRunFilterState:
    return FlowRunFilterState(type=FlowRunFilterStateType(any_=list(types)))


@contextmanager
def _explained() -> Iterator[None]:
    """Turn failures of the Prefect server inside into one of ours."""
    if not PREFECT_API_URL.value():
        # Prefect would start a server of its own, which knows nothing
        raise SetupError("PREFECT_API_URL is not set: the Prefect server's address, such as http://127.0.0.1:4200/api")
    try:
        yield
    except httpx.HTTPError as fault:
        raise UnavailableError(f"the Prefect server does not answer: {fault}") from None
