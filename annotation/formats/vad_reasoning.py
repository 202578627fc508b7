"""Read Vad-Reasoning, the dataset of Vad-R1: JSON Lines or a JSON list, an object a video, its event in seconds.

An object holds `video` or `path`, `anomaly_type`, `start` and `end`; a normal video has no times.

Source: https://github.com/wbfwonderful/Vad-R1 (Vad-Reasoning, 2025).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from annotation.formats.base import Format
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.source import Source, clock_seconds, frame_number, load_json, show
from pipeline.errors import DataError
from pipeline.records import NORMAL, Reason
from pipeline.taxonomy import canonical


def read_vad_reasoning(source: Source) -> Import:
    """Read the event of every object; a bad line is a fault and the rest goes on.

    Raises:
        DataError: no objects of that form.
    """
    if not _looks_so(source):
        raise DataError(f"{source.path}: not Vad-Reasoning: objects with video and anomaly_type are expected")
    found = Import(format="vad-reasoning")
    for place, entry in _entries(source):
        video = None
        try:
            if not isinstance(entry, dict):
                raise ValueError(f"an object is expected, not {show(entry)}")
            video, span = _span(entry, place)
        except ValueError as fault:
            found.fault(place, video, Reason.MALFORMED_ROW, fault)
            continue
        found.take(span)
    return found


def _span(entry: dict[str, Any], place: str) -> tuple[str, ForeignSpan]:
    video, path = entry.get("video"), entry.get("path")
    names = [name for name in (video, path) if isinstance(name, str) and name]
    if not names:
        raise ValueError("names no video")
    category, start, end = entry.get("anomaly_type"), entry.get("start"), entry.get("end")
    if category is not None and not isinstance(category, str):
        raise ValueError(f"anomaly_type {show(category)} is no text")
    num_frames = frame_number(entry["total_frames"]) if entry.get("total_frames") else None
    is_whole = canonical(category or "") == NORMAL
    span = ForeignSpan(
        video=names[0],
        paths=tuple(names[1:]),
        start_s=None if is_whole or start is None else clock_seconds(start),
        end_s=None if is_whole or end is None else clock_seconds(end),
        category=category,
        kind=SpanKind.VIDEO if is_whole else SpanKind.EVENT,
        num_frames=num_frames,
        place=place,
    )
    return names[0], span


def _entries(source: Source) -> Iterator[tuple[str, Any]]:
    if source.is_json:
        entries = source.json if isinstance(source.json, list) else [source.json]
        for number, entry in enumerate(entries):
            yield f"{source.name}: $[{number}]", entry
        return
    for line, text in source.lines():
        try:
            entry = load_json(text)
        except (ValueError, RecursionError):
            entry = text
        yield f"{source.name}:{line}", entry


def _looks_so(source: Source) -> bool:
    if not source.is_json and not source.is_json_lines:
        return False
    _, first = next(_entries(source), ("", None))
    return isinstance(first, dict) and "anomaly_type" in first and bool({"video", "path"} & first.keys())


VAD_REASONING = Format(
    title="Vad-Reasoning: JSON Lines or a list with video, anomaly_type, start, end",
    likeness=lambda source: float(_looks_so(source)),
    read=lambda source, _: read_vad_reasoning(source),
)
