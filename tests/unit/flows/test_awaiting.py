"""What becomes of a hint and of a wait where Prefect is not as it has to be. The rest needs a server."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.awaiting import _begins_soon, check_deployment, hint_deployment, leave_until
from pipeline.errors import SetupError, UnavailableError


def test_without_an_address_prefect_starts_no_server_of_its_own() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(SetupError, match="PREFECT_API_URL"):
        check_deployment("review-pairs/review-pairs")


def test_a_server_that_is_down_may_answer_later() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(UnavailableError, match="the Prefect server does not answer"),
    ):
        hint_deployment("review-pairs/review-pairs", "ws")


def test_a_bare_name_is_refused() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}),
        pytest.raises(SetupError, match="review-pairs: a deployment is named flow/deployment"),
    ):
        check_deployment("review-pairs")


def test_only_a_deployed_run_can_wait() -> None:
    run: Any = SimpleNamespace(name="merry-sloth", deployment_id=None)
    with pytest.raises(SetupError, match="merry-sloth: only a deployed flow can wait"):
        leave_until(run, datetime.now(UTC), "3 reviews are missing")


@pytest.mark.parametrize(("in_s", "soon"), [(None, True), (-3600, True), (30, True), (3600, False)])
def test_a_run_that_a_schedule_keeps_for_later_takes_no_hint(in_s: float | None, soon: bool) -> None:
    at = None if in_s is None else datetime.now(UTC) + timedelta(seconds=in_s)
    run: Any = SimpleNamespace(next_scheduled_start_time=at)
    assert _begins_soon(run) is soon
