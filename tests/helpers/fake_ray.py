"""As much of Ray as a build calls, in one thread: a call is made when somebody waits for it, the latest first."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

MEMORY = float(8 << 30)


class RayActorError(Exception):
    """What a call ends in whose worker is dead."""


class Died(BaseException):
    """Raised by what a worker does: its process is gone."""


class Call:
    """A call that was made or will be."""

    def __init__(self, actor: Actor, make: Callable[[], Any]) -> None:
        self.actor = actor
        self.make = make
        self.result: Any = None
        self.is_done = False

    def do(self) -> None:
        self.is_done = True
        if self.actor.grave:
            self.result = RayActorError(self.actor.grave)
            return
        try:
            # What travels, travels pickled.
            self.result = pickle.loads(pickle.dumps(self.make()))  # noqa: S301
        except Died as death:
            self.actor.grave = str(death)
            self.result = RayActorError(self.actor.grave)


class Actor:
    """A worker; what is asked of it is done in its order."""

    def __init__(self, target: Any) -> None:
        self._target = target
        self.grave = ""
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        def remote(*arguments: Any) -> Call:
            sent = pickle.loads(pickle.dumps(arguments))  # noqa: S301
            self.calls.append(Call(self, lambda: getattr(self._target, name)(*sent)))
            return self.calls[-1]

        return SimpleNamespace(remote=remote)


class FakeRay:
    """A cluster of machines; `on_work` is called before each piece of work and may raise `Died`."""

    exceptions = SimpleNamespace(
        RayActorError=RayActorError,
        OutOfMemoryError=type("OutOfMemoryError", (Exception,), {}),
        WorkerCrashedError=type("WorkerCrashedError", (Exception,), {}),
        NodeDiedError=type("NodeDiedError", (Exception,), {}),
        ObjectLostError=type("ObjectLostError", (Exception,), {}),
    )

    def __init__(self, *, cpus: float = 2, gpus: float = 0) -> None:
        self.machines: list[dict[str, float]] = [{"CPU": cpus, "GPU": gpus, "memory": MEMORY}]
        self.started: list[Actor] = []
        self.killed: list[Actor] = []

    def remote(self, cls: type) -> Any:
        def options(**asked: Any) -> Any:
            def start() -> Actor:
                self.started.append(Actor(cls()))
                self.started[-1].asked = asked  # type: ignore[attr-defined]
                return self.started[-1]

            return SimpleNamespace(remote=start)

        return SimpleNamespace(options=options)

    def put(self, value: Any) -> Any:
        return value

    def wait(self, calls: Sequence[Call], num_returns: int, timeout: float) -> tuple[list[Call], list[Call]]:
        if timeout and not any(call.is_done for call in calls):
            possible = [call for call in calls if self._has_room(call)]
            if possible:
                possible[-1].do()
        return [call for call in calls if call.is_done], [call for call in calls if not call.is_done]

    def get(self, call: Call) -> Any:
        if isinstance(call.result, Exception) and not call.is_done:
            raise AssertionError("asked before it was waited for")
        if isinstance(call.result, RayActorError):
            raise call.result
        return call.result

    def kill(self, actor: Actor) -> None:
        actor.grave = actor.grave or "killed"
        self.killed.append(actor)

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": machine} for machine in self.machines]

    def cluster_resources(self) -> dict[str, float]:
        return {name: sum(machine[name] for machine in self.machines) for name in ("CPU", "GPU", "memory")}

    def _has_room(self, call: Call) -> bool:
        asked = call.actor.asked  # type: ignore[attr-defined]
        return any(
            machine["CPU"] >= asked["num_cpus"] and machine["GPU"] >= asked["num_gpus"] for machine in self.machines
        )
