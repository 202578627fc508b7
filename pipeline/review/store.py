"""What reviewers said, kept in the workspace: `reviews/000000-<hash>.parquet`, a file an import, never changed.

They are people's work and no table that a build could make again, so they stand apart from `tables/`. Every row is the
whole item as it was decided about. Of several decisions about one pair the one of the latest `reviewed_at` counts, of
equally late ones, or ones without a time, the last imported.
"""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import DataError, RecordError
from pipeline.records import Reason, ReviewItem, Verdict, digest
from pipeline.review.rows import read_decision, same_text
from pipeline.review.verdicts import Row, decided_at, read_rows, text_of, to_verdict
from pipeline.schema import from_arrow, to_arrow, with_new_columns
from pipeline.storage import TEMPORARY
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

FOLDER = "reviews"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewImport:
    """What an import did: rows stored, rows that said nothing new, rows without a decision, and what is wrong.

    Of the stored ones `outvoted` do not count, since there is a later decision about the pair.
    """

    added: int = 0
    outvoted: int = 0
    known: int = 0
    undecided: int = 0
    faults: Sequence[RecordError] = field(default_factory=tuple)

    def __str__(self) -> str:
        """Return the counts."""
        return (
            f"{self.added} decisions added ({self.outvoted} outvoted by later ones), {self.known} known before, "
            f"{self.undecided} undecided, {len(self.faults)} faults"
        )


def rows_of_files(paths: Iterable[Path]) -> Iterator[tuple[str, Row | RecordError]]:
    """Yield (place, row or fault) for every row of files of review items, and a fault for a file that is none."""
    for path in paths:
        try:
            yield from read_rows(path)
        except DataError as fault:
            yield str(path), RecordError(Reason.UNREADABLE, str(fault))


def keep_reviews(
    workspace: Workspace,
    rows: Iterable[tuple[str, Row | RecordError]],
    item_of: Callable[[str], ReviewItem | None],
) -> ReviewImport:
    """Check rows of review items, each with its place, and store what is new of the good ones.

    The caller holds the workspace's lock.

    Args:
        workspace: where the items came from.
        rows: of a row, pair_id, answer_hash and what the reviewer filled in are read.
        item_of: the item of a pair as it would be exported now, None where there is no such pair.

    Raises:
        SetupError: if the workspace cannot be written.
    """
    decided: list[ReviewItem] = []
    faults: list[RecordError] = []
    undecided = 0
    for place, row in rows:
        try:
            item = read_decision(place, row, item_of)
        except RecordError as fault:
            faults.append(fault)
            continue
        if item is None:
            undecided += 1
        else:
            decided.append(item)
    stored = [review for _, review in stored_reviews(workspace)]
    new = _without_known(decided, stored)
    if new:
        _store(workspace, new)
    return ReviewImport(
        added=len(new),
        outvoted=_count_outvoted(new, stored),
        known=len(decided) - len(new),
        undecided=undecided,
        faults=tuple(faults),
    )


def file_verdicts(workspace: Workspace, names: Iterable[str]) -> Iterator[tuple[str, Verdict | RecordError]]:
    """Yield (place, verdict or fault) for every decided row of files that a build is given.

    A row tells by `answer_hash`, `original_answer` or `answer` which one it is about: it is a fault where that was made
    anew since. Rows of a review file that nobody has decided are passed over.

    Raises:
        DataError: naming the file that cannot be read at all.
    """
    rows = [item for name in names for item in read_rows(Path(name))]
    ids = {text_of(row, "pair_id") for _, row in rows if not isinstance(row, RecordError)}
    answers = _answers(workspace, {pair_id for pair_id in ids if pair_id})
    unknown = 0
    for place, row in rows:
        if isinstance(row, RecordError):
            yield place, row
            continue
        pair_id, shown = text_of(row, "pair_id"), text_of(row, "answer_hash")
        if shown is not None and not (text_of(row, "decision") or text_of(row, "edited_answer")):
            continue
        answer, text = answers.get(pair_id or ""), text_of(row, "original_answer") or text_of(row, "answer")
        is_stale = answer is not None and (
            shown.strip() != digest(answer) if shown is not None else text is not None and not same_text(text, answer)
        )
        unknown += answer is not None and shown is None and text is None
        if is_stale:
            detail = f"{place}: the answer of {pair_id} was made anew since it was reviewed"
            yield place, RecordError(Reason.STALE_ANSWER, detail)
        else:
            yield place, to_verdict(place, row)
    if unknown:
        detail = "do not say which answer they are about (answer_hash or original_answer): they count as of today's"
        logger.warning("%d verdict(s) %s", unknown, detail)


def stored_reviews(workspace: Workspace) -> Iterator[tuple[str, ReviewItem]]:
    """Yield (place, decided item) for all that was imported, in that order.

    Raises:
        DataError: naming the file that cannot be read.
    """
    for name in _files(workspace):
        try:
            with workspace.storage.open(f"{FOLDER}/{name}") as file:
                # Threads of Arrow that hold a Python file now and then abort the process as it ends.
                table = pq.read_table(file, use_threads=False, pre_buffer=False)
            table = with_new_columns(ReviewItem, table, ("lead_time_s", "conflict"))
            rows = list(from_arrow(ReviewItem, table.to_batches()))
        except (pa.ArrowException, KeyError) as fault:
            path = workspace.storage.path(f"{FOLDER}/{name}")
            raise DataError(f"{path}: no longer readable ({fault}); restore it, or remove it and import anew") from None
        for number, row in enumerate(rows, start=1):
            yield f"{FOLDER}/{name}: row {number}", row


