"""Read described videos: HIVAU-70k's raw JSON and UCA's sentences, in JSON and in its text form."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from annotation.formats.base import Format, by_lines
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.source import Source, clock_seconds, frame_number, frames_per_second, show
from pipeline.errors import DataError
from pipeline.records import NORMAL, Reason

PARTS = ("judgement", "description", "analysis")
"""What HIVAU-70k takes its summaries of events and videos apart into; normal ones have no analysis."""

_UCA_LINE = re.compile(r"^(?P<video>\S.*?)\s+(?P<start>[\d:.]+)\s+(?P<end>[\d:.]+)\s*##\s*(?P<sentence>.*)$")


def is_hivau(payload: Any) -> bool:
    """Whether JSON content is HIVAU-70k's raw annotation: an object of videos with events and clips."""
    return any("events" in entry or "clips" in entry for entry in _entries(payload))


def is_uca(payload: Any) -> bool:
    """Whether JSON content is UCA's: an object of videos with timestamps and sentences."""
    return any("timestamps" in entry and "sentences" in entry for entry in _entries(payload))


def is_uca_line(line: str) -> bool:
    """Whether a line is one of UCA's text form."""
    return _UCA_LINE.match(line) is not None


def read_hivau(source: Source) -> Import:
    """Read the events, clips and the whole video with their sentences. A video without label is normal.

    Raises:
        DataError: the file is no JSON object of that shape.
    """
    if not source.is_json or not is_hivau(source.json):
        raise DataError(f"{source.path}: not HIVAU-70k's raw annotation: an object of videos with events is expected")
    found = Import(format="hivau")
    for video, entry, place in _videos(source, found):
        try:
            num_frames, frame_rate = frame_number(entry.get("n_frames")), frames_per_second(entry.get("fps"))
            labels = _list(entry, "label")
            described = list(_hivau_spans(entry, num_frames / frame_rate, place, found))
        except ValueError as fault:
            found.fault(place, video, Reason.MALFORMED_ROW, fault)
            continue
        label = str(labels[0]) if labels else NORMAL
        for one in described:
            _take(found, video, one, category=label, frame_rate=frame_rate, num_frames=num_frames)
    return found


def read_uca(source: Source) -> Import:
    """Read sentences with their spans, from the JSON or the text form.

    Raises:
        DataError: the file has neither form.
    """
    found = Import(format="uca")
    if source.is_json:
        if not is_uca(source.json):
            raise DataError(f"{source.path}: not UCA: an object of videos with timestamps and sentences is expected")
        for video, entry, place in _videos(source, found):
            try:
                timestamps = _list(entry, "timestamps")
                sentences = _paired(timestamps, _list(entry, "sentences"), f"{place}.sentences", video, found)
            except ValueError as fault:
                found.fault(place, video, Reason.MALFORMED_ROW, fault)
                continue
            for number, (bounds, sentence) in enumerate(zip(timestamps, sentences, strict=True)):
                _take(found, video, _Described(SpanKind.CAPTION, bounds, sentence, f"{place}.timestamps[{number}]"))
    else:
        for number, line in source.lines():
            _read_uca_line(found, line, f"{source.name}:{number}")
        if not found.spans and all(fault.video is None for fault in found.faults):
            raise DataError(f"{source.path}: no line has UCA's form `video 00:01.2 00:08.2 ##A sentence.`")
    return found


@dataclass(frozen=True, slots=True)
class _Described:
    """A span and its sentence as they stand in the file, unchecked."""

    kind: SpanKind
    bounds: Any
    sentence: Any
    place: str
    event: int | None = None
    parts: Any = None


