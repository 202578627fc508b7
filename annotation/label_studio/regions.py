"""The clicks in the regions of a Label Studio annotation, and what a task says of its video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from annotation.formats.foreign import IGNORE, ForeignGlance, Import, Viewing
from annotation.label_studio.rate import FASTEST, effective_rate
from annotation.source import frame_number, frames_per_second, show
from annotation.video_index import is_video_path
from pipeline.records import NORMAL, Reason
from pipeline.taxonomy import canonical

TIMELINE = "timelinelabels"
UNKNOWN = "unknown"

_RATE_KEYS = frozenset({"fps", "framerate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """What a task's data says of its video. `rate_fault` is set where it has a frame rate that is none."""

    place: str
    video: str | None
    paths: tuple[str, ...]
    frame_rate: float | None
    rate_fault: str | None


@dataclass(frozen=True, slots=True)
class Begun:
    """What had been read when an annotation began: the numbers of clicks, of faults, and of regions labelled Normal."""

    glances: int
    faults: int
    normal: int


@dataclass(slots=True)
class Reading:
    """An export while it is read: what was imported, and what else was seen."""

    found: Import
    default_rate: float | None
    region_types: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    others: Counter[str] = field(default_factory=Counter)
    names_video: bool = False
    has_normal: bool = False

    def fault(self, place: str, task: Task | None, reason: Reason, detail: object) -> None:
        """Record a part that could not be taken over."""
        self.found.fault(place, task.video if task else None, reason, detail)

    def begin_annotation(self) -> Begun:
        """Note where the clicks and the faults of the next annotation begin."""
        return Begun(len(self.found.glances), len(self.found.faults), self.counts["normal"])

    def end_annotation(self, task: Task, annotator: str | None, place: str, begun: Begun, *, normal: bool) -> None:
        """Judge as a whole an annotation whose regions are read."""
        first = begun.glances
        clicks = sum(glance.category != IGNORE for glance in self.found.glances[first:])
        if normal and clicks:
            del self.found.glances[first:]
            detail = f"annotator {annotator or 'unknown'} says that nothing is abnormal, and makes {clicks} click(s)"
            self.fault(place, task, Reason.LABEL_CONFLICT, detail)
        elif (normal or clicks) and task.video is not None:
            viewing = Viewing(video=task.video, paths=task.paths, annotator=annotator, clicks=clicks, place=place)
            self.found.viewings.append(viewing)
            self.counts["nothing"] += normal
        elif begun == self.begin_annotation():
            detail = f"submitted empty by annotator {annotator or 'unknown'}: neither a click nor a choice"
            self.fault(place, task, Reason.SKIPPED_ANNOTATION, detail)


def is_normal(value: Any) -> bool:
    """Whether the value of a choice says that nothing abnormal happens."""
    choices = value.get("choices") if isinstance(value, dict) else None
    return isinstance(choices, list) and any(isinstance(one, str) and canonical(one) == NORMAL for one in choices)


