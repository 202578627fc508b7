"""The clips stage on small videos whose scores are made from known events, with its two methods."""

from __future__ import annotations

import io
import shutil
from pathlib import Path

import av
import numpy as np
import pytest

from flows.plan import run_step
from pipeline.config import BuildConfig, parse_config
from pipeline.records import CALM, NORMAL, Reason, Scores, Video, digest
from pipeline.stages.base import StageReport
from pipeline.workspace import Workspace

FPS = 10
STRIDE = 16
NUM_FRAMES = 300
EVENTS = {"a": [(40, 130)], "b": [(100, 160), (200, 290)], "c": [(0, 50)], "n": [], "m": []}
GLANCES = {"a": [90], "b": [110, 250], "c": [0]}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuildConfig:
    """A build with windows, up to the clips."""
    folder = tmp_path_factory.mktemp("world")
    for number, name in enumerate(EVENTS):
        write_video(folder / f"{name}.mp4", grey=20 * number)
    labels = [f"{name},{name}.mp4,{'Fighting' if events else NORMAL}" for name, events in EVENTS.items()]
    (folder / "videos.csv").write_text("\n".join(["video_id,file,label", *labels]))
    clicks = [f"{name},{frame}" for name, frames in GLANCES.items() for frame in frames]
    (folder / "glances.csv").write_text("\n".join(["video_id,frame_index", *clicks]))
    config = parse_config(
        {
            "videos": [str(folder / "videos.csv")],
            "glances": [str(folder / "glances.csv")],
            "workspace": str(folder / "w"),
            "video": {"workers": 1},
            "clips": {"files": "reference"},
        }
    )
    for step in ("ingest", "glances", "clips"):
        run_step(step, Workspace(config.workspace), config)
    return config


