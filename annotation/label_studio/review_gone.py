"""Decisions that were pulled once and are no longer on the server: they still count, so every pull names them.

Which they are cannot be told from the stored reviews alone, some of which come from files. So the export of the pull
before is compared, and what was found is noted beside it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

from annotation.label_studio.review_export import ReviewExport, read_review_export
from pipeline.errors import DataError
from pipeline.records import ReviewItem
from pipeline.review.store import stored_reviews
from pipeline.review.verdicts import decided_at
from pipeline.workspace import Workspace

GONE_FILE = "labelstudio/reviews_gone.json"

Key = tuple[str, str, str]
"""Who decided about which answer of which pair: pair, hash of the answer, reviewer."""


def decisions_before(workspace: Workspace, path: Path, server: str, project: int) -> set[Key]:
    """Return the decisions of the pull before, and those that were gone then already.

    Args:
        workspace: where pulls are kept.
        path: the export of the pull before, if there was one.
        server: address of the server that is pulled from now; another one's decisions are not missed there.
        project: the project that is pulled now.
    """
    noted = workspace.read_json(GONE_FILE)
    if not isinstance(noted, dict) or (noted.get("server"), noted.get("project")) != (server, project):
        return set()
    before = {key for key in map(_noted, noted.get("gone") or ()) if key is not None}
    export = ReviewExport()
    try:
        read_review_export(path, export)
    except DataError:
        # what cannot be read any more is replaced as a whole
        return before
    return before | decisions_of(export)


def decisions_of(export: ReviewExport) -> set[Key]:
    """Return who decided about which answer."""
    return {_key(row) for _, row in export.rows if isinstance(row, Mapping)}


def note_gone(
    workspace: Workspace, server: str, project: int, before: Collection[Key], export: ReviewExport
) -> list[str]:
    """Note which earlier decisions an export lacks and still count; return a line for each.

    One that a later decision about the same answer has outvoted is of no matter any more.
    """
    missing = set(before) - decisions_of(export)
    gone = [review for review in _counting(review for _, review in stored_reviews(workspace)) if _of(review) in missing]
    note = {"server": server, "project": project, "gone": [list(_of(review)) for review in gone]}
    workspace.write_json(GONE_FILE, note)
    return [
        f"pair {review.pair_id}: {review.decision} by reviewer {review.reviewer} is no longer on the server and still "
        "counts: decide anew there to take it back"
        for review in gone
    ]


def _counting(reviews: Iterable[ReviewItem]) -> Iterable[ReviewItem]:
    """Return the latest review of each answer."""
    latest: dict[tuple[str, str], ReviewItem] = {}
    for review in reviews:
        other = latest.setdefault((review.pair_id, review.answer_hash), review)
        if decided_at(review.reviewed_at) >= decided_at(other.reviewed_at):
            latest[review.pair_id, review.answer_hash] = review
    return latest.values()


def _key(row: Mapping[str, Any]) -> Key:
    return str(row["pair_id"]), str(row["answer_hash"]), str(row["reviewer"])


def _of(review: ReviewItem) -> Key:
    return review.pair_id, review.answer_hash, review.reviewer or "unknown"


def _noted(key: Any) -> Key | None:
    return (str(key[0]), str(key[1]), str(key[2])) if isinstance(key, list) and len(key) == 3 else None
