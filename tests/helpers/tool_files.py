"""Small files as annotation tools write them, each of one video, `lobby`, with an event of class Fighting or two."""

# ruff: noqa: E501  (files as their tools write them)
from __future__ import annotations

from typing import Any

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
# CVAT 2.x, tasks made of every fifth frame from the third on: the numbers are those of the video
_STEPPED = "<annotations><version>1.1</version><meta><task><id>7</id><name>lobby</name><start_frame>3</start_frame>"
_STEPPED += "<stop_frame>98</stop_frame><frame_filter>step=5</frame_filter></task><source>lobby.mp4</source></meta>"
CVAT_STEPPED_VIDEO = f"""{_STEPPED}<track id="0" label="Fighting"><box frame="13" outside="0"/>
<box frame="23" outside="1"/><box frame="33" outside="0"/></track></annotations>"""
CVAT_STEPPED_TAGS = f"""{_STEPPED}<image id="8"><tag label="Fighting"/></image><image id="13"><tag label="Fighting"/>
</image><image id="18"/><image id="23"><tag label="Fighting"/></image></annotations>"""
# ... and as rewritten by a tool that counts the frames of the task
CVAT_OWN_TAGS = f"""{_STEPPED}<image id="1"><tag label="Fighting"/></image><image id="2"><tag label="Fighting"/></image>
<image id="3"/><image id="4"><tag label="Fighting"/></image></annotations>"""
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
ELAN_TABLE = (
    "Tier\tBegin Time - hh:mm:ss.ms\tEnd Time - hh:mm:ss.ms\tDuration - msec\tevents\n"
    "events\t00:00:03.500\t00:00:05.250\t1750\tFighting\nevents\tx\t00:00:05.250\t1\tFighting\n"
)
