"""`run_stage`: the one place where stages meet tables.

It works out which units are not done yet, lets the stage work on them, and commits the outcomes in shards and in
order. A run that is killed loses at most the shard in progress; the next run goes on where it ended and arrives at
the same rows in the same order.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Generic, TypeVar

from pipeline.keys import KeySet
from pipeline.models.base import Pays
from pipeline.records import Reason, Record, Rejected, count_by, digest
from pipeline.schema import field_names, from_arrow
from pipeline.stages.base import (
    Claiming,
    Outcome,
    Sourced,
    Stage,
    StageReport,
    TableOnly,
    Unit,
    fingerprint_of,
    to_rejected,
)
from pipeline.stages.executor import Executor, LocalExecutor
from pipeline.tables import Table

logger = logging.getLogger(__name__)

P = TypeVar("P")
R = TypeVar("R", bound=Record)

Progress = Callable[[str, int, int], None]
"""Called with the stage, the units done in this run and the units to do."""

# However slow a stage is, a kill loses no more than this much of its work.
COMMIT_EVERY_S = 30.0

# Faults of the moment, not of the data: the next run tries these units again, as make does.
PASSING = frozenset({Reason.TIMED_OUT, Reason.OUT_OF_MEMORY, Reason.CRASHED, Reason.REQUEST_FAILED})

FILES_OF_ROWS = ("clips", "features", "scores")
"""Folders of a workspace whose files rows refer to."""

# Rejects named one by one in the log of a stage; all of them stand beside its table.
LOGGED_REJECTS = 20


def pending_units(stage: Stage[Any, Any], table: Table[Any]) -> tuple[int, int]:
    """Return how many units of a stage are done and how many are still to do, running nothing."""
    if _is_up_to_date(stage, table, _sources(stage)):
        return table.num_units(), 0
    work = _Work(stage, table)
    return len(work.wanted) - work.pending, work.pending


def run_stage(
    stage: Stage[P, R],
    table: Table[R],
    *,
    shard_rows: int = 512,
    on_progress: Progress | None = None,
    executor: Executor | None = None,
) -> StageReport:
    """Bring a stage's table up to date with its inputs and settings; without an executor all work is done here.

    Rows already made under the same key are kept, missing ones are made, and rows whose input or setting is gone are
    dropped. Faults of single records become `Rejected` rows. What was finished before an exception is committed.

    Raises:
        SetupError: from the stage or the disk; everything committed so far is kept.
    """
    started = time.monotonic()
    table.sweep()
    sources = _sources(stage)
    if _is_up_to_date(stage, table, sources):
        logger.info("%s: nothing has changed: done=%d", stage.name, table.num_units())
        stage.finish()
        return _report(stage, table, started, made=0, kept=table.num_units(), dropped=0)
    work = _Work(stage, table)
    logger.info("%s: to do=%d done=%d", stage.name, work.pending, len(work.wanted) - work.pending)
    # What is made again leaves first, or it would stand twice.
    table.drop(work.again)
    dropped = table.drop(work.stale) if isinstance(stage, Claiming) else 0
    shard = _ShardInProgress(table, work.fingerprint, stage.name)
    done = 0
    begun: deque[tuple[str, str]] = deque()
    executor = executor or LocalExecutor()
    try:
        for outcome in executor.run(stage, work.todo(begun), work.pending):
            shard.add(begun.popleft()[0], outcome)
            done += 1
            if on_progress is not None:
                on_progress(stage.name, done, work.pending)
            if len(shard) >= shard_rows or shard.age_s >= COMMIT_EVERY_S:
                shard.commit()
    finally:
        # Also on the way out of a failure: nothing that is finished is lost.
        shard.commit()
        spent = stage.spent() if isinstance(stage, Pays) else None
        if spent is not None:
            logger.info("%s: %s", stage.name, spent)
    if begun:
        raise RuntimeError(f"{stage.name}: {len(begun)} units were taken and gave no outcome, first {begun[0][1]}")
    dropped += table.drop(table.units() - work.wanted)
    stage.finish()
    if sources is not None and not table.units_rejected_for(PASSING):
        table.mark_complete(digest(work.fingerprint, sources))
    return _report(stage, table, started, made=done, kept=len(work.wanted) - done, dropped=dropped)


def _report(
    stage: Stage[Any, R], table: Table[R], started: float, *, made: int, kept: int, dropped: int
) -> StageReport:
    report = StageReport(
        stage=stage.name,
        made=made,
        kept=kept,
        dropped=dropped,
        rows=table.num_rows,
        rejected=count_by(table.reasons()),
        seconds=round(time.monotonic() - started, 3),
        spent=stage.spent() if isinstance(stage, Pays) else None,
    )
    logger.info(
        "%s: made=%d kept=%d dropped=%d rows=%d rejected=%d in %.1f s",
        stage.name, report.made, report.kept, report.dropped, report.rows, table.num_rejected, report.seconds,
    )  # fmt: skip
    return report


def _sources(stage: Stage[Any, Any]) -> str | None:
    return stage.sources() if isinstance(stage, Sourced) else None


def _is_up_to_date(stage: Stage[Any, Any], table: Table[Any], sources: str | None) -> bool:
    """Tell whether the table was completed under these sources and settings, and nothing of it is missing since."""
    if sources is None or not table.is_complete(digest(fingerprint_of(stage), sources)):
        return False
    return not _damaged_units(stage, table)


class _Work(Generic[P]):
    """Which units a stage wants, and which of them are not done."""

    def __init__(self, stage: Stage[P, Any], table: Table[Any]) -> None:
        self._stage = stage
        self.fingerprint = fingerprint_of(stage)
        self.wanted = KeySet(self.key_of(unit) for unit in stage.units())
        units = table.units()
        self.stale = units - self.wanted
        self.again = KeySet(itertools.chain(_damaged_units(stage, table), table.units_rejected_for(PASSING)))
        if isinstance(stage, Claiming):
            self.again |= KeySet(_freed_units(table, self.stale | self.again))
        self._missing = self.wanted - (units - self.again)
        self.pending = len(self._missing)

    def key_of(self, unit: Unit[P]) -> str:
        return digest(self.fingerprint, unit.key)

    def todo(self, begun: deque[tuple[str, str]]) -> Iterator[Unit[P]]:
        """Yield the units to do, each once, noting in `begun` key and record of those still to come."""
        remaining = self.pending
        if not remaining:
            return
        given = bytearray(remaining)
        # The inputs are read anew here; a unit that appeared since the count waits for the next run.
        for unit in self._stage.units():
            key = self.key_of(unit)
            place = self._missing.place(key)
            if place >= 0 and not given[place]:
                given[place] = True
                remaining -= 1
                begun.append((key, unit.record_id))
                yield unit
                if not remaining:
                    return


class _ShardInProgress(Generic[R]):
    """Outcomes gathered for the next shard."""

    def __init__(self, table: Table[R], fingerprint: str, stage: str) -> None:
        self._table = table
        self._fingerprint = fingerprint
        self._stage = stage
        self._logged = 0
        self._clear()

    def __len__(self) -> int:
        return len(self._units)

    @property
    def age_s(self) -> float:
        return time.monotonic() - self._since

    def add(self, unit: str, outcome: Outcome[R]) -> None:
        self._units.append(unit)
        self._rows.extend((unit, row) for row in outcome.rows)
        for record_id, fault in outcome.rejected:
            rejected = to_rejected(self._stage, record_id, fault)
            self._log(rejected)
            self._rejected.append((unit, rejected))

    def commit(self) -> None:
        if self._units:
            seconds = round(self.age_s, 3)
            # What rows refer to is there before they are.
            self._table.publish(*FILES_OF_ROWS)
            self._table.commit(self._units, self._rows, self._rejected, self._fingerprint, seconds)
        self._clear()

    def _log(self, rejected: Rejected) -> None:
        self._logged += 1
        if self._logged <= LOGGED_REJECTS:
            logger.warning("%s: %s left out: %s: %s", self._stage, rejected.record_id, rejected.reason, rejected.detail)
        elif self._logged == LOGGED_REJECTS + 1:
            logger.warning("%s: more are left out; see tables/%s/_rejected", self._stage, self._stage)

    def _clear(self) -> None:
        self._units: list[str] = []
        self._rows: list[tuple[str, R]] = []
        self._rejected: list[tuple[str, Rejected]] = []
        self._since = time.monotonic()


def _freed_units(table: Table[Any], leaving: KeySet) -> set[str]:
    """Return the units that were turned away for an id that no row bears once the units `leaving` are gone."""
    turned_away = table.units_rejected_for({Reason.DUPLICATE_VIDEO_ID})
    if not turned_away:
        return set()
    id_field = field_names(table.record_type)[0]
    rows = (row for batch in table.batches(["unit", id_field]) for row in batch.to_pylist())
    borne = {row[id_field] for row in rows if row["unit"] not in leaving}
    return {unit for unit, record_id in turned_away.items() if record_id not in borne}


def _damaged_units(stage: Stage[Any, Any], table: Table[Any]) -> set[str]:
    damaged: set[str] = set()
    if isinstance(stage, TableOnly):
        return damaged
    for batch in table.batches():
        units = batch.column("unit").to_pylist()
        damaged.update(
            unit
            for unit, row in zip(units, from_arrow(table.record_type, [batch]), strict=True)
            if not stage.is_intact(row)
        )
    return damaged
