"""Worker processes for files of unknown origin: none of them can hang, exhaust or end the run."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import functools
import multiprocessing
import os
import queue
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from pebble import ProcessExpired, ProcessPool
from pebble.pool.base_pool import Task
from pebble.pool.process import PoolManager

from pipeline.errors import HolmesError, RecordError, SetupError
from pipeline.records import Reason

Item = TypeVar("Item")
Result = TypeVar("Result")

_ITEMS_AHEAD_PER_WORKER = 4
_PR_SET_PDEATHSIG = 1
_ACKNOWLEDGED_WITHIN_S = 2.0
_STARTER = "video-pool-starter"


class VideoPool:
    """Runs a function over items in worker processes, each item under a limit of time and memory.

    A fault stays with its item: the worker that hangs, crashes or runs out of memory is replaced, the others go on.
    Workers end with their parent, however it dies, and leave Ctrl-C to it.

    Args:
        workers: number of processes; 0 is one per core that this process may use.
        timeout_s: seconds that one item may take.
        memory_mb: memory in MiB that a worker may take above what it has at its start. Enforced on Linux.
    """

    def __init__(self, workers: int, timeout_s: float, memory_mb: int) -> None:
        self.workers = workers or _available_cores()
        self._timeout_s = timeout_s
        self._memory_mb = memory_mb

    def __enter__(self) -> Self:
        idle = _idle_pools.pop((self.workers, self._memory_mb), None)
        if idle is not None and not (idle[0].active and idle[1] == Path.cwd()):
            # A relative path means another file to workers that were started elsewhere.
            _end(idle[0])
            idle = None
        self._pool, self._started_in = idle or (self._start(), Path.cwd())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            # Starting Python and importing decoders costs a second a worker: the next stage takes these over.
            if (other := _idle_pools.pop((self.workers, self._memory_mb), None)) is not None:
                _end(other[0])
            _idle_pools[self.workers, self._memory_mb] = self._pool, self._started_in
        else:
            _end(self._pool)

    def _start(self) -> ProcessPool:
        # Spawned workers share no thread, lock or model with their parent.
        context = multiprocessing.get_context("spawn")
        pool = ProcessPool(
            max_workers=self.workers,
            context=context,
            initializer=_start_worker,
            initargs=(self._memory_mb, os.getpid()),
        )
        pool._pool_manager = _PatientManager(pool._context, context)
        _start_lasting(pool)
        return pool

    def submit(self, fn: Callable[[Item], Result], item: Item) -> Callable[[], Result | RecordError]:
        """Begin `fn(item)`, and return what waits for its result; arguments and errors are those of `map`."""
        future = self._pool.schedule(_call, args=(fn, item, self._memory_mb), timeout=self._timeout_s)
        return functools.partial(_outcome, future, self._timeout_s)

    def map(
        self,
        fn: Callable[[Item], Result],
        items: Iterable[Item],
        *,
        timeout_s: float | None = None,
        ahead_max: int | None = None,
    ) -> Generator[Result | RecordError]:
        """Yield `fn(item)` for every item, in order, or the `RecordError` that says why there is no result.

        Items are taken a few at a time, so that neither they nor the results pile up.

        Args:
            fn: a function at the top of a module. A `RecordError` that it raises is yielded; any other exception of its
                own is a CRASHED one.
            items: what `fn` is called with; must pickle, as must the results.
            timeout_s: limit for these items; None takes that of the pool.
            ahead_max: items begun and not yet yielded; None is four per worker.

        Raises:
            HolmesError: the first one that `fn` raises, or a SetupError where workers cannot be kept running: the
            environment, not the item, is then at fault.
        """
        limit_s = self._timeout_s if timeout_s is None else timeout_s
        most = self.workers * _ITEMS_AHEAD_PER_WORKER if ahead_max is None else ahead_max
        ahead: deque[Future[Result | RecordError]] = deque()
        try:
            for item in items:
                ahead.append(self._pool.schedule(_call, args=(fn, item, self._memory_mb), timeout=limit_s))
                if len(ahead) >= most:
                    yield _outcome(ahead.popleft(), limit_s)
            while ahead:
                yield _outcome(ahead.popleft(), limit_s)
        finally:
            for future in ahead:
                future.cancel()


class _PatientManager(PoolManager):
    """Waits for a dead worker's last word before it tells which task died with it.

    A worker acknowledges its task through a pipe that another thread reads. Where the worker dies before that thread
    had its turn, as on a loaded machine, pebble takes the worker for idle: it breaks the whole pool, or never ends the
    task's future.
    """

    def find_expired_task(self, worker_id: int) -> Task:
        deadline_s = time.monotonic() + _ACKNOWLEDGED_WITHIN_S
        while True:
            try:
                return super().find_expired_task(worker_id)
            except (BrokenProcessPool, LookupError):
                if time.monotonic() > deadline_s:
                    raise
            time.sleep(0.01)


_to_start: queue.SimpleQueue[tuple[ProcessPool, threading.Event]] = queue.SimpleQueue()


def _start_lasting(pool: ProcessPool) -> None:
    """Start the workers of a pool from a thread that never ends.

    Linux takes the end of the thread that made a worker for the end of its parent, and pools outlive their threads.
    """
    if not any(thread.name == _STARTER for thread in threading.enumerate()):
        threading.Thread(target=_start_pools, name=_STARTER, daemon=True).start()
    started = threading.Event()
    _to_start.put((pool, started))
    started.wait()


def _start_pools() -> None:
    while True:
        pool, started = _to_start.get()
        try:
            _ = pool.active  # asked for the first time, a pool starts
        finally:
            started.set()


_idle_pools: dict[tuple[int, int], tuple[ProcessPool, Path]] = {}
"""Pools that ended without a fault, and where they were started, by workers and memory; at most one of a kind."""


def _end(pool: ProcessPool) -> None:
    pool.stop()  # type: ignore[no-untyped-call]
    pool.join()


@atexit.register
def _end_idle() -> None:
    while _idle_pools:
        _end(_idle_pools.popitem()[1][0])


def _available_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _outcome(future: Future[Result | RecordError], limit_s: float) -> Result | RecordError:
    try:
        return future.result()
    except HolmesError:
        raise
    except TimeoutError:
        return RecordError(Reason.TIMED_OUT, f"not done after {limit_s:g} s (video.timeout_s)")
    except ProcessExpired as fault:
        return RecordError(Reason.CRASHED, f"the worker process died: {_manner_of_death(fault.exitcode)}")
    except BrokenProcessPool as fault:
        raise SetupError(
            f"worker processes cannot be kept running: {fault}; a script of your own needs "
            "`if __name__ == '__main__':` around what it does"
        ) from None
    except Exception as fault:  # noqa: BLE001  (an item that cannot be pickled comes back as any type)
        return RecordError(Reason.CRASHED, f"{type(fault).__name__}: {fault}")


def _manner_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        with contextlib.suppress(ValueError):
            return f"signal {signal.Signals(-exitcode).name}"
    return f"exit code {exitcode}"


def _call(fn: Callable[[Item], Result], item: Item, memory_mb: int) -> Result | RecordError:
    try:
        return fn(item)
    except RecordError as fault:
        return fault
    except MemoryError:
        return RecordError(Reason.OUT_OF_MEMORY, f"more than {memory_mb} MiB needed (video.memory_mb)")
    except HolmesError:
        raise
    except BaseException as fault:  # noqa: BLE001  (one item's bug, or call of sys.exit, must not end the run)
        return RecordError(Reason.CRASHED, f"{type(fault).__name__}: {fault}")


def _start_worker(memory_mb: int, parent_pid: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_parent(parent_pid)
    _limit_memory(memory_mb)


def end_with_parent(parent_pid: int) -> None:
    """Make this process end when its parent does, however it dies."""
    if sys.platform == "linux":
        # The kernel does it even while a decoder hangs with the interpreter's lock held.
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:
            os._exit(1)
        return
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _limit_memory(memory_mb: int) -> None:
    if sys.platform != "linux":
        return
    import resource

    # Data, unlike the address space, leaves out mapped files and libraries, which take no memory of their own.
    data_kb = next(
        int(line.split()[1])
        for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        if line.startswith("VmData:")
    )
    limit = (data_kb << 10) + (memory_mb << 20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
