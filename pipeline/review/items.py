"""Pairs on their way to reviewers: which ones, in which order, as rows of a CSV, JSONL or Parquet file."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.errors import ConfigError, DataError, SetupError
from pipeline.records import CONFLICTS, RULES, Reason, ReviewItem, Task, digest
from pipeline.review.store import decided_pairs
from pipeline.schema import PROVENANCE, field_names, to_arrow
from pipeline.storage import describe_os_error, opened_atomically
from pipeline.workspace import Workspace

SUFFIXES = (".csv", ".jsonl", ".parquet")

_ROW_GROUP_ROWS = 1000
_TASK_ORDER = [task.value for task in Task]


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which pairs go to reviewers.

    By default all that the rules let pass, those included that a reviewer rejected since, and what was dropped because
    label, caption and answer are at odds; `unchecked` adds the pairs that other rules dropped or that none has read. Of
    these, `sample_percent` in (0, 100] are drawn by `seed`, rounded up; `only_undecided` then leaves out what is
    decided already, so that a sample stays the same while it is worked off.
    """

    unchecked: bool = False
    only_undecided: bool = False
    sample_percent: float = 100.0
    seed: int = 0


class ReviewItems:
    """The pairs of a workspace as review items that nobody has decided yet."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._pairs = workspace.pairs.lookup("pair_id")
        self._clips = workspace.clips.lookup("clip_id")
        self._captions = workspace.all_captions.lookup("clip_id")
        self._videos = workspace.videos.lookup("video_id")
        self._doubts = doubts(workspace)
        self._clip_files = frozenset(workspace.storage.list("clips"))

    def get(self, pair_id: str) -> ReviewItem | None:
        """Return the item of a pair, None where there is no such pair.

        Raises:
            DataError: if its clip, caption or video is not in the tables, as after a build that was stopped.
        """
        pair = self._pairs.get(pair_id)
        if pair is None:
            return None
        clip, caption = self._clips.get(pair.clip_id), self._captions.get(pair.clip_id)
        video = None if clip is None else self._videos.get(clip.video_id)
        if clip is None or caption is None or video is None:
            raise DataError(
                f"pair {pair_id}: its clip, caption or video is not in the tables; run the build to its end"
            )
        own_file = self._workspace.clip_file(clip.clip_id)
        has_file = own_file.removeprefix("clips/") in self._clip_files
        return ReviewItem(
            pair_id=pair.pair_id,
            clip_id=clip.clip_id,
            video_id=clip.video_id,
            clip_path=self._workspace.storage.path(own_file) if has_file else video.path,
            start_s=clip.start_s,
            end_s=clip.end_s,
            label=pair.label,
            caption=caption.text,
            task=pair.task,
            question=pair.question,
            answer=pair.answer,
            answer_hash=digest(pair.answer),
            decision=None,
            edited_answer=None,
            reviewer=None,
            reviewed_at=None,
            rating=None,
            reason=None,
            conflict=self._doubts.get(pair.pair_id),
        )


def select_pairs(workspace: Workspace, selection: Selection) -> list[str]:
    """Return the ids of the selected pairs, those with conflicts first, within and after these by agreement.

    Of the same agreement, and where captions have none, they stand by video, place in it, and task.

    Raises:
        ConfigError: if `sample_percent` is outside its range.
    """
    if not 0 < selection.sample_percent <= 100:
        raise ConfigError(f"sample={selection.sample_percent}: a share in (0, 100] percent is expected")
    chosen = _in_order(workspace)
    verdicts = workspace.verdicts.arrow(["pair_id", "reviewer"]).to_pylist()
    doubted = doubts(workspace)
    rejected_by_people = {
        rejected.record_id for rejected in workspace.verdicts.rejected() if rejected.reason == Reason.REVIEWER_REJECTED
    }
    if not selection.unchecked:
        passed = rejected_by_people.union(doubted, (row["pair_id"] for row in verdicts))
        chosen = [pair_id for pair_id in chosen if pair_id in passed]
    if selection.sample_percent < 100:
        drawn = draw_sample(chosen, selection.sample_percent, "review", selection.seed)
        chosen = [pair_id for pair_id in chosen if pair_id in drawn]
    if selection.only_undecided:
        # By people, in files that the build was given or in reviews that no build has read yet.
        decided = rejected_by_people.union(row["pair_id"] for row in verdicts if row["reviewer"] != RULES)
        decided |= decided_pairs(workspace)
        chosen = [pair_id for pair_id in chosen if pair_id not in decided]
    agreement = _agreement(workspace)
    return sorted(chosen, key=lambda pair_id: (pair_id not in doubted, agreement.get(pair_id, 1.0)))


def doubts(workspace: Workspace) -> dict[str, str]:
    """Return the pairs whose label, caption and answer are at odds, kept or dropped, each with the reason."""
    rejected = workspace.verdicts.rejected()
    dropped = {record.record_id: record.reason for record in rejected if record.reason in CONFLICTS}
    kept = workspace.verdicts.arrow(["pair_id", "conflict"]).to_pylist()
    return dropped | {row["pair_id"]: row["conflict"] for row in kept if row["conflict"] is not None}


def _agreement(workspace: Workspace) -> dict[str, float]:
    """Return the agreement of the captions of pairs, where they have one."""
    captions = workspace.all_captions.arrow(["clip_id", "agreement"]).to_pylist()
    of_clip = {row["clip_id"]: row["agreement"] for row in captions if row["agreement"] is not None}
    pairs = workspace.pairs.arrow(["pair_id", "clip_id"]).to_pylist() if of_clip else []
    return {row["pair_id"]: of_clip[row["clip_id"]] for row in pairs if row["clip_id"] in of_clip}


def draw_sample(pair_ids: Sequence[str], percent: float, *salt: str | int) -> set[str]:
    """Draw a share of some pairs, rounded up; the same `salt` draws the same, whatever their order."""
    count = math.ceil(len(pair_ids) * percent / 100)
    return set(sorted(pair_ids, key=lambda pair_id: digest(*salt, pair_id))[:count])


def pairs_to_review(workspace: Workspace, selection: Selection) -> list[str]:
    """Return the ids of the selected pairs, as `select_pairs` does; none only where all of them are decided.

    Raises:
        ConfigError: if the selection is none.
        DataError: if there is nothing in the workspace to review.
    """
    if not workspace.pairs.num_rows:
        raise DataError(f"{workspace.url}: no pairs to review; run the build first")
    pair_ids = select_pairs(workspace, selection)
    if not pair_ids and not selection.unchecked and not workspace.verdicts.num_rows:
        raise DataError(f"{workspace.url}: none of {workspace.pairs.num_rows} pairs has passed the rules")
    return pair_ids


def export_items(workspace: Workspace, selection: Selection, out: Path) -> int:
    """Write the selected pairs to a file, .csv, .jsonl or .parquet; return how many there are.

    Raises:
        ConfigError: if the suffix or the selection is none of those.
        DataError: if there is nothing in the workspace to review.
        SetupError: if `out` exists, since it may hold decisions, or cannot be written.
    """
    if out.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"{out}: review items are written as {', '.join(SUFFIXES)}")
    if out.exists():
        raise SetupError(f"{out}: exists and may hold decisions; name another file, or remove it")
    pair_ids = pairs_to_review(workspace, selection)
    items = ReviewItems(workspace)
    found = (item for pair_id in pair_ids if (item := items.get(pair_id)) is not None)
    try:
        with opened_atomically(out) as file:
            _write(file, out.suffix.lower(), found)
    except OSError as fault:
        raise SetupError(f"{out}: {describe_os_error(fault)}") from None
    return len(pair_ids)


def _in_order(workspace: Workspace) -> list[str]:
    clips = workspace.clips.arrow(["clip_id", "video_id", "start_frame"])
    place = {row["clip_id"]: (row["video_id"], row["start_frame"]) for row in clips.to_pylist()}
    pairs = workspace.pairs.arrow(["pair_id", "clip_id", "task"]).to_pylist()
    # A pair whose clip is gone stands last; `ReviewItems` says what to do about it.
    keys = [
        (row["clip_id"] not in place, place.get(row["clip_id"], ()), _TASK_ORDER.index(row["task"]), row["pair_id"])
        for row in pairs
    ]
    return [key[-1] for key in sorted(keys)]


def _write(file: BinaryIO, suffix: str, items: Iterable[ReviewItem]) -> None:
    if suffix == ".parquet":
        remaining = iter(items)
        with pq.ParquetWriter(file, _table([]).schema, compression="zstd") as writer:
            while group := list(islice(remaining, _ROW_GROUP_ROWS)):
                writer.write_table(_table(group))
        return
    text = io.TextIOWrapper(file, encoding="utf-8", newline="")
    if suffix == ".jsonl":
        text.writelines(json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in items)
    else:
        table = csv.DictWriter(text, field_names(ReviewItem), lineterminator="\n")
        table.writeheader()
        table.writerows(asdict(item) for item in items)
    text.detach()


def _table(items: Sequence[ReviewItem]) -> pa.Table:
    return to_arrow(ReviewItem, [("", item) for item in items], "").drop_columns([field.name for field in PROVENANCE])
