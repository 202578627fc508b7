"""Files as CVAT, Datumaro, VIA 3, ELAN, ActivityNet, COCO-video, Vad-Reasoning and frame masks write them."""

# ruff: noqa: PLR0917
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tool_files import (
    ACTIVITYNET,
    COCO_VID,
    CVAT_OWN_TAGS,
    CVAT_STEPPED_TAGS,
    CVAT_STEPPED_VIDEO,
    CVAT_TAGS,
    CVAT_VIDEO,
    DATUMARO,
    EAF,
    ELAN_TABLE,
    REASONING,
    VIA,
    YOUTUBE_VIS,
)

from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.formats.registry import read_annotations
from pipeline.errors import DataError
from pipeline.records import Reason


def read(tmp_path: Path, content: Any, name: str, format_name: str = "auto") -> Import:
    path = tmp_path / name
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return read_annotations(path, format_name)


def frames(found: Import) -> list[tuple[str, int | None, int | None, str | None]]:
    return [(span.video, span.start_frame, span.end_frame, span.category) for span in found.spans]


@pytest.mark.parametrize(
    ("name", "content", "format_name", "video", "spans", "faults"),
    [
        ("annotations.xml", CVAT_VIDEO, "cvat", "lobby cam.mp4", [(10, 12), (30, 32)], 1),
        ("annotations.xml", CVAT_TAGS, "cvat", "lobby.mp4", [(4, 6), (8, 9)], 0),
        ("annotations.xml", CVAT_STEPPED_VIDEO, "cvat", "lobby.mp4", [(13, 23), (33, 38)], 0),
        ("annotations.xml", CVAT_STEPPED_TAGS, "cvat", "lobby.mp4", [(8, 18), (23, 28)], 0),
        ("annotations.xml", CVAT_OWN_TAGS, "cvat", "lobby.mp4", [(8, 18), (23, 28)], 0),
        ("lobby.json", DATUMARO, "datumaro", "lobby", [(0, 2)], 1),
        ("vid.json", COCO_VID, "coco-video", "lobby", [(5, 15), (20, 25)], 1),
        ("vis.json", YOUTUBE_VIS, "coco-video", "lobby", [(1, 3)], 0),
    ],
)
def test_frames_that_bear_a_class_are_an_event(
    tmp_path: Path, name: str, content: Any, format_name: str, video: str, spans: list[tuple[int, int]], faults: int
) -> None:
    found = read(tmp_path, content, name)
    assert found.format == format_name
    assert frames(found) == [(video, *span, "Fighting") for span in spans]
    assert [fault.reason for fault in found.faults] == [Reason.MALFORMED_ROW] * faults


@pytest.mark.parametrize(
    ("name", "content", "format_name", "video", "bounds", "faults"),
    [
        ("via.json", VIA, "via", "lobby.mp4", (3.5, 5.25), 1),
        ("a.eaf", EAF, "elan", "file:///C:/cams/lobby%20cam.mp4", (1.5, 3.0), 1),
        ("an.json", ACTIVITYNET, "activitynet", "lobby", (3.5, 5.25), 1),
        ("vad.jsonl", REASONING, "vad-reasoning", "lobby.mp4", (3.5, 5.25), 1),
        (
            "lobby.txt",
            ELAN_TABLE,
            "elan-table",
            "lobby",
            (3.5, 5.25),
            1,
        ),
        (
            "t.csv",
            "filename;start;end;event\nlobby.mp4;3,5;5,25;Fighting\nlobby.mp4;0:99:01;1:00:02;Fighting\n",
            "ground-truth",
            "lobby.mp4",
            (3.5, 5.25),
            1,
        ),
        (
            "t.csv",
            "video,start_time,end_time,class\nlobby.mp4,00:01:03.5,01:05,Fighting\n",
            "ground-truth",
            "lobby.mp4",
            (63.5, 65.0),
            0,
        ),
    ],
)
def test_spans_in_time(
    tmp_path: Path, name: str, content: Any, format_name: str, video: str, bounds: tuple[float, float], faults: int
) -> None:
    found = read(tmp_path, content, name)
    assert found.format == format_name
    (span,) = [span for span in found.spans if span.kind is SpanKind.EVENT]
    assert (span.video, (span.start_s, span.end_s), span.category) == (video, bounds, "Fighting")
    assert [fault.reason for fault in found.faults] == [Reason.MALFORMED_ROW] * faults


def test_via_has_clicks_and_counts_regions(tmp_path: Path) -> None:
    found = read(tmp_path, VIA, "via.json")
    assert [(click.time_s, click.category) for click in found.glances] == [(8.0, "Fighting")]
    assert found.notes == ["1 region(s) inside single frames were not read: segments in time are"]


def test_a_normal_video_of_vad_reasoning(tmp_path: Path) -> None:
    span = read(tmp_path, REASONING, "vad.jsonl").spans[1]
    assert (span.video, span.kind, span.category, span.num_frames) == ("b.mp4", SpanKind.VIDEO, "Normal", 99)


@pytest.mark.parametrize("shape", [(), (2, 3)])
def test_frame_masks(tmp_path: Path, shape: tuple[int, ...]) -> None:
    mask = np.zeros((9, *shape), np.uint8)
    mask[[0, 1, 5]] = 1
    np.save(tmp_path / "01_0014_gt.npy", mask)
    found = read_annotations(tmp_path / "01_0014_gt.npy")
    assert found.format == "frame-masks"
    assert frames(found) == [("01_0014", 0, 2, "Abnormal"), ("01_0014", 5, 6, "Abnormal")]
    assert {span.num_frames for span in found.spans} == {9}
    np.save(tmp_path / "calm.npy", mask * 0)
    (calm,) = read_annotations(tmp_path / "calm.npy").spans
    assert (calm.kind, calm.category) == (SpanKind.VIDEO, "Normal")


def test_a_pickle_and_a_matrix_are_no_masks(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(DataError, match=r"a\.npy: not a readable array"):
        read_annotations(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", np.zeros((3, 4)))
    with pytest.raises(DataError, match=r"b\.npy: float64 of shape \(3, 4\): a number or a mask of pixels"):
        read_annotations(tmp_path / "b.npy")


def test_datumaro_that_names_no_video(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"default\.json: names no video: give the file the name of its video"):
        read(tmp_path, DATUMARO, "default.json")


def test_xml_with_a_document_type_is_refused(tmp_path: Path) -> None:
    text = '<!DOCTYPE annotations [<!ENTITY a "b">]><annotations>&a;</annotations>'
    with pytest.raises(DataError, match="XML with a document type"):
        read(tmp_path, text, "a.xml", "cvat")


def test_the_middle_of_an_event_is_a_click() -> None:
    span = ForeignSpan(video="v", start_frame=10, end_frame=13, kind=SpanKind.EVENT, category="Fighting", place="p")
    click = span.middle()
    assert click is not None
    assert (click.video, click.frame_index, click.category, click.place) == ("v", 11, "Fighting", "p (middle)")
    timed = ForeignSpan(video="v", start_s=1.0, end_s=4.0, kind=SpanKind.EVENT, place="p").middle()
    assert timed is not None
    assert timed.time_s == 2.5
    normal = ForeignSpan(video="v", start_s=1.0, end_s=4.0, category="Normal", kind=SpanKind.EVENT, place="p")
    assert normal.middle() is None
