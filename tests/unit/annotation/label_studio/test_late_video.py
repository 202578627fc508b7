"""Clicks in a video whose picture starts after its sound: on the frames that a browser was seen to show."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from flows.plan import run_step
from pipeline.config import parse_config
from pipeline.workspace import Workspace

MEASURED = (
    Path(__file__).resolve().parents[5] / "shared/data/odd_annotations/13-label-studio-clicks-in-video-that-starts-late"
)
"""A video of 0.6 s without a picture, clicks of Label Studio, and what Chromium showed when they were made."""


def test_clicks_are_on_the_frames_that_chromium_showed(tmp_path: Path) -> None:
    if not MEASURED.is_dir():
        pytest.skip(f"real data is not at {MEASURED}")
    seen = json.loads((MEASURED / "expected_frames.json").read_text())
    shown = dict(zip(seen["label_studio_frame"], seen["decoder_frame_shown_by_chromium_156"], strict=True))
    [task] = json.loads((MEASURED / "label_studio.json").read_text())
    regions = task["annotations"][0]["result"]
    # Of the others no more is known than that nothing was to be seen yet.
    task["annotations"][0]["result"] = [r for r in regions if r["value"]["ranges"][0]["start"] in shown]
    (tmp_path / "clicks.json").write_text(json.dumps([task]))
    shutil.copy(MEASURED / "late_video.mp4", tmp_path)
    config = parse_config(
        {
            "videos": [str(tmp_path / "late_video.mp4")],
            "glances": [str(tmp_path / "clicks.json")],
            "workspace": str(tmp_path / "w"),
            "video": {"workers": 1},
        }
    )
    workspace = Workspace(config.workspace)
    for step in ("ingest", "glances"):
        run_step(step, workspace, config)
    assert sorted(glance.frame_index for glance in workspace.glances.records()) == sorted(shown.values())
    assert not list(workspace.glances.rejected())
