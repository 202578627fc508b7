"""`holmes eval detector`: from a workspace's scores and a ground-truth file to numbers and plots."""

from __future__ import annotations

import dataclasses
import io
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.image import imread
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score
from typer.testing import CliRunner

from flows.cli import app
from flows.commands.evaluate import Basis, evaluate_workspace, metrics_table
from pipeline.config import ClipsConfig, ExportConfig, NetworkConfig, Recipe
from pipeline.errors import ConfigError, DataError
from pipeline.evaluate.detector import EvaluatedVideo, TrueEvent, evaluate_detector
from pipeline.records import NORMAL, Glance, Scores, Video, digest
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.model_io import TrainedRecipe, TrainedSampler
from pipeline.sampler.network import UrDmu
from pipeline.sampler.proposals import GlanceMark
from pipeline.stages.run import run_stage
from pipeline.stages.splits import SplitsStage
from pipeline.workspace import Workspace

pytestmark = pytest.mark.usefixtures("log_as_before")

ANNOTATIONS = Path(__file__).resolve().parents[5] / "shared/data/annotations"
FPS = 10.0
STRIDE = 16


def evaluated(
    name: str, scores: object, events: list[tuple[int, int, str]], *glances: tuple[int, str], cut: int = 0
) -> EvaluatedVideo:
    values = np.asarray(scores, np.float32)
    return EvaluatedVideo(
        video_id=name,
        curve=ScoreCurve(values, STRIDE, len(values) * STRIDE - cut, FPS),
        events=tuple(TrueEvent(start_frame=s, end_frame=e, category=c) for s, e, c in events),
        glances=tuple(GlanceMark(frame_index=frame, category=category) for frame, category in glances),
    )


def labels_of(video: EvaluatedVideo) -> NDArray[np.bool_]:
    labels = np.zeros(video.curve.num_frames, bool)
    for event in video.events:
        labels[event.start_frame : event.end_frame] = True
    return labels


def random_videos(count: int, snippets: int = 40) -> list[EvaluatedVideo]:
    rng = np.random.default_rng(0)
    videos = []
    for number in range(count):
        cut = int(rng.integers(STRIDE))
        frames = snippets * STRIDE - cut
        events = []
        for _ in range(rng.integers(0, 3)):
            start, end = sorted(rng.choice(frames, 2, replace=False).tolist())
            events.append((start, end, "AB"[rng.integers(2)]))
        videos.append(evaluated(f"v{number}", np.round(rng.uniform(0, 1, snippets), 2), events, cut=cut))
    return videos


def test_frame_measures_agree_with_scikit_learn_on_repeated_scores() -> None:
    videos = random_videos(30)
    metrics = evaluate_detector(videos, ClipsConfig(), 0.8).metrics
    abnormal = [video for video in videos if video.events]
    normal = [video for video in videos if not video.events]
    assert normal
    for chosen, auc, ap in (
        (videos, metrics.auc, metrics.ap),
        (abnormal, metrics.auc_abnormal, metrics.ap_abnormal),
    ):
        labels = np.concatenate([labels_of(video) for video in chosen])
        scores = np.concatenate([video.curve.by_frame() for video in chosen])
        assert auc == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)
        assert ap == pytest.approx(average_precision_score(labels, scores), abs=1e-12)
    assert metrics.far == pytest.approx(np.mean(np.concatenate([v.curve.by_frame() for v in normal]) >= 0.5))
    assert metrics.num_frames == sum(video.curve.num_frames for video in videos)
    assert metrics.num_abnormal_frames == sum(int(labels_of(video).sum()) for video in videos)
    for category in "AB":
        bearing = [v for v in abnormal if any(event.category == category for event in v.events)]
        labels, scores, known = [], [], []
        for video in [*bearing, *normal]:
            only = np.zeros(video.curve.num_frames, bool)
            for event in video.events:
                if event.category == category:
                    only[event.start_frame : event.end_frame] = True
            labels.append(only)
            known.append(only | ~labels_of(video))
            scores.append(video.curve.by_frame())
        kept = np.concatenate(known)
        expected = roc_auc_score(np.concatenate(labels)[kept], np.concatenate(scores)[kept])
        assert metrics.per_class[category].auc == pytest.approx(expected, abs=1e-12)


