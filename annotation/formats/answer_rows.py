"""The rows of a file of answers, predicted or right: JSON Lines, a JSON list, a table or Parquet."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from annotation.source import Source, show
from pipeline.errors import DataError

ID = ("id", "pair_id", "question_id")
PREDICTION = ("prediction", "answer")

Place = str
"""Where a row stands, for messages: `file:line`, or the file and the number of the row from 1."""


def read_predictions(path: Path) -> dict[str, str]:
    """Read what a model answered, by id: rows with `id` and `prediction` or `answer`.

    A blank text is an answer too: the model had nothing to say.

    Raises:
        DataError: the file cannot be read or holds no row, or, naming the place, a row is malformed, lacks one of the
            two or repeats an id.
    """
    predictions: dict[str, str] = {}
    seen: dict[str, Place] = {}
    for place, row in read_rows(Source(path)):
        name = id_of(place, row)
        if name in seen:
            raise DataError(f"{place}: the id {name!r} stands at {seen[name]} already")
        seen[name] = place
        predictions[name] = text_of(place, row, PREDICTION)
    if not predictions:
        raise DataError(f"{path}: no predictions in it")
    return predictions


def read_rows(source: Source) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    """Yield (place, row) for every row, blank lines left out.

    Raises:
        DataError: naming the line that is not UTF-8, no JSON or no object, or the file that is no table.
    """
    if source.is_parquet:
        yield from _parquet_rows(source)
    elif source.path.suffix.lower() in {".csv", ".tsv"}:
        for row in source.rows():
            yield f"{source.path}:{row.line}", row.cells
    elif source.text.lstrip().startswith("["):
        for number, row in enumerate(source.json, start=1):
            yield _object(f"{source.path}: row {number}", row)
    else:
        for line, text in source.lines():
            place = f"{source.path}:{line}"
            try:
                row = json.loads(text)
            except (ValueError, RecursionError) as fault:
                raise DataError(f"{place}: not JSON: {fault}") from None
            yield _object(place, row)


def id_of(place: Place, row: Mapping[str, Any]) -> str:
    """Return the id of a row as text; numbers count as what they print as.

    Raises:
        DataError: there is none.
    """
    value = next((row[key] for key in ID if row.get(key) is not None), None)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise DataError(f"{place}: an id is expected, text or a whole number under {ID[0]!r}, not {show(value)}")
    return str(value)


def text_of(place: Place, row: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Return the text under the first of `keys` that the row has.

    Raises:
        DataError: it has none of them, or something else than text stands there.
    """
    key = next((key for key in keys if key in row), None)
    if key is None:
        raise DataError(f"{place}: none of {', '.join(keys)} among {', '.join(map(str, row)) or 'no keys'}")
    value = row[key]
    if not isinstance(value, str):
        raise DataError(f"{place}: {key} is {show(value)}, text is expected")
    if any("\ud800" <= char <= "\udfff" for char in value):
        raise DataError(f"{place}: {key} holds half of a surrogate pair, which is no text")
    return value


def _object(place: Place, row: object) -> tuple[Place, Mapping[str, Any]]:
    if not isinstance(row, dict):
        raise DataError(f"{place}: an object is expected, not {show(row)}")
    return place, row


def _parquet_rows(source: Source) -> Iterator[tuple[Place, Mapping[str, Any]]]:
    try:
        rows = pq.read_table(io.BytesIO(source.path.read_bytes())).to_pylist()
    except (OSError, pa.ArrowException) as fault:
        raise DataError(f"{source.path}: not a readable Parquet file: {fault}") from None
    for number, row in enumerate(rows, start=1):
        yield f"{source.path}: row {number}", row
