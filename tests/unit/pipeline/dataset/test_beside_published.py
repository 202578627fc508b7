"""A dataset's figures beside those of the paper, in stats.json and on the card."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from dataset_fixtures import make_video

from pipeline.config import ExportConfig
from pipeline.dataset.validate import validate_dataset
from pipeline.records import NORMAL, Video
from pipeline.stages.export import export_dataset, pending_export
from pipeline.workspace import Workspace

Fill = Callable[..., Workspace]
NAMES = ("Abuse001_x264", "Robbery002_x264", "Robbery003_x264", "Normal_Videos001_x264", "v=a__#1_label_B4-0-0")


def named(number: int, name: str, *, split: str | None = None) -> Video:
    label = NORMAL if name.startswith("Normal") else "Riot" if "label" in name else name[:-8]
    return replace(make_video(number, label, split=split), path=f"/footage/{name}.mp4")


def rows_of(workspace: Workspace) -> dict[str, tuple[str, str]] | None:
    found = json.loads((workspace.dataset_folder / "stats.json").read_text())["published"]
    return found and {row["figure"]: (row["ours"], row["published"]) for row in found["rows"]}


def test_figures_of_the_papers_footage_stand_beside_the_papers(fill: Fill) -> None:
    videos = [named(number, name, split="train") for number, name in enumerate(NAMES)]
    workspace = fill(videos=[*videos, named(9, "Abuse009_x264", split="test")])
    export_dataset(workspace, ExportConfig(), "reference")
    rows = rows_of(workspace)
    assert rows is not None
    # the test video, its clicks and its rows do not count
    assert rows["UCF-Crime: abnormal videos"] == ("3", "810")
    assert rows["UCF-Crime: normal videos"] == ("1", "800")
    assert rows["XD-Violence: abnormal videos"] == ("1", "1,905")
    assert rows["XD-Violence: normal videos"] == ("0", "2,032")
    assert rows["UCF-Crime: share of Robbery"] == ("66.7%", "17.9%")
    assert rows["UCF-Crime: minutes a video"] == ("0.17", "4.04")
    assert rows["clicks a video that has one"] == ("2.00", "2.35")
    assert rows["questions and answers"] == ("20", "51,567")
    words, published = rows["words an answer"]
    assert 5 < float(words) < 20
    assert published == "44.83"
    card = (workspace.dataset_folder / "README.md").read_text()
    assert "## Beside VAD-Instruct50k" in card
    assert "| questions and answers | 20 | 51,567 | section 3, instruction data |" in card
    # the fixture writes no footage
    assert {finding.rule for finding in validate_dataset(workspace.dataset_folder)} == {"clip_file"}


@pytest.mark.parametrize(("asked", "shown"), [("auto", False), ("none", False), ("vad-instruct50k", True)])
def test_other_footage_is_compared_only_where_asked(fill: Fill, asked: str, shown: bool) -> None:
    workspace = fill()
    config = ExportConfig(published=asked)
    export_dataset(workspace, config, "reference")
    assert (rows_of(workspace) is not None) is shown
    assert ("Beside" in (workspace.dataset_folder / "README.md").read_text()) is shown
    assert not pending_export(workspace, config, "reference")
    assert pending_export(workspace, ExportConfig(published="none" if shown else "vad-instruct50k"), "reference")
