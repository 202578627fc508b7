"""The flow `import-glances`, without a Prefect server: what it fetches, tells, and hands to the build."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from http_server import Reply
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.states import Failed
from studio_double import TOKEN, StudioDouble

from annotation.label_studio.click_interface import glance_config
from flows import import_glances as flow_module
from flows.import_glances import import_glances, pull_task, with_glances
from flows.plan import BuildSummary
from pipeline.config import BuildConfig
from pipeline.errors import SetupError, UnavailableError
from pipeline.stages.base import StageReport
from pipeline.workspace import Workspace


def click(frame: int, by: int = 1) -> dict[str, Any]:
    value = {"ranges": [{"start": frame, "end": frame}], "timelinelabels": ["Fighting"]}
    region = {"value": value, "from_name": "event", "to_name": "video", "type": "timelinelabels"}
    return {"id": 100 * by + frame, "completed_by": by, "was_cancelled": False, "result": [region]}


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[StudioDouble]:
    """A Label Studio with a project of two tasks: one clicked by two people, one skipped."""
    double = StudioDouble()
    project = double.add_project(glance_config(["Fighting"]))
    double.add_task(project, {"video": "/a.mp4", "video_id": "a", "fps": "25"}, click(10), click(11, by=2))
    double.add_task(project, {"video": "/b.mp4", "video_id": "b", "fps": "25"}, click(9) | {"was_cancelled": True})
    monkeypatch.setattr("label_studio_sdk.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.001)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    with double.serve() as server:
        monkeypatch.setenv("LABEL_STUDIO_URL", f"http://127.0.0.1:{server.port}")
        yield double


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[dict[str, Any]]]:
    """The tables that the flow leaves, where Prefect would keep them; the task is called as a function."""
    left: dict[str, list[dict[str, Any]]] = {}

    @contextmanager
    def no_progress(*_: object) -> Iterator[Callable[..., None]]:
        yield lambda *_: None

    monkeypatch.setattr(flow_module, "create_table_artifact", lambda rows, key, description: left.update({key: rows}))
    monkeypatch.setattr(flow_module, "shown_progress", no_progress)
    monkeypatch.setattr(flow_module, "log_to_prefect", lambda: None)
    monkeypatch.setattr(flow_module, "get_run_logger", lambda: logging.getLogger("flows"))
    monkeypatch.setattr(flow_module, "pull_task", pull_task.fn)
    return left


def run(workspace: Path, **parameters: Any) -> State[None]:
    return import_glances.fn(str(workspace), project=1, **parameters)


def test_counts_reasons_and_agreement_are_told(
    double: StudioDouble, tables: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    state = run(tmp_path)
    assert state.is_completed()
    assert state.message == f"2 new: 2 click(s) of 2 task(s) in {tmp_path}/labelstudio/glances.json"
    counts = {row["what"]: row["count"] for row in tables["import-glances"]}
    assert (counts["tasks"], counts["clicks"], counts["new"]) == (2, 2, 2)
    assert (counts["annotator 1"], counts["annotator 2"]) == (1, 1)
    assert (counts["videos seen by several"], counts["clicks matched, %"], counts["same verdict, %"]) == (1, 100, 100)
    assert counts["skipped: skipped_annotation"] == 1
    (skipped,) = tables["import-glances-skipped"]
    assert skipped["reason"] == "skipped_annotation"
    assert "$[1].annotations[0]" in skipped["place"]


def test_a_second_run_says_that_nothing_is_new_and_a_later_one_what_changed(
    double: StudioDouble, tables: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    run(tmp_path)
    assert str(run(tmp_path).message).startswith("nothing new: 2 click(s) of 2 task(s)")
    double.tasks[1][1]["annotations"] = [click(40), click(80)]
    del double.tasks[1][0]["annotations"][1]
    assert str(run(tmp_path).message).startswith("2 new, 1 withdrawn: 3 click(s) of 2 task(s)")


def test_an_unreadable_file_of_before_is_replaced(
    double: StudioDouble, tables: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    run(tmp_path)
    (tmp_path / "labelstudio/glances.json").write_text("{")
    assert str(run(tmp_path).message).startswith("2 new: 2 click(s)")


def test_the_build_goes_on_with_the_settings_of_the_latest_one_and_the_clicks(
    double: StudioDouble,
    tables: dict[str, list[dict[str, Any]]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    built: list[BuildConfig] = []

    def run_plan(config: BuildConfig) -> BuildSummary:
        assert Path.cwd() == tmp_path
        built.append(config)
        stage = StageReport(stage="export", made=1, kept=0, dropped=0, rows=7, rejected={}, seconds=0.1)
        return BuildSummary(workspace=config.workspace, dataset=tmp_path / "d", report=tmp_path, stages=(stage,))

    monkeypatch.setattr(flow_module, "run_plan", run_plan)
    workspace = Workspace(str(tmp_path / "ws"))
    told = run(tmp_path / "ws", build=True)
    assert told.is_failed()
    assert "no run.json of a build in it" in str(told.message)

    latest = BuildConfig(videos=["a.mp4"], glances=["clicks.csv"], workspace="moved/since")
    workspace.write_json("run.json", {"config": latest.model_dump(mode="json"), "folder": str(tmp_path)})
    state = run(tmp_path / "ws", build=True, overrides=["clips.window_s=6"])
    assert str(state.message).endswith(f"; 7 rows in {tmp_path / 'd'}")
    assert built[0].glances == ["clicks.csv", str(tmp_path / "ws/labelstudio/glances.json")]
    assert (built[0].workspace, built[0].clips.window_s) == (str(tmp_path / "ws"), 6)


def test_a_file_of_clicks_that_is_named_already_is_not_named_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    named = BuildConfig(videos=["a.mp4"], glances=["ws/labelstudio/glances.json"])
    assert with_glances(named, str(tmp_path / "ws/labelstudio/glances.json")) == named


def test_a_server_that_fails_is_asked_again_later_and_a_wrong_project_is_not(
    double: StudioDouble, tables: dict[str, list[dict[str, Any]]], tmp_path: Path
) -> None:
    condition: Any = pull_task.retry_condition_fn
    assert condition(pull_task, None, Failed(data=UnavailableError("away"))) is True
    assert condition(pull_task, None, Failed(data=SetupError("wrong token"))) is False
    assert (pull_task.retries, pull_task.cache_policy, pull_task.persist_result) == (3, NO_CACHE, False)
    double.trouble = lambda _method, _path: Reply(status=503, body=json.dumps({}).encode())
    state = run(tmp_path)
    assert state.is_failed()
    assert "fails (HTTP 503): asked to open project 1" in str(state.message)
    assert tables == {}
