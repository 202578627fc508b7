"""Keep imported annotations as Parquet, and read them back: the format `holmes`.

A table holds glances or spans, a row each. What the foreign file does not say is null, so that nothing is invented
before the videos are known: frames without a time, a time without a frame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from annotation.formats.base import Format
from annotation.formats.delimited import glance_problem, span_problem
from annotation.formats.foreign import ForeignGlance, ForeignSpan, Import, SpanKind
from annotation.source import Source
from annotation.video_index import video_name
from pipeline.errors import DataError
from pipeline.records import Reason

GLANCE_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("frame_index", pa.int64()),
        ("time_s", pa.float64()),
        ("category", pa.string()),
        ("annotator", pa.string()),
        ("origin", pa.string()),
        ("frame_rate", pa.float64()),
        ("by_player", pa.bool_()),
        ("last_frame", pa.int64()),
        ("paths", pa.list_(pa.string())),
    ]
)
_OF_GLANCE = ("frame_index", "time_s", "category", "annotator", "frame_rate", "last_frame")
SPAN_SCHEMA = pa.schema(
    [
        ("video_id", pa.string()),
        ("start_frame", pa.int64()),
        ("end_frame", pa.int64()),
        ("start_s", pa.float64()),
        ("end_s", pa.float64()),
        ("category", pa.string()),
        ("sentence", pa.string()),
        ("kind", pa.string()),
        ("origin", pa.string()),
        ("frame_rate", pa.float64()),
        ("num_frames", pa.int64()),
        ("paths", pa.list_(pa.string())),
    ]
)


def to_table(found: Import) -> pa.Table:
    """Return the glances of an import, or where there is none its spans, a row each in file order."""
    if found.glances:
        return pa.Table.from_pylist([_glance_row(glance) for glance in found.glances], GLANCE_SCHEMA)
    return pa.Table.from_pylist([_span_row(span) for span in found.spans], SPAN_SCHEMA)


def read_holmes(source: Source) -> Import:
    """Read a table that `to_table` made, or any Parquet of glances or spans with these columns.

    Raises:
        DataError: not Parquet, or no such columns, or columns of other types.
    """
    try:
        table = pq.read_table(source.path)
        columns = set(table.column_names)
        is_glances = "video_id" in columns and bool(columns & {"frame_index", "time_s"})
        is_spans = "video_id" in columns and (
            {"start_frame", "end_frame"} <= columns or {"start_s", "end_s"} <= columns
        )
        if not is_glances and not is_spans:
            raise DataError(f"{source.path}: a Parquet file of neither glances nor spans: columns {sorted(columns)}")
        schema = GLANCE_SCHEMA if is_glances else SPAN_SCHEMA
        known = [name for name in schema.names if name in columns]
        table = table.select(known).cast(pa.schema([schema.field(name) for name in known]))
        rows = table.to_pylist()
    except (pa.ArrowException, OSError, UnicodeDecodeError) as fault:
        raise DataError(f"{source.path}: not a readable Parquet file of glances or spans: {fault}") from None
    found = Import(format="holmes")
    for number, row in enumerate(rows):
        place = row.get("origin") or f"{source.name}: row {number}"
        if not row["video_id"]:
            found.fault(place, None, Reason.MALFORMED_ROW, "the row names no video")
        elif is_glances:
            _take_glance(found, row, place)
        else:
            _take_span(found, row, place)
    return found


def _take_glance(found: Import, row: Mapping[str, Any], place: str) -> None:
    glance = ForeignGlance(
        video=row["video_id"],
        paths=tuple(row.get("paths") or ()),
        place=place,
        by_player=bool(row.get("by_player")),
        **_some(row, _OF_GLANCE),
    )
    problem = glance_problem(glance.frame_index, glance.time_s)
    if problem:
        found.fault(place, glance.video, *problem)
    else:
        found.glances.append(glance)


def _take_span(found: Import, row: Mapping[str, Any], place: str) -> None:
    kind = row.get("kind") or SpanKind.EVENT
    if kind not in set(SpanKind):
        found.fault(place, row["video_id"], Reason.MALFORMED_ROW, f"kind {kind!r}; known are {', '.join(SpanKind)}")
        return
    names = ("start_frame", "end_frame", "start_s", "end_s", "category", "sentence", "frame_rate", "num_frames")
    span = ForeignSpan(
        video=row["video_id"],
        paths=tuple(row.get("paths") or ()),
        kind=SpanKind(kind),
        place=place,
        **_some(row, names),
    )
    problem = span_problem(span)
    if problem:
        found.fault(place, span.video, *problem)
    else:
        found.spans.append(span)


def _some(row: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    return {name: row.get(name) for name in names}


def _glance_row(glance: ForeignGlance) -> dict[str, Any]:
    return {
        **_names(glance),
        "by_player": glance.by_player,
        **{name: getattr(glance, name) for name in _OF_GLANCE},
    }


def _span_row(span: ForeignSpan) -> dict[str, Any]:
    names = ("start_frame", "end_frame", "start_s", "end_s", "category", "sentence", "frame_rate", "num_frames")
    return {**_names(span), "kind": span.kind.value, **{name: getattr(span, name) for name in names}}


def _names(item: ForeignGlance | ForeignSpan) -> dict[str, Any]:
    """Return the video's plain name, and every fuller one beside it: folders tell videos of one name apart."""
    name = video_name(item.video)
    fuller = (item.video,) if item.video != name else ()
    return {"video_id": name, "paths": [*item.paths, *fuller], "origin": item.place}


HOLMES = Format(
    title="Parquet written by holmes import",
    likeness=lambda source: float(source.is_parquet),
    read=lambda source, _: read_holmes(source),
)
