"""Rows whose label, caption and answer are at odds, which only settings keep in a dataset."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.dataset import layout
from pipeline.quality.conflicts import find_conflicts
from pipeline.records import CONFLICTS, RULES, Reason


def kept_conflicts(folder: Path) -> Iterator[str]:
    """Yield a sentence for each kind of conflict in the rows of a dataset that no person has decided about.

    Raises:
        DataError: naming the shard that cannot be read.
    """
    found: dict[Reason, list[str]] = {}
    columns = ["id", "label", "caption", "captioner", "answer", "reviewer"]
    for row in layout.read_rows(folder, columns=columns):
        if row["reviewer"] != RULES:
            continue
        told = {name: row[name] for name in ("label", "caption", "captioner", "answer")}
        for fault in find_conflicts(**told):
            found.setdefault(fault.reason, []).append(f"{row['id']}: {fault.detail}")
    for reason in CONFLICTS:
        if rows := found.get(reason):
            yield f"{len(rows)} row(s) {reason}, which filter.conflicts.{reason}=keep leaves in, e.g. {rows[0]}"
