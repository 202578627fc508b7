"""Files as CVAT, Datumaro, VIA 3, ELAN, ActivityNet, COCO-video, Vad-Reasoning and frame masks write them."""

# ruff: noqa: E501, PLR0917  (files as their tools write them)
from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.formats.registry import read_annotations
from pipeline.errors import DataError
from pipeline.records import Reason

# CVAT 2.x, "CVAT for video 1.1" and "CVAT for images 1.1"
CVAT_VIDEO = """<?xml version="1.0" encoding="utf-8"?>
<annotations><version>1.1</version>
<meta><task><id>7</id><name>lobby</name><size>400</size><mode>interpolation</mode></task><source>lobby cam.mp4</source></meta>
<track id="0" label="Fighting" source="manual">
<box frame="10" keyframe="1" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
<box frame="11" keyframe="0" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
<box frame="12" keyframe="1" outside="1" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
<box frame="30" keyframe="1" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
<box frame="31" keyframe="0" outside="0" occluded="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
</track>
<track id="1" label="Robbery"><box frame="x" outside="0"/></track>
</annotations>"""
CVAT_TAGS = """<annotations><version>1.1</version><meta><task><id>7</id><name>lobby</name><source>lobby.mp4</source></task></meta>
<image id="4" name="frame_000004"><tag label="Fighting" source="manual"/></image>
<image id="5" name="frame_000005"><tag label="Fighting" source="manual"/></image>
<image id="6" name="frame_000006"/>
<image id="8" name="frame_000008"><tag label="Fighting" source="manual"/></image></annotations>"""
# datumaro 1.x
DATUMARO: dict[str, Any] = {
    "info": {},
    "categories": {"label": {"labels": [{"name": "Fighting", "parent": ""}], "attributes": []}},
    "items": [
        {"id": f"frame_{frame:06d}", "annotations": marks, "attr": {"frame": frame}}
        for frame, marks in enumerate(
            [
                [{"type": "label", "label_id": 0}],
                [{"type": "bbox", "label_id": 0, "attributes": {"outside": False}}],
                [{"type": "bbox", "label_id": 0, "attributes": {"outside": True}}],
                [{"type": "label", "label_id": 9}],
            ]
        )
    ],
}
# VIA 3.0.x, data format 3.1.1
VIA: dict[str, Any] = {
    "project": {"data_format_version": "3.1.1", "vid_list": ["1"]},
    "config": {},
    "attribute": {"1": {"aname": "class", "anchor_id": "FILE1_Z2_XY0", "type": 3, "options": {"F": "Fighting"}}},
    "file": {"1": {"fid": "1", "fname": "lobby.mp4", "type": 4, "loc": 1, "src": "cams/lobby.mp4"}},
    "metadata": {
        "1_a": {"vid": "1", "flg": 0, "z": [3.5, 5.25], "xy": [], "av": {"1": "F"}},
        "1_b": {"vid": "1", "flg": 0, "z": [8], "xy": [], "av": {"1": "F"}},
        "1_c": {"vid": "1", "flg": 0, "z": [8], "xy": [2, 1, 1, 5, 5], "av": {"1": "F"}},
        "1_d": {"vid": "7", "flg": 0, "z": [1, 2], "xy": [], "av": {}},
    },
    "view": {"1": {"fid_list": ["1"]}},
}
# ELAN 6.x, EAF 3.0
EAF = """<?xml version="1.0" encoding="UTF-8"?>
<ANNOTATION_DOCUMENT AUTHOR="" DATE="2026-01-01T10:00:00+01:00" FORMAT="3.0" VERSION="3.0">
<HEADER MEDIA_FILE="" TIME_UNITS="milliseconds">
<MEDIA_DESCRIPTOR MEDIA_URL="file:///C:/cams/lobby%20cam.mp4" MIME_TYPE="video/mp4" RELATIVE_MEDIA_URL="./lobby%20cam.mp4" TIME_ORIGIN="500"/>
</HEADER>
<TIME_ORDER><TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2500"/><TIME_SLOT TIME_SLOT_ID="ts3"/></TIME_ORDER>
<TIER LINGUISTIC_TYPE_REF="default-lt" TIER_ID="events">
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a1" TIME_SLOT_REF1="ts1" TIME_SLOT_REF2="ts2"><ANNOTATION_VALUE>Fighting</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
<ANNOTATION><ALIGNABLE_ANNOTATION ANNOTATION_ID="a2" TIME_SLOT_REF1="ts2" TIME_SLOT_REF2="ts3"><ANNOTATION_VALUE>x</ANNOTATION_VALUE></ALIGNABLE_ANNOTATION></ANNOTATION>
</TIER></ANNOTATION_DOCUMENT>"""
ACTIVITYNET = {
    "version": "VERSION 1.3",
    "taxonomy": [],
    "database": {
        "lobby": {
            "duration": 16.0,
            "subset": "training",
            "annotations": [{"segment": [3.5, 5.25], "label": "Fighting"}, {"segment": [3], "label": "Fighting"}],
        }
    },
}
COCO_VID = {
    "videos": [{"id": 1, "name": "lobby"}],
    "images": [{"id": 10 + n, "video_id": 1, "frame_id": 5 * n, "file_name": f"lobby/{n}.jpg"} for n in range(5)],
    "annotations": [{"id": n, "image_id": 10 + n, "category_id": 3, "bbox": [1, 1, 2, 2]} for n in (1, 2, 4, 90)],
    "categories": [{"id": 3, "name": "Fighting"}],
}
YOUTUBE_VIS = {
    "videos": [{"id": 1, "file_names": ["lobby/0.jpg", "lobby/1.jpg", "lobby/2.jpg", "lobby/3.jpg"]}],
    "annotations": [{"id": 1, "video_id": 1, "category_id": 3, "bboxes": [None, [1, 1, 2, 2], [1, 1, 2, 2], None]}],
    "categories": [{"id": 3, "name": "Fighting"}],
}
REASONING = (
    '{"source": "UCF-Crime", "video": "lobby.mp4", "anomaly_type": "Fighting", "path": "a/lobby.mp4", "total_frames": 400,'
    ' "start": 3.5, "end": 5.25}\n{"video": "b.mp4", "anomaly_type": "Normal", "total_frames": 99}\n{"video": "c\n'
)


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
            "Tier\tBegin Time - hh:mm:ss.ms\tEnd Time - hh:mm:ss.ms\tDuration - msec\tevents\n"
            "events\t00:00:03.500\t00:00:05.250\t1750\tFighting\nevents\tx\t00:00:05.250\t1\tFighting\n",
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
