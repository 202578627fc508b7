"""What one annotation of a project for reviews says, in the full export or in a row of a flat one."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from annotation.label_studio.regions import annotator_name
from annotation.label_studio.review_interface import ANSWER, COMMENT, DECISION, RATING, REASON
from annotation.source import show
from pipeline.errors import RecordError
from pipeline.records import Reason

_CONTROLS = frozenset({DECISION, ANSWER, REASON, COMMENT, RATING})


@dataclass(slots=True, kw_only=True)
class Said:
    """One reviewer's words. `text` is what the field of the answer held, None where it was empty.

    `rating`, `reviewed_at` and `lead_time_s` are as they stand there, whatever that is; `is_empty` says that the
    annotation was submitted with nothing in it.
    """

    reviewer: str
    reviewed_at: Any
    lead_time_s: Any
    decision: str | None = None
    text: str | None = None
    reasons: list[str] = field(default_factory=list)
    comment: str | None = None
    rating: Any = None
    is_empty: bool = False

    @property
    def reason(self) -> str | None:
        """What was chosen and what was written, as one text."""
        return ": ".join(filter(None, [", ".join(self.reasons), self.comment])) or None


def read_annotation(annotation: Mapping[str, Any], place: str) -> Said:
    """Read an annotation of the JSON export.

    Raises:
        RecordError: it is none, or holds what no front end saves.
    """
    user = _user(annotation.get("completed_by"), place)
    result = annotation.get("result")
    if not isinstance(result, list):
        raise RecordError(Reason.MALFORMED_ROW, f"{place}: a list of results is expected, not {show(result)}")
    said = _of(annotation, user)
    said.is_empty = True
    for name, value in _values(result, place):
        said.is_empty = False
        _hear(said, name, value, place)
    return said


def read_flat_row(row: Mapping[str, Any], place: str) -> Said | None:
    """Read a row of JSON_MIN, CSV or TSV, None where it names no annotator: a draft, or a task without annotation.

    Raises:
        RecordError: it holds what no server writes.
    """
    user = _user(row.get("annotator"), place)
    if user is None:
        return None
    said = _of(row, user)
    said.decision = _one(row.get(DECISION), DECISION, place)
    said.text = _one(row.get(ANSWER), ANSWER, place)
    said.comment = _one(row.get(COMMENT), COMMENT, place)
    chosen = _unpacked(row.get(REASON), "{")
    if chosen not in (None, ""):
        said.reasons = _texts(chosen["choices"] if _holds(chosen, "choices") else chosen, REASON, place)
    stars = _unpacked(row.get(RATING), "[")
    said.rating = stars[0]["rating"] if isinstance(stars, list) and stars and _holds(stars[0], "rating") else stars
    said.is_empty = not (said.decision or said.text or said.comment or said.reasons or said.rating)
    return said


def _user(completed_by: Any, place: str) -> str | None:
    try:
        return annotator_name(completed_by)
    except ValueError as fault:
        raise RecordError(Reason.MALFORMED_ROW, f"{place}: {fault}") from None


def _of(annotation: Mapping[str, Any], user: str | None) -> Said:
    return Said(
        reviewer=user or "unknown",
        reviewed_at=annotation.get("updated_at") or annotation.get("created_at"),
        lead_time_s=annotation.get("lead_time"),
    )


def _values(result: list[Any], place: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield name and value of what the interface's controls have saved; what other controls saved is passed over."""
    for region in result:
        if not isinstance(region, dict) or not isinstance(region.get("value"), dict):
            raise RecordError(Reason.MALFORMED_ROW, f"{place}: a result with a value is expected, not {show(region)}")
        name = region.get("from_name")
        if isinstance(name, str) and name in _CONTROLS:
            yield name, region["value"]


def _hear(said: Said, name: str, value: dict[str, Any], place: str) -> None:
    if name == DECISION:
        choices = _texts(value.get("choices"), name, place)
        if len(choices) != 1 or said.decision not in {None, choices[0]}:
            raise RecordError(Reason.MALFORMED_ROW, f"{place}: one decision is expected, not {show(choices)}")
        said.decision = choices[0].strip() or None
    elif name == ANSWER:
        said.text = _joined(said.text, _texts(value.get("text"), name, place))
    elif name == REASON:
        said.reasons += _texts(value.get("choices"), name, place)
    elif name == COMMENT:
        said.comment = _joined(said.comment, _texts(value.get("text"), name, place))
    else:
        said.rating = value.get("rating")


def _texts(value: Any, name: str, place: str) -> list[str]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise RecordError(Reason.MALFORMED_ROW, f"{place}: {name}={show(value)}: texts are expected")
    return texts


def _joined(before: str | None, texts: list[str]) -> str | None:
    text = "\n".join([before, *texts] if before else texts)
    return text if text.strip() else None


def _one(cell: Any, name: str, place: str) -> str | None:
    return None if cell is None else _joined(None, _texts(cell, name, place))


def _holds(value: Any, name: str) -> bool:
    return isinstance(value, dict) and name in value


def _unpacked(cell: Any, opening: str) -> Any:
    """Return what the JSON in a cell says, other cells as they are: the server packs only what is not one text."""
    if isinstance(cell, str) and cell.startswith(opening):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell
