"""Whether labels can be told without looking: what gives them away is named, and chance is not."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dataset_fixtures import make_video
from sklearn.metrics import roc_auc_score
from typer.testing import CliRunner

from flows.cli import app
from pipeline.config import ExportConfig
from pipeline.dataset import shortcuts
from pipeline.dataset.shortcuts import MIN_VIDEOS, Shortcut, find_shortcuts
from pipeline.dataset.validate import validate_dataset
from pipeline.records import NORMAL, EventClip, Video
from pipeline.stages.export import export_dataset
from pipeline.workspace import Workspace

Fill = Callable[..., Workspace]


def space(
    fill: Fill, per_side: int, video: Callable[[Video], dict[str, Any]] | None = None, length: Any = None
) -> Path:
    """Export a dataset of as many videos of each side, with some of their facts and clip lengths changed."""
    videos = [make_video(number, "Fighting" if number % 2 else NORMAL) for number in range(2 * per_side)]
    if video is not None:
        videos = [dataclasses.replace(one, **video(one)) for one in videos]
    workspace = fill(videos=videos)
    if length is not None:
        clips = [dataclasses.replace(one, end_s=one.start_s + length(one)) for one in workspace.clips.records()]
        workspace.clips.drop(workspace.clips.units())
        workspace.clips.commit(
            [f"c{n}" for n in range(len(clips))], [(f"c{n}", c) for n, c in enumerate(clips)], [], "f"
        )
    export_dataset(workspace, ExportConfig(), "reference")
    return workspace.dataset_folder


def test_alike_sides_give_nothing_away(fill: Fill) -> None:
    assert find_shortcuts(space(fill, 30)) == []


@pytest.mark.parametrize(
    ("trait", "changed"),
    [
        ("frame rate", lambda one: {"fps": 30.0 if one.label == NORMAL else 25.0}),
        ("picture size", lambda one: {"width": 640 if one.label == NORMAL else 320}),
        ("source", lambda one: {"source": f"{'calm' if one.label == NORMAL else 'fights'}.csv:{one.video_id[3:]}"}),
        ("place in the video", lambda one: {"duration_s": 10.0 if one.label == NORMAL else 60.0}),
    ],
)
def test_what_a_video_gives_away_is_named(fill: Fill, trait: str, changed: Callable[[Video], dict[str, Any]]) -> None:
    found = find_shortcuts(space(fill, 15, changed))
    assert trait in {one.trait for one in found}
    assert {one.trait for one in found} <= {trait, "distance from the middle of the video"}
    assert (found[0].auc, found[0].abnormal_videos, found[0].normal_videos) == (1.0, 15, 15)
    assert str(found[0]).startswith(f"{found[0].trait} alone tells abnormal from normal: AUC 1.00 over 15 abnormal")


def test_clips_of_another_length_are_named_without_a_workspace_too(fill: Fill, tmp_path: Path) -> None:
    def length(clip: EventClip) -> float:
        rng = random.Random(clip.clip_id)
        return 10.0 if clip.label == NORMAL and rng.random() < 0.9 else rng.uniform(3, 6.5)

    folder = space(fill, 40, length=length)
    assert {one.trait for one in find_shortcuts(folder)} >= {"length"}
    folder.rename(tmp_path / "alone")
    [found] = find_shortcuts(tmp_path / "alone")
    assert found.trait == "length"
    assert found.auc > 0.9


def test_few_videos_say_nothing(fill: Fill) -> None:
    folder = space(fill, MIN_VIDEOS - 1, lambda one: {"fps": 30.0 if one.label == NORMAL else 25.0})
    assert find_shortcuts(folder) == []


def series(values: list[float], abnormal: list[bool]) -> pd.Series:
    index = pd.MultiIndex.from_tuples([(f"v{n}", side) for n, side in enumerate(abnormal)], names=["v", "is_abnormal"])
    return pd.Series(values, index=index)


def test_the_area_is_that_of_scikit_learn() -> None:
    rng = random.Random(0)
    abnormal = [rng.random() < 0.4 for _ in range(300)]
    values = [round(rng.gauss(0.9 if side else 0.0, 1.0), 1) for side in abnormal]
    found = shortcuts._tell_apart("length", series(values, abnormal))
    assert isinstance(found, Shortcut)
    assert found.auc == pytest.approx(roc_auc_score(abnormal, values))
    reversed_ = shortcuts._tell_apart("length", series([-value for value in values], abnormal))
    assert reversed_ == found


@pytest.mark.slow
def test_chance_is_the_share_of_shuffles_that_are_as_far_apart() -> None:
    rng = random.Random(1)
    values = [round(rng.gauss(0, 1), 1) for _ in range(60)]
    labels = [n < 20 for n in range(60)]
    values = [value + (0.62 if label else 0) for value, label in zip(values, labels, strict=True)]
    auc = roc_auc_score(labels, values)
    shuffled = [abs(roc_auc_score(rng.sample(labels, 60), values) - 0.5) for _ in range(2000)]
    share = sum(far >= abs(auc - 0.5) for far in shuffled) / 2000
    shortcuts_max, shortcuts.MAX_CHANCE = shortcuts.MAX_CHANCE, 1.0
    try:
        found = shortcuts._tell_apart("length", series(values, labels))
    finally:
        shortcuts.MAX_CHANCE = shortcuts_max
    assert found is not None
    assert found.chance == pytest.approx(share, abs=0.01)


def test_noise_is_hardly_ever_named() -> None:
    rng = random.Random(2)
    named = 0
    for _ in range(400):
        size = rng.choice([12, 20, 60, 200])
        labels = [n % 2 == 0 for n in range(2 * size)]
        named += shortcuts._tell_apart("length", series([rng.random() for _ in labels], labels)) is not None
    assert named <= 2


def test_a_source_of_its_own_for_every_video_tells_nothing() -> None:
    clips = pd.DataFrame({"video": [f"v{n}" for n in range(40)], "is_abnormal": [n < 20 for n in range(40)]})
    for kinds in (clips["video"], clips["video"].map(lambda _: random.Random(3).choice("abc"))):
        rates = shortcuts._rate_of_others(clips, kinds)
        assert shortcuts._tell_apart("source", rates, only_rising=True) is None


def test_the_command_names_shortcuts_of_a_valid_dataset(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = space(fill, 15, lambda one: {"fps": 30.0 if one.label == NORMAL else 25.0})
    assert "tables" not in {finding.rule for finding in validate_dataset(folder, probe_files=0)}
    # the source videos of this build are names alone
    monkeypatch.setattr("pipeline.dataset.validate.check_files", lambda *_: None)
    told = CliRunner().invoke(app, ["validate", str(folder)])
    assert told.exit_code == 0
    assert told.stdout.startswith("shortcut: frame rate alone tells abnormal from normal: AUC 1.00 over 15 abnormal")
    assert told.stdout.endswith(f"{folder}: valid\n")
