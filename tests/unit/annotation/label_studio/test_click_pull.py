"""What a pull brings, and what it says when the project changes under its hands."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from http_server import Reply
from studio_double import TOKEN, StudioDouble

from annotation.formats.registry import read_annotations
from annotation.label_studio.click_interface import glance_config
from annotation.label_studio.click_pull import AGREEMENT_FILE, pull_form, pull_glances
from annotation.label_studio.client import StudioClient
from pipeline.errors import DataError, SetupError, UnavailableError
from pipeline.records import Reason
from pipeline.workspace import Workspace

NOTHING = {"value": {"choices": ["Nothing abnormal"]}, "from_name": "normal", "to_name": "video", "type": "choices"}


@pytest.fixture
def double() -> StudioDouble:
    double = StudioDouble()
    double.add_project(glance_config(["Fighting"]))
    return double


@pytest.fixture
def client(double: StudioDouble) -> Iterator[StudioClient]:
    with double.serve() as server:
        yield StudioClient(f"http://127.0.0.1:{server.port}", TOKEN, timeout_s=5.0, read_retries=0)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(str(tmp_path / "ws"))


def click(frame: int, label: str = "Fighting") -> dict[str, Any]:
    value = {"ranges": [{"start": frame, "end": frame}], "timelinelabels": [label]}
    return {"value": value, "from_name": "event", "to_name": "video", "type": "timelinelabels"}


def by(annotator: int, *regions: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return {"id": annotator, "completed_by": annotator, "result": list(regions), "was_cancelled": False} | fields


def add(double: StudioDouble, video_id: str, *annotations: dict[str, Any], **data: Any) -> int:
    return double.add_task(1, {"video_id": video_id, "video": f"{video_id}.mp4", "fps": "25"} | data, *annotations)


def test_clicks_marks_and_judgements_are_counted(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    add(double, "both", by(1, click(26)), by(2, click(31)))
    add(double, "marked", by(1, click(51), click(101, "Ignore")))
    add(double, "calm", by(1, NOTHING), by(2, click(5)))
    add(double, "skipped", by(1, click(8), was_cancelled=True))
    add(double, "nobody")
    summary = pull_glances(workspace, client, project_id=1)
    assert (summary.tasks, summary.clicks, summary.marks, summary.nothing_abnormal) == (5, 4, 1, 1)
    assert summary.annotators == {"1": 2, "2": 2}
    assert [fault.reason for fault in summary.faults] == [Reason.SKIPPED_ANNOTATION]
    assert (summary.agreement.videos, summary.agreement.same_verdict) == (2, 0.5)
    assert workspace.read_json(AGREEMENT_FILE)["by_annotator"] == {"1": 2, "2": 2}
    frames = {(one.video, one.frame_index) for one in read_annotations(summary.path).glances}
    assert frames == {("both", 25), ("both", 30), ("marked", 50), ("marked", 100), ("calm", 4)}


def test_tasks_deleted_between_listing_and_export_are_named(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    numbers = [add(double, str(number), by(1, click(number + 1))) for number in range(5)]

    def delete_before_export(_method: str, path: str) -> None:
        if "/export" in path:
            double.tasks[1] = [task for task in double.tasks[1] if task["id"] not in numbers[1:3]]

    double.trouble = delete_before_export
    summary = pull_glances(workspace, client, project_id=1)
    assert (list(summary.gone), summary.tasks, summary.clicks) == (numbers[1:3], 3, 3)
    assert "2 task(s) were deleted meanwhile: " in str(summary)


def test_what_an_earlier_pull_brought_and_is_gone_is_named(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    numbers = [add(double, name, by(1, click(26)), by(2, NOTHING)) for name in ("kept", "emptied", "deleted")]
    add(double, "rateless", by(3, click(26)), fps="x")
    assert pull_glances(workspace, client, project_id=1).withdrawals == []
    double.task(numbers[1])["annotations"] = []  # type: ignore[index]
    double.tasks[1].remove(double.task(numbers[2]))  # type: ignore[arg-type]
    summary = pull_glances(workspace, client, project_id=1)
    assert summary.withdrawn == 4
    assert sorted(summary.withdrawals) == [
        "deleted: nothing abnormal, said by annotator 2, is no longer on the server",
        "deleted: the click Fighting at 1.00 s by annotator 1 is no longer on the server",
        "emptied: nothing abnormal, said by annotator 2, is no longer on the server",
        "emptied: the click Fighting at 1.00 s by annotator 1 is no longer on the server",
    ]
    assert set(summary.withdrawals) < set(summary.remarks)
    assert pull_glances(workspace, client, project_id=1).withdrawals == []
    other = double.add_project(glance_config(["Fighting"]))
    double.add_task(other, {"video_id": "elsewhere", "video": "e.mp4", "fps": "25"}, by(1, click(3)))
    assert pull_glances(workspace, client, project_id=other).withdrawals == []


def test_an_export_of_other_tasks_is_not_taken(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    add(double, "asked", by(1, click(1)))
    double.trouble = lambda _method, path: Reply(body=b'[{"id": 77}]') if "/export" in path else None
    with pytest.raises(UnavailableError, match="holds something else than the tasks asked for"):
        pull_glances(workspace, client, project_id=1)
    double.trouble = lambda _method, path: Reply(body=b"<html>") if "/export" in path else None
    with pytest.raises(UnavailableError, match="the export is not JSON"):
        pull_glances(workspace, client, project_id=1)


def test_a_pull_that_fails_leaves_the_file_of_the_last_one(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    add(double, "first", by(1, click(1)))
    path = Path(pull_glances(workspace, client, project_id=1).path)
    before = path.read_bytes()
    add(double, "second", by(1, click(2)))
    double.trouble = lambda _method, path: Reply(status=503) if "/export" in path else None
    with pytest.raises(UnavailableError, match="HTTP 503"):
        pull_glances(workspace, client, project_id=1)
    assert path.read_bytes() == before


def test_a_rate_that_only_the_interface_names_is_written_into_the_tasks(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    double.projects[1]["label_config"] = glance_config(["Fighting"]).replace("$fps", "10")
    add(double, "own", by(1, click(11)), fps="25")
    add(double, "none", by(1, click(11)), fps="")
    add(double, "same", by(1, click(11)), fps="10")
    summary = pull_glances(workspace, client, project_id=1)
    assert summary.rates_added == 2
    assert {task["data"]["fps"] for task in json.loads(Path(summary.path).read_text())} == {"10"}
    assert {one.time_s for one in read_annotations(summary.path).glances} == {1.0}


def test_more_tasks_than_fit_one_export(workspace: Workspace, client: StudioClient, double: StudioDouble) -> None:
    for number in range(601):
        add(double, str(number), by(1, click(number + 1)))
    seen: list[tuple[int, int]] = []
    summary = pull_glances(workspace, client, project_id=1, on_progress=lambda done, total: seen.append((done, total)))
    assert (summary.tasks, summary.clicks, len(summary.gone)) == (601, 601, 0)
    assert seen == [(250, 601), (500, 601), (601, 601)]


def test_a_project_without_tasks_and_one_of_another_kind(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    with pytest.raises(DataError, match="no tasks"):
        pull_glances(workspace, client, project_id=1)
    pictures = double.add_project('<View><Image name="i" value="$i"/><Choices name="c" toName="i"/></View>')
    with pytest.raises(SetupError, match="not a project for clicks"):
        pull_glances(workspace, client, project_id=pictures)
    with pytest.raises(SetupError, match="no project was made for it"):
        pull_glances(workspace, client)


def test_a_form_that_does_not_exist(workspace: Workspace, client: StudioClient) -> None:
    with pytest.raises(SetupError, match="'YOLO' is no form of export; known are JSON, JSON_MIN, CSV, TSV"):
        pull_form(workspace, client, "YOLO", project_id=1)
