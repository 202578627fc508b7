"""Read reviews from the export of a Label Studio project for reviews: JSON, JSON_MIN, CSV and TSV.

An annotation says what the reviewer chose and what the text field held at the end. Where the two contradict each other
the text tells what the reviewer did, and the correction is named:

- `accept` beside a changed text is an edit;
- `edit` beside an unchanged text is an acceptance, and so is `accept` beside an emptied field;
- `reject` stays a rejection, whatever the text.

A text that differs in white space alone is unchanged. Skips, drafts and empty annotations decide nothing and are named.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotation.label_studio.review_said import Said, read_annotation, read_flat_row
from annotation.source import Source, show
from pipeline.errors import DataError, RecordError
from pipeline.records import Decision, Reason
from pipeline.review.rows import same_text
from pipeline.review.verdicts import Row

WANTED = "reviews_wanted"
"""What a task's data says of how many people should review it."""

EXPECTED = "tasks with pair_id, answer and answer_hash, as `holmes labelstudio init-review` makes them"
_KEY = frozenset({"pair_id", "answer", "answer_hash"})


@dataclass(slots=True)
class ReviewExport:
    """What an export says.

    Attributes:
        rows: (place, row with the columns of `ReviewItem`, or why there is none), for `keep_reviews`.
        corrected: decisions that the text contradicted, each with place and what was made of it.
        left_out: annotations that decide nothing, and why.
        tasks: number of tasks; of flat forms, of rows.
        waiting: tasks that nobody has decided or skipped.
        skipped: tasks that were skipped, and that nobody has decided.
        wants_second: tasks that somebody has decided, but fewer people than they were meant for.
        notes: remarks on how it was read.
    """

    rows: list[tuple[str, Row | RecordError]] = field(default_factory=list)
    corrected: list[str] = field(default_factory=list)
    left_out: list[RecordError] = field(default_factory=list)
    tasks: int = 0
    waiting: int = 0
    skipped: int = 0
    wants_second: int = 0
    notes: list[str] = field(default_factory=list)

    def fault(self, place: str, detail: str) -> None:
        """Record a part that could not be read."""
        self.rows.append((place, RecordError(Reason.MALFORMED_ROW, f"{place}: {detail}")))

    def leave_out(self, where: str, why: str) -> None:
        """Record an annotation that decides nothing."""
        self.left_out.append(RecordError(Reason.SKIPPED_ANNOTATION, f"{where}: {why}"))


def is_studio_export(path: Path) -> bool:
    """Whether a file is for `read_review_export` to read: JSON, or a table with the column that Label Studio adds.

    What cannot be read at all is none: whoever reads it next says why.
    """
    if path.suffix.lower() in {".parquet", ".jsonl", ".ndjson"}:
        return False
    try:
        source = Source(path)
        return source.is_json or "annotation_id" in source.columns
    except DataError:
        return False


def read_review_export(path: Path, found: ReviewExport) -> None:
    """Read an export in any of its forms into `found`.

    Raises:
        DataError: unreadable, no tasks, or the export of another kind of project.
    """
    tasks = of_reviews = 0
    before = len(found.rows)
    for tasks, (place, task) in enumerate(_tasks(Source(path)), start=1):  # noqa: B007  (the count is wanted after)
        is_full = isinstance(task, dict) and "data" in task
        data = task["data"] if is_full else task
        if not isinstance(data, dict) or not data.keys() >= _KEY or not isinstance(data["answer"], str):
            found.fault(place, f"expected are {EXPECTED}, not {show(data)}")
            continue
        of_reviews += 1
        if is_full:
            _read_task(found, task, data, place)
        else:
            _read_flat(found, task, place)
    if not tasks:
        raise DataError(f"{path}: no tasks in the export")
    if not of_reviews:
        del found.rows[before:]
        raise DataError(f"{path}: not the export of a project for reviews: expected are {EXPECTED}")
    found.tasks += tasks


