"""Read the temporal annotations of UCF-Crime and XD-Violence: text lines with a video and pairs of frames.

| file | one line of it |
|---|---|
| UCF-Crime | `Abuse028_x264.mp4  Abuse  165  240  -1  -1`, -1 for none; a normal video has -1 alone |
| UCF-Crime, with folder and length | `Arson/Arson022_x264.mp4 8640 Arson 3500 4000 -1 -1` |
| XD-Violence | `<video> 624 912 950 1441`, any number of pairs |
| XD-Violence, multi-class | `<video> B4 0 1517 B2 1970 3038`, a class code before each pair |

Frames count from 0 and ends are exclusive, as the evaluation code of both takes them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

from annotation.formats.base import Format, by_lines
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.source import Source, frame_number, show
from pipeline.errors import DataError
from pipeline.records import NORMAL, Reason
from pipeline.taxonomy import canonical, label_from_name

XD_CODES = frozenset({"A", "B1", "B2", "B4", "B5", "B6", "G"})

# the names of films in XD-Violence hold digits, dots and now and then a space: lines are read from the right
_UCF_LINE = re.compile(
    r"^(?P<video>\S.*?)\s+(?:(?P<num_frames>\d+)\s+)?(?P<category>[A-Za-z]+)\s+(?P<frames>-?\d+(?:\s+-?\d+)+)$"
)
_XD_LINE = re.compile(r"^(?P<video>\S.*?)(?P<frames>(?:\s+(?:(?:A|B1|B2|B4|B5|B6|G)\s+)?-?\d+\s+-?\d+)+)$")
_NONE = (-1, -1)

LineReader = Callable[[str, str], list[ForeignSpan]]


def is_ucf_line(line: str) -> bool:
    """Whether a line is one of UCF-Crime's temporal annotation."""
    match = _UCF_LINE.match(line)
    return match is not None and canonical(match["category"], "ucf-crime") is not None


def is_xd_line(line: str) -> bool:
    """Whether a line is one of XD-Violence's temporal annotation."""
    return _XD_LINE.match(line) is not None and not is_ucf_line(line)


def read_ucf_crime(source: Source) -> Import:
    """Read events of UCF-Crime; a normal video gives a span of kind `video`.

    Raises:
        DataError: no line has the form.
    """
    return _read_lines(source, "ucf-crime", _read_ucf_line, "`video  Class  start  end  start  end`")


def read_xd_violence(source: Source) -> Import:
    """Read events of XD-Violence; without codes, an event has the first class that the video's name tells.

    Raises:
        DataError: no line has the form.
    """
    return _read_lines(source, "xd-violence", _read_xd_line, "`video start end start end ...`")


def _read_lines(source: Source, format_name: str, read_line: LineReader, form: str) -> Import:
    found = Import(format=format_name)
    for number, line in source.lines():
        place = f"{source.name}:{number}"
        try:
            spans = read_line(line, place)
        except ValueError as fault:
            found.fault(place, None, Reason.MALFORMED_ROW, f"{fault}; expected {form}")
            continue
        for pair, span in enumerate(spans, start=1):
            if len(spans) > 1:
                span = replace(span, place=f"{place} pair {pair}")  # noqa: PLW2901
            found.take(span)
    if not found.spans and all(fault.video is None for fault in found.faults):
        raise DataError(f"{source.path}: no line has the form {form}")
    return found


def _read_ucf_line(line: str, place: str) -> list[ForeignSpan]:
    match = _UCF_LINE.match(line)
    if match is None:
        raise ValueError(f"{show(line)} has no video, class and frames")
    video, category = match["video"], match["category"]
    num_frames = frame_number(match["num_frames"]) if match["num_frames"] else None
    pairs = [pair for pair in _pairs(match["frames"].split()) if pair != _NONE]
    if not pairs:
        return [ForeignSpan(video=video, category=category, kind=SpanKind.VIDEO, num_frames=num_frames, place=place)]
    if canonical(category) == NORMAL:
        raise ValueError(f"a normal video with events: {show(line)}")
    return [replace(_event(video, pair, category, place), num_frames=num_frames) for pair in pairs]


def _read_xd_line(line: str, place: str) -> list[ForeignSpan]:
    match = _XD_LINE.match(line)
    if match is None:
        raise ValueError(f"{show(line)} has no video and pairs of frames")
    video, tokens = match["video"], match["frames"].split()
    codes = [token for token in tokens if token in XD_CODES]
    pairs = _pairs([token for token in tokens if token not in XD_CODES])
    if codes and len(codes) != len(pairs):
        raise ValueError(f"{len(codes)} class codes for {len(pairs)} pairs of frames")
    if _is_number(video.split()[-1]) and " " in video:
        raise ValueError(f"an odd number of frames in {show(line)}")
    categories = [canonical(code, "xd-violence") for code in codes] or [label_from_name(video)] * len(pairs)
    events = zip(pairs, categories, strict=True)
    return [_event(video, pair, category, place) for pair, category in events if category != NORMAL]


def _event(video: str, frames: tuple[int, int], category: str | None, place: str) -> ForeignSpan:
    start, end = frames
    kind = SpanKind.EVENT
    return ForeignSpan(video=video, start_frame=start, end_frame=end, category=category, kind=kind, place=place)


def _pairs(tokens: list[str]) -> list[tuple[int, int]]:
    numbers = [frame_number(token) for token in tokens]
    if len(numbers) % 2:
        raise ValueError(f"{len(numbers)} frames do not make pairs")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _is_number(token: str) -> bool:
    return token.lstrip("-").isdigit()


UCF_CRIME = Format(
    title="UCF-Crime temporal annotation", likeness=by_lines(is_ucf_line), read=lambda source, _: read_ucf_crime(source)
)
XD_VIOLENCE = Format(
    title="XD-Violence temporal annotation",
    likeness=by_lines(is_xd_line),
    read=lambda source, _: read_xd_violence(source),
)
