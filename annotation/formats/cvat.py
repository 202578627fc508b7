"""Read CVAT's own XML, format version 1.1: tracks of `CVAT for video`, tags and tracks of `CVAT for images`.

A track is an event for as long as it is not `outside`; frames that bear a tag, one after another, are an event too. The
class is the label. Frame numbers are those of the video, also of a task that was made of every N-th frame: there a mark
lasts N frames. Numbers between those of a task's frames can only count the frames of the task, as some tools that
rewrite such files do, and are taken so.

Source: https://docs.cvat.ai/docs/other/xml_format (format 1.1, unchanged from CVAT 1.6 to 2.x); what it writes of tasks
with a frame step is `abs_frame_id` in cvat/apps/dataset_manager/bindings.py.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from annotation.formats.base import Format
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.formats.marked_frames import marked_events, runs
from annotation.formats.xml_file import opens_with, read_root
from annotation.source import Source, frame_number
from pipeline.errors import DataError
from pipeline.records import Reason

_STEP = re.compile(r"step\s*=\s*([1-9]\d*)")


@dataclass(frozen=True, slots=True, kw_only=True)
class _TaskFrames:
    """The frames of a video that a task is made of: every `step`-th from `start` on.

    `counts_own`: the file numbers the frames of the task, and not those of the video.
    """

    start: int = 0
    step: int = 1
    counts_own: bool = False

    def in_video(self, frame: int) -> int:
        """Return the video's number of a frame."""
        return self.start + frame * self.step if self.counts_own else frame

    def runs(self, frames: Iterable[int]) -> list[tuple[int, int]]:
        """Return the spans of the video of marked frames, as numbered in the file, that follow one another."""
        places = runs(frame if self.counts_own else (frame - self.start) // self.step for frame in frames)
        return [(self.start + first * self.step, self.start + last * self.step) for first, last in places]


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
    frames_of = _task_frames(root, videos)
    first_task = next(iter(videos))
    for number, track in enumerate(root.iter("track")):
        place = f"{source.name}: track {track.get('id', number)}"
        task = track.get("task_id", "") if track.get("task_id") in videos else first_task
        video = videos[task]
        try:
            for start, end in _visible(track, frames_of[task]):
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
        task = image.get("task_id", "") if image.get("task_id") in videos else first_task
        try:
            frame = frame_number(image.get("id"))
        except ValueError as fault:
            found.fault(f"{source.name}: image {number}", videos[task], Reason.MALFORMED_ROW, fault)
            continue
        for mark in image:
            if "label" in mark.attrib:
                tagged[task, mark.get("label")].add(frame)
    for (task, label), frames in tagged.items():
        for event in marked_events(videos[task], label, frames_of[task].runs(frames), f"{source.name}: images"):
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


def _task_frames(root: Element, videos: dict[str, str]) -> dict[str, _TaskFrames]:
    """Return the frames of each task of `videos`, by the task's id."""
    numbers: defaultdict[str, set[int]] = defaultdict(set)
    first_task = next(iter(videos))
    for element in (*root.iter("track"), *root.iter("image")):
        task = element.get("task_id", "") if element.get("task_id") in videos else first_task
        for text in (element.get("id") if element.tag == "image" else None, *(shape.get("frame") for shape in element)):
            if text is not None and text.isdecimal():
                numbers[task].add(int(text))
    frames_of = dict.fromkeys(videos, _TaskFrames())
    for described in (*root.iterfind("meta//task"), *root.iterfind("meta//job")):
        filtered = _STEP.search(described.findtext("frame_filter") or "")
        if filtered is not None and described.findtext("id", "") in videos:
            step, start_text = int(filtered[1]), (described.findtext("start_frame") or "").strip()
            start = int(start_text) if start_text.isdecimal() else 0
            counts_own = any((number - start) % step for number in numbers[described.findtext("id", "")])
            frames_of[described.findtext("id", "")] = _TaskFrames(start=start, step=step, counts_own=counts_own)
    return frames_of


def _visible(track: Element, frames: _TaskFrames) -> Iterator[tuple[int, int]]:
    """Yield the half-open spans of a track: from a shape to the one that is outside, or past the last one."""
    shapes = sorted(
        (frames.in_video(frame_number(shape.get("frame"))), shape.get("outside") == "1")
        for shape in track
        if "frame" in shape.attrib
    )
    start: int | None = None
    for frame, is_outside in shapes:
        if is_outside and start is not None:
            yield start, frame
            start = None
        elif not is_outside and start is None:
            start = frame
    if start is not None:
        yield start, shapes[-1][0] + frames.step


CVAT = Format(
    title="CVAT XML 1.1: tracks and tags",
    likeness=lambda source: float(opens_with(source, "annotations")),
    read=lambda source, _: read_cvat(source),
)
