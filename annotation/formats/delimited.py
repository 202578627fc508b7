"""Read tables of glances or spans: GlanceVAD's `video-id,glance`, and our own CSV files.

| table | columns |
|---|---|
| glances | video_id, glance (frame_index, frame) or time_s; optional category (label), annotator, frame_rate (fps) |
| ground truth | video_id, start_frame, end_frame_exclusive (end_frame); optional category, frame_rate |
| spans in time | video_id, start_s, end_s as seconds or hh:mm:ss; optional category |
| captions | video_id, start_s, end_s, sentence (caption); optional category |

Columns of spans go by the further names that `VIDEO_OF_SPAN`, `START_S`, `END_S` and `CLASS` list. Frames count from 0,
as a decoder puts them out unless a frame rate is given; intervals are half-open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

from annotation.formats.base import Format, by_columns
from annotation.formats.foreign import ForeignGlance, ForeignSpan, Import, SpanKind
from annotation.source import Source, clock_seconds, frame_number, frames_per_second, seconds
from pipeline.errors import DataError
from pipeline.records import Reason

VIDEO = ("video_id", "video", "file", "path")
FRAME = ("glance", "frame_index", "frame")
TIME = ("time_s", "time")
START_FRAME = ("start_frame",)
END_FRAME = ("end_frame_exclusive", "end_frame")
START_S = (
    "start_s",
    "start_time",
    "start_sec",
    "start_seconds",
    "start",
    "begin",
    "begin_time",
    "onset",
    "from",
    "t_start",
)
END_S = ("end_s", "end_time", "end_sec", "end_seconds", "end", "stop", "stop_time", "offset", "to", "t_end")
CATEGORY = ("category", "label")
VIDEO_OF_SPAN = (*VIDEO, "video_name", "filename", "file_name", "video_path", "clip", "media")
CLASS = (*CATEGORY, "class", "event", "event_type", "anomaly_type", "anomaly", "type", "action")
SENTENCE = ("sentence", "caption")
ANNOTATOR = ("annotator",)
RATE = ("frame_rate", "fps")
_NUMBERS = frozenset((*FRAME, *TIME, *START_FRAME, *END_FRAME, *START_S, *END_S, *RATE))

Number = TypeVar("Number", int, float)


def is_glance_table(columns: Sequence[str]) -> bool:
    """Whether a header is that of a table of clicks."""
    return _has(columns, VIDEO) and (_has(columns, FRAME) or _has(columns, TIME))


def is_span_table(columns: Sequence[str]) -> bool:
    """Whether a header is that of a table of spans."""
    frames = _has(columns, START_FRAME) and _has(columns, END_FRAME)
    return _has(columns, VIDEO_OF_SPAN) and (frames or (_has(columns, START_S) and _has(columns, END_S)))


def is_caption_table(columns: Sequence[str]) -> bool:
    """Whether a header is that of a table of spans with sentences."""
    return is_span_table(columns) and _has(columns, SENTENCE)


def read_glance_table(source: Source, format_name: str) -> Import:
    """Read clicks, one a row; a bad row is a fault and the rest goes on.

    Raises:
        DataError: a column is missing.
    """
    if not is_glance_table(source.columns):
        raise DataError(f"{_columns(source)}; a video and a frame or time_s are needed: {VIDEO[0]},glance")
    found = Import(format=format_name)
    for place, video, row in _rows(source, found):
        with _faults_of(found, place, video):
            found.take(
                ForeignGlance(
                    video=video,
                    frame_index=_parse(row, FRAME, frame_number),
                    time_s=_parse(row, TIME, seconds),
                    frame_rate=_parse(row, RATE, frames_per_second),
                    category=_cell(row, CATEGORY),
                    annotator=_cell(row, ANNOTATOR),
                    place=place,
                )
            )
    return found


def read_span_table(source: Source, format_name: str) -> Import:
    """Read spans, one a row; a bad row is a fault and the rest goes on.

    Raises:
        DataError: a column is missing.
    """
    if not is_span_table(source.columns):
        needed = "start_frame and end_frame_exclusive, or start_s and end_s"
        raise DataError(f"{_columns(source)}; a video and a span are needed: {VIDEO[0]}, {needed}")
    found = Import(format=format_name)
    kind = SpanKind.CAPTION if is_caption_table(source.columns) else SpanKind.EVENT
    for place, video, row in _rows(source, found, VIDEO_OF_SPAN):
        with _faults_of(found, place, video):
            found.take(
                ForeignSpan(
                    video=video,
                    start_frame=_parse(row, START_FRAME, frame_number),
                    end_frame=_parse(row, END_FRAME, frame_number),
                    start_s=_parse(row, START_S, clock_seconds),
                    end_s=_parse(row, END_S, clock_seconds),
                    category=_cell(row, CLASS),
                    sentence=_cell(row, SENTENCE),
                    kind=kind,
                    frame_rate=_parse(row, RATE, frames_per_second),
                    place=place,
                )
            )
    return found


@contextmanager
def _faults_of(found: Import, place: str, video: str) -> Iterator[None]:
    """Record a cell that does not parse as the fault of its row."""
    try:
        yield
    except ValueError as fault:
        found.fault(place, video, Reason.MALFORMED_ROW, fault)


def _rows(source: Source, found: Import, names: Sequence[str] = VIDEO) -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Yield place, video name and cells of each row that is whole; the others become faults."""
    width = len(source.columns)
    for row in source.rows():
        place, video = f"{source.name}:{row.line}", _cell(row.cells, names)
        if row.width > width:
            found.fault(place, video, Reason.MALFORMED_ROW, f"{row.width} cells in a table of {width} columns")
        elif video is None:
            found.fault(place, None, Reason.MALFORMED_ROW, "the row names no video")
        else:
            yield (
                place,
                video,
                {name: source.with_point(cell) if name in _NUMBERS else cell for name, cell in row.cells.items()},
            )


def _has(columns: Sequence[str], names: Sequence[str]) -> bool:
    return any(name in columns for name in names)


def _cell(row: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((row[name] for name in names if row.get(name)), None)


def _parse(row: Mapping[str, str], names: Sequence[str], parse: Callable[[object], Number]) -> Number | None:
    cell = _cell(row, names)
    return None if cell is None else parse(cell)


def _columns(source: Source) -> str:
    return f"{source.path}: columns {', '.join(source.columns) or '(none)'}"


GLANCEVAD = Format(
    title="GlanceVAD CSV: video-id,glance",
    likeness=by_columns(lambda columns: columns == ["video_id", "glance"]),
    read=lambda source, _: read_glance_table(source, "glancevad"),
)
GLANCES = Format(
    title="CSV of glances: video_id, frame_index or time_s, optional category and annotator",
    likeness=by_columns(lambda columns: is_glance_table(columns) and columns != ["video_id", "glance"]),
    read=lambda source, _: read_glance_table(source, "glances"),
)
GROUND_TRUTH = Format(
    title="CSV of events: video_id,start_frame,end_frame_exclusive,category, or start and end in seconds or hh:mm:ss",
    likeness=by_columns(lambda columns: is_span_table(columns) and not is_caption_table(columns)),
    read=lambda source, _: read_span_table(source, "ground-truth"),
)
CAPTIONS = Format(
    title="CSV of sentences: video_id,start_s,end_s,sentence",
    likeness=by_columns(is_caption_table),
    read=lambda source, _: read_span_table(source, "captions"),
)