def test_a_perfect_detector() -> None:
    videos = [
        evaluated("a", [0, 0, 1, 1, 1, 0, 0, 0], [(32, 80, "Fighting")], (50, "Fighting")),
        evaluated("n", [0] * 8, []),
    ]
    metrics = evaluate_detector(videos, ClipsConfig(), 0.8).metrics
    assert (metrics.auc, metrics.ap, metrics.auc_abnormal, metrics.ap_abnormal, metrics.far) == (1, 1, 1, 1, 0)
    assert metrics.pr_trapezoid == 1
    assert metrics.mean_tiou_of == "glances"
    assert metrics.mean_tiou is not None
    assert metrics.mean_tiou > 0.7
    assert metrics.map_tiou == 1
    assert metrics.undefined == {}
    assert (metrics.num_videos, metrics.num_abnormal_videos) == (2, 1)


def test_without_glances_the_detections_are_measured() -> None:
    metrics = evaluate_detector([evaluated("a", [0, 0, 1, 1, 1, 1, 0, 0], [(32, 96, "A")])], ClipsConfig(), 0.5).metrics
    assert metrics.mean_tiou_of == "detections"
    assert metrics.mean_tiou == metrics.localisation["detections"].mean_tiou
    assert metrics.localisation["glances"].num_proposals == 0
    assert "far" in metrics.undefined


def test_knowing_the_videos_alone_shows_in_their_label_and_not_inside() -> None:
    """Scores that tell videos apart and nothing of when are worth what the label is, and chance inside."""
    abnormal = evaluated("a", [0.8] * 4, [(16, 32, "A")])
    normal = evaluated("n", [0.2] * 4, [])
    metrics = evaluate_detector([abnormal, normal], ClipsConfig(), 0.9).metrics
    assert metrics.auc == metrics.auc_video_label == pytest.approx(1 - 0.5 * 48 / 112)
    assert metrics.ap == metrics.ap_video_label == pytest.approx(0.25)
    assert (metrics.auc_inside, metrics.auc_video) == (0.5, 1.0)


def test_alarms_and_f1_are_those_of_the_scores_and_of_the_detections() -> None:
    scores = [0.0] * 10 + [0.9] * 10 + [0.0] * 10
    noticed = evaluated("a", scores, [(160, 320, "A")])
    missed = evaluated("b", [0.0] * 30, [(160, 320, "A")])
    false = evaluated("n", scores, [])
    metrics = evaluate_detector([noticed, missed, false], ClipsConfig(), 0.6).metrics
    assert metrics.f1_at_tiou == {"0.3": 0.5, "0.5": 0.5}  # one of two spans is right, one of two events found
    assert metrics.alarms is not None
    assert list(metrics.alarms) == ["theta", "recall 0.5", "recall 0.8"]
    half = metrics.alarms["recall 0.5"]
    assert (half.recall, half.false_alarms, half.mean_delay_s) == (0.5, 1, 0.0)
    assert half.false_alarms_per_hour == pytest.approx(3600 / (3 * 480 / FPS))
    assert metrics.alarms["recall 0.8"].threshold == 0.0


def test_what_is_undefined_is_none_and_says_why() -> None:
    normal = evaluate_detector([evaluated("n", [0.1, 0.7], [])], ClipsConfig(), 0.8).metrics
    assert (normal.auc, normal.ap, normal.mean_tiou, normal.map_tiou) == (None,) * 4
    assert normal.far == 0.5
    assert set(normal.undefined.values()) == {"no frame is in an event"}
    undefined = {name for name, value in normal.as_json().items() if value is None}
    assert set(normal.undefined) == undefined
    throughout = evaluate_detector([evaluated("a", [0.1, 0.7], [(0, 32, "A")])], ClipsConfig(), 0.8).metrics
    assert (throughout.auc, throughout.auc_abnormal, throughout.far, throughout.ap) == (None, None, None, 1.0)
    undefined = {"auc", "auc_abnormal", "auc_inside", "auc_video", "auc_video_label", "far"}
    assert set(throughout.undefined) == undefined
    assert any("not defined" in line for line in metrics_table(throughout, Basis(is_known=False)))


