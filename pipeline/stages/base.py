"""What a stage is: a named map from units of work to rows."""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

from pipeline.errors import RecordError
from pipeline.models.base import Spending
from pipeline.needs import Needs
from pipeline.records import Record, Rejected, digest

P = TypeVar("P")
R = TypeVar("R", bound=Record)
Made = TypeVar("Made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit(Generic[P]):
    """A unit of work. `key` hashes its inputs; `record_id` names it to people; `payload` is what the stage works on."""

    key: str
    record_id: str
    payload: P


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome(Generic[R]):
    """What became of one unit: rows, rejects, both or neither. `rejected` pairs a record id with the fault."""

    rows: Sequence[R] = ()
    rejected: Sequence[tuple[str, RecordError]] = ()


class Stage(Protocol[P, R]):
    """One stage of the engine, bound to the tables it reads. `run_stage` alone stores what it makes."""

    name: str
    record_type: type[R]

    def identity(self) -> Mapping[str, Any]:
        """Return what decides the rows beside their inputs: code version, settings, prompt hashes, model, seed."""
        ...

    def units(self) -> Iterator[Unit[P]]:
        """Yield every unit of work in a stable order; asked for twice in a run."""
        ...

    def run(self, units: Iterable[Unit[P]]) -> Iterator[Outcome[R]]:
        """Yield one outcome per unit, in the order of the units, reading no further ahead than needed."""
        ...

    def is_intact(self, row: R) -> bool:
        """Tell whether the files that belong to a stored row are there; a row that is not intact is made again."""
        ...

    def finish(self) -> None:
        """Tidy up once the table is complete, e.g. remove the files of rows that are gone."""
        ...


class TableOnly:
    """Mixin for stages whose rows own no files."""

    def is_intact(self, row: Any) -> bool:  # noqa: ARG002
        """Return True: there is nothing but the row."""
        return True

    def finish(self) -> None:
        """Do nothing: there is nothing but the table."""


class Travelling(Generic[P, R]):
    """Mixin for stages whose units may be worked on in other processes, on other machines.

    `run` is `settle(work(units, brief()))` in one process. An `Executor` may instead call `work` elsewhere, for some
    hundred units at a time, on a stage made from the same workspace and settings: what it yields for a unit must not
    depend on which others are worked on with it.
    """

    name: str

    def needs(self) -> Needs | None:
        """Return what one worker takes up; None where this stage stays with the process that drives the run."""
        return Needs()

    def brief(self) -> Any:
        """Return what every worker has to know beside workspace and settings; asked for once there is work to do."""
        return None

    def reads(self, payload: P) -> str:  # noqa: ARG002
        """Return the local file that a unit is read from, empty where there is none."""
        return ""

    def keep(self) -> None:
        """Keep models that are loaded from now on: `work` is called again and again, until the process ends."""
        return

    def work(self, units: Iterable[Unit[P]], brief: Any) -> Iterator[Outcome[R]]:
        """Yield one outcome per unit, in the order of the units."""
        raise NotImplementedError

    def settle(self, outcomes: Iterable[Outcome[R]]) -> Iterator[Outcome[R]]:
        """Yield the outcomes of all units, in order, as they are to be stored, now that those before are known."""
        yield from outcomes

    def run(self, units: Iterable[Unit[P]]) -> Iterator[Outcome[R]]:
        """Yield one outcome per unit, in the order of the units; see `Stage`."""
        ahead = iter(units)
        # Without work nobody has to be briefed: that may mean training a model.
        first = next(ahead, None)
        if first is not None:
            yield from self.settle(self.work(chain([first], ahead), self.brief()))


class Claiming(TableOnly):
    """Mixin for stages whose rows each claim an id, the first field of the record, that no other row may bear.

    Rows whose input is gone leave before new ones are made, or what has moved would be turned away by what it was. A
    unit that was turned away, `DUPLICATE_VIDEO_ID` under the id that it claimed, is tried again once that id is free.
    """


@runtime_checkable
class Sourced(Protocol):
    """A stage that can tell without going through its units that none of them has changed."""

    def sources(self) -> str | None:
        """Hash all that the units follow from beside `identity`: tables, files. None where that cannot be told."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class StageReport:
    """What a run of a stage did. `made` counts units worked on now, `kept` units that were done before.

    `spent` is None where the stage asked no model that counts its tokens.
    """

    stage: str
    made: int
    kept: int
    dropped: int
    rows: int
    rejected: dict[str, int] = field(default_factory=dict)
    seconds: float
    spent: Spending | None = None


def in_step(units: Iterable[Unit[P]], make: Callable[[Iterator[P]], Iterable[Made]]) -> Iterator[tuple[Unit[P], Made]]:
    """Yield each unit with what `make` gives for its payload: in order, and `make` reads as far ahead as it likes."""
    begun: deque[Unit[P]] = deque()

    def payloads() -> Iterator[P]:
        for unit in units:
            begun.append(unit)
            yield unit.payload

    for made in make(payloads()):
        yield begun.popleft(), made


def outcome_of(record_id: str, result: R | RecordError) -> Outcome[R]:
    """Wrap a single row or fault."""
    if isinstance(result, RecordError):
        return Outcome(rejected=[(record_id, result)])
    return Outcome(rows=[result])


def fingerprint_of(stage: Stage[Any, Any]) -> str:
    """Hash a stage's name and identity into the fingerprint that its rows carry."""
    return digest(stage.name, dict(stage.identity()))[:16]


def hash_files(names: Iterable[str]) -> str | None:
    """Hash the contents of local files, under their names; None where one of them is no file."""
    contents: list[tuple[str, str]] = []
    for name in names:
        try:
            with Path(name).open("rb") as file:
                contents.append((name, hashlib.file_digest(file, "blake2b").hexdigest()))
        except OSError:
            return None
    return digest(contents)


def to_rejected(stage: str, record_id: str, fault: RecordError) -> Rejected:
    """Turn a fault into the row that stands beside the stage's table."""
    return Rejected(
        record_id=_storable(record_id), stage=stage, reason=fault.reason.value, detail=_storable(fault.detail)
    )


def _storable(text: str) -> str:
    """Show what is not text, such as the stray bytes of a file name, in a way that a table can hold."""
    return text.encode("utf-8", "backslashreplace").decode()
