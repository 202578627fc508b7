"""What the page shows: every pair with its clip, what became of it, and what reviewers said."""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.records import Decision, digest
from pipeline.review.items import ReviewItems, Selection, pairs_to_review
from pipeline.review.store import keep_reviews, stored_reviews
from pipeline.workspace import Workspace


class ViewedPairs:
    """The pairs of a workspace as the page shows them; decisions go where `holmes review import` keeps them.

    Raises:
        DataError: there is nothing in the workspace to show.
    """

    def __init__(self, workspace: Workspace, reviewer: str) -> None:
        self._workspace = workspace
        self._reviewer = reviewer
        self._items = ReviewItems(workspace)
        self._ids = pairs_to_review(workspace, Selection(unchecked=True))
        self._busy = threading.Lock()

    def rows(self) -> list[dict[str, Any]]:
        """Return all pairs in order of video, place and task, with state, reasons and reviews."""
        kept = {row["pair_id"]: row for row in self._workspace.verdicts.arrow(["pair_id", "reviewer"]).to_pylist()}
        rejected = {row.record_id: row for row in self._workspace.verdicts.rejected()}
        said: defaultdict[tuple[str, str], dict[str, str]] = defaultdict(dict)
        for _, review in stored_reviews(self._workspace):
            said[review.pair_id, review.answer_hash][review.reviewer or "unknown"] = str(review.decision)
        rows = []
        for pair_id in self._ids:
            item = self._items.get(pair_id)
            if item is None:
                continue
            reviews = said.get((pair_id, item.answer_hash), {})
            fault = rejected.get(pair_id)
            rows.append(
                {
                    "pair_id": pair_id, "video_id": item.video_id, "label": item.label, "task": item.task,
                    "start_s": item.start_s, "end_s": item.end_s,
                    "in_source": not item.clip_path.endswith(self._workspace.clip_file(item.clip_id)),
                    "caption": item.caption, "question": item.question, "answer": item.answer,
                    "state": "kept" if pair_id in kept else "rejected" if fault else "undecided",
                    "reason": None if fault is None else fault.reason,
                    "detail": None if fault is None else fault.detail,
                    "reviews": reviews,
                    "agreement": _agreement(reviews.values()),
                }
            )  # fmt: skip
        return rows

    def clip(self, pair_id: str) -> Path | None:
        """Return the file of a pair's clip, or the video that it is a span of; None where there is none."""
        item = self._items.get(pair_id)
        return None if item is None or not Path(item.clip_path).is_file() else Path(item.clip_path)

    def decide(self, pair_id: str, decision: str, answer: str) -> None:
        """Keep a decision about the answer that was shown.

        Raises:
            DataError: it is none, or the answer was made anew since.
        """
        if decision not in (Decision.ACCEPT, Decision.REJECT):
            raise DataError(f"decision={decision!r} is neither accept nor reject")
        row = {
            "pair_id": pair_id, "decision": decision, "answer_hash": digest(answer), "reviewer": self._reviewer,
            "reviewed_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        }  # fmt: skip
        # A build may have made answers anew since the page was opened.
        with self._busy, self._workspace.locked(will_build=False):
            done = keep_reviews(self._workspace, [("page", row)], ReviewItems(self._workspace).get)
        if done.faults:
            raise DataError(done.faults[0].detail)


def _agreement(decisions: Collection[str]) -> str | None:
    if len(decisions) < 2:
        return None
    return "alike" if len(set(decisions)) == 1 else "conflict"