def add_videos(workspace: Workspace, scores: dict[str, NDArray[np.float32]], **facts: dict[str, Any]) -> None:
    """Fill the tables of a workspace: videos without files, scores with files."""
    videos, rows = [], []
    for video_id, values in scores.items():
        frames = facts.get(video_id, {}).get("num_frames", len(values) * STRIDE)
        fps = facts.get(video_id, {}).get("fps", FPS)
        videos.append(
            Video(
                video_id=video_id, path=f"/nowhere/{video_id}.mp4", fps=fps, num_frames=frames,
                sha256=digest(facts.get(video_id, {}).get("content", video_id)), duration_s=frames / fps,
                width=64, height=48, codec="h264",
                label=facts.get(video_id, {}).get("label", "Abuse"), split=facts.get(video_id, {}).get("split"),
                source="",
            )
        )  # fmt: skip
        if len(values):
            file = io.BytesIO()
            np.save(file, values)
            path = f"scores/{digest(video_id)}.npy"
            workspace.storage.write(path, file.getvalue())
            rows.append(
                Scores(
                    video_id=video_id, path=path, num_snippets=len(values), stride_frames=STRIDE, sampler="x",
                    sha256=digest(values.tolist()),
                )
            )  # fmt: skip
    ids = [video.video_id for video in videos]
    workspace.videos.commit(ids, list(zip(ids, videos, strict=True)), [], "test")
    workspace.scores.commit([row.video_id for row in rows], [(row.video_id, row) for row in rows], [], "test")
    run_stage(SplitsStage(workspace, ExportConfig(validation_fraction=0)), workspace.splits)


@pytest.fixture
def filled(workspace: Workspace, tmp_path: Path) -> tuple[Workspace, Path]:
    """A workspace of six videos and a ground-truth file, in the form of UCF-Crime."""
    rng = np.random.default_rng(0)
    event = np.r_[np.full(5, 0.1), np.full(10, 0.9), np.full(15, 0.1)].astype(np.float32)
    calm = rng.uniform(0, 0.3, 30).astype(np.float32)
    add_videos(
        workspace,
        {
            "Abuse001_x264": event, "Abuse002_x264": event, "Normal_1": calm, "Normal_2": calm,
            "Abuse003_x264": event, "Abuse004_x264": np.empty(0, np.float32),
        },
        Normal_1={"label": NORMAL},
        Normal_2={"label": None},
        Abuse004_x264={"num_frames": 480},
    )  # fmt: skip
    glance = Glance(video_id="Abuse001_x264", time_s=12.0, frame_index=120, category="Abuse", annotator=None, origin="")
    workspace.glances.commit(["g"], [("g", glance)], [], "test")
    truth = tmp_path / "truth.txt"
    truth.write_text(
        "Abuse001_x264.mp4  Abuse  80  240  -1  -1\n"
        "Abuse002_x264.mp4  Abuse  80  160  200  240\n"
        "Normal_2.mp4  Normal  -1  -1  -1  -1\n"
        "Abuse004_x264.mp4  Abuse  10  20  -1  -1\n"
        "Abuse009_x264.mp4  Abuse  10  20  -1  -1\n"
    )
    return workspace, truth


def test_what_is_evaluated_and_what_is_named(filled: tuple[Workspace, Path]) -> None:
    workspace, truth = filled
    found = evaluate_workspace(workspace, truth, split=None, theta=0.8)
    assert [(video.video_id, len(video.events)) for video in found.evaluation.videos] == [
        ("Abuse001_x264", 1), ("Abuse002_x264", 2), ("Normal_1", 0), ("Normal_2", 0),
    ]  # fmt: skip
    assert found.left_out.without_ground_truth == ["Abuse003_x264"]
    assert found.left_out.without_scores == ["Abuse004_x264"]
    (fault,) = found.left_out.faults
    assert "Abuse009_x264" in fault
    metrics = found.evaluation.metrics
    assert metrics.num_abnormal_frames == 160 + 120
    assert metrics.far == 0
    assert metrics.mean_tiou_of == "glances"
    assert metrics.localisation["glances"].num_events == 1


