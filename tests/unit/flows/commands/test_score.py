"""Published features without footage: from a manifest of lengths to a sampler, its scores and their evaluation."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from typer.testing import CliRunner

from flows.cli import app
from flows.left_out import left_out
from flows.plan import build, score, train
from pipeline.config import load_config
from pipeline.errors import DataError
from pipeline.records import Reason
from pipeline.workspace import Workspace

ROWS, DIM = 32, 6
EVENT = slice(12, 20)
RECIPE = {
    "supervision": "regions", "standardise": True, "learning_rate": 0.01, "steps": 40, "batch_videos": 4,
    "network": {"hidden_dim": 16, "heads": 2, "head_dim": 8, "layers": 1, "memory_slots": 4, "shortcut": True},
}  # fmt: skip

pytestmark = pytest.mark.usefixtures("log_as_before")


@pytest.fixture
def published(tmp_path: Path) -> Path:
    """Write a manifest, clicks, ground truth and features as they are published, and a config of them."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "c3d"
    folder.mkdir()
    lines, clicks, truth = ["video_id,num_frames,fps,label"], ["video-id,glance"], ["video_id,start_frame,end_frame"]
    for number in range(12):
        name, frames = f"{'Normal_Videos' if number % 2 else 'Abuse'}{number:03}_x264", 900 + 7 * number
        values = rng.normal(size=(ROWS, DIM)).astype(np.float32)
        if not number % 2:
            values[EVENT, 0] += 4
            edges = np.arange(ROWS + 1) * frames // ROWS
            clicks.append(f"{name},{(edges[EVENT.start] + edges[EVENT.stop]) // 2}")
            truth.append(f"{name},{edges[EVENT.start]},{edges[EVENT.stop]}")
        if number < 4:
            np.savetxt(folder / f"{name}_C.txt", values)
        else:
            np.save(folder / f"{name}.npy", values)
        lines.append(f"{name},{frames},30,{'Normal' if number % 2 else 'Abuse'}")
    (tmp_path / "videos.csv").write_text("\n".join(lines) + "\n")
    (tmp_path / "clicks.csv").write_text("\n".join(clicks) + "\n")
    (tmp_path / "truth.csv").write_text("\n".join(truth) + "\n")
    settings = {
        "videos": [str(tmp_path / "videos.csv")],
        "glances": [str(tmp_path / "clicks.csv")],
        "workspace": str(tmp_path / "ws"),
        "features": {"encoder": "npy", "folders": [str(folder)], "rows": "segments"},
        "sampler": {"search": "off", "folds": 2, "recipe": RECIPE, "device": "cpu"},
        "export": {"validation_fraction": 0},
    }
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(settings))
    return tmp_path


@pytest.mark.slow
def test_train_score_and_evaluate_without_a_picture(published: Path) -> None:
    config = ["-c", str(published / "config.yaml")]
    trained = CliRunner().invoke(app, ["train", "sampler", *config])
    assert trained.exit_code == 0, trained.output
    weights = published / "weights"
    (published / "ws/models/sampler").rename(weights)
    scored = CliRunner().invoke(app, ["score", *config, "--set", f"sampler.weights={weights}"])
    assert scored.exit_code == 0, scored.output
    assert not (published / "ws/models/sampler").exists(), "the weights that are named are used, none trained"
    workspace = Workspace(str(published / "ws"))
    rows = list(workspace.scores.records())
    assert {(row.num_snippets, row.stride_frames) for row in rows} == {(ROWS, 0)}
    assert len(rows) == 12
    for unmade in ("clips", "dataset", "tables/clips", "tables/caption"):
        assert not (published / "ws" / unmade).exists()
    evaluation = ["eval", "detector", "--workspace", str(published / "ws"), "--ground-truth"]
    found = CliRunner().invoke(app, [*evaluation, str(published / "truth.csv"), "--json"])
    assert found.exit_code == 0, found.output
    metrics = json.loads(found.stdout)
    assert metrics["basis"]["out_of_fold"] == 12
    assert metrics["num_videos"] == 12
    assert metrics["auc_inside"] > 0.9
    table = CliRunner().invoke(app, [*evaluation, str(published / "truth.csv"), "--out", str(published / "out")])
    assert "AUC inside videos" in table.stdout
    assert "at recall 0.8" in table.stdout


def test_what_needs_pictures_says_so_of_each_video_and_the_rest_goes_on(published: Path, film: Any) -> None:
    """A video with footage beside them is encoded; those without are rejected by name, and so are their clips."""
    manifest = published / "mixed.csv"
    manifest.write_text(f"video_id,file,num_frames,fps,label\nseen,{film('h264.mp4')},,,Normal\nunseen,,900,30,Abuse\n")
    overrides = [f"videos=[{manifest}]", f"glances=[{published / 'clicks.csv'}]", "features.rows=snippets"]
    config = load_config(published / "config.yaml", [*overrides, "features.encoder=motion", "clips.method=window"])
    with pytest.raises(DataError):
        train(config)  # one normal video alone trains nothing
    workspace = Workspace(config.workspace)
    assert [row.video_id for row in workspace.features.records()] == ["seen"]
    [rejected] = workspace.features.rejected()
    assert (rejected.record_id, rejected.reason) == ("unseen", Reason.NO_FOOTAGE)
    assert "names no file" in rejected.detail


def test_a_build_of_features_alone_ends_with_the_reason(published: Path) -> None:
    config = load_config(published / "config.yaml", ["clips.method=window"])
    with pytest.raises(DataError):
        build(config)
    rejected = list(Workspace(config.workspace).clips.rejected())
    assert {row.reason for row in rejected} == {Reason.NO_FOOTAGE}
    assert len(rejected) == 12


def test_features_of_two_widths_are_refused_by_name(published: Path) -> None:
    np.save(published / "c3d/Abuse004_x264.npy", np.zeros((ROWS, DIM + 1), np.float32))
    config = load_config(published / "config.yaml")
    with pytest.raises(DataError, match=r"6 values, .*: 11 videos such as Abuse000_x264; npy of 7 .*Abuse004_x264"):
        train(config)


def test_scores_need_no_clicks_but_weights(published: Path) -> None:
    train(load_config(published / "config.yaml"))
    weights = published / "ws/models/sampler"
    config = load_config(
        published / "config.yaml", ["glances=[]", f"sampler.weights={weights}", f"workspace={published / 'other'}"]
    )
    reports = score(config)
    assert (reports[-1].stage, reports[-1].rows) == ("score", 12)
    assert not list(left_out(reports, config.workspace))
