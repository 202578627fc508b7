"""A build over recordings of which a part is lost: no clip touches it, the others stay, and people are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from odd_copies import copy_odd, zeros_at
from typer.testing import CliRunner

from flows.cli import app
from flows.plan import run_step
from pipeline.config import IngestConfig, VideoConfig, parse_config
from pipeline.errors import RecordError
from pipeline.records import EventClip, Reason, Video
from pipeline.stages.clip_plan import ClipPlan, PlannedClip
from pipeline.stages.clips import CutJob, make_clips
from pipeline.stages.ingest import IngestStage
from pipeline.stages.listing import list_sources
from pipeline.stages.windows import Span
from pipeline.video.probe import VideoFacts, probe
from pipeline.video.pyav_decoder import PyavDecoder
from pipeline.workspace import Workspace

Film = Callable[[str], Path]
KEY = 30
"""Second key frame of the H.264 films: no frame after it is shown before it."""


def built(path: Path, folder: Path, frames: list[int], **manifest: str) -> Workspace:
    """Build the clips around clicked frames of a film; without clicks by what the manifest says of it."""
    clicks, videos = folder / "clicks.csv", folder / "videos.csv"
    clicks.write_text("".join(["video-id,glance\n", *(f"{path.name},{frame}\n" for frame in frames)]))
    columns = {"file": str(path), **manifest}
    videos.write_text(f"{','.join(columns)}\n{','.join(columns.values())}\n")
    config = parse_config(
        {
            "videos": [str(videos)],
            "glances": [str(clicks)] if frames else [],
            "workspace": str(folder / "w"),
            "clips": {"window_s": 1.0, "min_s": 0.3, "normal_per_video": 3},
            "video": {"workers": 1},
        }
    )
    workspace = Workspace(config.workspace)
    workspace.write_json("run.json", {"config": config.model_dump(mode="json")})
    for step in ("ingest", "glances", "clips") if frames else ("ingest", "clips"):
        run_step(step, workspace, config)
    return workspace


def frames_of(clips: Iterator[EventClip]) -> list[tuple[int, int]]:
    return sorted((clip.start_frame, clip.end_frame) for clip in clips)


def test_windows_end_at_a_lost_stretch_and_the_others_stay(film: Film, tmp_path: Path) -> None:
    path = copy_odd(film("mjpeg.avi"), tmp_path / "lost.avi", change=zeros_at(range(40, 44)))
    whole, damaged = tmp_path / "whole", tmp_path / "damaged"
    whole.mkdir(), damaged.mkdir()
    clicks = [20, 35, 48, 80]
    expected = frames_of(built(film("mjpeg.avi"), whole, clicks).clips.records())
    workspace = built(path, damaged, [*clicks, 41])
    [video] = workspace.videos.records()
    assert json.loads(video.lost or "") == [[pytest.approx(1.6), pytest.approx(1.76)]]
    made = frames_of(workspace.clips.records())
    assert len(made) == len(expected) == 4
    assert made == [(start, min(end, 40)) if start < 40 else (max(start, 44), end) for start, end in expected]
    assert made != expected
    assert made[0] == expected[0]
    assert made[3] == expected[3]
    [left_out] = workspace.glances.rejected()
    assert "no picture between 1.60 s and 1.76 s" in left_out.detail
    files = [workspace.storage.local_path(workspace.clip_file(clip.clip_id)) for clip in workspace.clips.records()]
    assert all(file.exists() for file in files)
    told = CliRunner().invoke(app, ["status", str(damaged / "w")]).output
    assert f"{video.video_id}: no picture: 1.60 s to 1.76 s" in told


def test_a_clip_never_spans_an_hour_of_nothing(film: Film, tmp_path: Path) -> None:
    path = copy_odd(film("fast start.mp4"), tmp_path / "gap.mp4", later_s=lambda place: 3600.0 * (place >= KEY))
    workspace = built(path, tmp_path, [KEY - 5])
    [clip] = workspace.clips.records()
    assert (clip.end_frame, clip.end_s) == (KEY, pytest.approx(KEY / 25))
    assert clip.end_s - clip.start_s < 1


def test_normal_segments_are_drawn_from_what_was_recorded(film: Film, tmp_path: Path) -> None:
    path = copy_odd(film("fast start.mp4"), tmp_path / "gap.mp4", later_s=lambda place: 3600.0 * (place >= KEY))
    workspace = built(path, tmp_path, [], label="Normal", video_id="calm")
    clips = frames_of(workspace.clips.records())
    assert clips
    assert all(end <= KEY or start >= KEY for start, end in clips)


@pytest.mark.parametrize(("lost", "expected"), [(range(95, 100), [(0, 95)]), (range(50, 54), [])])
def test_a_trimmed_video_is_used_where_nearly_all_of_it_is_left(
    lost: range, expected: list[tuple[int, int]], film: Film, tmp_path: Path
) -> None:
    path = copy_odd(film("mjpeg.avi"), tmp_path / "lost.avi", change=zeros_at(lost))
    workspace = built(path, tmp_path, [], label="Fighting", video_id="fight")
    assert frames_of(workspace.clips.records()) == expected
    left_out = [(rejected.reason, rejected.detail) for rejected in workspace.clips.rejected()]
    if not expected:
        [(reason, detail)] = left_out
        assert reason == Reason.CLIP_TOO_SHORT
        assert "no picture: 2.00 s to 2.16 s" in detail


def test_a_loss_that_only_cutting_finds_ends_its_clips_and_is_told(
    film: Film, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = film("fast start.mp4")
    facts = probe(path)
    feed = PyavDecoder._feed

    def lossy(self: PyavDecoder, packet: Any, *, skip: bool) -> list[Any]:
        return [frame for frame in feed(self, packet, skip=skip) if frame.pts != self.packets.frame_pts[60]]

    monkeypatch.setattr(PyavDecoder, "_feed", lossy)
    video = Video(
        video_id="v", path=str(path), sha256=facts.sha256, fps=facts.fps, num_frames=facts.num_frames,
        duration_s=facts.duration_s, width=facts.width, height=facts.height, codec=facts.codec, label=None, split=None,
        source="",
    )  # fmt: skip
    clips = tuple(
        PlannedClip(span=Span(start_s, end_s), label="Fighting", glance_time_s=glance_s, method="window")
        for start_s, end_s, glance_s in [(0.0, 1.0, 0.5), (2.0, 3.0, 2.2), (2.2, 3.2, 2.8), (2.3, 2.6, 2.4)]
    )
    job = CutJob(video=video, plan=ClipPlan(clips=clips), folder=tmp_path, min_s=0.3)
    made, rejected = make_clips(job)
    assert frames_of(iter(made)) == [(0, 25), (50, 60), (61, 80)]
    assert all((tmp_path / f"{clip.clip_id}.mp4").exists() for clip in made)
    faults = {record_id: fault.detail for record_id, fault in rejected}
    assert faults["v"] == "no picture: 2.40 s to 2.44 s; no clip holds that"
    assert "no picture: 2.40 s to 2.44 s" in faults["v@2.30s"]
    assert len(list(tmp_path.glob("*.mp4"))) == 3


def test_of_a_folder_the_file_is_named_that_lost_something(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "yard.mp4").write_bytes(b"a film")
    [source] = list_sources([str(tmp_path)])
    stage = IngestStage(Workspace(str(tmp_path / "w")), [], IngestConfig(max_lost=0.3), VideoConfig())
    facts = VideoFacts(
        fps=25.0, num_frames=75, duration_s=4.0, width=64, height=48, codec="h264", sha256="0" * 64,
        remarks=("the file ends early: the last 1.00 s that its header promises are missing",),
        lost=((3.0, 4.0),), lost_frames=((75, 75),), lost_share=0.25, missing_s=1.0,
    )  # fmt: skip
    video = stage._to_video(source, facts)
    assert video.long_losses(1.0) == ((75, 75),)
    assert video.long_losses(1.5) == ()
    assert f"{tmp_path}/yard.mp4: no picture: 3.00 s to 4.00 s" in caplog.text
    assert f"{tmp_path}/yard.mp4: the file ends early" in caplog.text
    with pytest.raises(RecordError, match=r"yard\.mp4: 40\.0% of its frames are lost; the file ends early") as caught:
        stage._to_video(source, replace(facts, lost_share=0.4))
    assert caught.value.reason is Reason.TRUNCATED
