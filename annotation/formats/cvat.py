"""Read CVAT's own XML, format version 1.1: tracks of `CVAT for video`, tags and tracks of `CVAT for images`.

A track is an event for as long as it is not `outside`; frames that bear a tag, one after another, are an event too. The
class is the label. Frame numbers are those of the video, as CVAT exports them from a task of every frame.

Source: https://docs.cvat.ai/docs/other/xml_format (format 1.1, unchanged from CVAT 1.6 to 2.x).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from annotation.formats.base import Format
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.formats.marked_frames import marked_events, runs
from annotation.formats.xml_file import opens_with, read_root
from annotation.source import Source, frame_number
from pipeline.errors import DataError
from pipeline.records import Reason


def read_cvat(source: Source) -> Import:
    """Read tracks and tags; a bad track or image is a fault and the rest goes on.

    Raises:
        DataError: no XML of CVAT, or it names no video.
    """
    root = read_root(source, "annotations", "CVAT")
    found = Import(format="cvat")
    videos = _videos(root)
    if not videos:
        raise DataError(f"{source.path}: names no video: neither <source> nor a name of the task")
    for number, track in enumerate(root.iter("track")):
        place = f"{source.name}: track {track.get('id', number)}"
        video = videos.get(track.get("task_id", ""), next(iter(videos.values())))
        try:
            for start, end in _visible(track):
                found.take(
                    ForeignSpan(
                        video=video, start_frame=start, end_frame=end, category=track.get("label"),
                        kind=SpanKind.EVENT, place=place,
                    )
                )  # fmt: skip
        except ValueError as fault:
            found.fault(place, video, Reason.MALFORMED_ROW, fault)
    tagged: defaultdict[tuple[str, str | None], set[int]] = defaultdict(set)
    for number, image in enumerate(root.iter("image")):
        video = videos.get(image.get("task_id", ""), next(iter(videos.values())))
        try:
            frame = frame_number(image.get("id"))
        except ValueError as fault:
            found.fault(f"{source.name}: image {number}", video, Reason.MALFORMED_ROW, fault)
            continue
        for mark in image:
            if "label" in mark.attrib:
                tagged[video, mark.get("label")].add(frame)
    for (video, label), frames in tagged.items():
        for event in marked_events(video, label, runs(frames), f"{source.name}: images"):
            found.take(event)
    return found


def _videos(root: Element) -> dict[str, str]:
    """Return the name of each task's video by the task's id, that of the file before that of the task."""
    videos = {}
    for task in (*root.iterfind("meta//task"), *root.iterfind("meta//job")):
        name = task.findtext("source") or root.findtext("meta/source") or task.findtext("name")
        if name:
            videos[task.findtext("id", "")] = name
    return videos


def _visible(track: Element) -> Iterator[tuple[int, int]]:
    """Yield the half-open spans of a track: from a shape to the one that is outside, or past the last one."""
    shapes = sorted(
        (frame_number(shape.get("frame")), shape.get("outside") == "1") for shape in track if "frame" in shape.attrib
    )
    start: int | None = None
    for frame, is_outside in shapes:
        if is_outside and start is not None:
            yield start, frame
            start = None
        elif not is_outside and start is None:
            start = frame
    if start is not None:
        yield start, shapes[-1][0] + 1


CVAT = Format(
    title="CVAT XML 1.1: tracks and tags",
    likeness=lambda source: float(opens_with(source, "annotations")),
    read=lambda source, _: read_cvat(source),
)