def test_a_video_with_an_event_that_cannot_be_placed_is_left_out(filled: tuple[Workspace, Path]) -> None:
    workspace, truth = filled
    truth.write_text(truth.read_text().replace("200  240", "4000  5000"))
    found = evaluate_workspace(workspace, truth, split=None, theta=0.8)
    assert "Abuse002_x264" in found.left_out.without_ground_truth
    assert any("400.00 s" in fault for fault in found.left_out.faults)


def test_events_in_seconds_and_damaged_scores(filled: tuple[Workspace, Path], tmp_path: Path) -> None:
    workspace, _ = filled
    truth = tmp_path / "truth.csv"
    truth.write_text("video_id,start_s,end_s,category\nAbuse001_x264,8.0,24.0,Abuse\nAbuse002_x264,8,16.0,Abuse\n")
    (row,) = [row for row in workspace.scores.records() if row.video_id == "Abuse002_x264"]
    workspace.storage.write(row.path, b"")
    found = evaluate_workspace(workspace, truth, split=None, theta=0.8)
    first = found.evaluation.videos[0]
    assert [(event.start_frame, event.end_frame) for event in first.events] == [(80, 240)]
    assert any(name.startswith("Abuse002_x264 (") for name in found.left_out.without_scores)


def test_the_test_split_is_taken_where_there_is_one(workspace: Workspace, tmp_path: Path) -> None:
    scores = np.linspace(0, 1, 30, dtype=np.float32)
    add_videos(
        workspace,
        {"a": scores, "b": scores, "n": scores},
        a={"split": "test"},
        b={"split": "train"},
        n={"split": "train", "label": NORMAL},
    )
    truth = tmp_path / "truth.csv"
    truth.write_text("video_id,start_frame,end_frame_exclusive,category\na,240,480,Abuse\nb,240,480,Abuse\n")
    chosen = evaluate_workspace(workspace, truth, split=None, theta=0.8)
    assert (chosen.split, [video.video_id for video in chosen.evaluation.videos]) == ("test", ["a"])
    everything = evaluate_workspace(workspace, truth, split="all", theta=0.8)
    assert len(everything.evaluation.videos) == 3
    with pytest.raises(ConfigError, match="no video of the split 'nope'"):
        evaluate_workspace(workspace, truth, split="nope", theta=0.8)


def trained_here(
    workspace: Workspace, folds: dict[str, NDArray[np.float32]], seen: list[str], theta: float | None = None
) -> None:
    """Leave a sampler in the workspace that was trained on `seen`, with scores out of fold of some of it."""
    small = NetworkConfig(hidden_dim=8, heads=1, head_dim=4, layers=0, memory_slots=2)
    recipe = TrainedRecipe(recipe=Recipe(network=small), networks=[UrDmu(4, small)], scales=[None], smoothing_s=0.0)
    sampler = TrainedSampler(
        recipes=[recipe], encoder="npy", dim=4, stride_frames=STRIDE, trained_on="x", validation={"theta": theta},
        contents=[digest(name) for name in seen], out_of_fold={digest(name): values for name, values in folds.items()},
    )  # fmt: skip
    sampler.save(workspace.storage.local_path("models/sampler"))


