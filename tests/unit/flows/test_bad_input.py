"""Everything that may be wrong with what a user gives: each fault has its reason, and the good part is built."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from datasets import load_dataset

from pipeline.config import IngestConfig, VideoConfig
from pipeline.dataset.validate import validate_dataset
from pipeline.records import NORMAL, Rejected, Video
from pipeline.stages.ingest import IngestStage
from pipeline.stages.run import run_stage
from pipeline.workspace import Workspace

pytestmark = pytest.mark.slow

Film = Callable[[str], Path]
Here = Callable[..., subprocess.CompletedProcess[str]]

HOLMES = [sys.executable, "-m", "flows.cli"]
REPOSITORY = Path(__file__).resolve().parents[3]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
LIMIT_S = 200

EVENT, CALM = "Fighting001_x264.mp4", "Normal_Videos_001_x264.mp4"
GLANCED_FRAME = 40

READABLE = {
    "av1.mp4": 100,
    "hevc.mp4": 100,
    "vp9.webm": 100,
    "mpeg4.avi": 100,
    "h264.ts": 100,
    "edit_list.mp4": 83,
    "rotated.mp4": 100,
    "uneven.mp4": 100,
    "one_frame.mp4": 1,
    "8k.mp4": 2,
}
"""Odd films that are taken, by the name that they have here and as films, and how many frames each shows."""

NAMES = ("ünï çödé.mp4", "sp ace.mp4", 'it\'s a "quote".mp4', "two\nlines.mp4", "-rf.mp4", "100%25.mp4", "a/same.mp4")

UNREADABLE = {
    "text.mp4": ("not_a_video", "no video format is recognised in its 33 bytes"),
    "empty.mp4": ("empty_file", "zero bytes"),
    "no_moov.mp4": ("truncated", "moov"),
    "mid_gop.mp4": ("truncated", "the last 2.72 s that its header promises are missing; ingest.max_lost=0.2"),
    "sound.mp4": ("no_video_stream", "audio"),
    "absurd_rate.mp4": ("bad_timestamps", "90000 frames per second (limits 0.01 and 1000)"),
    "folder.mp4": ("not_a_file", "a folder"),
    "circle.mp4": ("not_a_file", "symbolic links"),
    "back": ("not_a_file", "leads back to"),
    "dangling.mp4": ("file_missing", "no such file"),
    "pipe.mp4": ("not_a_file", "not a regular file"),
    "stray\\udcff.mp4": ("unreadable", "not UTF-8"),
}
"""Files that give no video: the reason, and what the detail says beside the path."""

ROWS = {
    3: ("file_missing", "nowhere.mp4: no such file"),
    4: ("duplicate_video_id", "video_id event is already that of"),
    5: ("malformed_row", "2 values under a header of 4"),
    6: ("malformed_row", "split='dev' is none of test, train, validation"),
    7: ("malformed_row", "'file' is missing"),
}
MANIFEST = f"""video_id,file,label,split
event,in/{EVENT},fighting,
gone,nowhere.mp4,Normal,
event,spare.mp4,Normal,
short,in/{CALM}
split,in/{CALM},Normal,dev
none,,Normal,
"""
"""Its second line is good; the fault of every other one stands in `ROWS`."""

CLICKS = {
    3: ("missing_video", "'nowhere'"),
    4: ("frame_out_of_range", "frame 100 is past the end of event, a video of 100 frames (4.00 s)"),
    5: ("frame_out_of_range", "frame -1 is negative"),
    6: ("unknown_category", "'Fightning' is no class of the taxonomy auto; the nearest is Fighting"),
    7: ("duplicate_glance", f"frame {GLANCED_FRAME} of event is marked Fighting by clicks.csv:2"),
    8: ("malformed_row", "'soon' is not a frame number"),
    9: ("label_conflict", "whose label is Normal"),
    10: ("missing_video", "was rejected"),
}
CLICK_TABLE = f"""video_id,frame_index,category
event,{GLANCED_FRAME},Fighting
nowhere,3,Fighting
event,100,Fighting
event,-1,Fighting
event,41,Fightning
event,{GLANCED_FRAME},fight
event,soon,Fighting
{CALM},5,Fighting
no_moov,5,Fighting
"""

RECTANGLE: dict[str, Any] = {"x": 1, "y": 1, "width": 2, "height": 2, "rectanglelabels": ["Car"]}
BOXES = [
    {
        "id": 1,
        "data": {"image": "/data/upload/1/a.jpg"},
        "annotations": [{"id": 1, "result": [{"type": "rectanglelabels", "value": RECTANGLE}]}],
    }
]
EXPORTS = {
    "no_tasks.json": ("[]", "no tasks in the export"),
    "empty.json": ("", "the file is empty"),
    "truncated.json": ('[{"id": 1, "data": {"video": "a.mp4"}, "annotations": [{"id"', "is it truncated?"),
    "boxes.json": (json.dumps(BOXES), "another project type: found rectanglelabels"),
}
"""Annotation files of which nothing can be used, and what is said of each."""


def holmes(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*HOLMES, *arguments], capture_output=True, text=True, check=False, cwd=cwd, env=ENVIRONMENT, timeout=LIMIT_S
    )


@dataclass(frozen=True)
class Built:
    """A build over good and bad input."""

    folder: Path
    done: subprocess.CompletedProcess[str]

    @property
    def workspace(self) -> Workspace:
        return Workspace(str(self.folder / "w"))

    def videos(self) -> dict[str, Video]:
        """Return the videos by their path below the folder of videos."""
        top = self.folder.absolute() / "in"
        return {str(Path(video.path).relative_to(top)): video for video in self.workspace.videos.records()}


def write_sound(path: Path) -> None:
    with av.open(str(path), "w") as output:
        stream = output.add_stream("aac", rate=16_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16_000
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def write_videos(folder: Path, film: Film) -> None:
    folder.mkdir()
    good = film("h264.mp4").read_bytes()
    (folder / EVENT).write_bytes(good)
    (folder / CALM).write_bytes(film("fast start.mp4").read_bytes())
    for name in READABLE:
        shutil.copy(film(name), folder / name)
    for name in NAMES:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(good)
    (folder / "b").mkdir()
    (folder / "b/same.mp4").write_bytes(film("h264.ts").read_bytes())
    (folder / "text.mp4").write_text("this is a text and not a video.\r\n", newline="")
    (folder / "empty.mp4").touch()
    (folder / "no_moov.mp4").write_bytes(good[: len(good) * 6 // 10])
    cut_short = film("fast start.mp4").read_bytes()
    (folder / "mid_gop.mp4").write_bytes(cut_short[: len(cut_short) * 7 // 10])
    write_sound(folder / "sound.mp4")
    shutil.copy(film("absurd_rate.mp4"), folder)
    (folder / "folder.mp4").mkdir()
    (folder / "circle.mp4").symlink_to(folder / "circle.mp4")
    (folder / "back").symlink_to(folder, target_is_directory=True)
    (folder / "dangling.mp4").symlink_to(folder / "nothing.mp4")
    os.mkfifo(folder / "pipe.mp4")
    (folder / os.fsdecode(b"stray\xff.mp4")).write_bytes(good)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, film: Film) -> Built:
    folder = tmp_path_factory.mktemp("bad input")
    write_videos(folder / "in", film)
    shutil.copy(film("mpeg4.avi"), folder / "spare.mp4")
    (folder / "videos.csv").write_text(MANIFEST)
    (folder / "clicks.csv").write_text(CLICK_TABLE)
    for name, (text, _) in EXPORTS.items():
        (folder / name).write_text(text)
    settings = {
        "videos": ["videos.csv", "in"],
        "glances": ["clicks.csv", *EXPORTS],
        "ingest": {"unlabelled": "normal"},
        "clips": {"min_s": 0.04},
        "workspace": "w",
    }
    (folder / "config.yaml").write_text(json.dumps(settings))
    return Built(folder, holmes("build", "-c", "config.yaml", cwd=folder))


def test_the_build_succeeds(built: Built) -> None:
    assert built.done.returncode == 0, built.done.stderr
    assert "Traceback" not in built.done.stderr


def test_the_good_part_becomes_a_valid_dataset(built: Built) -> None:
    folder = built.folder / "w/dataset"
    assert validate_dataset(folder) == []
    rows = [row for split in load_dataset(str(folder)).values() for row in split]
    assert {row["label"] for row in rows} == {"Fighting", NORMAL}
    assert {row["glance_time_s"] for row in rows if row["is_anomaly"]} == {GLANCED_FRAME / 25}


def test_odd_but_readable_files_are_videos_with_clips(built: Built) -> None:
    videos = built.videos()
    expected = READABLE | dict.fromkeys((EVENT, CALM, *NAMES, "b/same.mp4"), 100)
    assert {name: video.num_frames for name, video in videos.items()} == expected
    assert (videos["rotated.mp4"].width, videos["rotated.mp4"].height) == (64, 128)
    assert (videos["8k.mp4"].width, videos["8k.mp4"].height) == (7680, 4320)
    clipped = {clip.video_id for clip in built.workspace.clips.records()}
    assert clipped == {video.video_id for video in videos.values()}
    assert len(clipped) == len(videos)


def rejects(table: Any) -> dict[str, Rejected]:
    found = list(table.rejected())
    assert max(Counter(reject.record_id for reject in found).values()) == 1
    return {reject.record_id: reject for reject in found}


def test_every_bad_file_and_row_of_the_manifest_has_its_reason(built: Built) -> None:
    expected = {f"in/{name}": fault for name, fault in UNREADABLE.items()}
    found = {name: reject for name, reject in rejects(built.workspace.videos).items() if name in expected}
    for name, (reason, text) in expected.items():
        assert found[name].reason == reason
        assert name in found[name].detail
        assert text in found[name].detail
    by_row = [reject for reject in built.workspace.videos.rejected() if reject.detail.startswith("videos.csv:")]
    assert len(by_row) == len(ROWS)
    for line, (reason, text) in ROWS.items():
        [reject] = [reject for reject in by_row if reject.detail.startswith(f"videos.csv:{line}: ")]
        assert reject.reason == reason
        assert text in reject.detail
    assert built.workspace.videos.num_rejected == len(UNREADABLE) + len(ROWS)


def test_every_bad_click_and_file_of_clicks_has_its_reason(built: Built) -> None:
    found = rejects(built.workspace.glances)
    for line, (reason, text) in CLICKS.items():
        reject = found.pop(f"clicks.csv:{line}")
        assert reject.reason == reason
        assert text in reject.detail
    for name, (_, text) in EXPORTS.items():
        reject = found.pop(name)
        assert reject.reason == "malformed_row"
        assert reject.detail.startswith(name)
        assert text in reject.detail
    assert found == {}
    [glance] = built.workspace.glances.records()
    assert (glance.video_id, glance.frame_index) == ("event", GLANCED_FRAME)


def test_the_dataset_lists_all_that_was_left_out(built: Built) -> None:
    import pyarrow.parquet as pq

    listed = pq.read_table(built.folder / "w/dataset/rejected.parquet")
    tables = (built.workspace.videos, built.workspace.glances, built.workspace.clips)
    assert listed.num_rows == sum(table.num_rejected for table in tables)


def test_a_second_run_does_nothing(built: Built, holmes_here: Here) -> None:
    done = holmes_here("build", "-c", "config.yaml", cwd=built.folder)
    assert done.returncode == 0, done.stderr
    made = {line.split()[0]: line.split()[1] for line in done.stdout.splitlines() if line.split()[1].isdigit()}
    assert set(made.values()) == {"0"}


def test_status_means_the_paths_of_the_run_wherever_it_is_asked_for(
    built: Built, tmp_path: Path, holmes_here: Here
) -> None:
    shown = holmes_here("status", str(built.folder / "w"), cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.count("nothing") == 9
    changed = holmes_here("status", str(built.folder / "w"), "--set", "synthesize.seed=1", cwd=tmp_path)
    assert changed.returncode == 0, changed.stderr
    assert changed.stdout.count("nothing") == 6


def test_settings_of_another_version_are_named(tmp_path: Path, holmes_here: Here) -> None:
    (tmp_path / "run.json").write_text('{"config": {"videos": ["a"], "clips": {"windows": 3}}}')
    shown = holmes_here("status", ".", cwd=tmp_path)
    assert shown.returncode == 2
    assert f"{tmp_path}/run.json: unknown key clips.windows; the nearest valid key is clips.window_s" in shown.stderr


@pytest.mark.parametrize("name", EXPORTS)
def test_import_of_an_unusable_file_is_a_fault_of_the_data(built: Built, name: str, holmes_here: Here) -> None:
    done = holmes_here("import", "auto", name, "-o", "out.parquet", cwd=built.folder)
    assert (done.returncode, "Traceback" in done.stderr) == (1, False)
    assert EXPORTS[name][1] in done.stderr
    assert not (built.folder / "out.parquet").exists()


def test_import_takes_the_good_rows_and_names_the_others(built: Built, holmes_here: Here) -> None:
    done = holmes_here("import", "auto", "clicks.csv", "-o", "clicks.parquet", cwd=built.folder)
    assert done.returncode == 0, done.stderr
    assert "clicks.csv:5: frame_out_of_range: frame -1 is negative" in done.stderr
    assert "clicks.csv:8: malformed_row: 'soon' is not a frame number" in done.stderr
    assert (built.folder / "clicks.parquet").is_file()


def test_a_file_without_permission_is_named(tmp_path: Path, film: Film, holmes_here: Here) -> None:
    (tmp_path / "in").mkdir()
    closed = Path(shutil.copy(film("h264.mp4"), tmp_path / "in/closed.mp4"))
    closed.chmod(0)
    if os.access(closed, os.R_OK):
        pytest.skip("this user, root, may read everything")
    done = holmes_here("build", "--set", "videos=[in]", "--workspace", "w", cwd=tmp_path)
    assert done.returncode == 1
    assert "in/closed.mp4: permission denied" in done.stderr


@pytest.mark.parametrize("folder", ["clips", "dataset"])
def test_folders_that_no_build_made_are_never_replaced(
    tmp_path: Path, film: Film, folder: str, holmes_here: Here
) -> None:
    (tmp_path / folder).mkdir()
    own = Path(shutil.copy(film("h264.mp4"), tmp_path / folder / CALM))
    done = holmes_here("build", "--set", f"videos=[{folder}]", "--workspace", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path / folder}: not made by a build" in done.stderr
    assert own.is_file()


def test_clips_of_a_workspace_among_the_videos_are_no_videos(tmp_path: Path, film: Film, holmes_here: Here) -> None:
    shutil.copy(film("h264.mp4"), tmp_path / CALM)
    for _ in range(2):
        done = holmes_here("build", "--set", "videos=[.]", "--workspace", "w", cwd=tmp_path)
        assert done.returncode == 0, done.stderr
        assert len(list((tmp_path / "w/clips").iterdir())) == 1
        assert Workspace(str(tmp_path / "w")).videos.num_rows == 1


def test_a_likely_slip_in_a_label_is_mentioned(
    workspace: Workspace, tmp_path: Path, film: Film, caplog: pytest.LogCaptureFixture
) -> None:
    shutil.copy(film("h264.mp4"), tmp_path / "a.mp4")
    manifest = tmp_path / "videos.csv"
    manifest.write_text("file,label\na.mp4,Nomral\n")
    run_stage(IngestStage(workspace, [str(manifest)], IngestConfig(), VideoConfig(workers=1)), workspace.videos)
    assert f"{manifest}:2: label 'Nomral' is no known class and is kept as it is; is Normal meant?" in caplog.text


def test_a_workspace_in_use_is_refused(tmp_path: Path, film: Film, holmes_here: Here) -> None:
    shutil.copy(film("h264.mp4"), tmp_path / CALM)
    (tmp_path / "w").mkdir()
    with (tmp_path / "w/lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.write("4711")
        file.flush()
        done = holmes_here("build", "--set", "videos=[.]", "--workspace", "w", cwd=tmp_path)
    assert done.returncode == 2
    assert "w: in use by another build (process 4711)" in done.stderr


def test_ctrl_c_ends_with_a_word_and_the_next_run_goes_on(tmp_path: Path, film: Film) -> None:
    for name in (EVENT, CALM, "a_label_A.mp4"):
        shutil.copy(film("h264.mp4"), tmp_path / name)
    arguments = [
        "build",
        "--set",
        "videos=[.]",
        "--set",
        "shard_rows=1",
        "--set",
        "video.workers=1",
        "--workspace",
        "w",
    ]
    child = subprocess.Popen(
        [*HOLMES, *arguments], cwd=tmp_path, env=ENVIRONMENT, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + LIMIT_S
    while not list((tmp_path / "w/tables/ingest").glob("part-*.parquet")) and child.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(child.pid, signal.SIGINT)  # as a terminal does: to the whole group
    messages = child.communicate(timeout=60)[1]
    assert child.returncode == 130, messages
    assert messages.splitlines()[-1] == "holmes: interrupted; what was finished is kept"
    assert "Traceback" not in messages
    assert holmes(*arguments, cwd=tmp_path).returncode == 0
    assert validate_dataset(tmp_path / "w/dataset") == []
    assert Workspace(str(tmp_path / "w")).videos.num_rows == 3
