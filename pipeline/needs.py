"""What one worker of a stage takes up, for whoever places workers on machines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True, kw_only=True)
class Needs:
    """What one worker takes up.

    Attributes:
        cpus: cores.
        gpus: GPUs; a fraction shares one.
        gpu_is_optional: it does without where there is none.
        memory_mb: memory in MiB, a guess for placing: nothing enforces it.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    gpu_is_optional: bool = False
    memory_mb: int = 1024


@runtime_checkable
class Placed(Protocol):
    """A backend that may run in any process that sees the same files."""

    def needs(self) -> Needs | None:
        """Return what one worker takes up; None where it stays with the process that drives the run."""
        ...


@runtime_checkable
class Keeping(Protocol):
    """A backend that can keep its models between calls."""

    def keep(self) -> None:
        """Keep what is loaded from now on: more calls follow, until the process ends."""
        ...


def needs_of_device(device: str, memory_mb: int = 4096) -> Needs:
    """Return what a model on `device` takes up: a GPU, that of `auto` where there is one, or the CPU alone."""
    names = [name.strip() for name in device.split(",")]
    if names == ["cpu"]:
        return Needs(memory_mb=memory_mb)
    return Needs(gpus=len(names), gpu_is_optional=device == "auto", memory_mb=memory_mb)


def device_of_worker(device: str) -> str:
    """Return the name of `device` where a worker sees only the GPUs that it was given."""
    names = device.split(",")
    if not device.startswith("cuda"):
        return device
    return "cuda" if len(names) == 1 else ",".join(f"cuda:{number}" for number in range(len(names)))


def needs_of_all(parts: Sequence[Needs | None]) -> Needs | None:
    """Return what several backends in one process take up, one after the other; None where one of them stays."""
    known = [part for part in parts if part is not None]
    if len(known) < len(parts) or not known:
        return None
    gpus = max(part.gpus for part in known)
    return Needs(
        cpus=max(part.cpus for part in known),
        gpus=gpus,
        gpu_is_optional=gpus > 0 and all(part.gpu_is_optional for part in known if part.gpus),
        memory_mb=sum(part.memory_mb for part in known),
    )
