"""The glances stage: which clicks come out of files that hold events with start and end."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from annotation import stage
from annotation.stage import GlancesStage
from pipeline.config import GlancesConfig, SourcesConfig, VideoConfig
from pipeline.records import Reason, Video
from pipeline.sources.catalogue import Catalogue, load_catalogue
from pipeline.stages.run import run_stage
from pipeline.workspace import Workspace

EVENTS = "video,start_s,end_s,label\nlobby.mp4,1,3,Fighting\nlobby.mp4,3.5,3.9,Normal\n"
VIA_PROJECT = (
    '{"attribute": {}, "file": {"1": {"fname": "lobby.mp4"}}, "view": {"1": {"fid_list": ["1"]}}, "metadata": {'
    '"a": {"vid": "1", "z": [1, 3], "av": {"1": "Fighting"}}, "b": {"vid": "1", "z": [2.4], "av": {"1": "Fighting"}}}}'
)


@pytest.fixture(autouse=True)
def _no_worker_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos without footage have no timestamps to read; a pool of processes takes seconds to find that out."""

    def nothing(paths: Iterable[str | None], _: VideoConfig) -> Iterator[None]:
        yield from (None for _ in paths)

    monkeypatch.setattr(stage, "read_timelines", nothing)


def run(workspace: Workspace, file: Path, spans: Literal["ignore", "middle"]) -> tuple[list[int], list[str]]:
    """Return the frames that are clicked, and what was rejected, of a video of 100 frames at 25 fps."""
    lobby = Video(
        video_id="lobby", path="", sha256="", fps=25.0, num_frames=100, duration_s=4.0, width=64, height=48,
        codec="", label=None, split=None, source="test",
    )  # fmt: skip
    if not list(workspace.videos.records()):
        workspace.videos.commit(["lobby"], [("lobby", lobby)], [], "f")
    glances = GlancesStage(workspace, [str(file)], GlancesConfig(spans=spans), VideoConfig())
    run_stage(glances, workspace.glances)
    return (
        sorted(glance.frame_index for glance in workspace.glances.records()),
        [f"{rejected.reason}: {rejected.detail}" for rejected in workspace.glances.rejected()],
    )


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def test_each_event_gives_one_click_on_its_middle(workspace: Workspace, tmp_path: Path) -> None:
    assert run(workspace, write(tmp_path / "events.csv", EVENTS), "middle") == ([50], [])
    (glance,) = workspace.glances.records()
    assert (glance.category, glance.origin) == ("Fighting", "events.csv:2 (middle)")


def test_ignored_events_give_no_click_and_that_is_said(workspace: Workspace, tmp_path: Path) -> None:
    clicks, (rejected,) = run(workspace, write(tmp_path / "events.csv", EVENTS), "ignore")
    assert clicks == []
    assert rejected.startswith(Reason.MALFORMED_ROW)
    assert "events.csv: 2 spans of format ground-truth: not single-frame annotations; glance.spans=middle" in rejected


def test_a_file_of_clicks_and_events(workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    project = write(tmp_path / "via.json", VIA_PROJECT)
    with caplog.at_level(logging.WARNING):
        assert run(workspace, project, "ignore") == ([60], [])
    assert "via.json: 1 spans of format via: not single-frame annotations; glance.spans=middle" in caplog.text
    caplog.clear()
    assert run(workspace, project, "middle") == ([50, 60], [])
    assert "spans of format" not in caplog.text


def test_sentences_have_no_middle(workspace: Workspace, tmp_path: Path) -> None:
    said = write(tmp_path / "said.csv", "video_id,start_s,end_s,sentence\nlobby,1,2,A man walks.\n")
    clicks, (rejected,) = run(workspace, said, "middle")
    assert clicks == []
    assert rejected.endswith("said.csv: 1 spans of format captions: not single-frame annotations")


def test_a_folder_of_masks(workspace: Workspace, tmp_path: Path) -> None:
    mask = np.zeros(100, bool)
    np.save(tmp_path / "calm.npy", mask)
    mask[40:51] = True
    np.save(tmp_path / "lobby.npy", mask)
    assert run(workspace, tmp_path, "middle") == ([45], [])
    np.save(tmp_path / "lobby.npy", mask[:80])
    clicks, (rejected,) = run(workspace, tmp_path, "middle")
    assert clicks == []
    assert "80 frames are labelled; lobby has 100" in rejected
    np.save(tmp_path / "lobby.npy", mask * False)
    assert run(workspace, tmp_path, "middle") == ([], [])


def official(folder: Path) -> Catalogue:
    """Return a catalogue of UCF-Crime with two training videos and a test video, and its clicks."""
    (folder / "ucf-crime.training.csv").write_text("video-id\nAbuse001_x264\nAbuse002_x264\n")
    (folder / "ucf-crime.testing.csv").write_text("video-id\nAbuse028_x264\n")
    (folder / "ucf_glance_annotations.csv").write_text(
        "video-id,glance\nAbuse001_x264,50\nabuse001,100\nAbuse001_x264,101\n"
        "Abuse002_x264,1\nAbuse002_x264,2\nAbuse028_x264,5\nAbuse777_x264,5\n"
    )
    return load_catalogue(SourcesConfig(datasets=["ucf-crime"], annotations=[str(folder)]))


def test_clicks_on_absent_and_test_videos_are_told_by_count_and_those_just_past_the_end_are_kept(
    workspace: Workspace, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    videos = [
        Video(
            video_id=name, path="", sha256=name, fps=25.0, num_frames=100, duration_s=4.0, width=64, height=48,
            codec="", label="Abuse", split=None, source="test",
        )
        for name in ("Abuse001_x264", "Abuse028_x264")
    ]  # fmt: skip
    for video in videos:
        workspace.videos.commit([video.video_id], [(video.video_id, video)], [], "f")
    glances = GlancesStage(workspace, [], GlancesConfig(), VideoConfig(), official(tmp_path))
    run_stage(glances, workspace.glances)
    found = [(glance.video_id, glance.frame_index) for glance in workspace.glances.records()]
    # frame 100 of 100 is the known defect of the published clicks, frame 101 is none
    assert found == [("Abuse001_x264", 50), ("Abuse001_x264", 99)]
    assert "1 clicks lie just past the end of their video" in caplog.text
    details = sorted(rejected.detail for rejected in workspace.glances.rejected())
    assert len(details) == 4
    assert "frame 101 is past the end" in "".join(details)
    assert "no ingested video is called 'Abuse777_x264'" in "".join(details)
    assert "ucf-crime: 1 clicks on 1 test videos of it: they are not used, e.g. Abuse028_x264" in details
    assert "ucf-crime: 2 clicks on 1 videos of it that are not there, e.g. Abuse002_x264" in details
