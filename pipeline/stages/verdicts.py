"""Human verdicts from files: Parquet, CSV or JSONL with the columns of `Verdict`."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.errors import DataError, RecordError
from pipeline.records import Decision, Reason, Verdict


def read_verdicts(paths: Iterable[str]) -> Iterator[tuple[str, Verdict | RecordError]]:
    """Yield (place, verdict or fault) for every row of the files, in order.

    Raises:
        DataError: naming the file that cannot be read at all.
    """
    for name in paths:
        for place, row in _rows(Path(name)):
            yield place, _to_verdict(place, row)


def _rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    try:
        match path.suffix.lower():
            case ".parquet":
                frame = pd.read_parquet(path)
            case ".csv":
                frame = pd.read_csv(path, dtype=str, keep_default_na=False)
            case ".jsonl" | ".ndjson":
                lines = [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]
                frame = pd.DataFrame([json.loads(line) for line in lines])
            case suffix:
                raise DataError(f"{path}: verdicts are read from .parquet, .csv or .jsonl, not {suffix or 'no suffix'}")
    except (OSError, ValueError) as fault:
        raise DataError(f"{path}: cannot be read as verdicts: {fault}") from None
    for number, row in enumerate(frame.to_dict("records"), start=1):
        yield f"{path}: row {number}", {str(key): value for key, value in row.items()}


def _to_verdict(place: str, row: Mapping[str, Any]) -> Verdict | RecordError:
    pair_id, decision, edited = _text(row, "pair_id"), _text(row, "decision"), _text(row, "edited_answer")
    if pair_id is None:
        return RecordError(Reason.MALFORMED_ROW, f"{place}: no pair_id")
    if decision not in set(Decision):
        known = ", ".join(Decision)
        return RecordError(Reason.MALFORMED_ROW, f"{place}: decision={decision!r} is none of {known}")
    if decision == Decision.EDIT and edited is None:
        return RecordError(Reason.MALFORMED_ROW, f"{place}: an edit without edited_answer")
    return Verdict(
        pair_id=pair_id,
        decision=decision,
        edited_answer=edited if decision == Decision.EDIT else None,
        reviewer=_text(row, "reviewer") or "unknown",
        reviewed_at=_text(row, "reviewed_at"),
    )


def _text(row: Mapping[str, Any], key: str) -> str | None:
    value = row.get(key)
    # pandas writes an absent value as NaN, which alone among values is not equal to itself.
    if value is None or value != value or not str(value).strip():  # noqa: PLR0124
        return None
    return str(value)
