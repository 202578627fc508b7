"""What runs on the machines of a cluster: a stage that is made once and then works on one shard after the other."""

from __future__ import annotations

import hashlib
import importlib.metadata
import logging
import os
import pickle
import platform
import posixpath
import socket
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, cast

import fsspec

from pipeline.errors import HolmesError, SetupError
from pipeline.stages.base import Outcome, Stage, Travelling, Unit
from pipeline.stages.run import FILES_OF_ROWS
from pipeline.storage import MIRRORS, Storage, describe_os_error

MARK = "cluster.json"
"""File of a workspace by which a worker knows that it sees the same one as the driver."""

_DECIDING = (
    "av", "datasets", "decord", "numpy", "opencv-python-headless", "pandas", "pillow", "pyarrow", "pydantic", "torch",
    "torchvision", "transformers",
)  # fmt: skip
"""Packages whose version decides rows, or whether what is sent can be read."""

_CODE = ("pipeline", "annotation", "flows")
# A network file system may show a new file some seconds late.
_SEEN_WITHIN_S = 10.0
_LOGGERS = ("pipeline", "annotation", "flows")


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """What a worker has to know: how to make the stage, in which folder, and what the driver has found out."""

    make_stage: Callable[[], Stage[Any, Any]]
    folder: str
    brief: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """A workspace, and what stands in its `MARK`."""

    url: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What became of a call: outcomes, or a fault that ends the stage; and what was logged on the way."""

    machine: str
    outcomes: Sequence[Outcome[Any]] = ()
    fault: HolmesError | None = None
    logged: Sequence[logging.LogRecord] = field(default=())


class Worker:
    """Makes a stage once and keeps what it loads. Lives in a process of its own, on any machine."""

    def __init__(self) -> None:
        self._stage: Travelling[Any, Any] | None = None
        self._brief: Any = None
        self._storage: Storage | None = None
        self._mirrors: tempfile.TemporaryDirectory[str] | None = None
        self._machine = f"{socket.gethostname()} (process {os.getpid()})"

    def prepare(self, job: bytes, versions: Mapping[str, str], mark: Mark) -> Answer:
        """Make the stage of a pickled `Job`, where this machine can do what the driver's can."""
        try:
            with _Collected() as logged:
                _check_versions(versions)
                _check_workspace(mark)
                self._open_storage(mark.url)
                read: Job = pickle.loads(job)  # noqa: S301 - sent by the driver, within the cluster
                if Path(read.folder).is_dir():
                    # Relative paths in settings mean the same here as there.
                    os.chdir(read.folder)
                self._stage, self._brief = cast("Travelling[Any, Any]", read.make_stage()), read.brief
                self._stage.keep()
        except HolmesError as fault:
            return Answer(machine=self._machine, fault=self._named(fault))
        except (ImportError, AttributeError) as fault:
            # A package of plug-ins, say, that only the driver has.
            return Answer(machine=self._machine, fault=self._named(SetupError(f"the stage cannot be made: {fault}")))
        return Answer(machine=self._machine, logged=logged.records)

    def work(self, units: Sequence[Unit[Any]], sees: str) -> Answer:
        """Work on a shard of units; `sees` is a local file that the driver sees, empty where there is none."""
        if self._stage is None or self._storage is None:
            raise RuntimeError("no stage was made before its work")
        try:
            if sees and not Path(sees).exists():
                raise SetupError(f"{sees}: not there, but the driver sees it: mount the same folders everywhere")
            with _Collected() as logged:
                outcomes = list(self._stage.work(iter(units), self._brief))
                # What rows refer to is there before they are.
                self._storage.publish(*FILES_OF_ROWS)
            if len(outcomes) != len(units):
                raise RuntimeError(f"{self._stage.name}: {len(outcomes)} outcomes of {len(units)} units")
        except HolmesError as fault:
            return Answer(machine=self._machine, fault=self._named(fault))
        except OSError as fault:
            # A full disk, say: the machine is at fault, and no unit.
            told = ": ".join(filter(None, (fault.filename, describe_os_error(fault))))
            return Answer(machine=self._machine, fault=self._named(SetupError(told)))
        return Answer(machine=self._machine, outcomes=outcomes, logged=logged.records)

    def _open_storage(self, url: str) -> None:
        """Open the storage of the workspace; of a remote one with a mirror of its own, in which nothing is old."""
        self._storage = Storage(url)
        if not self._storage.is_local:
            self._mirrors = tempfile.TemporaryDirectory(prefix="holmes-mirrors-")
            os.environ[MIRRORS] = self._mirrors.name

    def _named(self, fault: HolmesError) -> HolmesError:
        return type(fault)(f"worker on {self._machine}: {fault}")


@cache
def versions_here() -> Mapping[str, str]:
    """Return the versions of Python, of the packages that decide rows, and a hash of this engine's own code."""
    found = {"Python": ".".join(platform.python_version_tuple()[:2])}
    for package in _DECIDING:
        try:
            # Builds of one version for several devices differ in what follows the plus sign.
            found[package] = importlib.metadata.version(package).partition("+")[0]
        except importlib.metadata.PackageNotFoundError:
            found[package] = "missing"
    code = hashlib.sha256()
    for package in _CODE:
        folder = Path(__import__(package).__file__ or "").parent
        for path in sorted(folder.rglob("*.py")):
            code.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
    return found | {"code of holmes-engine": code.hexdigest()[:12]}


def _check_versions(driver: Mapping[str, str]) -> None:
    here = versions_here()
    differing = [
        f"{name} {here.get(name, 'missing')} instead of {wanted}"
        for name, wanted in driver.items()
        if here.get(name) != wanted
    ]
    if differing:
        raise SetupError(f"other versions than the driver's: {', '.join(differing)}; install the same everywhere")


def _check_workspace(mark: Mark) -> None:
    """Find the driver's mark in the workspace, making no folder: an empty one would hide that a mount is missing."""
    fs, root = fsspec.core.url_to_fs(mark.url)
    deadline_s = time.monotonic() + _SEEN_WITHIN_S
    while True:
        try:
            if fs.cat_file(posixpath.join(root, MARK)).decode() == mark.text:
                return
        except OSError:
            pass
        if time.monotonic() > deadline_s:
            raise SetupError(f"{mark.url}: not the driver's workspace: it must lie on storage that all machines share")
        fs.invalidate_cache()
        time.sleep(0.5)


class _Collected(logging.Handler):
    """Collects what is logged within a block, in a shape that travels; nobody looks at the output of a worker."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.records: list[logging.LogRecord] = []
        self._levels: dict[str, int] = {}

    def __enter__(self) -> _Collected:
        for name in _LOGGERS:
            self._levels[name] = logging.getLogger(name).level
            logging.getLogger(name).addHandler(self)
            logging.getLogger(name).setLevel(logging.INFO)
        return self

    def __exit__(self, *_: object) -> None:
        for name, level in self._levels.items():
            logging.getLogger(name).removeHandler(self)
            logging.getLogger(name).setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        record.msg, record.args, record.exc_info = record.getMessage(), None, None
        self.records.append(record)
