"""Read projects of the VGG Image Annotator 3: temporal segments of video files, in seconds.

`z` holds start and end of a segment, or one time, which is a click; `av` the values of its attributes. A region of a
single frame (`xy`) is no event.

Source: https://gitlab.com/vgg/via, via-3.x.y (data format 3.1.x: project, attribute, file, metadata, view).
"""

from __future__ import annotations

from typing import Any

from annotation.formats.base import Format
from annotation.formats.foreign import ForeignGlance, ForeignSpan, Import, SpanKind
from annotation.source import Source, seconds, show
from pipeline.errors import DataError
from pipeline.records import Reason

_PARTS = ("attribute", "file", "metadata", "view")


def is_via(payload: Any) -> bool:
    """Whether JSON content is a project of VIA 3."""
    return isinstance(payload, dict) and all(isinstance(payload.get(part), dict) for part in _PARTS)


def read_via(source: Source) -> Import:
    """Read segments and clicks; a bad entry is a fault and the rest goes on.

    Raises:
        DataError: no project of VIA 3.
    """
    if not source.is_json or not is_via(source.json):
        raise DataError(f"{source.path}: not a project of VIA 3: {', '.join(_PARTS)} are expected")
    project, found, regions = source.json, Import(format="via"), 0
    for name, entry in project["metadata"].items():
        place, video = f"{source.name}: $.metadata[{name!r}]", None
        try:
            if not isinstance(entry, dict) or not isinstance(entry.get("z"), list):
                raise ValueError(f"a region with its times is expected, not {show(entry)}")
            if entry.get("xy"):
                regions += 1
                continue
            video, paths = _file(project, entry)
            times = [seconds(time) for time in entry["z"]]
            category = _class(project, entry)
            if len(times) == 1:
                found.take(
                    ForeignGlance(
                        video=video, paths=paths, time_s=times[0], by_player=True, category=category, place=place
                    )
                )  # fmt: skip
            elif len(times) == 2:
                start_s, end_s = times
                found.take(
                    ForeignSpan(
                        video=video, paths=paths, start_s=start_s, end_s=end_s, category=category,
                        kind=SpanKind.EVENT, by_player=True, place=place,
                    )
                )  # fmt: skip
            elif times:
                raise ValueError(f"{len(times)} times, where start and end are expected")
        except ValueError as fault:
            found.fault(place, video, Reason.MALFORMED_ROW, fault)
    if regions:
        found.notes.append(f"{regions} region(s) inside single frames were not read: segments in time are")
    return found


def _file(project: dict[str, Any], entry: dict[str, Any]) -> tuple[str, tuple[str, ...]]:
    view = project["view"].get(str(entry.get("vid")))
    files = view.get("fid_list") if isinstance(view, dict) else None
    file = project["file"].get(str(files[0])) if isinstance(files, list) and files else None
    if not isinstance(file, dict) or not isinstance(file.get("fname"), str) or not file["fname"]:
        raise ValueError(f"view {show(entry.get('vid'))} names no file")
    address = file.get("src")
    return file["fname"], (address,) if isinstance(address, str) and address else ()


def _class(project: dict[str, Any], entry: dict[str, Any]) -> str | None:
    """Return the first value of the attributes; a choice by what its option reads."""
    values = entry.get("av")
    for attribute, value in values.items() if isinstance(values, dict) else ():
        if isinstance(value, str) and value.strip():
            known = project["attribute"].get(attribute)
            options = known.get("options") if isinstance(known, dict) else None
            said = options.get(value, value) if isinstance(options, dict) else value
            return said if isinstance(said, str) else value
    return None


VIA = Format(
    title="VIA 3 project: temporal segments",
    likeness=lambda source: float(source.is_json and is_via(source.json)),
    read=lambda source, _: read_via(source),
)
