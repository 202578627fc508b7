"""Where the units of a stage are worked on: between `run_stage`, which hands them out, and the stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Protocol, TypeVar

from pipeline.records import Record
from pipeline.stages.base import Outcome, Stage, Unit

P = TypeVar("P")
R = TypeVar("R", bound=Record)


class Executor(Protocol):
    """Has the units of a stage worked on, wherever that is."""

    def run(self, stage: Stage[P, R], units: Iterable[Unit[P]], count: int) -> Iterator[Outcome[R]]:
        """Yield one outcome per unit, in the order of the units, reading no further ahead than needed.

        What comes out is what `stage.run(units)` yields. `count` is the number of units.
        """
        ...


class LocalExecutor:
    """Works on them in this process, and in those that the stage starts itself."""

    def run(self, stage: Stage[Any, R], units: Iterable[Unit[Any]], count: int) -> Iterator[Outcome[R]]:  # noqa: ARG002
        """Yield what the stage makes of the units."""
        return stage.run(units)
