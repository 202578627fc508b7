"""Read COCO annotations of videos: COCO-VID (one image a frame) and YouTube-VIS (one list of boxes a track).

Frames that bear an object of a class, one after another, are an event. Where only every so many frames were labelled, a
frame lasts until the next one.

Source: https://github.com/open-mmlab/mmtracking (CocoVID: `videos`, `images` with `video_id` and `frame_id`) and
https://github.com/youtubevos/cocoapi (YouTube-VIS: `videos` with `file_names`, `annotations` with `bboxes`).
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

from annotation.formats.base import Format
from annotation.formats.foreign import Import
from annotation.formats.marked_frames import marked_events, runs, sampled_runs
from annotation.source import Source, frame_number, show
from pipeline.errors import DataError
from pipeline.records import Reason

_Marked = defaultdict[tuple[str, str], set[int]]


def is_coco_video(payload: Any) -> bool:
    """Whether JSON content is COCO of videos."""
    parts = ("videos", "annotations", "categories")
    return isinstance(payload, dict) and all(isinstance(payload.get(part), list) for part in parts)


def read_coco_video(source: Source) -> Import:
    """Read the frames that bear a class; a bad annotation is a fault and the rest goes on.

    Raises:
        DataError: no COCO of videos.
    """
    if not source.is_json or not is_coco_video(source.json):
        raise DataError(
            f"{source.path}: no COCO annotations of videos: videos, annotations and categories are expected"
        )
    payload, found = source.json, Import(format="coco-video")
    videos = {
        one["id"]: str(one.get("name") or one.get("file_name") or _folder(one)) for one in _objects(payload, "videos")
    }
    classes = {one["id"]: str(one.get("name")) for one in _objects(payload, "categories")}
    images: dict[Any, tuple[str, int]] = {}
    looked_at: defaultdict[str, set[int]] = defaultdict(set)
    for number, image in enumerate(_objects(payload, "images")):
        try:
            video = _known(videos, image, "video_id")
            frame = frame_number(image.get("frame_id", image.get("frame_index")))
        except ValueError as fault:
            found.fault(f"{source.name}: $.images[{number}]", None, Reason.MALFORMED_ROW, fault)
            continue
        images[image["id"]] = video, frame
        looked_at[video].add(frame)
    marked: _Marked = defaultdict(set)
    for number, mark in enumerate(_objects(payload, "annotations")):
        try:
            name = _known(classes, mark, "category_id")
            shapes = mark.get("bboxes") or mark.get("segmentations")
            if isinstance(shapes, list):
                marked[_known(videos, mark, "video_id"), name].update(i for i, shape in enumerate(shapes) if shape)
            else:
                video, frame = _known(images, mark, "image_id")
                marked[video, name].add(frame)
        except ValueError as fault:
            found.fault(f"{source.name}: $.annotations[{number}]", None, Reason.MALFORMED_ROW, fault)
    for (video, name), frames in marked.items():
        frames_of = sorted(looked_at[video])
        spans = sampled_runs(frames, frames_of) if frames_of else runs(frames)
        for event in marked_events(video, name, spans, f"{source.name}: {video}: frames"):
            found.take(event)
    return found


def _objects(payload: dict[str, Any], part: str) -> list[dict[str, Any]]:
    """Return the objects of a part that have an id by which others can name them."""
    entries = payload.get(part)
    objects = [one for one in entries if isinstance(one, dict)] if isinstance(entries, list) else []
    return [one for one in objects if isinstance(one.get("id"), int | str)]


def _known(known: dict[Any, Any], entry: dict[str, Any], key: str) -> Any:
    value = entry.get(key)
    if not isinstance(value, int | str) or value not in known:
        raise ValueError(f"{key} {show(value)} is not among those of the file")
    return known[value]


def _folder(video: dict[str, Any]) -> str:
    """Return the folder of a video's frames, which YouTube-VIS calls as the video."""
    names = video.get("file_names")
    return str(names[0]).split("/", 1)[0] if isinstance(names, list) and names else ""


COCO_VIDEO = Format(
    title="COCO annotations of videos: COCO-VID, YouTube-VIS",
    likeness=lambda source: float(source.is_json and is_coco_video(source.json)),
    read=lambda source, _: read_coco_video(source),
)