def write_video(path: Path, grey: int) -> None:
    with av.open(path, "w") as container:
        stream = container.add_stream("h264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), grey, np.uint8), format="rgb24")
        for index in range(NUM_FRAMES):
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


@pytest.fixture
def config(built: BuildConfig, tmp_path: Path) -> BuildConfig:
    """A copy of the build, to be made anew from scores."""
    shutil.copytree(built.workspace, tmp_path / "w")
    return with_clips(built.model_copy(update={"workspace": str(tmp_path / "w")}), method="sampler")


def with_clips(config: BuildConfig, **settings: object) -> BuildConfig:
    clips = config.clips.model_dump() | settings
    return BuildConfig.model_validate(config.model_dump() | {"clips": clips})


def store_scores(config: BuildConfig, sampler: str = "oracle", leave_out: frozenset[str] = frozenset()) -> None:
    """Give every video but those to leave out scores that follow its events."""
    workspace = Workspace(config.workspace)
    rows = [
        (digest(video.video_id), scores_row(workspace, video, sampler))
        for video in workspace.videos.records()
        if video.video_id not in leave_out
    ]
    workspace.scores.drop(workspace.scores.units())
    workspace.scores.commit([unit for unit, _ in rows], rows, [], "test")


def scores_row(workspace: Workspace, video: Video, sampler: str) -> Scores:
    frames = np.full(video.num_frames, 0.1, np.float32)
    for start, end in EVENTS[video.video_id]:
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


def test_clips_follow_the_events(config: BuildConfig) -> None:
    store_scores(config)
    clips_stage(config)
    workspace = Workspace(config.workspace)
    clips = list(workspace.clips.records())
    abnormal = [clip for clip in clips if clip.label != NORMAL]
    assert {clip.method for clip in abnormal} == {"sampler"}
    overlaps = []
    for clip in abnormal:
        shared = [
            max(0, min(end, clip.end_frame) - max(start, clip.start_frame))
            / (max(end, clip.end_frame) - min(start, clip.start_frame))
            for start, end in EVENTS[clip.video_id]
        ]
        overlaps.append(max(shared))
        assert clip.anomaly_score is not None
        assert clip.anomaly_score > 0.5
        assert clip.glance_time_s is not None
        assert clip.start_s <= clip.glance_time_s < clip.end_s
    assert np.mean(overlaps) > 0.8
    normal = [clip for clip in clips if clip.video_id in ("n", "m")]
    assert {clip.method for clip in normal} == {"random"}
    assert [clip.anomaly_score for clip in normal] == pytest.approx([0.1] * len(normal))


def test_abnormal_videos_give_calm_stretches_where_scores_are_highest_beside_the_events(config: BuildConfig) -> None:
    store_scores(config)
    clips_stage(config)
    clips = list(Workspace(config.workspace).clips.records())
    calm = {clip.video_id: clip for clip in clips if clip.method == CALM}
    assert set(calm) == {"a", "b", "c"}
    events = [clip.end_frame - clip.start_frame for clip in clips if clip.label != NORMAL]
    for clip in calm.values():
        assert clip.label == NORMAL
        assert clip.glance_time_s is None
        beside = [one for one in clips if one.video_id == clip.video_id and one.label != NORMAL]
        apart = [max(clip.start_frame - one.end_frame, one.start_frame - clip.end_frame) for one in beside]
        assert min(apart) >= 2 * FPS
        assert clip.end_frame - clip.start_frame in events or clip.video_id == "b", "shortened to what is left"


def test_no_calm_stretches_where_none_are_asked_for(config: BuildConfig) -> None:
    config = with_clips(config, calm_stretches=0)
    store_scores(config)
    clips_stage(config)
    assert not [clip for clip in Workspace(config.workspace).clips.records() if clip.method == CALM]


def test_normal_segments_have_the_lengths_of_the_proposals(config: BuildConfig) -> None:
    store_scores(config)
    clips_stage(config)
    clips = list(Workspace(config.workspace).clips.records())
    abnormal = [clip.end_s - clip.start_s for clip in clips if clip.label != NORMAL]
    normal = [clip.end_s - clip.start_s for clip in clips if clip.method == "random"]
    assert all(min(abs(length - other) for other in abnormal) < 0.11 for length in normal)


def test_changing_the_method_remakes_clips_alone_and_back_again_gives_the_windows(
    built: BuildConfig, config: BuildConfig
) -> None:
    windows = list(Workspace(built.workspace).clips.records())
    store_scores(config)
    report = clips_stage(config)
    assert (report.made, report.kept) == (5, 0)
    assert clips_stage(config).made == 0
    for step in ("ingest", "glances"):
        assert run_step(step, Workspace(config.workspace), config).made == 0
    back = with_clips(config, method="window")
    assert clips_stage(back).made == 5
    assert list(Workspace(config.workspace).clips.records()) == windows


def test_scores_that_come_do_not_touch_windows(built: BuildConfig, config: BuildConfig) -> None:
    windows = with_clips(config, method="window")
    store_scores(windows)
    assert clips_stage(windows).made == 0
    assert {clip.anomaly_score for clip in Workspace(windows.workspace).clips.records()} == {None}


def test_settings_of_the_other_method_remake_nothing(config: BuildConfig) -> None:
    windows = with_clips(config, method="window", proposal={"low": 0.2})
    assert clips_stage(windows).made == 0


def test_another_sampler_remakes_the_clips(config: BuildConfig) -> None:
    store_scores(config)
    clips_stage(config)
    store_scores(config, sampler="another")
    assert clips_stage(config).made == 5


def test_a_video_with_glances_but_without_scores_is_named(config: BuildConfig) -> None:
    store_scores(config, leave_out=frozenset("b"))
    report = clips_stage(config)
    assert report.rejected == {Reason.NO_SCORES: 1}
    (rejected,) = Workspace(config.workspace).clips.rejected()
    assert "clips.method=sampler needs anomaly scores" in rejected.detail


def test_damaged_scores_are_named_and_the_rest_goes_on(config: BuildConfig) -> None:
    store_scores(config)
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


def test_nested_proposals_are_clips_of_their_own(config: BuildConfig) -> None:
    config = with_clips(config, proposal={"nested": 3, "low": 0.2, "high": 0.9})
    store_scores(config)
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


def clicked(config: BuildConfig, folder: Path, clicks: str, lengths: str = "follow") -> dict[str, list[float]]:
    """Build with windows around other clicks; return the lengths in seconds of the clips by video."""
    (folder / "clicks.csv").write_text(f"video_id,frame_index\n{clicks}\n")
    config = with_clips(config, method="window", normal_lengths=lengths)
    config = config.model_copy(update={"glances": [str(folder / "clicks.csv")]})
    run_step("glances", Workspace(config.workspace), config)
    clips_stage(config)
    lengths_s: dict[str, list[float]] = {}
    for clip in Workspace(config.workspace).clips.records():
        lengths_s.setdefault(clip.video_id, []).append(round(clip.end_s - clip.start_s, 2))
    return lengths_s


@pytest.mark.parametrize("lengths", ["follow", "keep"])
def test_normal_segments_follow_clicks_until_they_are_to_be_kept(
    config: BuildConfig, tmp_path: Path, lengths: str
) -> None:
    # Lengths that the copied build has measured would be kept too.
    shutil.rmtree(Path(config.workspace) / "tables" / "clips")
    assert clicked(config, tmp_path, "b,100", lengths) == {"b": [10.0], "n": [10.0], "m": [10.0]}
    # windows cut by the ends of the video, twice in one video
    later = clicked(config, tmp_path, "a,0\na,299\nc,10", lengths)
    assert sorted(later["a"] + later["c"]) == [5.0, 5.1, 6.0]
    normal = later["n"] + later["m"]
    if lengths == "keep":
        assert normal == [10.0, 10.0]
    else:
        assert set(normal) <= {5.0, 5.1, 6.0}
        assert len(normal) in {2, 3, 4}
        assert clicked(config, tmp_path, "a,0\na,299\nc,10", "keep") == later


def test_clips_are_the_same_whatever_was_clicked_before(config: BuildConfig, tmp_path: Path) -> None:
    at_once = clicked(config, tmp_path, "a,0\nc,10")
    clicked(config, tmp_path, "b,100")
    assert clicked(config, tmp_path, "a,0\nc,10") == at_once


def test_a_click_that_changes_no_length_moves_no_segment(config: BuildConfig, tmp_path: Path) -> None:
    clicked(config, tmp_path, "a,0")
    normal = {clip.clip_id for clip in Workspace(config.workspace).clips.records() if clip.label == NORMAL}
    (tmp_path / "clicks.csv").write_text("video_id,frame_index\na,0\nc,0\n")
    again = with_clips(config, method="window").model_copy(update={"glances": [str(tmp_path / "clicks.csv")]})
    run_step("glances", Workspace(config.workspace), again)
    report = clips_stage(again)
    assert (report.made, report.kept) == (1, 4)
    clips = list(Workspace(config.workspace).clips.records())
    assert {clip.clip_id for clip in clips if clip.label == NORMAL} == normal