def regions_of(result: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield number, type and value of each region; a region on a timeline is known by its value, whatever its type."""
    for number, region in enumerate(result if isinstance(result, list) else []):
        if isinstance(region, dict):
            value = region.get("value")
            yield number, TIMELINE if is_timeline(value) else str(region.get("type", UNKNOWN)), value
        else:
            yield number, UNKNOWN, region


def is_timeline(value: Any) -> bool:
    """Whether a region's value is one of a timeline, be it whole or not."""
    return isinstance(value, dict) and (TIMELINE in value or "ranges" in value)


def read_region(reading: Reading, value: Any, task: Task, annotator: str | None, place: str) -> None:
    """Make a glance of each range of a timeline region."""
    ranges = value.get("ranges") if isinstance(value, dict) else None
    if not isinstance(ranges, list) or not ranges:
        reading.fault(place, task, Reason.MALFORMED_ROW, f"a region with ranges is expected, not {show(value)}")
        return
    if task.video is None:
        reading.fault(place, task, Reason.MALFORMED_ROW, "the task's data names no video")
        return
    if task.rate_fault:
        reading.fault(place, task, Reason.FRAME_RATE_CONFLICT, task.rate_fault)
        return
    # a region without any label takes the video's; labels under another name are not lost silently
    labels = [] if value.keys() == {"ranges"} else value.get(TIMELINE)
    names = [labels] if isinstance(labels, str) else labels
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        reading.fault(place, task, Reason.MALFORMED_ROW, f"labels are expected, not {TIMELINE}={show(labels)}")
        return
    if any(name.strip().casefold() == IGNORE.casefold() for name in names):
        names = [IGNORE]
    if names and canonical(names[0]) == NORMAL:
        reading.counts["normal"] += 1
        return
    reading.counts["labels"] += len(names) > 1
    for number, span in enumerate(ranges):
        spot = f"{place}.ranges[{number}]" if len(ranges) > 1 else place
        try:
            index, last = _middle(span)
        except ValueError as fault:
            reading.fault(spot, task, Reason.MALFORMED_ROW, fault)
            continue
        if index < 0:
            detail = f"frame {show(span['start'])}: Label Studio counts frames from 1"
            reading.fault(spot, task, Reason.FRAME_OUT_OF_RANGE, detail)
            continue
        reading.counts["drags"] += last is not None
        reading.counts["no rate"] += task.frame_rate is None
        reading.found.glances.append(
            ForeignGlance(
                video=task.video,
                paths=task.paths,
                frame_index=index,
                last_frame=last,
                time_s=index / task.frame_rate if task.frame_rate else None,
                frame_rate=task.frame_rate,
                by_player=task.frame_rate is not None,
                category=(names[0] or None) if names else None,
                annotator=annotator,
                place=spot,
            )
        )


def _middle(span: Any) -> tuple[int, int | None]:
    """Return the 0-based indices of the middle frame of a range and of its last, None where it has but one.

    The former is -1 or less where the range starts before frame 1.
    """
    if not isinstance(span, dict) or not {"start", "end"} <= span.keys():
        raise ValueError(f"a range with start and end is expected, not {show(span)}")
    start, end = frame_number(span["start"]), frame_number(span["end"])
    if end < start:
        raise ValueError(f"the range ends at frame {end}, before its start at {start}")
    return start - 1 if start < 1 else (start + end) // 2 - 1, end - 1 if end > start else None


def describe_task(reading: Reading, data: Mapping[str, Any], place: str) -> Task:
    """Find the video's names and the frame rate in a task's data, or in the flat row that holds them."""
    named = {key.lower().replace("-", "_"): value for key, value in data.items()}
    paths = [value for value in named.values() if isinstance(value, str) and is_video_path(value)]
    media = named.get("video")
    if isinstance(media, str) and media:
        paths = list(dict.fromkeys([media, *paths]))
    given = named.get("video_id")
    is_name = isinstance(given, str | int) and not isinstance(given, bool) and str(given).strip()
    video = str(given) if is_name else next(iter(paths), None)
    reading.names_video |= video is not None
    # `fps` first: a pull writes it there where it has the rate from the interface
    rates = [named[key] for key in sorted(named) if key.replace("_", "") in _RATE_KEYS and named[key] not in (None, "")]
    frame_rate, rate_fault = reading.default_rate, None
    if rates:
        reading.counts["rates"] += any(rate != rates[0] for rate in rates)
        try:
            frame_rate = effective_rate(frames_per_second(rates[0]))
            if frame_rate > FASTEST:
                raise ValueError(f"{show(rates[0])} makes {frame_rate:g} frames a second, more than {FASTEST:g}")
        except ValueError as fault:
            rate_fault = f"the task's fps {fault}"
    return Task(
        place=place,
        video=video,
        paths=tuple(path for path in paths if path != video),
        frame_rate=frame_rate,
        rate_fault=rate_fault,
    )


def annotator_name(completed_by: Any) -> str | None:
    """Return the address or number of the user that an export names.

    Raises:
        ValueError: naming what is neither.
    """
    user = completed_by
    if isinstance(user, dict):
        user = user.get("email") or user.get("id")
    if user is None or user == "":
        return None
    # a cell of regions in the wrong column of a table is text too
    is_name = isinstance(user, str) and user[:1] not in {"[", "{"}
    if not is_name and (not isinstance(user, int) or isinstance(user, bool)):
        raise ValueError(f"a user's address or number is expected, not {show(completed_by)}")
    return str(user)
