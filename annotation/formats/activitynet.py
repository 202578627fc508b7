"""Read ActivityNet's JSON: a `database` of videos with segments in seconds, as many benchmarks publish theirs.

Source: http://activity-net.org/download.html (release 1.2 and 1.3); ANET, THUMOS and FineAction share it.
"""

from __future__ import annotations

from typing import Any

from annotation.formats.base import Format
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.source import Source, seconds, show
from pipeline.errors import DataError
from pipeline.records import Reason


def is_activitynet(payload: Any) -> bool:
    """Whether JSON content has ActivityNet's form."""
    return isinstance(payload, dict) and isinstance(payload.get("database"), dict)


def read_activitynet(source: Source) -> Import:
    """Read segments; a bad one is a fault and the rest goes on.

    Raises:
        DataError: no JSON of that form.
    """
    if not source.is_json or not is_activitynet(source.json):
        raise DataError(f"{source.path}: not ActivityNet's form: an object with a database of videos is expected")
    found = Import(format="activitynet")
    for video, entry in source.json["database"].items():
        place = f"{source.name}: $.database[{video!r}]"
        marks = entry.get("annotations", []) if isinstance(entry, dict) else None
        if not isinstance(marks, list):
            found.fault(place, video, Reason.MALFORMED_ROW, f"a list of annotations is expected, not {show(marks)}")
            continue
        for number, mark in enumerate(marks):
            _take(found, video, mark, f"{place}.annotations[{number}]")
    return found


def _take(found: Import, video: str, mark: Any, place: str) -> None:
    try:
        segment = mark.get("segment") if isinstance(mark, dict) else None
        if not isinstance(segment, list) or len(segment) != 2:
            raise ValueError(f"a segment [start, end] in seconds is expected, not {show(mark)}")
        start_s, end_s = map(seconds, segment)
        label = mark.get("label")
        if label is not None and not isinstance(label, str):
            raise ValueError(f"label {show(label)} is no text")
    except ValueError as fault:
        found.fault(place, video, Reason.MALFORMED_ROW, fault)
        return
    found.take(ForeignSpan(video=video, start_s=start_s, end_s=end_s, category=label, kind=SpanKind.EVENT, place=place))


ACTIVITYNET = Format(
    title="ActivityNet JSON: database, annotations, segment, label",
    likeness=lambda source: float(source.is_json and is_activitynet(source.json)),
    read=lambda source, _: read_activitynet(source),
)
