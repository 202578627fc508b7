"""What a command and its person have to do with one another: bars on a terminal, plain lines elsewhere, the end.

All that is shown goes to stderr.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from pipeline.errors import SetupError
from pipeline.stages.run import Progress

LOG_EVERY_S = 5.0


def set_up_logging(*, verbose: bool) -> None:
    """Send the engine's log to stderr: warnings and counts, or everything with `verbose`."""
    handler: logging.Handler
    if sys.stderr.isatty():
        from rich.console import Console
        from rich.logging import RichHandler

        handler = RichHandler(console=Console(stderr=True), show_path=False, log_time_format="%H:%M:%S")
        handler.setFormatter(logging.Formatter("%(message)s"))
    else:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname).1s %(message)s", "%H:%M:%S"))
    if not verbose:
        # what libraries say to their own developers
        warnings.filterwarnings("ignore", category=FutureWarning)
        os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    for package in ("pipeline", "annotation", "flows"):
        logging.getLogger(package).setLevel(logging.DEBUG if verbose else logging.INFO)


def require_folder(workspace: str) -> None:
    """Refuse a local workspace that is not there.

    Raises:
        SetupError: no such folder.
    """
    if "://" not in workspace and not Path(workspace).is_dir():
        raise SetupError(f"{workspace}: no such folder")


def wait_for_the_end() -> None:
    """Return at Ctrl-C or SIGTERM."""
    ended = threading.Event()

    def end(_signal: int, _frame: FrameType | None) -> None:
        ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    ended.wait()


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """Yield a progress callback: a bar a stage on a terminal, a line every few seconds elsewhere."""
    if sys.stderr.isatty():
        with _bars() as show:
            yield show
    else:
        yield _lines()


@contextmanager
def _bars() -> Iterator[Progress]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as Bars

    columns = (TextColumn("{task.description:<11}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bars(*columns, console=Console(stderr=True)) as bars:
        known: dict[str, TaskID] = {}

        def show(stage: str, done: int, total: int) -> None:
            if stage not in known:
                known[stage] = bars.add_task(stage, total=total)
            bars.update(known[stage], completed=done, total=total)

        yield show


def _spoken(duration_s: float) -> str:
    return f"{duration_s:.0f} s" if duration_s < 90 else f"{duration_s / 60:.0f} min"


def _lines() -> Progress:
    shown_at: dict[str, float] = {}
    begun: dict[str, tuple[float, int]] = {}

    def show(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        begun_at, done_then = begun.setdefault(stage, (now, done))
        if now - shown_at.setdefault(stage, now) >= LOG_EVERY_S:
            shown_at[stage] = now
            left_s = (now - begun_at) * (total - done) / max(1, done - done_then)
            logging.getLogger(__name__).info("%s: %d of %d, about %s left", stage, done, total, _spoken(left_s))

    return show
