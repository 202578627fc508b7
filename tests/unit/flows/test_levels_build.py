"""A build whose rows are about clips, events and whole videos, through training, export, review and back again."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from levels_world import film_all, frames_of, write_tables

from annotation.formats.hivau_file import HIVAU_FILE
from annotation.formats.registry import read_annotations
from flows.plan import build
from pipeline.config import VideoConfig, parse_config
from pipeline.dataset import layout
from pipeline.dataset.formats import export_format
from pipeline.dataset.publication import publish
from pipeline.dataset.validate import validate_dataset
from pipeline.errors import ConfigError
from pipeline.records import NORMAL, Level
from pipeline.review.items import ReviewItems
from pipeline.stages.attach import attach
from pipeline.train.rows import SplitRows
from pipeline.workspace import Workspace

pytestmark = pytest.mark.slow

ONE_WORKER = VideoConfig(workers=1)


def build_levels(home: Path, *levels: str, files: Sequence[str] = ()) -> Workspace:
    values = {
        "videos": [str(home / "videos.csv")], "glances": [str(home / "clicks.csv")], "workspace": str(home / "run"),
        "video": {"workers": 1}, "caption": {"files": list(files)}, "clips": {"window_s": 2.0},
        "export": {"validation_fraction": 0.4},
        "synthesize": {"tasks": ["judge_explain", "description", "caption"], "levels": list(levels),
                       "event_gap_s": 1.0},
        "filter": {"conflicts": {"event_in_normal": "keep", "nothing_seen": "keep"}, "near_duplicate": 1.0},
    }  # fmt: skip
    build(parse_config(values, origin="test"))
    return Workspace(str(home / "run"))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("levels")
    film_all(home / "videos")
    write_tables(home, [25, 45, 90])
    return home


@pytest.fixture(scope="module")
def built(home: Path) -> Workspace:
    return build_levels(home, "clip", "event", "video")


def rows_at(space: Workspace, level: Level) -> list[dict[str, object]]:
    return [row for row in layout.read_rows(space.dataset_folder) if row["level"] == level]


def test_rows_of_every_level_are_in_the_dataset(built: Workspace) -> None:
    assert validate_dataset(built.dataset_folder) == []
    events = {(row["start_s"], row["end_s"]) for row in rows_at(built, Level.EVENT) if row["label"] == "Fighting"}
    assert events == {(1.5, 5.5), (8.0, 10.0)}
    videos = [row for row in rows_at(built, Level.VIDEO) if row["label"] == "Fighting"]
    assert {(row["start_s"], row["end_s"]) for row in videos} == {(0.0, 12.0)}
    assert {row["task"] for row in videos} == {"judge_explain", "description"}
    assert {row["task"] for row in rows_at(built, Level.CLIP)} == {"judge_explain", "description", "caption"}
    assert (layout.read_stats(built.dataset_folder) or {})["levels"].keys() == set(Level)


def test_a_video_is_judged_from_its_clips_in_order_and_names_its_events_with_their_times(built: Workspace) -> None:
    [row] = [
        row for row in rows_at(built, Level.VIDEO) if row["label"] == "Fighting" and row["task"] == "judge_explain"
    ]
    times = [line.partition(":")[0] for line in str(row["caption"]).split("\n")]
    assert times == ["1.5 s to 3.5 s", "3.5 s to 5.5 s", "8.0 s to 10.0 s"]
    answer = str(row["answer"])
    assert answer.startswith("Yes, ")
    assert "from 1.5 s to 5.5 s and from 8.0 s to 10.0 s" in answer
    assert "rom 3.5 s to 5.5 s" in answer
    calm = [row for row in rows_at(built, Level.VIDEO) if row["label"] == NORMAL and row["task"] == "judge_explain"]
    assert calm
    assert all(str(row["answer"]).startswith("No, ") for row in calm)


def test_the_file_of_an_event_holds_its_frames_and_that_of_a_video_is_the_video(built: Workspace, home: Path) -> None:
    for row in layout.read_rows(built.dataset_folder):
        path = built.dataset_folder / row["video"]["path"]
        if row["level"] == Level.VIDEO:
            assert path == home / "videos" / f"{row['source_video']}.mp4"
        else:
            assert len(frames_of(path)[0]) == round((row["end_s"] - row["start_s"]) * 10)


def test_training_export_and_review_take_rows_of_every_level(built: Workspace, tmp_path: Path) -> None:
    rows = SplitRows(built.dataset_folder, "train")
    read = rows.at(range(len(rows)))
    assert all(row.file is not None and row.file.is_file() for row in read)
    assert {row.span_s for row in read} == {None, (0.0, 12.0)}
    assert export_format(built.dataset_folder, "llamafactory", tmp_path / "factory") == built.verdicts.num_rows
    assert export_format(built.dataset_folder, "webdataset", tmp_path / "tars") == built.verdicts.num_rows
    items = ReviewItems(built)
    for pair in built.pairs.records():
        item = items.get(pair.pair_id)
        assert item is not None
        assert Path(item.clip_path).is_file()


def test_a_dataset_goes_out_in_the_form_of_hivau(built: Workspace, tmp_path: Path) -> None:
    assert HIVAU_FILE.write(built.dataset_folder, tmp_path / "hivau.json") == 3
    entry = json.loads((tmp_path / "hivau.json").read_text())["Fight_one_x264"]
    assert (entry["n_frames"], entry["fps"], entry["label"]) == (120, 10.0, ["Fighting"])
    assert entry["events"] == [[1.5, 5.5], [8.0, 10.0]]
    assert entry["clips"] == [[[1.5, 3.5], [3.5, 5.5]], [[8.0, 10.0]]]
    captions = {row["start_s"]: row["caption"] for row in rows_at(built, Level.CLIP) if row["label"] == "Fighting"}
    assert entry["clips_caption"] == [[captions[1.5], captions[3.5]], [captions[8.0]]]
    assert all(summary.startswith("Yes, ") for summary in [*entry["events_summary"], entry["video_summary"]])
    assert entry["video_summary_split"].keys() == {"judgement", "description"}
    again = read_annotations(tmp_path / "hivau.json")
    assert again.faults == []
    with pytest.raises(ConfigError, match=r"\.json file"):
        HIVAU_FILE.write(built.dataset_folder, tmp_path / "hivau")


def test_sentences_of_people_speak_at_their_level_beside_a_model(built: Workspace, tmp_path: Path) -> None:
    HIVAU_FILE.write(built.dataset_folder, tmp_path / "hivau.json")
    film_all(tmp_path / "videos")
    write_tables(tmp_path, [25, 45, 90])
    theirs = build_levels(tmp_path, "clip", "event", "video", files=[str(tmp_path / "hivau.json")])
    written = json.loads((tmp_path / "hivau.json").read_text())["Fight_one_x264"]["video_summary"]
    told = {caption.clip_id: caption for caption in theirs.level_captions.records()}
    [video] = [clip for clip in theirs.clips.records() if clip.level is Level.VIDEO and clip.label == "Fighting"]
    assert (told[video.clip_id].captioner, told[video.clip_id].text) == ("human", written)


def test_the_round_trip_without_footage_keeps_every_level(built: Workspace, tmp_path: Path) -> None:
    film_all(tmp_path / "mine")
    publish(built.dataset_folder, tmp_path / "set", ONE_WORKER)
    assert validate_dataset(tmp_path / "set") == []
    found = attach(tmp_path / "set", [str(tmp_path / "mine")], tmp_path / "out", ONE_WORKER)
    assert (found.rows, found.left_out) == (found.all_rows, ())
    assert validate_dataset(tmp_path / "out") == []
    for then, now in zip(layout.read_rows(built.dataset_folder), layout.read_rows(found.dataset), strict=True):
        assert {**then, "video": None} == {**now, "video": None}
        one, other = (
            frames_of(folder / row["video"]["path"])[0]
            for folder, row in ((built.dataset_folder, then), (found.dataset, now))
        )
        assert len(one) == len(other)
        assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


# Last: it leaves clips alone in the workspace.
def test_a_second_run_makes_nothing_and_fewer_levels_leave_the_clips_as_they_were(built: Workspace, home: Path) -> None:
    before = {path: path.read_bytes() for path in (home / "run/clips").iterdir()}
    summary = build(parse_config(json.loads(json.dumps((built.read_json("run.json") or {})["config"])), origin="test"))
    assert {stage.stage: stage.made for stage in summary.stages if stage.made} == {}
    only = build_levels(home, "clip")
    assert {row["level"] for row in layout.read_rows(only.dataset_folder)} == {"clip"}
    after = {path: path.read_bytes() for path in (home / "run/clips").iterdir()}
    assert after.items() <= before.items()
    assert len(after) < len(before)
