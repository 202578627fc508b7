"""The importers on published annotations and on real Label Studio exports, where those are present."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from annotation.formats.foreign import Import
from annotation.formats.parquet import import_to_parquet
from annotation.formats.registry import detect_format, read_annotations
from annotation.resolve import resolve_glances
from annotation.video_index import VideoIndex
from pipeline.errors import DataError
from pipeline.records import Glance, Reason, Video
from pipeline.taxonomy import label_from_name

DATA = Path(__file__).resolve().parents[5] / "shared/data"
EXPORTS = DATA / "labelstudio"
pytestmark = pytest.mark.skipif(not DATA.is_dir(), reason=f"no real data at {DATA}")

PED2 = {"Ped2_A01": 226, "Ped2_A02": 268, "Ped2_A03": 85, "Ped2_A04": 246, "Ped2_A05": 66, "Ped2_A06": 186}


def clicks(found: Import) -> list[tuple[str, int | None, float | None, str | None, str | None]]:
    """Return what a click says, in an order that does not depend on the export's."""
    return sorted(
        (glance.video, glance.frame_index, glance.frame_rate, glance.category, glance.annotator)
        for glance in found.glances
    )


def test_glancevad_ucf_crime(tmp_path: Path) -> None:
    found = read_annotations(DATA / "annotations/ucf_glance_annotations.csv")
    assert found.format == "glancevad"
    assert (len(found.glances), len(found.videos), found.faults) == (2026, 810, [])
    assert {label_from_name(video) for video in found.videos} == {
        *("Abuse", "Arrest", "Arson", "Assault", "Burglary", "Explosion", "Fighting"),
        *("RoadAccidents", "Robbery", "Shooting", "Shoplifting", "Stealing", "Vandalism"),
    }
    summary = import_to_parquet(DATA / "annotations/ucf_glance_annotations.csv", "auto", tmp_path / "ucf.parquet")
    assert (summary.rows, summary.videos) == (2026, 810)
    assert [g.frame_index for g in read_annotations(tmp_path / "ucf.parquet").glances] == [
        g.frame_index for g in found.glances
    ]


def test_ucf_crime_temporal() -> None:
    found = read_annotations(DATA / "annotations/ucf_temporal_anomaly_annotation.txt")
    assert found.format == "ucf-crime"
    assert (len(found.videos), found.faults) == (290, [])
    assert Counter(span.kind.value for span in found.spans) == {"event": 156, "video": 150}
    assert all(label_from_name(span.video) == span.category for span in found.spans)


def test_xd_violence_temporal() -> None:
    found = read_annotations(DATA / "annotations/xd_annotations.txt")
    assert found.format == "xd-violence"
    assert (len(found.videos), len(found.spans), found.faults) == (500, 1238, [])
    assert None not in {span.category for span in found.spans}


def test_hivau() -> None:
    found = read_annotations(DATA / "annotations/hivau70k_ucf_database_test.json")
    assert found.format == "hivau"
    assert (len(found.videos), found.faults) == (251, [])
    assert Counter(span.kind.value for span in found.spans) == {"video": 251, "event": 337, "clip": 762}
    assert all(span.sentence for span in found.spans)
    normal = {span.video for span in found.spans if span.category == "Normal"}
    assert len(normal) == 123
    assert all(label_from_name(video) == "Normal" for video in normal)


@pytest.mark.parametrize("name", ["ucf-crime.testing.csv", "ucf-crime.training.csv"])
def test_a_mere_list_of_videos_is_no_annotation(name: str) -> None:
    with pytest.raises(DataError, match="none of the known annotation formats"):
        detect_format(DATA / "annotations" / name)


@pytest.mark.parametrize("name", ["ped2_glance_json.json", "ped2_glance_json_min.json", "ped2_glance_csv.csv"])
def test_label_studio_clicks_of_ped2_are_those_of_its_csv(name: str) -> None:
    found = read_annotations(EXPORTS / name)
    plain = read_annotations(DATA / "ped2/glance_annotations.csv")
    assert found.format == "label-studio"
    assert {glance.video: glance.frame_index for glance in plain.glances} == PED2
    assert {glance.video: glance.frame_index for glance in found.glances} == PED2
    videos = [
        Video(
            video_id=f"camera_{number}",
            path=f"/footage/ped2/videos/{video}.mp4",
            sha256="",
            fps=10.0,
            num_frames=600,
            duration_s=60.0,
            width=360,
            height=240,
            codec="h264",
            label=None,
            split=None,
            source="",
        )
        for number, video in enumerate(PED2)
    ]
    resolved = resolve_glances(found.glances, VideoIndex(videos))
    assert [glance.frame_index for glance in resolved if isinstance(glance, Glance)] == list(PED2.values())


def test_every_export_of_one_project_holds_the_same_clicks() -> None:
    full = read_annotations(EXPORTS / "ui_json_all.json")
    assert clicks(full) == [
        ("click30", 9, 30.0, "Shoplifting", "1"),
        ("drag30", 12, 30.0, "Shoplifting", "1"),
        ("f2997", 34, 29.97, "Shoplifting", "1"),
        ("nofps", 9, None, "Shoplifting", "1"),
        ("twoann", 9, 30.0, "Shoplifting", "1"),
        ("twoann", 16, 30.0, "Shoplifting", "2"),
        ("webm24", 21, 24.0, "Shoplifting", "1"),
        ("winpath", 0, 30.0, "Shoplifting", "1"),
        ("wrongfps25", 9, 25.0, "Shoplifting", "1"),
        ("Überfall_监控 007", 9, 25.0, "Shoplifting", "1"),
    ]
    assert {fault.reason for fault in full.faults} == {Reason.SKIPPED_ANNOTATION}
    assert [(fault.video, fault.place.removeprefix("ui_json_all.json: ")) for fault in full.faults] == [
        ("skip", "$[7].annotations[0]"),
        ("draft", "$[8].drafts[0]"),
        ("empty", "$[9].annotations[0]"),
    ]
    for name in (
        "ui_json_min_all.json",
        "ui_csv_all.csv",
        "ui_tsv_all.tsv",
        "ui_sdk_as_json.json",
        "ui_sdk_snapshot.json",
    ):
        assert clicks(read_annotations(EXPORTS / name)) == clicks(full), name


def test_clicks_through_the_api_agree_too() -> None:
    full = read_annotations(EXPORTS / "glance_json.json")
    assert clicks(full) == [
        ("Shoplifting001_x264.mp4", 18, 30.0, "Shoplifting", "1"),
        ("Shoplifting001_x264.mp4", 22, 30.0, "Shoplifting", "1"),
        ("Shoplifting001_x264.mp4", 414, 30.0, "Fighting", "1"),
        ("Überfall_监控 007.mp4", 0, 25.0, "Überfall", "1"),
    ]
    for name in ("glance_json_min.json", "glance_csv.csv"):
        assert clicks(read_annotations(EXPORTS / name)) == clicks(full), name


@pytest.mark.parametrize("path", sorted(EXPORTS.glob("review*")), ids=lambda path: path.name)
def test_review_exports_hold_no_clicks(path: Path) -> None:
    with pytest.raises(DataError, match="another project type"):
        read_annotations(path)
