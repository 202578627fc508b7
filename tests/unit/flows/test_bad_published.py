"""A published dataset with all its known faults at once: each is told once, by count and with examples; it is built."""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import pytest
from levels_world import FPS, pictures, write

from flows.plan import build
from pipeline.config import parse_config
from pipeline.dataset import layout
from pipeline.records import Reason
from pipeline.workspace import Workspace

FRAMES = 60
ABNORMAL = [f"Abuse{number:03d}_x264" for number in range(1, 6)]
NORMAL = [f"Normal_Videos{number:03d}_x264" for number in range(1, 4)]
TEST = ["Abuse028_x264", "Normal_Videos_003_x264"]


def lay_out(root: Path) -> None:
    """Write five abnormal, three normal and two test videos, under two roots, and half an archive."""
    part = root / "one/UCF_Crimes/Anomaly-Videos-Part-1/Abuse"
    part.mkdir(parents=True)
    for seed, name in enumerate([*ABNORMAL, *NORMAL, *TEST]):
        write(part / f"{name}.mp4", pictures(seed)[:FRAMES])
    shutil.copytree(root / "one", root / "two")
    (root / "two/UCF_Crimes/Anomaly-Videos-Part-1/Abuse" / f"{ABNORMAL[0]}.mp4").rename(root / "two/ABUSE001.MP4")
    archive = root / "one/UCF_Crimes/Anomaly-Videos-Part-2.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("Arson/Arson001_x264.mp4", b"video" * 1000)
    archive.write_bytes(archive.read_bytes()[:2000])
    lists = root / "annotations"
    lists.mkdir()
    train = [*ABNORMAL, *NORMAL, "Arson001_x264", TEST[0], "abuse001", "Abuse002"]
    (lists / "ucf-crime.training.csv").write_text("\n".join(["video-id", *train]) + "\n")
    (lists / "ucf-crime.testing.csv").write_text("\n".join(["video-id", *TEST]) + "\n")
    clicks = [f"{name},30" for name in ABNORMAL]
    # the first four lie one frame past the end, as some published ones do
    clicks += [f"{name},{FRAMES}" for name in ABNORMAL[:4]] + [f"{TEST[0]},{frame}" for frame in (5, 6)]
    clicks += ["Arson001_x264,9"]
    (lists / "ucf_glance_annotations.csv").write_text("\n".join(["video-id,glance", *clicks]) + "\n")
    end_s = FRAMES / FPS
    said = {
        name: {
            "duration": end_s,
            "timestamps": [[0.0, end_s], [end_s + 9, end_s + 12]],
            "sentences": [f"A man in coat {number} waits by the gate.", "Nobody sees this."],
        }
        for number, name in enumerate([*ABNORMAL, *NORMAL])
    }
    (lists / "UCFCrime_Train.json").write_text(json.dumps(said))


def test_every_fault_is_told_once_by_count_and_the_rest_is_built(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    lay_out(tmp_path)
    values = {
        "videos": [str(tmp_path / "one"), str(tmp_path / "two")], "workspace": str(tmp_path / "w"),
        "sources": {"datasets": ["ucf-crime"]}, "video": {"workers": 1},
        "clips": {"window_s": 2.0, "splits": ["train", "validation"]},
        "caption": {"backend": "human"}, "export": {"validation_fraction": 0.0, "test_fraction": 0.0},
        "synthesize": {"tasks": ["judge_explain"]}, "filter": {"near_duplicate": 1.0},
    }  # fmt: skip
    build(parse_config(values, origin="test"))
    space = Workspace(str(tmp_path / "w"))
    told = sorted((one.reason, one.detail) for table in (space.videos, space.glances) for one in table.rejected())
    assert [reason for reason, _ in told] == sorted(
        [
            Reason.FILE_MISSING, Reason.FURTHER_COPY, Reason.MALFORMED_ROW, Reason.MALFORMED_ROW, Reason.TRUNCATED,
            Reason.MISSING_VIDEO, Reason.SKIPPED_ANNOTATION,
        ]
    )  # fmt: skip
    details = "\n".join(detail for _, detail in told)
    for said in (
        "10 files hold a video that another file holds, e.g. ",
        "1 of the 9 train videos of ucf-crime.training.csv are not there, 8 are; e.g. Arson001_x264",
        "1 videos stand in several lists, e.g. Abuse028_x264: each belongs to test",
        "2 names of its lists differ from others in spelling alone, e.g. abuse001, Abuse002: each is one video",
        "Anomaly-Videos-Part-2.zip: not a whole zip file",
        "2 clicks on 1 test videos of it: they are not used, e.g. Abuse028_x264",
        "1 clicks on 1 videos of it that are not there, e.g. Arson001_x264",
    ):
        assert details.count(said) == 1, said
    log = caplog.text
    assert log.count("4 clicks lie just past the end of their video, as is known of this dataset, and count as ") == 1
    assert log.count("UCFCrime_Train.json: 8 sentences left out: ") == 1
    rows = list(layout.read_rows(space.dataset_folder))
    # some normal videos are too short for a segment
    assert {*ABNORMAL} <= {clip.video_id for clip in space.clips.records()} <= {*ABNORMAL, *NORMAL}
    assert rows
    assert {row["split"] for row in rows} == {"train"}
