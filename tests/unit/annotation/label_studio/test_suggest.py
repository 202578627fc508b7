"""A sampler clicks first: what arrives at the server, what a rerun changes, and what is left to people."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from http_server import Reply
from numbered_films import write_film
from studio_double import TOKEN, StudioDouble

from annotation.formats.registry import read_annotations
from annotation.label_studio.click_interface import glance_config
from annotation.label_studio.click_pull import pull_glances
from annotation.label_studio.client import StudioClient
from annotation.label_studio.suggest import SuggestSummary, suggest_glances
from pipeline.config import ProposalConfig
from pipeline.errors import RecordError, SetupError, UnavailableError
from pipeline.records import ABNORMAL, Reason, Video
from pipeline.sampler.curve import ScoreCurve
from pipeline.workspace import Workspace

FRAMES = 100
PEAKS = {"labelled": [20], "unknown": [30, 70], "calm": [], "missed": [], "normal": [50], "unscored": [10]}
"""The decoder frames at which the scorer sees an event."""

LABELS = {"labelled": "Fighting", "missed": "Robbery", "normal": "Normal"}


class FixedScorer:
    """Scores 0.9 around the peaks of a video, and 0.3 in the middle of the video that it misses."""

    theta = 0.5

    def __init__(self, version: str = "first") -> None:
        self.version = version

    def curve(self, video: Video) -> ScoreCurve:
        if video.video_id == "unscored":
            raise RecordError(Reason.NO_FEATURES, "unscored has no features")
        scores = np.zeros(FRAMES, np.float32)
        for peak in PEAKS[video.video_id]:
            scores[peak - 2 : peak + 3] = [0.7, 0.8, 0.9, 0.8, 0.7]
        if video.video_id == "missed":
            scores[40] = 0.3
        return ScoreCurve(scores, 1, FRAMES, video.fps)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    opened = Workspace(str(tmp_path / "ws"))
    rate = Fraction(30000, 1001)
    film = write_film(tmp_path / "film.mp4", [1001 * n for n in range(FRAMES)], Fraction(1, 30000), rate)
    rows = [
        Video(
            video_id=name,
            path=str(film),
            sha256=name,
            fps=float(rate),
            num_frames=FRAMES,
            duration_s=float(FRAMES / rate),
            width=256,
            height=128,
            codec="h264",
            label=LABELS.get(name),
            split=None,
            source="",
        )
        for name in PEAKS
    ]
    opened.videos.commit(["u"], [("u", video) for video in rows], [], "f")
    return opened


@pytest.fixture
def double() -> StudioDouble:
    double = StudioDouble()
    double.add_project(glance_config(["Fighting", "Robbery"]))
    for name in PEAKS:
        double.add_task(1, {"video_id": name, "video": "film.mp4", "fps": "29.97002997"})
    return double


@pytest.fixture
def client(double: StudioDouble) -> Iterator[StudioClient]:
    with double.serve() as server:
        yield StudioClient(f"http://127.0.0.1:{server.port}", TOKEN, timeout_s=5.0)


def suggest(workspace: Workspace, client: StudioClient, version: str = "first", **how: Any) -> SuggestSummary:
    rules = ProposalConfig(smooth_s=0, gap_s=0)
    return suggest_glances(workspace, client, FixedScorer(version), proposal=rules, min_s=0.1, project_id=1, **how)


def sent(double: StudioDouble) -> dict[str, list[dict[str, Any]]]:
    """Return the predictions on the server by the video of their task."""
    return {task["data"]["video_id"]: task["predictions"] for task in double.tasks[1]}


def clicks(prediction: dict[str, Any]) -> list[tuple[int, int, str]]:
    values = [region["value"] for region in prediction["result"]]
    return [(one["ranges"][0]["start"], one["ranges"][0]["end"], one["timelinelabels"][0]) for one in values]


def submit(double: StudioDouble, video_id: str, result: list[dict[str, Any]], **fields: Any) -> None:
    task = next(task for task in double.tasks[1] if task["data"]["video_id"] == video_id)
    annotation = {"id": 1, "completed_by": 1, "result": result, "was_cancelled": False}
    task["annotations"] = [annotation | fields]


def test_peaks_arrive_as_one_frame_regions_that_count_from_one(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    summary = suggest(workspace, client)
    arrived = {name: [clicks(one) for one in predictions] for name, predictions in sent(double).items()}
    assert arrived == {
        "labelled": [[(21, 21, "Fighting")]],
        "unknown": [[(31, 31, ABNORMAL), (71, 71, ABNORMAL)]],
        "calm": [[]],
        "missed": [[(41, 41, "Robbery")]],
        "normal": [[]],
        "unscored": [],
    }
    assert [(video_id, fault.reason) for video_id, fault in summary.skipped] == [("unscored", Reason.NO_FEATURES)]
    region = sent(double)["labelled"][0]["result"][0]
    assert (region["from_name"], region["to_name"], region["type"]) == ("event", "video", "timelinelabels")
    assert region["id"]
    assert region["score"] == pytest.approx(0.9)


def test_the_least_certain_task_comes_first_and_the_project_is_told(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    summary = suggest(workspace, client)
    order = [task.video_id for task in summary.open_tasks]
    assert order == ["missed", "labelled", "unknown", "calm", "normal"]
    scores = {name: predictions[0]["score"] for name, predictions in sent(double).items() if predictions}
    assert sorted(scores, key=lambda name: (scores[name], name)) == order
    assert (scores["missed"], scores["normal"]) == (0, 1)
    project = double.projects[1]
    assert (project["model_version"], project["sampling"]) == (summary.model_version, "Uncertainty sampling")


def test_the_order_of_the_project_is_kept_where_that_is_wanted(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    suggest(workspace, client, set_order=False)
    assert "sampling" not in double.projects[1]
    assert double.projects[1]["show_collab_predictions"]


def test_the_same_sampler_adds_nothing_and_another_replaces(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    first = suggest(workspace, client)
    before = double.predictions()
    again = suggest(workspace, client)
    assert (first.added, again.added, again.replaced, again.open_tasks) == (5, 0, 0, first.open_tasks)
    assert double.predictions() == before
    foreign = double.add_prediction(double.tasks[1][0]["id"], result=[], model_version="somebody's", score=0.1)
    later = suggest(workspace, client, "second")
    assert (later.added, later.replaced) == (5, 5)
    assert later.model_version != first.model_version
    left = double.predictions()
    assert {one["model_version"] for one in left if one["id"] != foreign} == {later.model_version}
    assert len(left) == 6
    assert foreign in {one["id"] for one in left}


def test_a_run_that_was_interrupted_is_mended_by_the_next(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    suggest(workspace, client)
    double.trouble = lambda method, _path: Reply(status=503) if method == "DELETE" else None
    with pytest.raises(UnavailableError, match="delete prediction 1"):
        suggest(workspace, client, "second")
    assert len(double.predictions()) == 10
    double.trouble = lambda _method, _path: None
    mended = suggest(workspace, client, "second")
    assert (mended.added, mended.replaced, len(double.predictions())) == (0, 5, 5)


def test_what_people_did_or_began_is_left_alone(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    suggest(workspace, client)
    kept = {name: sent(double)[name] for name in ("labelled", "unknown", "calm")}
    submit(double, "labelled", [])
    submit(double, "unknown", [], was_cancelled=True)
    double.tasks[1][2]["drafts"] = [{"id": 1, "result": []}]
    summary = suggest(workspace, client, "second")
    assert (summary.added, summary.replaced, summary.left_alone) == (2, 2, 3)
    assert {name: sent(double)[name] for name in kept} == kept


def test_a_prediction_is_no_click_and_its_unchanged_submission_is_one(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    suggest(workspace, client)
    nobody = pull_glances(workspace, client, project_id=1)
    assert (nobody.clicks, nobody.nothing_abnormal, nobody.faults) == (0, 0, [])
    assert any("prediction(s): made by a model, no glance" in note for note in nobody.notes)
    (prediction,) = sent(double)["labelled"]
    submitted = [region | {"origin": "prediction"} for region in prediction["result"]]
    submit(double, "labelled", submitted, parent_prediction=prediction["id"])
    confirmed = pull_glances(workspace, client, project_id=1)
    (click,) = read_annotations(confirmed.path).glances
    assert (click.video, click.frame_index, click.category) == ("labelled", PEAKS["labelled"][0], "Fighting")
    assert "1 region(s) that a model suggested and an annotator submitted as they were" in confirmed.notes


def test_a_task_whose_video_is_not_in_the_workspace_is_named(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    double.add_task(1, {"video_id": "stranger", "video": "film.mp4"})
    faults = {video_id: fault.reason for video_id, fault in suggest(workspace, client).skipped}
    assert faults["stranger"] is Reason.MISSING_VIDEO


def test_an_interface_without_the_label_is_refused_before_anything_is_sent(
    workspace: Workspace, client: StudioClient, double: StudioDouble
) -> None:
    without = glance_config(["Fighting", "Robbery"]).replace(f'value="{ABNORMAL}"', 'value="x"')
    double.projects[1]["label_config"] = without
    with pytest.raises(SetupError, match='no label "Abnormal", which 2 suggestion'):
        suggest(workspace, client)
    assert double.predictions() == []
