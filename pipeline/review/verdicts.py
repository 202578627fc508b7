"""Human verdicts from files: Parquet, CSV or JSONL with the columns of `Verdict`."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import DataError, RecordError
from pipeline.records import Decision, Reason, Verdict
from pipeline.spreadsheet import decode, read_cells

Row = Mapping[str, Any]

_CLOCK = r"(?:,? (?P<hour>\d\d?)(?P<rest>:\d\d(?::\d\d)?))?"
_DATES = (
    re.compile(r"(?P<day>\d{1,2})\.(?P<month>\d{1,2})\.(?P<year>\d{4})" + _CLOCK),
    re.compile(r"(?P<year>\d{4})/(?P<month>\d{1,2})/(?P<day>\d{1,2})" + _CLOCK),
)
_OLDEST = datetime.min.replace(tzinfo=UTC)


def read_rows(path: Path) -> Iterator[tuple[str, Row | RecordError]]:
    """Yield (place, row or fault) for every row of a Parquet, CSV or JSONL file, numbered from 1.

    Raises:
        DataError: naming the file that cannot be read at all.
    """
    try:
        match path.suffix.lower():
            case ".parquet":
                rows: list[Any] = pd.read_parquet(path).to_dict("records")
            case ".csv":
                rows = _table_rows(path)
            case ".jsonl" | ".ndjson":
                # Not splitlines: JSON text may hold U+2028 and its like as they are.
                lines = decode(path.read_bytes(), path).split("\n")
                rows = [_parsed(line) for line in lines if line.strip()]
            case suffix:
                raise DataError(f"{path}: verdicts are read from .parquet, .csv or .jsonl, not {suffix or 'no suffix'}")
    except (OSError, ValueError) as fault:
        raise DataError(f"{path}: cannot be read as verdicts: {fault}") from None
    for number, row in enumerate(rows, start=1):
        place = f"{path}: row {number}"
        yield place, _checked(place, row)


def decided_at(reviewed_at: str | None) -> datetime:
    """Return the time of a verdict, UTC where it names no zone; a verdict without a time is older than all others.

    Raises:
        ValueError: if the text is no ISO 8601 date or time.
    """
    if reviewed_at is None:
        return _OLDEST
    moment = datetime.fromisoformat(reviewed_at.strip())
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def text_of(row: Row, key: str) -> str | None:
    """Return a value as text, None where it is absent or blank."""
    value = row.get(key)
    # pandas writes an absent value as NaN, which alone among values is not equal to itself.
    if value is None or value != value or not str(value).strip():  # noqa: PLR0124
        return None
    return str(value)


def time_of(place: str, row: Row) -> str | None:
    """Return `reviewed_at` of a row as it stands there; `31.1.2026` and `2026/1/31` of spreadsheets in ISO 8601.

    Raises:
        RecordError: if it is no date or time, or `1/2/2026`, which means two days.
    """
    reviewed_at = text_of(row, "reviewed_at")
    for form in _DATES:
        if date := form.fullmatch((reviewed_at or "").strip()):
            reviewed_at = f"{date['year']}-{date['month']:0>2}-{date['day']:0>2}"
            reviewed_at += f"T{date['hour']:0>2}{date['rest']}" if date["hour"] else ""
    try:
        decided_at(reviewed_at)
    except ValueError:
        detail = f"{place}: reviewed_at={reviewed_at!r} is no ISO 8601 time such as 2026-01-31T09:30:00Z"
        raise RecordError(Reason.MALFORMED_ROW, detail) from None
    return reviewed_at


def _table_rows(path: Path) -> list[Any]:
    """Return the rows of a table, or what is wrong with one."""
    (_, header), *rows = read_cells(decode(path.read_bytes(), path), path)
    columns = [name.strip().lower() for name in header]
    too_wide = ValueError(f"more cells than the {len(columns)} columns: a cell with a comma in it without quotes?")
    return [too_wide if any(cells[len(columns) :]) else dict(zip(columns, cells, strict=False)) for _, cells in rows]


def _parsed(line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as fault:
        return ValueError(f"not JSON: {fault}")


def _checked(place: str, row: Any) -> Row | RecordError:
    """Return a row that tables can hold, or why it is none."""
    if isinstance(row, Exception):
        return RecordError(Reason.MALFORMED_ROW, f"{place}: {row}")
    if not isinstance(row, dict):
        return RecordError(Reason.MALFORMED_ROW, f"{place}: an object is expected, not {row!r:.40}")
    for key, value in row.items():
        # JSON can write half of a surrogate pair, which no file of text holds.
        if isinstance(value, str) and any("\ud800" <= char <= "\udfff" for char in value):
            return RecordError(Reason.MALFORMED_ROW, f"{place}: {key}={value[:40]!r} is no Unicode text")
    return {str(key): value for key, value in row.items()}


def to_verdict(place: str, row: Row) -> Verdict | RecordError:
    """Return the verdict in a row, or what is wrong with it."""
    pair_id, edited = text_of(row, "pair_id"), text_of(row, "edited_answer")
    decision = (text_of(row, "decision") or "").strip().lower()
    if pair_id is None:
        return RecordError(Reason.MALFORMED_ROW, f"{place}: no pair_id")
    if decision not in set(Decision):
        known = ", ".join(Decision)
        return RecordError(Reason.MALFORMED_ROW, f"{place}: decision={decision!r} is none of {known}")
    if decision == Decision.EDIT and edited is None:
        return RecordError(Reason.MALFORMED_ROW, f"{place}: an edit without edited_answer")
    try:
        reviewed_at = time_of(place, row)
    except RecordError as fault:
        return fault
    return Verdict(
        pair_id=pair_id,
        decision=decision,
        edited_answer=edited if decision == Decision.EDIT else None,
        original_answer=None,
        reviewer=text_of(row, "reviewer") or "unknown",
        reviewed_at=reviewed_at,
    )
