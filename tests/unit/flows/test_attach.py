"""A dataset without its footage, and what makes it whole again: every frame of every clip is compared."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from levels_world import FPS, film_all, frames_of, pictures, write, write_tables

from flows.plan import build, run_step
from pipeline.config import VideoConfig, parse_config
from pipeline.dataset import layout, publication
from pipeline.dataset.publication import publish
from pipeline.dataset.validate import validate_dataset
from pipeline.errors import DataError, SetupError
from pipeline.records import Reason
from pipeline.stages.attach import Attached, attach
from pipeline.stages.clip_plan import ClipPlanner
from pipeline.stages.windows import LengthProfile
from pipeline.workspace import Workspace

ONE_WORKER = VideoConfig(workers=1)


def build_in(home: Path) -> Workspace:
    write_tables(home, [25, 80])
    values = {
        "videos": [str(home / "videos.csv")], "glances": [str(home / "clicks.csv")], "workspace": str(home / "run"),
        "video": {"workers": 1}, "clips": {"window_s": 2.0}, "export": {"validation_fraction": 0.4, "license": "mit"},
        "synthesize": {"tasks": ["judge_explain", "description"]},
        "filter": {"conflicts": {"event_in_normal": "keep", "nothing_seen": "keep"}},
    }  # fmt: skip
    build(parse_config(values, origin="test"))
    return Workspace(str(home / "run"))


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    home = tmp_path_factory.mktemp("secret place")
    film_all(home / "videos")
    return build_in(home)


@pytest.fixture(scope="module")
def published(built: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("published") / "set"
    publish(built.dataset_folder, out, ONE_WORKER)
    return out


@pytest.fixture
def copies(tmp_path: Path) -> Path:
    """Somebody else's copy of the videos, in other folders."""
    film_all(tmp_path / "mine/of all/kinds")
    return tmp_path / "mine"


def rows_of(folder: Path) -> dict[str, pa.Table]:
    shards, strangers = layout.list_shards(folder)
    assert not strangers
    return {shard.path.name: pq.read_table(shard.path) for shard in shards}


def attached(published: Path, copies: Path, out: Path, **options: str) -> Attached:
    return attach(published, [str(copies)], out, ONE_WORKER, **options)


def test_nothing_of_the_footage_or_of_the_machine_is_published(built: Workspace, published: Path) -> None:
    for path in published.rglob("*.parquet"):
        table = pq.read_table(path)
        assert not any(pa.types.is_binary(field.type) or pa.types.is_struct(field.type) for field in table.schema)
        for row in table.to_pylist():
            assert built.storage.root not in str(row)
            assert "secret place" not in str(row)
    for path in published.rglob("*"):
        if path.is_file():
            assert b"secret place" not in path.read_bytes()
    assert {path.suffix for path in published.rglob("*") if path.is_file()} == {".parquet", ".md", ".json", ".png"}


def test_spans_clicks_and_checksums_are_published(built: Workspace, published: Path) -> None:
    sources = {row["video_id"]: row for row in pq.read_table(published / publication.SOURCES).to_pylist()}
    for video in built.videos.records():
        told = sources[video.video_id]
        assert (told["sha256"], told["num_frames"]) == (video.sha256, video.num_frames)
        assert told["name"] == f"{video.video_id}.mp4"
    clicks = pq.read_table(published / publication.CLICKS).to_pylist()
    assert [click["frame_index"] for click in clicks] == [25, 80]
    clips = {clip.clip_id: clip for clip in built.clips.records()}
    for table in rows_of(published).values():
        for row in table.to_pylist():
            clip = clips[row["clip_id"]]
            assert (row["start_frame"], row["end_frame"]) == (clip.start_frame, clip.end_frame)
            assert (row["start_s"], row["end_s"]) == (clip.start_s, clip.end_s)


def test_a_publication_is_valid_and_loads(published: Path) -> None:
    from datasets import load_dataset

    assert validate_dataset(published) == []
    assert "video" not in load_dataset(str(published), split="train").column_names


def test_the_round_trip_gives_every_frame_and_every_row(
    built: Workspace, published: Path, copies: Path, tmp_path: Path
) -> None:
    found = attached(published, copies, tmp_path / "out")
    assert (found.rows, found.left_out) == (found.all_rows, ())
    made, original = sorted((tmp_path / "out/clips").iterdir()), built.storage.local_path("clips")
    assert [path.name for path in made] == sorted(path.name for path in original.iterdir())
    for path in made:
        pictures_made, times_made = frames_of(path)
        pictures_then, times_then = frames_of(original / path.name)
        assert times_made == times_then
        assert len(pictures_made) == len(pictures_then) > 5
        assert all(np.array_equal(one, other) for one, other in zip(pictures_made, pictures_then, strict=True))
    then, now = rows_of(built.dataset_folder), rows_of(tmp_path / "out/dataset")
    assert list(then) == list(now)
    assert all(then[name].equals(now[name], check_metadata=True) for name in then)
    assert layout.read_stats(tmp_path / "out/dataset") == layout.read_stats(built.dataset_folder)
    assert validate_dataset(tmp_path / "out") == []


