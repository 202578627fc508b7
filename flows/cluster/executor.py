"""`RayExecutor`: hands the units of a stage to workers on a Ray cluster, in shards.

Ray places the workers, starts machines for them where it autoscales, carries the shards and notices what dies. Here is
what Ray does not know: that a worker gets a shard only once it has come up, so that nothing waits for a machine that
may never be there; that a shard whose worker died is given out again, in parts where it happens often, until the unit
at fault stands alone; and the order of the outcomes.
"""

from __future__ import annotations

import logging
import math
import pickle
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from flows.cluster.connection import connect, hold
from flows.cluster.worker import MARK, Answer, Job, Mark, Worker, versions_here
from pipeline.config import RayConfig
from pipeline.errors import RecordError, SetupError
from pipeline.needs import Needs
from pipeline.records import Reason, Record
from pipeline.stages.base import Outcome, Stage, Travelling, Unit
from pipeline.stages.run import FILES_OF_ROWS
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

R = TypeVar("R", bound=Record)

TRIES = 3
"""Deaths of workers after which a shard is cut in two, and a unit that is alone in its shard is left out."""

# What Ray says of a worker that is not to blame: its machine is lost.
_WITH_MACHINE = "its node has died"

# Shards for each worker that may be on their way or wait for an earlier one.
_WINDOW = 4
_LOOK_EVERY_S = 1.0
# Each worker gets so many shards at least: the last ones then end at about the same time.
_SHARDS_PER_WORKER = 4


@dataclass(slots=True)
class _Shard:
    """Units next to one another; `first` is the place of the first among all.

    `deaths` are the workers that it cost, `machines` those that were lost while it was worked on.
    """

    first: int
    units: Sequence[Unit[Any]]
    deaths: int = 0
    machines: int = 0

    def halves(self) -> list[_Shard]:
        middle = len(self.units) // 2
        # Each part may be innocent: it dies once more before it is cut again.
        return [
            _Shard(self.first, self.units[:middle], TRIES - 1),
            _Shard(self.first + middle, self.units[middle:], TRIES - 1),
        ]


class RayExecutor:
    """Has the units of a stage worked on by a Ray cluster; a stage that cannot travel is run in this process."""

    def __init__(
        self,
        make_stage: Callable[[], Stage[Any, Any]],
        workspace: Workspace,
        config: RayConfig,
        *,
        folder: Path,
        decoders: int,
    ) -> None:
        """Take what makes the same stage on another machine, in `folder`, with so many decoding processes a worker.

        `make_stage` travels pickled: a function of a module, with arguments that pickle.
        """
        self._make_stage = make_stage
        self._workspace = workspace
        self._config = config
        self._folder = folder
        self._decoders = decoders

    def run(self, stage: Stage[Any, R], units: Iterable[Unit[Any]], count: int) -> Iterator[Outcome[R]]:
        """Yield one outcome per unit, in the order of the units.

        Raises:
            SetupError: there is no cluster, or none of its machines can do the work; or what a worker raised.
        """
        needs = stage.needs() if isinstance(stage, Travelling) else None
        ahead = iter(units)
        first = next(ahead, None)
        if first is None or needs is None or not isinstance(stage, Travelling):
            yield from stage.run(ahead if first is None else chain([first], ahead))
            return
        ray = connect(self._config.address)
        hold(ray, self._workspace.url)
        # The workers write those from now on: an older copy must neither be read nor published.
        self._workspace.storage.forget(*FILES_OF_ROWS)
        job = Job(make_stage=self._make_stage, folder=str(self._folder), brief=stage.brief())
        mark = Mark(url=self._workspace.url, text=secrets.token_hex(8))
        self._workspace.storage.write(MARK, mark.text.encode())
        resources = _resources(ray, needs, self._decoders, self._config)
        crew = _Crew(ray, stage.name, resources, (pickle.dumps(job), mark), self._config)
        size = max(1, min(self._config.shard_units, math.ceil(count / (_SHARDS_PER_WORKER * crew.limit))))
        try:
            yield from stage.settle(_travel(crew, stage, chain([first], ahead), size))
        finally:
            crew.end()
            self._workspace.storage.remove(MARK)