def reviews_digest(workspace: Workspace) -> str:
    """Hash all that was imported: the names of its files carry the hash of their bytes."""
    return digest(_files(workspace))


def decided_pairs(workspace: Workspace) -> set[str]:
    """Return the pairs whose answer of today somebody has reviewed."""
    reviews = [review for _, review in stored_reviews(workspace)]
    answers = _answers(workspace, {review.pair_id for review in reviews})
    return {review.pair_id for review in reviews if answers.get(review.pair_id) == review.answer}


def stored_verdicts(workspace: Workspace) -> Iterator[tuple[str, Verdict | RecordError]]:
    """Yield (place, verdict) for all that was imported, and a fault where the pair's answer was made anew since.

    A review of an older answer is no fault where the answer of today was reviewed too.
    """
    reviews = list(stored_reviews(workspace))
    answers = _answers(workspace, {review.pair_id for _, review in reviews})
    current = decided_pairs(workspace)
    for place, review in reviews:
        if answers.get(review.pair_id, review.answer) == review.answer:
            yield place, _to_verdict(review)
        elif review.pair_id not in current:
            detail = f"{place}: the answer of {review.pair_id} was made anew since {review.reviewer} reviewed it"
            yield place, RecordError(Reason.STALE_ANSWER, detail)


def _without_known(decided: Sequence[ReviewItem], stored: Sequence[ReviewItem]) -> list[ReviewItem]:
    """Return what is not stored yet.

    Where no time tells the order, only the last word about a pair is one: it is new if it differs from the last that
    is stored, so that a reviewer can also come back to an earlier decision.
    """
    timed = {_said(review) for review in stored if review.reviewed_at is not None}
    last_stored = {review.pair_id: _said(review) for review in stored if review.reviewed_at is None}
    last = {item.pair_id: position for position, item in enumerate(decided) if item.reviewed_at is None}
    new = []
    for position, item in enumerate(decided):
        said = _said(item)
        if item.reviewed_at is None:
            is_new = position == last[item.pair_id] and last_stored.get(item.pair_id) != said
        else:
            is_new = said not in timed
            timed.add(said)
        if is_new:
            new.append(item)
    return new


def _count_outvoted(new: Sequence[ReviewItem], stored: Sequence[ReviewItem]) -> int:
    latest: dict[tuple[str, str], ReviewItem] = {}
    for review in (*stored, *new):
        before = latest.get((review.pair_id, review.answer_hash))
        if before is None or decided_at(review.reviewed_at) >= decided_at(before.reviewed_at):
            latest[review.pair_id, review.answer_hash] = review
    return sum(latest[review.pair_id, review.answer_hash] is not review for review in new)


def _said(review: ReviewItem) -> str:
    """Hash what a reviewer said of which answer; where the clip lies now is no part of it."""
    return digest(
        review.pair_id, review.answer_hash, review.decision, review.edited_answer, review.reviewer,
        review.reviewed_at, review.rating, review.reason,
    )  # fmt: skip


def _to_verdict(review: ReviewItem) -> Verdict:
    return Verdict(
        pair_id=review.pair_id,
        decision=str(review.decision),
        edited_answer=review.edited_answer,
        original_answer=review.answer,
        reviewer=review.reviewer or "unknown",
        reviewed_at=review.reviewed_at,
    )


def _answers(workspace: Workspace, pair_ids: set[str]) -> dict[str, str]:
    """Return today's answers of some pairs; of no more, since all answers together may be gigabytes."""
    if not pair_ids:
        return {}
    wanted = pa.array(sorted(pair_ids), pa.string())
    found: dict[str, str] = {}
    for batch in workspace.pairs.batches(["pair_id", "answer"]):
        kept = batch.filter(pc.is_in(batch.column("pair_id"), value_set=wanted))
        found.update(zip(kept.column("pair_id").to_pylist(), kept.column("answer").to_pylist(), strict=True))
    return found


def _files(workspace: Workspace) -> list[str]:
    return [
        name for name in workspace.storage.list(FOLDER) if name.endswith(".parquet") and not name.startswith(TEMPORARY)
    ]


def _store(workspace: Workspace, reviews: Sequence[ReviewItem]) -> None:
    buffer = io.BytesIO()
    pq.write_table(
        to_arrow(ReviewItem, [(_said(review), review) for review in reviews], ""), buffer, compression="zstd"
    )
    content = buffer.getvalue()
    number = 1 + max((int(name.split("-")[0]) for name in _files(workspace)), default=-1)
    name = f"{number:06d}-{blake2b(content, digest_size=8).hexdigest()}.parquet"
    workspace.storage.write(f"{FOLDER}/{name}", content)
