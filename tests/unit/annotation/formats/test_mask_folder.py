"""A folder of frame masks: one .npy a video, as clicks and as ground truth."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from annotation.formats.parquet import import_to_parquet
from annotation.formats.registry import read_annotations
from annotation.ground_truth import read_ground_truth
from annotation.resolve import resolve_glance
from annotation.video_index import VideoIndex
from pipeline.errors import DataError, RecordError
from pipeline.records import Video


def video(name: str, num_frames: int = 100) -> Video:
    return Video(
        video_id=name, path=f"/films/{name}.mp4", sha256="", fps=25.0, num_frames=num_frames,
        duration_s=num_frames / 25, width=64, height=48, codec="h264", label=None, split=None, source="test",
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Masks of `fight` (two events), of `calm`, of a video that is cut short, of one that is not there; and no mask."""
    masks = tmp_path / "masks"
    masks.mkdir()
    events = np.zeros(100, np.uint8)
    events[10:20] = events[50] = 1
    np.save(masks / "fight_frame_mask.npy", events)
    np.save(masks / "calm.npy", events * 0)
    np.save(masks / "short.npy", events[:99])
    np.save(masks / "calm_too_long.npy", np.zeros(130, bool))
    np.save(masks / "stranger.npy", events)
    (masks / "damaged.npy").write_bytes(b"\x93NUMPY what?")
    (masks / "README.md").write_text("masks")
    return masks


@pytest.fixture
def index() -> VideoIndex:
    return VideoIndex([video(name) for name in ("fight", "calm", "short", "calm_too_long", "damaged", "other")])


def test_every_mask_of_a_folder_is_read(folder: Path) -> None:
    found = read_annotations(folder)
    assert found.format == "frame-masks"
    events = [(span.video, span.start_frame, span.end_frame) for span in found.spans if span.start_frame is not None]
    assert events == [("fight", 10, 20), ("fight", 50, 51), *[(n, *s) for n in ("short", "stranger") for s in SPANS]]
    assert [(fault.place, fault.video) for fault in found.faults] == [("damaged.npy", "damaged")]
    assert found.notes == ["1 other file(s) of the folder were not read: README.md"]


SPANS = [(10, 20), (50, 51)]


def test_ground_truth_of_a_folder(folder: Path, index: VideoIndex) -> None:
    truth = read_ground_truth(folder, index)
    assert {
        name: [(event.start_frame, event.end_frame) for event in events] for name, events in truth.events.items()
    } == {"fight": SPANS}
    assert truth.normal == {"calm"}
    assert truth.incomplete == {"short", "calm_too_long", "damaged"}
    said = "\n".join(truth.faults)
    assert "short.npy: frames 10 to 19: frame_rate_conflict: 99 frames are labelled; short has 100" in said
    assert "calm_too_long.npy: frame_rate_conflict: 130 frames are labelled; calm_too_long has 100" in said
    assert "stranger.npy: frames 10 to 19: missing_video: no ingested video is called 'stranger'" in said


def test_a_click_is_not_made_of_a_mask_of_another_length(folder: Path, index: VideoIndex, tmp_path: Path) -> None:
    assert import_to_parquet(folder, "frame-masks", tmp_path / "masks.parquet").rows == 8
    for source in (folder, tmp_path / "masks.parquet"):
        spans = {span.place: span for span in read_annotations(source).spans}
        click = spans["fight_frame_mask.npy: frames 10 to 19"].middle()
        assert click is not None
        assert resolve_glance(click, index).frame_index == 14
        click = spans["short.npy: frames 10 to 19"].middle()
        assert click is not None
        with pytest.raises(RecordError, match="99 frames are labelled; short has 100"):
            resolve_glance(click, index)


def test_a_folder_without_masks_says_so(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a folder without frame masks: one \.npy, \.mat or _tracks\.txt per video is expected"
    ):
        read_annotations(tmp_path)
    with pytest.raises(DataError, match="cannot be read: Is a directory"):
        read_annotations(tmp_path, "cvat")
