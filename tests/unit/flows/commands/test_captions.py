"""`holmes eval captions` from end to end: a workspace or a file of captions, tables, JSON, files, exit codes."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli import app
from pipeline.errors import DataError, HolmesError, SetupError
from pipeline.records import Caption, EventClip, Video
from pipeline.workspace import Workspace

HEADER = "video_id,start_s,end_s,sentence\n"
KNOWN = HEADER + "cam1,2.0,6.0,A man in a red jacket punches a woman in blue.\n"


def run(*arguments: object) -> str:
    done = CliRunner().invoke(app, ["eval", "captions", *map(str, arguments)])
    if done.exception is not None:
        assert isinstance(done.exception, HolmesError), done.output
        raise done.exception
    return done.stdout


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    space = Workspace(str(tmp_path / "w"))
    told = {
        "a": ("cam1", 2.0, "Fighting", "A man in a green coat punches a woman in blue at night."),
        "b": ("cam2", 0.0, "Normal", "A car explodes."),
        "c": ("cam2", 6.0, "Biking", "A cyclist passes."),
    }
    videos = [
        Video(
            video_id=name, path=f"/footage/{name}.mp4", sha256="0" * 64, fps=10.0, num_frames=100, duration_s=10.0,
            width=64, height=48, codec="h264", label=None, split=None, source="v.csv:2",
        )
        for name in ("cam1", "cam2")
    ]  # fmt: skip
    clips = [
        EventClip(
            clip_id=name, video_id=video, start_s=start_s, end_s=start_s + 4, start_frame=int(start_s * 10),
            end_frame=int(start_s * 10) + 40, glance_time_s=None, label=label, anomaly_score=None, method="window",
        )
        for name, (video, start_s, label, _) in told.items()
    ]  # fmt: skip
    captions = [Caption(clip_id=n, text=t[3], captioner="vlm", prompt_hash=None) for n, t in told.items()]
    for table, rows in ((space.videos, videos), (space.clips, clips), (space.captions, captions)):
        _fill(table, rows)
    return tmp_path / "w"


def _fill(table: Any, rows: list[Any]) -> None:
    units = [f"unit_{number}" for number in range(len(rows))]
    table.commit(units, list(zip(units, rows, strict=True)), [], "f")


def test_captions_of_a_workspace(workspace: Path, tmp_path: Path) -> None:
    known, out = tmp_path / "known.csv", tmp_path / "out"
    known.write_text(KNOWN)
    found = json.loads(run("--workspace", workspace, "--reference", known, "--json", "--out", out))
    assert json.loads((out / "metrics.json").read_text()) == found
    assert (found["num"], found["without_reference"]) == (2, 1)
    assert (found["invented"]["right"], found["silent"]["right"], found["faultless"]["right"]) == (1, 0, 0)
    assert found["kinds"]["colour"]["right"]["share"] == 0.5
    assert found["kinds"]["colour"]["wrong"] == {"green clothes": 1}
    assert found["kinds"]["light"] == {"said": 1, "right": None, "told": None, "wrong": {}}
    assert [one["id"] for one in found["worst"]] == ["a", "b"]
    with (out / "captions.csv").open(newline="") as file:
        rows = {row["id"]: row for row in csv.DictReader(file)}
    assert rows["a"]["missed"] == "colour: red clothes"
    assert rows["b"]["wrong"] == "event: explosion"
    lines = run("--workspace", workspace, "--reference", known).splitlines()
    assert lines[0] == "2 captions compared; of 1 clips nothing is known"
    assert "event invented in calm clips       1       1    1.0000   0.2065 to 1.0000" in lines
    assert "  colour: green clothes 1" in lines
    assert "  known: A man in a red jacket punches a woman in blue." in lines
    # The classes of the clips alone tell of events.
    alone = json.loads(run("--workspace", workspace, "--json"))
    assert (alone["num"], alone["kinds"]["event"]["right"]["right"], alone["kinds"]["colour"]["right"]) == (2, 1, None)


def test_captions_of_a_file_are_matched_by_the_names_of_videos(tmp_path: Path) -> None:
    captions, known = tmp_path / "captions.csv", tmp_path / "known.csv"
    captions.write_text(HEADER.replace("sentence", "caption") + "day/cam1.mp4,2,6,A man in a red coat is shot.\n")
    known.write_text(KNOWN)
    found = json.loads(run("--captions", captions, "--reference", known, "--json"))
    assert found["worst"][0]["wrong"] == ["event: shooting"]
    known.write_text(KNOWN.replace("cam1", "cam7"))
    with pytest.raises(DataError, match="not one sentence about a video of"):
        run("--captions", captions, "--reference", known)


def test_calls_that_say_too_little_or_too_much(workspace: Path, tmp_path: Path) -> None:
    known = tmp_path / "known.csv"
    known.write_text(KNOWN)
    for arguments, message in (
        ([], "either --workspace W or --captions FILE"),
        (["--workspace", workspace, "--captions", known], "either --workspace W or --captions FILE"),
        (["--captions", known], "--captions needs --reference"),
        (["--workspace", tmp_path / "nothing"], "no such folder"),
    ):
        with pytest.raises(SetupError, match=message):
            run(*arguments)
    assert not (tmp_path / "nothing").exists()
    known.write_text("video_id,start_s,end_s,category\ncam1,2,6,Fighting\n")
    with pytest.raises(DataError, match="no sentence"):
        run("--captions", known, "--reference", known)
    empty = Workspace(str(tmp_path / "empty"))
    _fill(empty.clips, [])
    with pytest.raises(DataError, match="no captions; run the build first"):
        run("--workspace", tmp_path / "empty")