def test_what_was_trained_on_is_measured_out_of_fold_or_not_at_all(filled: tuple[Workspace, Path]) -> None:
    workspace, truth = filled
    low = np.full(30, 0.25, np.float32)
    trained_here(workspace, {"Abuse001_x264": low}, ["Abuse001_x264", "Abuse002_x264", "Normal_1"])
    found = evaluate_workspace(workspace, truth, split=None, theta=0.8)
    curves = {video.video_id: video.curve.scores for video in found.evaluation.videos}
    assert set(curves) == {"Abuse001_x264", "Normal_2"}
    np.testing.assert_array_equal(curves["Abuse001_x264"], low)
    assert found.basis == Basis(is_known=True, unseen=1, out_of_fold=1, trained_on=2)
    told = next(metrics_table(found.evaluation.metrics, found.basis))
    assert told == found.as_json()["basis"]["text"]
    for said in ("1 video that the sampler was not trained on", "scored by the networks of the folds", "2 left out"):
        assert said in told


def test_spans_are_detected_from_the_samplers_own_theta_unless_another_is_given(filled: tuple[Workspace, Path]) -> None:
    workspace, truth = filled

    def theta_of(**given: float) -> float:
        return evaluate_workspace(workspace, truth, split=None, **given).evaluation.metrics.theta

    assert theta_of() == 0.8
    trained_here(workspace, {}, [], theta=0.3)
    assert (theta_of(), theta_of(theta=0.6)) == (0.3, 0.6)


def test_where_all_was_trained_on_there_are_no_figures(filled: tuple[Workspace, Path]) -> None:
    workspace, truth = filled
    trained_here(workspace, {}, [video.video_id for video in workspace.videos.records()])
    with pytest.raises(DataError, match=r"trained on all 4 videos .* export\.test_fraction"):
        evaluate_workspace(workspace, truth, split=None, theta=0.8)


def test_a_copy_of_what_was_trained_on_is_not_new(workspace: Workspace, tmp_path: Path) -> None:
    values = np.linspace(0, 1, 30, dtype=np.float32)
    add_videos(workspace, {"a": values, "b": values, "n": values}, n={"label": NORMAL}, b={"content": "a"})
    truth = tmp_path / "truth.csv"
    truth.write_text("video_id,start_frame,end_frame_exclusive,category\na,240,480,Abuse\nb,240,480,Abuse\n")
    trained_here(workspace, {}, ["a"])
    found = evaluate_workspace(workspace, truth, split=None, theta=0.8)
    assert [video.video_id for video in found.evaluation.videos] == ["n"]


def test_scores_of_another_sampler_are_no_basis(filled: tuple[Workspace, Path]) -> None:
    workspace, truth = filled
    assert "not known" in str(evaluate_workspace(workspace, truth, split=None, theta=0.8).basis)
    trained_here(workspace, {}, [])
    row = next(iter(workspace.scores.records()))
    workspace.scores.commit(["other"], [("other", dataclasses.replace(row, sampler="y"))], [], "test")
    with pytest.raises(DataError, match="not those of the sampler"):
        evaluate_workspace(workspace, truth, split=None, theta=0.8)


def test_nothing_to_evaluate_is_a_data_error(filled: tuple[Workspace, Path], tmp_path: Path) -> None:
    workspace, _ = filled
    workspace.scores.drop(workspace.scores.units())
    truth = tmp_path / "truth.csv"
    truth.write_text("video_id,start_frame,end_frame_exclusive,category\nAbuse001_x264,8,24,Abuse\n")
    with pytest.raises(DataError, match=r"of 6, 2 have no scores, 4 no ground truth"):
        evaluate_workspace(workspace, truth, split=None, theta=0.8)
    truth.write_text("video_id,start_frame,end_frame_exclusive,category\nother,8,24,Abuse\n")
    with pytest.raises(DataError, match=r"no usable truth of any video.*'other'"):
        evaluate_workspace(workspace, truth, split=None, theta=0.8)
    truth.write_text("video_id,start_s,end_s,sentence\nAbuse001_x264,8,24,A man falls.\n")
    with pytest.raises(DataError, match="no events"):
        evaluate_workspace(workspace, truth, split=None, theta=0.8)


