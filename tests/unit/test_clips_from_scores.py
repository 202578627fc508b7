"""The clips stage with `clips.method=sampler`, on a sample world whose scores are made from its ground truth."""

from __future__ import annotations

import csv
import io
import shutil
from pathlib import Path

import numpy as np
import pytest

from flows.plan import run_step
from pipeline.config import BuildConfig, parse_config
from pipeline.records import NORMAL, Reason, Scores, Video, digest
from pipeline.sample import make_sample
from pipeline.stages.base import StageReport
from pipeline.workspace import Workspace

STRIDE = 16


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("world")
    make_sample(out, videos=6, seed=3)
    return out


@pytest.fixture(scope="module")
def built(world: Path, tmp_path_factory: pytest.TempPathFactory) -> BuildConfig:
    """A build with windows, up to the clips."""
    config = parse_config(
        {
            "videos": [str(world / "videos.csv")],
            "glances": [str(world / "label_studio.json")],
            "workspace": str(tmp_path_factory.mktemp("built") / "w"),
        }
    )
    for step in ("ingest", "glances", "clips"):
        run_step(step, Workspace(config.workspace), config)
    return config


@pytest.fixture
def config(built: BuildConfig, tmp_path: Path) -> BuildConfig:
    """A copy of the build, to be made anew from scores."""
    shutil.copytree(built.workspace, tmp_path / "w")
    return with_clips(built.model_copy(update={"workspace": str(tmp_path / "w")}), method="sampler")


def with_clips(config: BuildConfig, **settings: object) -> BuildConfig:
    clips = config.clips.model_dump() | settings
    return BuildConfig.model_validate(config.model_dump() | {"clips": clips})


def events_of(world: Path) -> dict[str, list[tuple[int, int]]]:
    events: dict[str, list[tuple[int, int]]] = {}
    with (world / "ground_truth.csv").open() as file:
        for row in csv.DictReader(file):
            span = int(row["start_frame"]), int(row["end_frame_exclusive"])
            events.setdefault(row["video_id"], []).append(span)
    return events


def store_scores(config: BuildConfig, world: Path, sampler: str = "oracle", leave_out: int = 0) -> None:
    """Give every video but the last `leave_out` abnormal ones scores that follow its ground truth."""
    workspace = Workspace(config.workspace)
    events = events_of(world)
    videos = list(workspace.videos.records())
    abnormal = [video.video_id for video in videos if video.label != NORMAL]
    silent = abnormal[len(abnormal) - leave_out :]
    rows = []
    for video in videos:
        if video.video_id in silent:
            continue
        rows.append((digest(video.video_id), scores_row(workspace, video, events.get(video.video_id, []), sampler)))
    workspace.scores.drop(workspace.scores.units())
    workspace.scores.commit([unit for unit, _ in rows], rows, [], "test")


def scores_row(workspace: Workspace, video: Video, events: list[tuple[int, int]], sampler: str) -> Scores:
    frames = np.full(video.num_frames, 0.1, np.float32)
    for start, end in events:
        frames[start:end] = 0.9
    edges = np.arange(0, video.num_frames, STRIDE)
    means = np.add.reduceat(frames, edges) / np.diff(np.append(edges, video.num_frames))
    file = io.BytesIO()
    np.save(file, means.astype(np.float32))
    path = f"scores/{video.video_id}.npy"
    workspace.storage.write(path, file.getvalue())
    return Scores(
        video_id=video.video_id, path=path, num_snippets=len(means), stride_frames=STRIDE, sampler=sampler,
        sha256=digest(means.tolist()),
    )  # fmt: skip


def clips_stage(config: BuildConfig) -> StageReport:
    return run_step("clips", Workspace(config.workspace), config)


def test_clips_follow_the_events(config: BuildConfig, world: Path) -> None:
    store_scores(config, world)
    clips_stage(config)
    workspace = Workspace(config.workspace)
    clips = list(workspace.clips.records())
    abnormal = [clip for clip in clips if clip.label != NORMAL]
    events = events_of(world)
    assert {clip.method for clip in abnormal} == {"sampler"}
    overlaps = []
    for clip in abnormal:
        shared = [
            max(0, min(end, clip.end_frame) - max(start, clip.start_frame))
            / (max(end, clip.end_frame) - min(start, clip.start_frame))
            for start, end in events[clip.video_id]
        ]
        overlaps.append(max(shared))
        assert clip.anomaly_score is not None
        assert clip.anomaly_score > 0.5
        assert clip.glance_time_s is not None
        assert clip.start_s <= clip.glance_time_s < clip.end_s
    assert np.mean(overlaps) > 0.8
    normal = [clip for clip in clips if clip.label == NORMAL]
    assert {clip.method for clip in normal} == {"random"}
    assert {clip.anomaly_score for clip in normal} == {pytest.approx(0.1)}


