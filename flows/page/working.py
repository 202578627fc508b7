"""Long work in a thread of its own, watched from a page: its progress, its result, and an end when nobody watches."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from pipeline.infer.detector import Progress

Result = TypeVar("Result")

_LOOK_EVERY_S = 0.25


@dataclass(frozen=True, slots=True)
class Step:
    """How far the work is: `done` of `total` of what is named."""

    name: str
    done: int
    total: int


class AbandonedError(Exception):
    """Nobody waits for the result any more."""


class Worker:
    """Does one piece of work at a time: models are neither shared between threads nor loaded twice."""

    def __init__(self) -> None:
        self._busy = threading.Lock()

    def do(self, work: Callable[[], Result]) -> Result:
        """Do the work here, after what is being done."""
        with self._busy:
            return work()

    def watch(self, work: Callable[[Progress], Result], abandoned: threading.Event) -> Generator[Step, None, Result]:
        """Do the work in a thread and yield its newest step as it comes; return the result.

        Setting `abandoned`, or closing the generator, ends the work at its next step.

        Raises:
            AbandonedError: the work was given up.
            Exception: whatever `work` raises.
        """
        steps: queue.SimpleQueue[Step | None] = queue.SimpleQueue()
        outcome: list[Result] = []
        faults: list[Exception] = []

        def report(name: str, done: int, total: int) -> None:
            if abandoned.is_set():
                raise AbandonedError
            steps.put(Step(name, done, total))

        def run() -> None:
            try:
                with self._busy:
                    if abandoned.is_set():
                        raise AbandonedError
                    outcome.append(work(report))
            except Exception as fault:  # noqa: BLE001 - handed over to the one who watches
                faults.append(fault)
            finally:
                steps.put(None)

        threading.Thread(target=run, name="page-work", daemon=True).start()
        try:
            while (step := steps.get()) is not None:
                newest, ended = _drain(steps, step)
                yield newest
                if ended:
                    break
                # A page that is redrawn at every snippet would be slower than the work.
                abandoned.wait(_LOOK_EVERY_S)
        finally:
            abandoned.set()
        if faults:
            raise faults[0]
        return outcome[0]


def _drain(steps: queue.SimpleQueue[Step | None], step: Step) -> tuple[Step, bool]:
    """Return the newest step that is there, and whether the work has ended after it."""
    while True:
        try:
            following = steps.get_nowait()
        except queue.Empty:
            return step, False
        if following is None:
            return step, True
        step = following
