"""Keep imported annotations as Parquet, and read them back: the format `holmes`.

A table holds glances or spans, a row each. What the foreign file does not say is null, so that nothing is invented
before the videos are known: frames without a time, a time without a frame.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from annotation.formats.base import Format
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
        ("num_frames", pa.int64()),
        ("is_exact", pa.bool_()),
        ("paths", pa.list_(pa.string())),
    ]
)
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
        ("is_exact", pa.bool_()),
        ("by_player", pa.bool_()),
        ("event", pa.int64()),
        ("judgement", pa.string()),
        ("description", pa.string()),
        ("analysis", pa.string()),
        ("paths", pa.list_(pa.string())),
    ]
)
_NAMES = frozenset({"video_id", "origin", "paths"})
"""Columns that are called otherwise in the records, or made of several fields."""


def to_table(found: Import) -> pa.Table:
    """Return the glances of an import, or where there is none its spans, a row each in file order."""
    if found.glances:
        return pa.Table.from_pylist(list(map(_row, found.glances)), GLANCE_SCHEMA)
    return pa.Table.from_pylist(list(map(_row, found.spans)), SPAN_SCHEMA)


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
        elif not is_glances and (kind := row.get("kind") or SpanKind.EVENT) not in set(SpanKind):
            detail = f"kind {kind!r}; known are {', '.join(SpanKind)}"
            found.fault(place, row["video_id"], Reason.MALFORMED_ROW, detail)
        else:
            said = {name: row.get(name) for name in schema.names if name not in _NAMES}
            said |= {"video": row["video_id"], "paths": tuple(row.get("paths") or ()), "place": place}
            # older tables lack these columns
            said |= {name: bool(row.get(name)) for name in ("by_player", "is_exact")}
            if is_glances:
                found.take(ForeignGlance(**said))
            else:
                found.take(ForeignSpan(**said | {"kind": SpanKind(kind)}))
    return found


def _row(item: ForeignGlance | ForeignSpan) -> dict[str, Any]:
    """Return the row of a click or span.

    It has the video's plain name, and every fuller one beside it: folders tell videos of one name apart.
    """
    name = video_name(item.video)
    fuller = (item.video,) if item.video != name else ()
    return asdict(item) | {"video_id": name, "paths": [*item.paths, *fuller], "origin": item.place}


HOLMES = Format(
    title="Parquet written by holmes import",
    likeness=lambda source: float(source.is_parquet),
    read=lambda source, _: read_holmes(source),
)
