"""One row of a review that comes back: what it decides about the pair as it is now, or what is wrong with it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

from pipeline.errors import RecordError
from pipeline.records import Decision, Reason, ReviewItem
from pipeline.review.verdicts import Row, text_of, time_of
from pipeline.spreadsheet import with_point

RATINGS = range(1, 6)


def read_decision(place: str, row: Row | RecordError, item_of: Callable[[str], ReviewItem | None]) -> ReviewItem | None:
    """Return the item with what the row says of it, None where that is no decision.

    Raises:
        RecordError: what is wrong with the row; nothing is guessed.
    """
    if isinstance(row, RecordError):
        raise row
    pair_id, edited = text_of(row, "pair_id"), text_of(row, "edited_answer")
    decision = (text_of(row, "decision") or "").strip().lower()
    if pair_id is None:
        raise RecordError(Reason.MALFORMED_ROW, f"{place}: no pair_id")
    item = item_of(pair_id)
    if item is None:
        raise RecordError(Reason.MISSING_PAIR, f"{place}: no pair {pair_id} in this workspace")
    if not decision:
        if edited is None:
            return None
        raise RecordError(Reason.MALFORMED_ROW, f"{place}: pair {pair_id}: an edited_answer without a decision")
    if decision not in set(Decision):
        known = ", ".join(Decision)
        raise RecordError(Reason.MALFORMED_ROW, f"{place}: pair {pair_id}: decision={decision!r} is none of {known}")
    _check_answer(f"{place}: pair {pair_id}", row, item, Decision(decision), edited)
    return dataclasses.replace(
        item,
        decision=decision,
        edited_answer=edited if decision == Decision.EDIT else None,
        reviewer=text_of(row, "reviewer") or "unknown",
        reviewed_at=time_of(place, row),
        rating=_rating(place, row),
        reason=text_of(row, "reason"),
        lead_time_s=_lead_time(row),
    )


def _check_answer(where: str, row: Row, item: ReviewItem, decision: Decision, edited: str | None) -> None:
    """Refuse a decision about another answer than the one of today, and one that its texts contradict."""
    shown = text_of(row, "answer_hash")
    if shown is None:
        detail = f"{where}: no answer_hash, which tells whether its answer is the one that was reviewed"
        raise RecordError(Reason.MALFORMED_ROW, detail)
    if shown.strip() != item.answer_hash:
        detail = f"{where}: its answer was made anew since the export (answer_hash {shown}, now {item.answer_hash})"
        raise RecordError(Reason.STALE_ANSWER, detail)
    answer = text_of(row, "answer")
    if answer is not None and not same_text(answer, item.answer):
        detail = f"{where}: answer was changed to {answer[:60]!r}: leave it, decide edit and fill in edited_answer"
        raise RecordError(Reason.MALFORMED_ROW, detail)
    changes = edited is not None and not same_text(edited, item.answer)
    if decision == Decision.EDIT and not changes:
        raise RecordError(Reason.MALFORMED_ROW, f"{where}: an edit whose edited_answer changes nothing")
    if decision != Decision.EDIT and changes:
        detail = f"{where}: decision={decision.value} beside an edited_answer: is it an edit?"
        raise RecordError(Reason.MALFORMED_ROW, detail)


def _rating(place: str, row: Row) -> int | None:
    text = text_of(row, "rating")
    if text is None:
        return None
    try:
        rating = float(with_point(text, ";"))
    except ValueError:
        rating = 0.0
    if rating not in RATINGS:
        detail = f"{place}: rating={text!r} is no whole number from {RATINGS[0]} to {RATINGS[-1]}"
        raise RecordError(Reason.MALFORMED_ROW, detail)
    return int(rating)


def _lead_time(row: Row) -> float | None:
    """Return a measured time; a figure that is none says nothing about the decision, which counts without it."""
    try:
        lead_time_s = float(with_point(text_of(row, "lead_time_s") or "nan", ";"))
    except ValueError:
        return None
    return lead_time_s if 0 <= lead_time_s < float("inf") else None


def same_text(first: str, second: str) -> bool:
    """Compare but for white space: spreadsheets change line ends."""
    return first.split() == second.split()
