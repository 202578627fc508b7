"""Whose ground truth a workspace is measured against, and on which of its videos."""

from __future__ import annotations

from pathlib import Path

import pytest

from flows.commands import truth_files
from flows.commands.truth_files import truths_of
from pipeline.errors import ConfigError, DataError
from pipeline.records import Video
from pipeline.workspace import Workspace

TRUTHS = {"ucf-crime": "Temporal_Anomaly_Annotation_for_Testing_Videos.txt", "xd-violence": "annotations.txt"}


def video(name: str) -> Video:
    return Video(
        video_id=name, path="", sha256=name, fps=25.0, num_frames=100, duration_s=4.0, width=64, height=48,
        codec="", label="Normal", split="test", source="test",
    )  # fmt: skip


@pytest.fixture
def built(workspace: Workspace, tmp_path: Path) -> Workspace:
    """A workspace of both datasets, whose lists and ground truth lie in a folder."""
    folder = tmp_path / "lists"
    folder.mkdir()
    for name, videos in (("ucf-crime", ["Normal_Videos_003_x264"]), ("xd-violence", ["a__#1_label_A"])):
        (folder / f"{name}.testing.csv").write_text("\n".join(["video-id", *videos]) + "\n")
        (folder / TRUTHS[name]).touch()
    sources = {"datasets": list(TRUTHS), "annotations": ["lists"]}
    workspace.write_json("run.json", {"config": {"videos": ["v"], "sources": sources}, "folder": str(tmp_path)})
    return workspace


def test_each_published_dataset_is_measured_on_its_own_videos_by_its_own_file(built: Workspace, tmp_path: Path) -> None:
    found = {truth.dataset: truth for truth in truths_of(built, None)}
    assert {name: truth.path for name, truth in found.items()} == {
        name: tmp_path / "lists" / file for name, file in TRUTHS.items()
    }
    ours, theirs = video("Normal_Videos_003_x264"), video("a__#1_label_A")
    assert [found["ucf-crime"].is_about(one) for one in (ours, theirs)] == [True, False]
    assert [found["xd-violence"].is_about(one) for one in (ours, theirs)] == [False, True]


def test_a_file_that_is_given_is_of_the_dataset_whose_name_it_bears(built: Workspace, tmp_path: Path) -> None:
    (one,) = truths_of(built, tmp_path / "elsewhere" / TRUTHS["xd-violence"].upper())
    assert (one.dataset, one.is_about(video("Normal_Videos_003_x264"))) == ("xd-violence", False)
    (mine,) = truths_of(built, tmp_path / "mine.csv")
    assert (mine.dataset, mine.is_about(video("Normal_Videos_003_x264"))) == (None, True)


def test_without_any_file_the_message_says_where_one_is_published(built: Workspace, tmp_path: Path) -> None:
    for file in TRUTHS.values():
        (tmp_path / "lists" / file).unlink()
    with pytest.raises(ConfigError, match=r"--ground-truth FILE, or put it beside the videos: ucf-crime: Temporal_"):
        truths_of(built, None)
    with pytest.raises(ConfigError, match=r"no ground truth is at hand: name it with --ground-truth FILE$"):
        truths_of(Workspace(str(tmp_path / "other")), None)


def test_a_dataset_that_cannot_be_measured_is_named_and_the_others_are(
    built: Workspace, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def measure(_: Workspace, path: Path, **__: object) -> str:
        if path.name == TRUTHS["ucf-crime"]:
            raise DataError("no usable truth")
        return "measured"

    monkeypatch.setattr(truth_files, "evaluate_workspace", measure)
    truths = truths_of(built, None)
    found = list(truth_files.evaluate_all(built, truths, split=None, theta=0.8))
    assert [(truth.dataset, evaluation) for truth, evaluation in found] == [("xd-violence", "measured")]
    assert "ucf-crime: not measured: no usable truth" in caplog.text
    with pytest.raises(DataError, match="no usable truth"):
        list(truth_files.evaluate_all(built, truths[:1], split=None, theta=0.8))
