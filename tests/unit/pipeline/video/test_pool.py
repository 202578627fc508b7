"""No item can hang, exhaust or end a run: only its own result is lost.

The work is Python source given to `eval` and `exec`, which worker processes know without importing this file.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from pebble.pool.process import PoolManager

from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason
from pipeline.video.pool import VideoPool

FOREVER = "__import__('time').sleep(600)"
FOREVER_WITHOUT_THE_LOCK_GIVEN_UP = "__import__('ctypes').PyDLL(None).sleep(600)"
SEGFAULT = "__import__('os').kill(__import__('os').getpid(), 11)"


@pytest.fixture(scope="module")
def pool() -> Iterator[VideoPool]:
    with VideoPool(workers=2, timeout_s=1.0, memory_mb=600) as pool:
        yield pool


def test_results_come_in_the_order_of_the_items(pool: VideoPool) -> None:
    items = [f"[__import__('time').sleep({0.05 * (index % 3 == 0)}), {index}][1]" for index in range(30)]
    assert list(pool.map(eval, items)) == list(range(30))
    assert list(pool.map(eval, [])) == []


@pytest.mark.parametrize(
    ("fault", "reason", "text"),
    [
        (FOREVER, Reason.TIMED_OUT, "not done after 1 s"),
        (FOREVER_WITHOUT_THE_LOCK_GIVEN_UP, Reason.TIMED_OUT, "not done after 1 s"),
        (SEGFAULT, Reason.CRASHED, "SIGSEGV"),
        ("__import__('os')._exit(3)", Reason.CRASHED, "exit code 3"),
        ("__import__('sys').exit('enough')", Reason.CRASHED, "SystemExit: enough"),
        ("{}['missing']", Reason.CRASHED, "KeyError: 'missing'"),
        ("len(__import__('numpy').ones(3 << 30, 'uint8'))", Reason.OUT_OF_MEMORY, "more than 600 MiB"),
    ],
)
def test_a_fault_stays_with_its_item(fault: str, reason: Reason, text: str, pool: VideoPool) -> None:
    outcomes = list(pool.map(eval, ["1", "2", fault, "3", "4", "5"]))
    failed = outcomes.pop(2)
    assert outcomes == [1, 2, 3, 4, 5]
    assert isinstance(failed, RecordError)
    assert failed.reason is reason
    assert text in failed.detail


@pytest.mark.parametrize("others", [[], ["__import__('time').sleep(0.8)"]])
def test_a_crash_is_its_items_however_late_the_worker_is_heard(
    others: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    heard = PoolManager.process_next_message

    def late(manager: PoolManager, timeout_s: float) -> None:
        time.sleep(0.5)
        heard(manager, timeout_s)

    monkeypatch.setattr(PoolManager, "process_next_message", late)
    with VideoPool(workers=2, timeout_s=10.0, memory_mb=601) as pool:
        *_, failed, last = pool.map(eval, [*others, SEGFAULT, "1"])
    assert isinstance(failed, RecordError)
    assert "SIGSEGV" in failed.detail
    assert last == 1


def test_memory_under_the_limit_is_free_to_use(pool: VideoPool) -> None:
    ones = "len(__import__('numpy').ones(300 << 20, 'uint8'))"
    assert list(pool.map(eval, [ones] * 3, timeout_s=60)) == [300 << 20] * 3


def test_the_time_limit_can_be_set_for_a_call(pool: VideoPool) -> None:
    (outcome,) = pool.map(eval, [FOREVER], timeout_s=0.2)
    assert isinstance(outcome, RecordError)
    assert outcome.detail == "not done after 0.2 s (video.timeout_s)"


def test_a_record_error_passes_through(pool: VideoPool) -> None:
    source = "from pipeline.errors import RecordError as E\nfrom pipeline.records import Reason\n"
    (outcome,) = pool.map(exec, [source + "raise E(Reason.TRUNCATED, 'film.mp4: 3 of 5')"])
    assert isinstance(outcome, RecordError)
    assert (outcome.reason, outcome.detail) == (Reason.TRUNCATED, "film.mp4: 3 of 5")


def test_a_fault_of_the_environment_ends_the_run(pool: VideoPool) -> None:
    source = "from pipeline.errors import SetupError\nraise SetupError('no space left')"
    with pytest.raises(SetupError, match="no space left"):
        list(pool.map(exec, [source]))
    assert list(pool.map(eval, ["6 * 7"])) == [42]


@pytest.mark.parametrize(("ahead_max", "most_taken"), [(None, 30), (1, 6)])
def test_items_are_taken_a_few_at_a_time(pool: VideoPool, ahead_max: int | None, most_taken: int) -> None:
    taken = 0

    def items() -> Iterator[str]:
        nonlocal taken
        for index in range(1000):
            taken += 1
            yield str(index)

    results = pool.map(eval, items(), ahead_max=ahead_max)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert taken < most_taken
    results.close()
    assert list(pool.map(eval, ["1"])) == [1]


def test_workers_outlive_the_thread_that_asked_first() -> None:
    pids: list[int] = []

    def ask() -> None:
        with VideoPool(1, 60, 2047) as pool:
            pids.extend(pool.map(eval, ["__import__('os').getpid()"]))

    for _ in range(2):
        asking = threading.Thread(target=ask)
        asking.start()
        asking.join()
        time.sleep(0.2)
    assert pids[0] == pids[1]


def test_workers_are_where_this_process_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in (tmp_path / "a", tmp_path / "b"):
        folder.mkdir()
        monkeypatch.chdir(folder)
        with VideoPool(1, 60, 600) as pool:
            assert list(pool.map(eval, ["__import__('os').getcwd()"])) == [str(folder)]


def test_zero_workers_means_one_per_core() -> None:
    with VideoPool(workers=0, timeout_s=10, memory_mb=600) as pool:
        assert list(pool.map(eval, ["1"])) == [1]


SCRIPT = """
import sys
from pipeline.video.pool import VideoPool
if __name__ == "__main__":
    with VideoPool(workers=2, timeout_s=600, memory_mb=600) as pool:
        list(pool.map(eval, [{work!r}] * 4))
"""


def _start(script: Path, work: str) -> tuple[subprocess.Popen[bytes], list[psutil.Process]]:
    script.write_text(SCRIPT.format(work=work))
    parent = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    deadline_s = time.monotonic() + 20
    while time.monotonic() < deadline_s:
        children = psutil.Process(parent.pid).children(recursive=True)
        if sum("spawn_main" in " ".join(child.cmdline()) for child in children) == 2:
            time.sleep(1.0)  # until they have begun their work
            return parent, children
        time.sleep(0.05)
    parent.kill()
    raise AssertionError("the workers did not start")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent while it hangs")
@pytest.mark.parametrize("work", [FOREVER, FOREVER_WITHOUT_THE_LOCK_GIVEN_UP])
def test_workers_end_with_a_parent_that_is_killed(work: str, tmp_path: Path) -> None:
    parent, workers = _start(tmp_path / "run.py", work)
    parent.kill()
    parent.wait()
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []


def test_ctrl_c_ends_parent_and_workers(tmp_path: Path) -> None:
    parent, workers = _start(tmp_path / "run.py", FOREVER)
    for process in [*workers, psutil.Process(parent.pid)]:  # a terminal signals the whole group
        process.send_signal(signal.SIGINT)
    assert parent.wait(timeout=15) != 0
    _, alive = psutil.wait_procs(workers, timeout=5)
    assert alive == []