def test_command_prints_one_json_object(filled: tuple[Workspace, Path]) -> None:
    workspace, truth = filled
    done = CliRunner().invoke(
        app, ["eval", "detector", "--workspace", workspace.url, "--ground-truth", str(truth), "--json"]
    )
    assert done.exit_code == 0, done.output
    values = json.loads(done.stdout)
    for name in ("auc", "ap", "auc_abnormal", "ap_abnormal", "far", "mean_tiou", "map_tiou"):
        assert 0 <= values[name] <= 1, name
    assert values["left_out"]["without_scores"] == ["Abuse004_x264"]
    assert values["per_class"]["Abuse"]["num_events"] == 3
    # Normal_1 is no name of UCF-Crime
    assert values["published"] == {}


def test_published_rows_stand_below_ours(filled: tuple[Workspace, Path]) -> None:
    workspace, truth = filled
    arguments = ["eval", "detector", "--workspace", workspace.url, "--ground-truth", str(truth)]
    done = CliRunner().invoke(app, [*arguments, "--published", "always"])
    assert done.exit_code == 0, done.output
    below = done.stdout[done.stdout.index("UCF-Crime, AUC of frames in %") :]
    assert "GlanceVAD (I3D, clicks)" in below
    assert "XD-Violence, average precision" in below
    assert "UCF-Crime, AUC" not in CliRunner().invoke(app, arguments).stdout


def test_command_prints_a_table_and_writes_plots(filled: tuple[Workspace, Path], tmp_path: Path) -> None:
    workspace, truth = filled
    out = tmp_path / "out"
    arguments = ["--workspace", workspace.url, "--ground-truth", str(truth), "--out", str(out)]
    done = CliRunner().invoke(app, ["eval", "detector", *arguments])
    assert done.exit_code == 0, done.output
    assert "false-alarm rate at 0.5" in done.stdout
    assert json.loads((out / "metrics.json").read_text())["split"] == "all"
    for file in (out / "roc.png", out / "precision_recall.png"):
        assert imread(file).std() > 0.01
    plots = sorted((out / "videos").glob("*.png"))
    assert len(plots) == 4
    # the ground truth is shaded, in videos with events and in no other: red and green without blue
    shaded = [np.count_nonzero(picture[..., :2].min(axis=2) - picture[..., 2] > 0.1) for picture in map(imread, plots)]
    assert min(shaded[:2]) > 10_000
    assert max(shaded[2:]) == 0


@pytest.mark.slow
@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no real annotations at {ANNOTATIONS}")
@pytest.mark.parametrize(
    ("file", "lines", "fps"),
    [("ucf_temporal_anomaly_annotation.txt", 290, 30.0), ("xd_annotations.txt", 500, 24.0)],
)
def test_published_annotations(workspace: Workspace, file: str, lines: int, fps: float) -> None:
    """The published files with made-up scores give what a plain reading of the files gives."""
    rng = np.random.default_rng(0)
    scores, facts, labels = {}, {}, []
    for line in (ANNOTATIONS / file).read_text().split("\n"):
        if not line.strip():
            continue
        video_id, *rest = line.split()
        normal = "Normal" in line
        frames = [int(number) for number in rest if number.lstrip("-").isdigit() and number != "-1"]
        num_frames = max([*frames, 1000]) + int(rng.integers(100))
        scores[video_id] = rng.uniform(0, 1, math.ceil(num_frames / STRIDE)).astype(np.float32)
        facts[video_id] = {"num_frames": num_frames, "fps": fps, "label": NORMAL if normal else "Abuse"}
        truth = np.zeros(num_frames, bool)
        for start, end in zip(frames[::2], frames[1::2], strict=True):
            truth[start:end] = True
        labels.append(truth)
    assert len(scores) == lines
    add_videos(workspace, scores, **facts)
    metrics = evaluate_workspace(workspace, ANNOTATIONS / file, split=None, theta=0.8).evaluation.metrics
    frames = [np.repeat(scores[name], STRIDE)[: facts[name]["num_frames"]] for name in scores]
    assert metrics.num_videos == lines
    assert metrics.auc == pytest.approx(roc_auc_score(np.concatenate(labels), np.concatenate(frames)), abs=1e-9)
    assert metrics.ap == pytest.approx(
        average_precision_score(np.concatenate(labels), np.concatenate(frames)), abs=1e-9
    )