def test_normal_segments_have_the_lengths_of_the_proposals(config: BuildConfig, world: Path) -> None:
    store_scores(config, world)
    clips_stage(config)
    clips = list(Workspace(config.workspace).clips.records())
    abnormal = [clip.end_s - clip.start_s for clip in clips if clip.label != NORMAL]
    normal = [clip.end_s - clip.start_s for clip in clips if clip.label == NORMAL]
    assert all(min(abs(length - other) for other in abnormal) < 0.11 for length in normal)


def test_changing_the_method_remakes_clips_alone_and_back_again_gives_the_windows(
    built: BuildConfig, config: BuildConfig, world: Path
) -> None:
    windows = list(Workspace(built.workspace).clips.records())
    store_scores(config, world)
    report = clips_stage(config)
    assert (report.made, report.kept) == (6, 0)
    assert clips_stage(config).made == 0
    for step in ("ingest", "glances"):
        assert run_step(step, Workspace(config.workspace), config).made == 0
    back = with_clips(config, method="window")
    assert clips_stage(back).made == 6
    assert list(Workspace(config.workspace).clips.records()) == windows


def test_scores_that_come_do_not_touch_windows(built: BuildConfig, config: BuildConfig, world: Path) -> None:
    windows = with_clips(config, method="window")
    store_scores(windows, world)
    assert clips_stage(windows).made == 0
    assert {clip.anomaly_score for clip in Workspace(windows.workspace).clips.records()} == {None}


def test_settings_of_the_other_method_remake_nothing(config: BuildConfig) -> None:
    windows = with_clips(config, method="window", proposal={"low": 0.2})
    assert clips_stage(windows).made == 0


def test_another_sampler_remakes_the_clips(config: BuildConfig, world: Path) -> None:
    store_scores(config, world)
    clips_stage(config)
    store_scores(config, world, sampler="another")
    assert clips_stage(config).made == 6


def test_a_video_with_glances_but_without_scores_is_named(config: BuildConfig, world: Path) -> None:
    store_scores(config, world, leave_out=1)
    report = clips_stage(config)
    assert report.rejected == {Reason.NO_SCORES: 1}
    (rejected,) = Workspace(config.workspace).clips.rejected()
    assert "clips.method=sampler needs anomaly scores" in rejected.detail


def test_damaged_scores_are_named_and_the_rest_goes_on(config: BuildConfig, world: Path) -> None:
    store_scores(config, world)
    rows = list(Workspace(config.workspace).scores.records())
    (Path(config.workspace) / rows[0].path).write_bytes(b"no array")
    np.save(Path(config.workspace) / rows[1].path, np.zeros(3, np.float32))
    (Path(config.workspace) / rows[2].path).unlink()
    report = clips_stage(config)
    assert report.rejected == {Reason.NO_SCORES: 3}
    details = [rejected.detail for rejected in Workspace(config.workspace).clips.rejected()]
    assert any("no such file" in detail for detail in details)
    assert any("scores of shape (3,)" in detail for detail in details)
    assert report.rows > 0


def test_nested_proposals_are_clips_of_their_own(config: BuildConfig, world: Path) -> None:
    config = with_clips(config, proposal={"nested": 3, "low": 0.2, "high": 0.9})
    store_scores(config, world)
    clips_stage(config)
    by_glance: dict[tuple[str, float], list[tuple[int, int]]] = {}
    for clip in Workspace(config.workspace).clips.records():
        if clip.glance_time_s is not None:
            key = clip.video_id, clip.glance_time_s
            by_glance.setdefault(key, []).append((clip.start_frame, clip.end_frame))
    assert max(map(len, by_glance.values())) > 1
    for spans in by_glance.values():
        widest = spans[0]
        assert all(widest[0] <= start < end <= widest[1] for start, end in spans)