def test_ids_are_the_same_wherever_the_folder_lies(tmp_path: Path) -> None:
    ids = []
    for place in ("here", "over there/and deeper"):
        film_all(tmp_path / place / "videos")
        values = {"videos": [str(tmp_path / place / "videos")], "workspace": str(tmp_path / place / "run")}
        config = parse_config(values | {"video": {"workers": 1}}, origin="test")
        workspace = Workspace(config.workspace)
        run_step("ingest", workspace, config)
        videos = list(workspace.videos.records())
        segments = ClipPlanner(config.clips, workspace.storage, unlabelled_is_normal=True)
        profile = LengthProfile((2.0,), 2)
        ids.append(
            [
                (video.video_id, video.sha256, [span.start_s for span in segments.draw_segments(video, profile)])
                for video in videos
            ]
        )
    assert len(ids[0]) == 3
    assert ids[0] == ids[1]


def test_a_second_run_cuts_only_what_is_gone(published: Path, copies: Path, tmp_path: Path) -> None:
    attached(published, copies, tmp_path / "out")
    clips = sorted((tmp_path / "out/clips").iterdir())
    before = {path: path.stat().st_mtime_ns for path in clips}
    gone = clips[0]
    gone.unlink()
    attached(published, copies, tmp_path / "out")
    after = {path: path.stat().st_mtime_ns for path in clips}
    video = gone.name.rsplit("_", 3)[0]
    assert {path for path in clips if before[path] != after[path]} == {
        path for path in clips if path.name.startswith(video)
    }


@pytest.mark.parametrize(
    ("kept", "options", "difference"),
    [
        (slice(None), {"crf": 26}, "re-encoded: 120 frames"),
        (slice(None, None, 2), {"fps": FPS // 2}, "of another frame rate: 5.000 fps, the original has 10.000"),
        (slice(9, None), {}, "of other length: 11.10 s, the original has 12.00 s"),
        (slice(None), {"size": (128, 96), "crf": 22}, "re-encoded"),
    ],
)
def test_a_differing_copy_is_named_and_left_out_or_known_by_its_content(
    published: Path, copies: Path, kept: slice, options: dict[str, int], difference: str
) -> None:
    out = copies.with_name("out")
    [copy] = copies.rglob("Fight*")
    write(copy.with_name("FIGHT_ONE.mp4"), pictures(0)[kept], **options)
    copy.unlink()
    left = attached(published, copies, out)
    [fault] = left.left_out
    assert (fault.record_id, fault.reason) == ("Fight_one_x264", Reason.DIFFERING_COPY)
    assert difference in fault.detail
    assert 0 < left.rows < left.all_rows
    assert validate_dataset(out) == []

    found = attached(published, copies, out, match="content")
    assert found.rows == found.all_rows
    assert difference in found.by_content[0]
    shift_s = float(found.by_content[0].rpartition("shifted by ")[2].removesuffix(" s"))
    assert shift_s == pytest.approx(-0.9 if kept.start else 0, abs=0.25)
    assert validate_dataset(out) == []
    clip = next(row for row in layout.read_rows(found.dataset) if row["source_video"] == "Fight_one_x264")
    shown, _ = frames_of(found.dataset / clip["video"]["path"])
    # What the clip begins with is what the original shows then, to a tenth of a second.
    near = [pictures(0)[round(clip["start_s"] * FPS) + offset] for offset in (-1, 0, 1)]
    first = shown[0][:: shown[0].shape[0] // 48, :: shown[0].shape[1] // 64].astype(float)
    assert min(np.abs(first - picture).mean() for picture in near) < 12


def test_another_film_under_the_name_is_left_out_by_content_too(published: Path, copies: Path, tmp_path: Path) -> None:
    [copy] = copies.rglob("Fight*")
    write(copy, pictures(7))
    found = attached(published, copies, tmp_path / "out", match="content")
    assert [fault.record_id for fault in found.left_out] == ["Fight_one_x264"]
    assert "it shows 0 of 2 clips" in found.left_out[0].detail


def test_a_copy_of_another_name_is_found_by_content(published: Path, copies: Path, tmp_path: Path) -> None:
    [copy] = copies.rglob("Fight*")
    write(copy.with_name("0001.mp4"), pictures(0), crf=24)
    copy.unlink()
    assert [fault.reason for fault in attached(published, copies, tmp_path / "out").left_out] == [Reason.FILE_MISSING]
    found = attached(published, copies, tmp_path / "out", match="content")
    assert (found.rows, found.left_out) == (found.all_rows, ())


def test_what_is_no_publication_and_folders_of_others_are_refused(
    built: Workspace, published: Path, copies: Path, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match="not without footage"):
        attached(built.dataset_folder, copies, tmp_path / "out")
    with pytest.raises(DataError, match="none of its clips"):
        attached(published, tmp_path / "nothing here", tmp_path / "out")
    (tmp_path / "mine/dataset").mkdir()
    with pytest.raises(SetupError, match="not made by attach"):
        attached(published, copies, tmp_path / "mine")
    with pytest.raises(SetupError, match="no dataset without footage"):
        publish(built.dataset_folder, copies, ONE_WORKER)
    moved = tmp_path / "alone"
    shutil.copytree(built.dataset_folder, moved)
    with pytest.raises(DataError, match="without its workspace"):
        publish(moved, tmp_path / "never", ONE_WORKER)
