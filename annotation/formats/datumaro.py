"""Read Datumaro's JSON, as CVAT and datumaro write it: one item a frame, each with its labels and shapes.

Frames that bear a class, one after another, are an event. `outside` shapes do not count.

Source: https://openvinotoolkit.github.io/datumaro/stable/docs/data-formats/formats/datumaro.html (datumaro 1.x).
"""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import PurePosixPath
from typing import Any

from annotation.formats.base import Format
from annotation.formats.foreign import Import
from annotation.formats.marked_frames import marked_events, runs
from annotation.source import Source, frame_number, show
from pipeline.errors import DataError
from pipeline.records import Reason

_FRAME_NAME = re.compile(r"(?:^|/)frame_(\d+)(?:\.\w+)?$", re.IGNORECASE)
_SUBSETS = frozenset({"default", "train", "validation", "val", "test"})


def is_datumaro(payload: Any) -> bool:
    """Whether JSON content is Datumaro's."""
    if not isinstance(payload, dict):
        return False
    return isinstance(payload.get("items"), list) and isinstance(payload.get("categories"), dict)


def read_datumaro(source: Source) -> Import:
    """Read the frames that bear a class; a bad item is a fault and the rest goes on.

    The video is what an item's `video` names, or the folder of its id, or else the file's own name, which has to be
    that of the video.

    Raises:
        DataError: no Datumaro JSON, or nothing names the video.
    """
    if not source.is_json or not is_datumaro(source.json):
        raise DataError(f"{source.path}: not Datumaro's JSON: items and categories are expected")
    found = Import(format="datumaro")
    marked: defaultdict[tuple[str, str | None], set[int]] = defaultdict(set)
    for number, item in enumerate(source.json["items"]):
        place = f"{source.name}: $.items[{number}]"
        try:
            if not isinstance(item, dict):
                raise ValueError(f"an item is expected, not {show(item)}")
            classes = _classes(item, source.json["categories"])
            if classes:
                video, frame = _video(item, source), _frame(item)
                for name in classes:
                    marked[video, name].add(frame)
        except ValueError as fault:
            found.fault(place, None, Reason.MALFORMED_ROW, fault)
    for (video, name), frames in marked.items():
        for event in marked_events(video, name, runs(frames), f"{source.name}: frames"):
            found.take(event)
    return found


def _classes(item: dict[str, Any], categories: dict[str, Any]) -> set[str | None]:
    labels = categories.get("label")
    names = labels.get("labels") if isinstance(labels, dict) else None
    classes: set[str | None] = set()
    annotations = item.get("annotations")
    for mark in annotations if isinstance(annotations, list) else []:
        attributes = mark.get("attributes") if isinstance(mark, dict) else None
        if not isinstance(mark, dict) or (isinstance(attributes, dict) and attributes.get("outside")):
            continue
        index = mark.get("label_id")
        entry = names[index] if isinstance(names, list) and isinstance(index, int) and 0 <= index < len(names) else None
        if not isinstance(entry, dict) or not isinstance(entry.get("name"), str):
            raise ValueError(f"label_id {show(index)} is none of the categories")
        classes.add(entry["name"])
    return classes


def _frame(item: dict[str, Any]) -> int:
    attributes = item.get("attr")
    if isinstance(attributes, dict) and "frame" in attributes:
        return frame_number(attributes["frame"])
    named = _FRAME_NAME.search(str(item.get("id")))
    if named is None:
        raise ValueError(f"id {show(item.get('id'))} is no frame of a video: attr.frame or frame_000000 is expected")
    return frame_number(named[1])


def _video(item: dict[str, Any], source: Source) -> str:
    media = item.get("video")
    if isinstance(media, dict) and isinstance(media.get("path"), str) and media["path"]:
        return str(media["path"])
    folder = PurePosixPath(str(item.get("id"))).parent.name
    if folder:
        return folder
    if source.path.stem.lower() in _SUBSETS:
        raise DataError(f"{source.path}: names no video: give the file the name of its video")
    return source.path.stem


DATUMARO = Format(
    title="Datumaro JSON",
    likeness=lambda source: float(source.is_json and is_datumaro(source.json)),
    read=lambda source, _: read_datumaro(source),
)
