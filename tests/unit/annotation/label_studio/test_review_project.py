"""The project for reviews: what goes out, what comes back, and what becomes of it when people and answers change."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from http_server import Reply
from review_space import fill_review_space, pair_of
from studio_double import TOKEN, StudioDouble
from typer.testing import CliRunner

from annotation.label_studio.click_interface import glance_config
from annotation.label_studio.click_project import init_glances
from annotation.label_studio.click_pull import pull_glances
from annotation.label_studio.client import StudioClient
from annotation.label_studio.pull import pull_all
from annotation.label_studio.review_interface import check_review_interface, review_config
from annotation.label_studio.review_project import open_reviews
from annotation.label_studio.review_pull import PulledReviews, pull_reviews
from annotation.label_studio.serving import Serving
from flows.cli import app
from pipeline.errors import ConfigError, DataError, SetupError, UnavailableError
from pipeline.records import Reason, Verdict, digest
from pipeline.review.items import Selection, select_pairs
from pipeline.review.store import stored_reviews, stored_verdicts
from pipeline.workspace import Workspace

SERVING = Serving(url_prefix="https://media.example.org/f", video_root=Path("/footage"))
CHANGED = "Yes, another text."
Region = dict[str, Any]


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("label_studio_sdk.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.001)


@pytest.fixture
def space(workspace: Workspace) -> Workspace:
    return fill_review_space(workspace)


@pytest.fixture
def double() -> StudioDouble:
    return StudioDouble()


@pytest.fixture
def client(double: StudioDouble) -> Iterator[StudioClient]:
    with double.serve() as server:
        yield StudioClient(f"http://127.0.0.1:{server.port}", TOKEN, timeout_s=2.0)


def chosen(*choices: str, name: str = "decision") -> Region:
    return {"value": {"choices": list(choices)}, "from_name": name, "to_name": "clip", "type": "choices"}


def written(text: str, name: str = "edited_answer") -> Region:
    return {"value": {"text": [text]}, "from_name": name, "to_name": "clip", "type": "textarea"}


def stars(number: Any) -> Region:
    return {"value": {"rating": number}, "from_name": "rating", "to_name": "clip", "type": "rating"}


def annotation(*result: Region, by: int = 1, minute: int = 0, **fields: Any) -> dict[str, Any]:
    return {
        "completed_by": by, "result": list(result), "was_cancelled": False, "lead_time": 4.0,
        "updated_at": f"2026-01-02T03:{minute:02d}:00.000000Z", **fields,
    }  # fmt: skip


@pytest.fixture
def said(space: Workspace, double: StudioDouble, client: StudioClient) -> Callable[..., PulledReviews]:
    """Open the project, put annotations to the first pair, and pull."""
    open_reviews(space, client, SERVING)

    def pull(*annotations: dict[str, Any]) -> PulledReviews:
        double.tasks[1][0]["annotations"] = list(annotations)
        return pull_reviews(space, client)

    return pull


def test_every_selected_pair_becomes_a_task_once(space: Workspace, double: StudioDouble, client: StudioClient) -> None:
    made = open_reviews(space, client, SERVING, selection=Selection(sample_percent=50), double_percent=50)
    selected = select_pairs(space, Selection(sample_percent=50))
    assert (made.created, made.added, made.known, made.doubled) == (True, 4, 0, 2)
    tasks = double.tasks[1]
    assert [task["data"]["pair_id"] for task in tasks] == selected
    assert sorted((task["overlap"], task["data"]["reviews_wanted"]) for task in tasks) == [
        (1, 1),
        (1, 1),
        (2, 2),
        (2, 2),
    ]
    data = tasks[0]["data"]
    pair = pair_of(int(selected[0].removeprefix("pair_")))
    assert (data["question"], data["answer"], data["answer_hash"]) == (pair.question, pair.answer, digest(pair.answer))
    assert (data["caption"], data["label"]) == ("Two men, fighting.", "Fighting")

    everything = open_reviews(space, client, SERVING, double_percent=50)
    assert (everything.created, everything.added, everything.known) == (False, 3, 4)
    assert [task["data"] for task in tasks[:1]] == [data]
    again = open_reviews(space, client, SERVING, double_percent=50)
    assert (again.added, again.known, again.doubled, len(double.tasks[1])) == (0, 7, everything.doubled, 7)
    assert sum(task["overlap"] == 2 for task in double.tasks[1]) == everything.doubled


def test_a_run_that_ended_before_the_second_reviewers_were_asked_is_mended(
    space: Workspace, double: StudioDouble, client: StudioClient
) -> None:
    double.trouble = lambda method, _path: Reply(status=503) if method == "PATCH" else None
    with pytest.raises(UnavailableError, match="ask 2 people about task"):
        open_reviews(space, client, SERVING, double_percent=100)
    double.trouble = lambda _method, _path: None
    assert open_reviews(space, client, SERVING).doubled == 7
    assert {task["overlap"] for task in double.tasks[1]} == {2}


def test_a_clip_is_shown_by_its_own_file_or_as_a_span_of_its_video(
    space: Workspace, double: StudioDouble, client: StudioClient, tmp_path: Path
) -> None:
    space.storage.write(space.clip_file("clip_0"), b"")
    root = Path(space.storage.path("clips")).parent
    open_reviews(space, client, Serving(url_prefix="https://media.example.org/w", video_root=root))
    assert {task["data"]["clip"] for task in double.tasks[1]} == {"https://media.example.org/w/clips/clip_0.mp4"}
    made = open_reviews(space, client, SERVING)
    assert (made.added, {fault.reason for _, fault in made.skipped}) == (5, set())
    shown = {task["data"]["clip_id"]: task["data"]["clip"] for task in double.tasks[1]}
    assert shown["clip_2"] == "https://media.example.org/f/0.mp4#t=2.000,4.500"


def test_an_answer_made_anew_replaces_its_task_only_where_nobody_has_worked_on_it(
    space: Workspace, double: StudioDouble, client: StudioClient
) -> None:
    open_reviews(space, client, SERVING)
    touched, untouched = double.tasks[1][0], double.tasks[1][1]
    touched["annotations"] = [annotation(chosen("accept"), written(touched["data"]["answer"]))]
    for task in (touched, untouched):
        number = int(task["data"]["pair_id"].removeprefix("pair_"))
        space.pairs.drop([f"unit_{number}"])
        space.pairs.commit([f"new_{number}"], [(f"new_{number}", pair_of(number, "Yes, made anew."))], [], "f")
    double.add_task(1, {"pair_id": "pair_of_yore", "answer_hash": "0"})
    made = open_reviews(space, client, SERVING)
    assert (made.added, made.replaced, made.known) == (2, 1, 5)
    assert (made.outdated, made.gone) == ([touched["data"]["pair_id"]], ["pair_of_yore"])
    assert touched in double.tasks[1]
    assert untouched not in double.tasks[1]
    assert sum(task["data"].get("answer") == "Yes, made anew." for task in double.tasks[1]) == 2
    again = open_reviews(space, client, SERVING)
    assert (again.added, again.replaced) == (0, 0)
    pulled = pull_reviews(space, client)
    assert [fault.reason for fault in pulled.imported.faults] == [Reason.STALE_ANSWER, Reason.MALFORMED_ROW]


@pytest.mark.parametrize(
    ("regions", "kept", "corrected"),
    [
        ([chosen("accept"), written(pair_of(0).answer)], ("accept", None), None),
        ([chosen("accept"), written(pair_of(0).answer + "\r\n ")], ("accept", None), None),
        ([chosen("accept"), written(CHANGED)], ("edit", CHANGED), "counted as an edit"),
        ([chosen("accept")], ("accept", None), "no text in the field"),
        ([chosen("edit"), written(CHANGED)], ("edit", CHANGED), None),
        ([chosen("edit"), written(pair_of(0).answer)], ("accept", None), "changed nothing: counted as accepted"),
        ([chosen("reject"), written(pair_of(0).answer)], ("reject", None), None),
        ([chosen("reject"), written(CHANGED)], ("reject", None), "counted as rejected"),
    ],
)
def test_what_counts_where_choice_and_text_agree_and_where_they_do_not(
    space: Workspace,
    said: Callable[..., PulledReviews],
    regions: list[Region],
    kept: tuple[str, str | None],
    corrected: str | None,
) -> None:
    pulled = said(annotation(*regions, stars(4)))
    [(_, review)] = stored_reviews(space)
    assert (review.decision, review.edited_answer) == kept
    assert (review.rating, review.lead_time_s) == (4, 4.0)
    assert (review.reviewer, review.reviewed_at) == ("1", "2026-01-02T03:00:00.000000Z")
    assert [corrected in line for line in pulled.export.corrected] == ([True] if corrected else [])
    [(_, verdict)] = stored_verdicts(space)
    assert isinstance(verdict, Verdict)
    assert (verdict.decision, verdict.edited_answer, verdict.original_answer) == (*kept, pair_of(0).answer)
    again = said(annotation(*regions, stars(4)))
    assert (again.imported.added, again.imported.known) == (0, 1)


def test_a_reason_is_what_was_chosen_and_what_was_written(space: Workspace, said: Callable[..., PulledReviews]) -> None:
    said(annotation(chosen("reject"), chosen("too vague", "other", name="reason"), written("why so?", name="comment")))
    [(_, review)] = stored_reviews(space)
    assert review.reason == "too vague, other: why so?"


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (annotation(chosen("accept"), was_cancelled=True), "skipped by reviewer 1"),
        (annotation(), "submitted empty by reviewer 1"),
        (annotation(written(CHANGED)), "no decision by reviewer 1"),
        (annotation(chosen("edit")), "an edit whose edited_answer changes nothing"),
        (annotation(chosen("accept", "reject")), "one decision is expected"),
        (annotation(chosen("accept"), chosen("reject")), "one decision is expected"),
        (annotation(chosen("perhaps")), "decision='perhaps' is none of"),
        (
            annotation(chosen("accept"), written(pair_of(0).answer), stars(7)),
            "rating='7' is no whole number from 1 to 5",
        ),
        (annotation(chosen("reject"), stars(float("nan"))), "rating='nan' is no whole number"),
        (annotation(chosen("accept"), by=[1]), "a user's address or number is expected, not [1]"),  # type: ignore[arg-type]
        (annotation(chosen("reject"), updated_at="soon"), "no ISO 8601 time"),
        (annotation({"value": 3}), "a result with a value is expected"),
        ({"completed_by": 1, "result": None}, "a list of results is expected"),
    ],
)
def test_what_decides_nothing_is_named_and_not_kept(
    space: Workspace, said: Callable[..., PulledReviews], given: dict[str, Any], message: str
) -> None:
    pulled = said(given)
    assert list(stored_reviews(space)) == []
    [remark] = pulled.remarks
    assert message in remark
    assert "reviews.json: $[0].annotations[0]" in remark


def test_what_is_still_to_do_is_counted(space: Workspace, double: StudioDouble, client: StudioClient) -> None:
    open_reviews(space, client, SERVING, double_percent=100)
    first, second, third, fourth, *_ = double.tasks[1]
    first["annotations"] = [annotation(chosen("accept"))]
    second["annotations"] = [annotation(chosen("accept")), annotation(chosen("accept"), by=2)]
    third["annotations"] = [annotation(was_cancelled=True)]
    fourth["drafts"] = [{"id": 5, "result": []}]
    pulled = pull_reviews(space, client)
    assert (pulled.export.tasks, pulled.waiting, pulled.wants_second, pulled.export.skipped) == (7, 4, 1, 1)
    assert any("$[3].drafts[0]" in remark and "not submitted" in remark for remark in pulled.remarks)


def test_of_several_reviewers_the_latest_counts_and_the_conflict_is_told(
    space: Workspace, said: Callable[..., PulledReviews]
) -> None:
    pulled = said(
        annotation(chosen("reject"), by=2, minute=9),
        annotation(chosen("accept"), by=1, minute=5),
        annotation(chosen("accept"), by=3, minute=6),
    )
    assert pulled.imported.added == 3
    assert pulled.statistics.conflicts == (
        "pair pair_0: accept by 1, reject by 2, accept by 3: the latest counts, reject by 2",
    )
    assert pulled.statistics.observed == pytest.approx(1 / 3)
    latest = max((verdict for _, verdict in stored_verdicts(space)), key=lambda verdict: str(verdict.reviewed_at))  # type: ignore[union-attr]
    assert isinstance(latest, Verdict)
    assert (latest.decision, latest.reviewer) == ("reject", "2")


def test_a_task_deleted_between_the_listing_and_the_export_is_told(
    space: Workspace, double: StudioDouble, client: StudioClient
) -> None:
    open_reviews(space, client, SERVING)
    gone = double.tasks[1][2]["id"]

    def delete(_method: str, path: str) -> None:
        if "/export" in path:
            double.tasks[1] = [task for task in double.tasks[1] if task["id"] != gone]

    double.trouble = delete
    pulled = pull_reviews(space, client)
    assert (pulled.gone, pulled.export.tasks) == ((gone,), 6)
    assert f"1 task(s) were deleted meanwhile: [{gone}]" in str(pulled)


def test_a_decision_that_was_deleted_on_the_server_is_named_until_somebody_decides_anew(
    space: Workspace, said: Callable[..., PulledReviews], client: StudioClient
) -> None:
    reject, accept = annotation(chosen("reject"), by=2, minute=2), annotation(chosen("accept"), by=1, minute=1)
    rest = "is no longer on the server and still counts: decide anew there to take it back"
    line = f"pair pair_0: reject by reviewer 2 {rest}"
    assert said(accept, reject).deleted == ()
    for _ in range(2):
        pulled = said(accept)
        assert pulled.deleted == (line,)
        assert line in pulled.remarks
        assert pulled.figures()["reviews"]["deleted"] == 1
    assert {str(one.decision) for _, one in stored_reviews(space)} == {"accept", "reject"}
    assert said(reject).deleted == ()
    assert said(annotation(chosen("accept"), by=3, minute=9)).deleted == ()
    assert said().deleted == (f"pair pair_0: accept by reviewer 3 {rest}",)
    # what came from a file is not missed on the server, nor are the decisions of another project
    space.write_json(
        "labelstudio/reviews_gone.json", {"server": client.url, "project": 77, "gone": [["pair_0", "h", "3"]]}
    )
    assert said().deleted == ()


@pytest.mark.parametrize(
    "reply", [Reply(status=502), Reply(wire="hang"), Reply(body=b"<html>"), Reply(body=b'[{"id": 99}]')]
)
def test_a_server_that_fails_leaves_the_workspace_as_it_was(
    space: Workspace, double: StudioDouble, reply: Reply
) -> None:
    with double.serve() as server:
        client = StudioClient(f"http://127.0.0.1:{server.port}", TOKEN, timeout_s=0.3, read_retries=0)
        open_reviews(space, client, SERVING)
        double.tasks[1][0]["annotations"] = [annotation(chosen("accept"))]
        double.trouble = lambda _method, path: reply if "/export" in path else None
        with pytest.raises(UnavailableError):
            pull_reviews(space, client)
    assert list(stored_reviews(space)) == []
    assert not space.storage.exists("labelstudio/reviews.json")


def test_a_project_of_another_kind_is_refused(space: Workspace, double: StudioDouble, client: StudioClient) -> None:
    clicks = double.add_project(glance_config(["Fighting"]))
    for act in (open_reviews, pull_reviews):
        arguments = (space, client, SERVING) if act is open_reviews else (space, client)
        with pytest.raises(SetupError, match=f"project {clicks} of .* not a project for reviews"):
            act(*arguments, project_id=clicks)  # type: ignore[operator]
    reviews = open_reviews(space, client, SERVING).project_id
    with pytest.raises(SetupError, match="not a project for clicks"):
        init_glances(space, client, SERVING, project_id=reviews)
    with pytest.raises(SetupError, match="not a project for clicks"):
        pull_glances(space, client, project_id=reviews)
    for config in ("<View", "<View/>", review_config().replace("edited_answer", "answer")):
        with pytest.raises(SetupError, match="here: not a project for reviews"):
            check_review_interface(config, "here")


def test_pull_takes_all_that_the_workspace_has_or_the_project_that_is_named(
    space: Workspace, double: StudioDouble, client: StudioClient
) -> None:
    with pytest.raises(SetupError, match="run init-glance or init-review, or name one"):
        pull_all(space, client)
    reviews = open_reviews(space, client, SERVING).project_id
    [only] = pull_all(space, client)
    assert isinstance(only, PulledReviews)
    clicks = double.add_project(glance_config(["Fighting"]))
    double.add_task(clicks, {"video": "a.mp4", "video_id": "a", "fps": "25"})
    space.write_json("labelstudio/glance_project.json", {"url": client.url, "project": clicks})
    assert [list(one.figures()) for one in pull_all(space, client)] == [["glances"], ["reviews"]]
    assert [list(one.figures()) for one in pull_all(space, client, project_id=reviews)] == [["reviews"]]
    assert [list(one.figures()) for one in pull_all(space, client, project_id=clicks)] == [["glances"]]


def test_bad_calls_are_clear(workspace: Workspace, client: StudioClient) -> None:
    with pytest.raises(DataError, match="no pairs to review"):
        open_reviews(workspace, client, SERVING)
    with pytest.raises(ConfigError, match=r"double=101: a share in \[0, 100\]"):
        open_reviews(workspace, client, SERVING, double_percent=101)
    with pytest.raises(SetupError, match="run init-review or name one"):
        pull_reviews(workspace, client)


def test_the_commands(
    space: Workspace, double: StudioDouble, client: StudioClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LABEL_STUDIO_URL", client.url)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    serving = ["--url-prefix", "https://media.example.org/f", "--video-root", "/footage"]
    made = CliRunner().invoke(app, ["labelstudio", "init-review", space.url, "--sample", "30", *serving])
    assert (made.exit_code, "3 task(s) added" in made.stdout) == (0, True), made.output
    double.tasks[1][0]["annotations"] = [annotation(chosen("perhaps")), annotation(chosen("reject"), by=2)]
    pulled = CliRunner().invoke(app, ["labelstudio", "pull", space.url])
    assert pulled.exit_code == 0, pulled.output
    assert "decision='perhaps' is none of accept, edit, reject" in pulled.stderr
    assert "1 decisions added" in pulled.stdout
    as_json = CliRunner().invoke(app, ["labelstudio", "pull", space.url, "--json"])
    figures = json.loads(as_json.stdout)["reviews"]
    assert (figures["known"], figures["faults"], figures["waiting"]) == (1, 1, 2)
    assert [one["name"] for one in figures["statistics"]["reviewers"]] == ["2"]