def _travel(crew: _Crew, stage: Travelling[Any, R], units: Iterator[Unit[Any]], size: int) -> Iterator[Outcome[R]]:
    """Yield what the workers make of the units, in their order."""
    waiting: deque[_Shard] = deque()
    done: dict[int, Sequence[Outcome[R]]] = {}
    taken = told = 0
    is_read = False
    while True:
        while not is_read and taken - told < _WINDOW * crew.limit * size and len(waiting) < crew.limit:
            shard = _Shard(taken, list(islice(units, size)))
            is_read = len(shard.units) < size
            taken += len(shard.units)
            if shard.units:
                waiting.append(shard)
        if is_read and told == taken:
            return
        crew.recruit(len(waiting))
        while waiting and (worker := crew.free(ahead=not is_read)) is not None:
            worker.give(waiting.popleft(), stage)
        for shard, answer in crew.collect():
            if answer is not None:
                done[shard.first] = answer.outcomes
            elif shard.deaths < TRIES:
                waiting.appendleft(shard)
            elif len(shard.units) > 1:
                waiting.extendleft(reversed(shard.halves()))
            else:
                done[shard.first] = [_left_out(stage.name, shard.units[0])]
        while (outcomes := done.pop(told, None)) is not None:
            told += len(outcomes)
            yield from outcomes


def _left_out(stage: str, unit: Unit[Any]) -> Outcome[Any]:
    detail = f"{stage}: each of {TRIES} workers that took it died"
    return Outcome(rejected=[(unit.record_id, RecordError(Reason.CRASHED, detail))])


class _Hand:
    """A worker of the crew, the shards it has, and the call that it answers next."""

    def __init__(self, actor: Any, ready: Any) -> None:
        self.actor = actor
        self.is_ready = False
        self.calls: deque[tuple[Any, _Shard | None]] = deque([(ready, None)])

    def give(self, shard: _Shard, stage: Travelling[Any, Any]) -> None:
        """Have it work on a shard, after those that it has."""
        self.calls.append((self.actor.work.remote(shard.units, _seen_here(stage, shard.units)), shard))


def _seen_here(stage: Travelling[Any, Any], units: Sequence[Unit[Any]]) -> str:
    """Return a file that the units are read from and this machine sees, empty where there is none."""
    paths = (stage.reads(unit.payload) for unit in units)
    return next((path for path in paths if path and Path(path).exists()), "")