def _hivau_spans(entry: dict[str, Any], duration_s: float, place: str, found: Import) -> Iterator[_Described]:
    """Yield the video's summary, then its events, then their clips, matched across HIVAU's parallel lists."""
    summary, parts = entry.get("video_summary"), entry.get("video_summary_split")
    yield _Described(SpanKind.VIDEO, [0, duration_s], summary, f"{place}.video_summary", parts=parts)
    events = _list(entry, "events")
    summaries = _paired(events, _list(entry, "events_summary"), f"{place}.events_summary", None, found)
    split = entry.get("events_summary_split")
    split = split if isinstance(split, list) and len(split) == len(events) else [None] * len(events)
    for number, (bounds, summary, parts) in enumerate(zip(events, summaries, split, strict=True)):
        yield _Described(SpanKind.EVENT, bounds, summary, f"{place}.events[{number}]", number, parts)
    groups = _list(entry, "clips")
    captions = _paired(groups, _list(entry, "clips_caption"), f"{place}.clips_caption", None, found)
    for event, (clips, texts) in enumerate(zip(groups, captions, strict=True)):
        if not isinstance(clips, list):
            raise ValueError(f"clips[{event}] is {show(clips)}, a list is expected")
        sentences = texts if isinstance(texts, list) else []
        sentences = _paired(clips, sentences, f"{place}.clips_caption[{event}]", None, found)
        for number, (bounds, sentence) in enumerate(zip(clips, sentences, strict=True)):
            yield _Described(SpanKind.CLIP, bounds, sentence, f"{place}.clips[{event}][{number}]", event)


def _read_uca_line(found: Import, line: str, place: str) -> None:
    match = _UCA_LINE.match(line)
    if match is None:
        found.fault(place, None, Reason.MALFORMED_ROW, f"{show(line)}: expected `video start end ##sentence`")
        return
    bounds = [match["start"], match["end"]]
    _take(found, match["video"], _Described(SpanKind.CAPTION, bounds, match["sentence"], place))


def _take(found: Import, video: str, described: _Described, **of_video: Any) -> None:
    """Add a span and its sentence, or the fault that one of them is."""
    bounds, sentence, place = described.bounds, described.sentence, described.place
    try:
        if not isinstance(bounds, list) or len(bounds) != 2:
            raise ValueError(f"[start, end] in seconds is expected, not {show(bounds)}")
        if sentence is not None and not isinstance(sentence, str):
            raise ValueError(f"a sentence is expected, not {show(sentence)}")
        start_s, end_s = map(clock_seconds, bounds)
        parts = _parts(described.parts)
    except ValueError as fault:
        found.fault(place, video, Reason.MALFORMED_ROW, fault)
        return
    text = sentence if described.kind is not SpanKind.CAPTION else (sentence or "").strip()
    text = text if text and text.strip() else None
    found.take(
        ForeignSpan(
            video=video,
            start_s=start_s,
            end_s=end_s,
            sentence=text,
            kind=described.kind,
            place=place,
            event=described.event,
            **parts,
            **of_video,
        )
    )


def _parts(split: Any) -> dict[str, Any]:
    """Return the judgement, description and analysis of an event or a video, as far as they are there."""
    if split is None:
        return {}
    if not isinstance(split, dict) or not all(isinstance(split.get(name, ""), str) for name in PARTS):
        raise ValueError(f"an object of {', '.join(PARTS)} is expected, not {show(split)}")
    return {name: split[name] for name in PARTS if name in split}


def _paired(spans: list[Any], texts: list[Any], place: str, video: str | None, found: Import) -> list[Any]:
    """Return one text a span; where the counts differ nobody knows which belongs to which, so none does."""
    if len(spans) == len(texts):
        return texts
    found.fault(place, video, Reason.MALFORMED_ROW, f"{len(texts)} text(s) for {len(spans)} span(s): none is used")
    return [None] * len(spans)


def _list(entry: dict[str, Any], key: str) -> list[Any]:
    value = entry.get(key)
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"{key} is {show(value)}, a list is expected")
    return value


def _videos(source: Source, found: Import) -> Iterator[tuple[str, dict[str, Any], str]]:
    """Yield name, content and JSON path of each video; an entry that is no object is a fault."""
    for video, entry in source.json.items():
        place = f"{source.name}: $[{video!r}]"
        if isinstance(entry, dict) and video:
            yield video, entry, place
        else:
            found.fault(place, video, Reason.MALFORMED_ROW, f"a video's annotation is expected, not {show(entry)}")


def _entries(payload: Any) -> Iterator[dict[str, Any]]:
    if isinstance(payload, dict):
        yield from (entry for entry in payload.values() if isinstance(entry, dict))


HIVAU = Format(
    title="HIVAU-70k raw JSON",
    likeness=lambda source: float(source.is_json and is_hivau(source.json)),
    read=lambda source, _: read_hivau(source),
)
UCA = Format(
    title="UCA sentences: JSON or text",
    likeness=lambda source: float(is_uca(source.json)) if source.is_json else by_lines(is_uca_line)(source),
    read=lambda source, _: read_uca(source),
)
