"""`holmes labelstudio suggest` on real videos with a sampler that finds their event, against a double of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from studio_double import TOKEN, StudioDouble
from typer.testing import CliRunner, Result

from annotation.label_studio.click_interface import glance_config
from flows.cli import app
from flows.plan import run_step
from pipeline.config import BuildConfig
from pipeline.errors import SetupError
from pipeline.workspace import Workspace


@pytest.fixture
def double(monkeypatch: pytest.MonkeyPatch) -> Iterator[StudioDouble]:
    double = StudioDouble()
    double.add_project(glance_config(["Fighting"]))
    with double.serve() as server:
        monkeypatch.setenv("LABEL_STUDIO_URL", f"http://127.0.0.1:{server.port}")
        monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
        yield double


@pytest.fixture
def workspace(tmp_path: Path, event_video: Path, calm_video: Path, double: StudioDouble) -> Workspace:
    opened = Workspace(str(tmp_path / "ws"))
    config = BuildConfig(videos=[str(event_video), str(calm_video)], workspace=opened.url)
    run_step("ingest", opened, config)
    for video in opened.videos.records():
        double.add_task(1, {"video_id": video.video_id, "video": video.path, "fps": f"{video.fps:.12g}"})
    return opened


def suggest(workspace: Workspace, *options: object) -> Result:
    command = ["labelstudio", "suggest", workspace.url, "--project", "1", *map(str, options)]
    return CliRunner().invoke(app, command)


def test_a_workspace_without_a_build_gets_its_event_suggested(
    workspace: Workspace, double: StudioDouble, sampler_folder: Path
) -> None:
    done = suggest(workspace, "--sampler", sampler_folder, "--json")
    assert done.exit_code == 0, done.output
    tasks = [json.loads(line) for line in done.stdout.splitlines()]
    assert [task["certainty"] for task in tasks] == sorted(task["certainty"] for task in tasks)
    found = {task["video_id"].split("_")[0]: task["suggestions"] for task in tasks}
    fps = next(video.fps for video in workspace.videos.records())
    assert [8 <= one["frame_index"] / fps < 12 for one in found["event"]] == [True]
    assert found["calm"] == []
    (region,) = next(one["result"] for one in double.predictions() if one["result"])
    assert region["value"]["ranges"][0]["start"] == found["event"][0]["frame_index"] + 1
    assert region["value"]["timelinelabels"] == ["Abnormal"]

    again = suggest(workspace, "--sampler", sampler_folder)
    assert "0 prediction(s) added, 0 replaced" in again.output
    assert len(double.predictions()) == 2


def test_features_of_other_settings_are_not_thrown_away(
    workspace: Workspace, double: StudioDouble, sampler_folder: Path
) -> None:
    config = BuildConfig(videos=["x"], workspace=workspace.url, features={"stride_frames": 16})
    run_step("features", workspace, config)
    done = suggest(workspace, "--sampler", sampler_folder)
    assert isinstance(done.exception, SetupError)
    assert "the features of 2 video(s) were made with other settings" in str(done.exception)
    assert {row.stride_frames for row in workspace.features.records()} == {16}
    assert double.predictions() == []


def test_without_a_sampler_it_says_what_makes_one(workspace: Workspace) -> None:
    done = suggest(workspace)
    assert isinstance(done.exception, SetupError)
    assert "no trained sampler there: holmes train sampler or holmes build makes one" in str(done.exception)