class _Crew:
    """The workers of one stage."""

    def __init__(
        self, ray: Any, stage: str, resources: dict[str, float], order: tuple[bytes, Mark], config: RayConfig
    ) -> None:
        """Take what each worker takes up, and its order: a pickled `Job`, and the mark of the workspace."""
        self._ray = ray
        self._stage = stage
        self._resources = resources
        job, mark = order
        self._arguments = (ray.put(job), dict(versions_here()), mark)
        self._config = config
        self._remote = ray.remote(Worker)
        # The last one: an answer that had not left the machine that is lost.
        of = ray.exceptions
        self._deaths = (
            of.RayActorError, of.OutOfMemoryError, of.WorkerCrashedError, of.NodeDiedError, of.ObjectLostError,
        )  # fmt: skip
        self._hands: list[_Hand] = []
        self._alone_since = self._looked_at = time.monotonic()
        self._failed_starts = 0
        self.limit = self._room()

    def recruit(self, waiting: int) -> None:
        """Ask for workers, as many as there are shards for them; where none comes up, find out whether one can.

        Raises:
            SetupError: no machine of the cluster is large enough.
        """
        now = time.monotonic()
        if now - self._looked_at > _LOOK_EVERY_S:
            self._looked_at = now
            self.limit = self._room()
        coming = sum(1 for hand in self._hands if not hand.is_ready)
        free = sum(1 for hand in self._hands if hand.is_ready and not hand.calls)
        for _ in range(min(self.limit - len(self._hands), waiting - coming - free)):
            self._hands.append(self._new_hand())
        if any(hand.is_ready for hand in self._hands) or not waiting:
            self._alone_since = now
        elif now - self._alone_since > self._config.start_timeout_s:
            self._alone_since = now
            self._refuse_if_hopeless()

    def free(self, *, ahead: bool) -> _Hand | None:
        """Return the worker with the least to do, None where all have enough: with `ahead` one shard more than one."""
        hand = min((hand for hand in self._hands if hand.is_ready), key=lambda h: len(h.calls), default=None)
        return hand if hand is not None and len(hand.calls) <= ahead else None

    def collect(self) -> list[tuple[_Shard, Answer | None]]:
        """Wait a moment for answers; return the shards that are done, and with None those whose worker died.

        Raises:
            HolmesError: a worker cannot do the work, because of its machine or the settings.
        """
        calls = [hand.calls[0][0] for hand in self._hands if hand.calls]
        # All that are there, so that a worker that is quick is not the only one to be fed.
        ready, _ = self._ray.wait(calls, num_returns=1, timeout=_LOOK_EVERY_S) if calls else ([], [])
        if ready:
            ready, _ = self._ray.wait(calls, num_returns=len(calls), timeout=0)
        arrived = set(ready)
        found: list[tuple[_Shard, Answer | None]] = []
        for hand in [hand for hand in self._hands if hand.calls and hand.calls[0][0] in arrived]:
            call, shard = hand.calls.popleft()
            try:
                answer: Answer = self._ray.get(call)
            except self._deaths as fault:
                found += self._bury(hand, shard, fault)
                continue
            for record in answer.logged:
                if logging.getLogger(record.name).isEnabledFor(record.levelno):
                    logging.getLogger(record.name).handle(record)
            if answer.fault is not None:
                raise answer.fault
            if shard is None:
                hand.is_ready, self._failed_starts = True, 0
            else:
                found.append((shard, answer))
        return found

    def end(self) -> None:
        """Let all workers go."""
        for hand in self._hands:
            self._ray.kill(hand.actor)
        self._hands.clear()

    def _new_hand(self) -> _Hand:
        resources = dict(self._resources)
        options = {
            "num_cpus": resources.pop("CPU"),
            "num_gpus": resources.pop("GPU", 0),
            "memory": int(resources.pop("memory")),
            # A worker that died is replaced by another one, wherever there is room.
            "max_restarts": 0,
            "scheduling_strategy": "SPREAD",
        }
        actor = self._remote.options(**options).remote()
        return _Hand(actor, actor.prepare.remote(*self._arguments))

    def _bury(self, hand: _Hand, shard: _Shard | None, fault: Exception) -> list[tuple[_Shard, Answer | None]]:
        """Return the shards of a worker that died; the one that it worked on is to blame, or its machine."""
        self._hands.remove(hand)
        # One that is only out of reach may still come back, with work that others have by then.
        self._ray.kill(hand.actor)
        lost = [other for _, other in hand.calls if other is not None]
        text = " ".join(str(fault).split())
        if shard is None:
            self._failed_starts += 1
            if self._failed_starts >= TRIES:
                raise SetupError(f"{self._stage}: {TRIES} workers in a row cannot be started: {text[-400:]}")
            return []
        # What takes machine after machine with it is no accident.
        shard.machines += _WITH_MACHINE in text
        if _WITH_MACHINE not in text or shard.machines >= TRIES:
            shard.deaths += 1
        logger.warning(
            "%s: a worker died over %d units from %s on (death %d): %.300s",
            self._stage, len(shard.units), shard.units[0].record_id, shard.deaths, text,
        )  # fmt: skip
        return [(other, None) for other in (shard, *lost)]

    def _room(self) -> int:
        """Return how many workers there may be now."""
        if self._config.workers:
            return self._config.workers
        there = self._ray.cluster_resources()
        rooms = [there.get(name, 0.0) / amount for name, amount in self._resources.items() if amount]
        return max(1, math.floor(min(rooms, default=1)))

    def _refuse_if_hopeless(self) -> None:
        """Say that no worker came up, and end the stage where none can."""
        machines = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        asked = {name: amount for name, amount in self._resources.items() if amount}
        wanted = ", ".join(_told(name, amount) for name, amount in asked.items())
        waited = f"{self._config.start_timeout_s:g} s (ray.start_timeout_s)"
        if any(all(has.get(name, 0.0) >= amount for name, amount in asked.items()) for has in machines):
            logger.warning("%s: no worker after %s: others use the cluster; one takes %s", self._stage, waited, wanted)
            return
        most = ", ".join(_told(name, max((has.get(name, 0.0) for has in machines), default=0.0)) for name in asked)
        raise SetupError(
            f"{self._stage}: a worker takes {wanted}; after {waited} none of the {len(machines)} machine(s) of the "
            f"cluster has that: the most that one has is {most}"
        )


def _told(name: str, amount: float) -> str:
    return f"{amount / 2**20:.0f} MiB memory" if name == "memory" else f"{amount:g} {name}"


def _resources(ray: Any, needs: Needs, decoders: int, config: RayConfig) -> dict[str, float]:
    """Return what Ray is asked for, for one worker."""
    gpus = needs.gpus * config.gpu_share
    if needs.gpu_is_optional and not ray.cluster_resources().get("GPU"):
        gpus = 0.0
    return {"CPU": needs.cpus * decoders, "GPU": gpus, "memory": float(needs.memory_mb << 20)}