def _tasks(source: Source) -> Iterator[tuple[str, Any]]:
    if source.is_json:
        tasks = source.json if isinstance(source.json, list) else [source.json]
        for number, task in enumerate(tasks):
            yield f"{source.name}: $[{number}]", task
        return
    for row in source.rows():
        yield f"{source.name}:{row.line}", row.cells if row.width == len(source.columns) else list(row.cells.values())


def _read_task(found: ReviewExport, task: dict[str, Any], data: dict[str, Any], place: str) -> None:
    drafts, annotations = task.get("drafts"), task.get("annotations")
    for number, _ in enumerate(drafts if isinstance(drafts, list) else []):
        found.leave_out(f"{place}.drafts[{number}]: pair {show(data['pair_id'])}", "a draft that was not submitted")
    if not isinstance(annotations, list):
        found.fault(place, f"pair {show(data['pair_id'])}: annotations is {show(annotations)}, a list is expected")
        return
    decided: set[str] = set()
    is_skipped = False
    for number, annotation in enumerate(annotations):
        spot = f"{place}.annotations[{number}]"
        if not isinstance(annotation, dict):
            found.fault(spot, f"an annotation is expected, not {show(annotation)}")
            continue
        try:
            said = read_annotation(annotation, spot)
        except RecordError as fault:
            found.rows.append((spot, fault))
            continue
        if annotation.get("was_cancelled"):
            is_skipped = True
            found.leave_out(f"{spot}: pair {show(data['pair_id'])}", f"skipped by reviewer {said.reviewer}")
        elif _take(found, said, data, spot):
            decided.add(said.reviewer)
    wanted = data.get(WANTED)
    found.waiting += not decided and not is_skipped
    found.skipped += not decided and is_skipped
    found.wants_second += bool(decided) and isinstance(wanted, int) and len(decided) < wanted


def _read_flat(found: ReviewExport, row: dict[str, Any], place: str) -> None:
    if not found.notes:
        found.notes.append(
            "JSON_MIN, CSV and TSV are not the full export: skips are missing, and a draft looks like a task that "
            "nobody has worked on; JSON has all"
        )
    try:
        said = read_flat_row(row, place)
    except RecordError as fault:
        found.rows.append((place, fault))
        return
    if said is None:
        found.waiting += 1
    else:
        _take(found, said, row, place)


def _take(found: ReviewExport, said: Said, data: Mapping[str, Any], place: str) -> bool:
    """Take over what was said of a pair, after the text where it and the choice contradict each other."""
    where = f"{place}: pair {show(data['pair_id'])}"
    if said.is_empty:
        found.leave_out(where, f"submitted empty by reviewer {said.reviewer}")
        return False
    decision, correction = _settle(said, data["answer"])
    if correction:
        found.corrected.append(f"{where}: reviewer {said.reviewer} {correction}")
    if decision is None:
        found.fault(place, f"pair {show(data['pair_id'])}: no decision by reviewer {said.reviewer}")
        return False
    row = {
        "pair_id": data["pair_id"],
        "answer": data["answer"],
        "answer_hash": data["answer_hash"],
        "decision": decision,
        "edited_answer": said.text if decision == Decision.EDIT else None,
        "reviewer": said.reviewer,
        "reviewed_at": said.reviewed_at,
        # rows of tables have NaN for nothing; in JSON somebody wrote it
        "rating": str(said.rating) if isinstance(said.rating, float) else said.rating,
        "reason": said.reason,
        "lead_time_s": said.lead_time_s,
    }
    found.rows.append((place, row))
    return True


def _settle(said: Said, shown: str) -> tuple[str | None, str | None]:
    """Return the decision that counts, and what was corrected."""
    changed = said.text is not None and not same_text(said.text, shown)
    match said.decision:
        case Decision.ACCEPT if changed:
            return Decision.EDIT.value, "accepted it and changed its text: counted as an edit"
        case Decision.ACCEPT if said.text is None:
            return said.decision, "accepted it and left no text in the field: counted as accepted as shown"
        case Decision.EDIT if said.text is not None and not changed:
            return Decision.ACCEPT.value, "chose edit and changed nothing: counted as accepted"
        case Decision.REJECT if changed:
            return said.decision, "rejected it and changed its text: counted as rejected"
    return said.decision, None
