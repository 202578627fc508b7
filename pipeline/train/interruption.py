"""Ctrl-C, and a scheduler's request to end, turned into a wish that training looks at between batches."""

from __future__ import annotations

import signal
import threading
import time
from types import FrameType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_ONE_PRESS_S = 2.0
"""A launcher of several processes passes a Ctrl-C on that these have already got from the terminal."""


class Interruption:
    """Within its block the first signal is noted; another Ctrl-C, seconds later, interrupts at once."""

    def __init__(self) -> None:
        self.is_wanted = False
        self._before: dict[int, Any] = {}
        self._noted_at = 0.0

    def __enter__(self) -> Self:
        # Handlers can be set in the main thread alone.
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        now = time.monotonic()
        if not self.is_wanted:
            self.is_wanted, self._noted_at = True, now
        elif number == signal.SIGINT and now - self._noted_at > _ONE_PRESS_S:
            raise KeyboardInterrupt
