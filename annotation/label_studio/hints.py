"""When to look after hints: once a burst is over, not too late in a long one, and every so often without any."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from pipeline.errors import ConfigError, HolmesError

logger = logging.getLogger(__name__)

END_S = 10.0


@dataclass(kw_only=True)
class Hints:
    """Turn hints and the passing of time into moments to look. The first moment is at once: hints may have been missed.

    Args:
        quiet_s: a look follows a hint once none came for so long,
        max_delay_s: but so long after the first one at the latest.
        poll_every_s: a look follows the one before after so long, also without a hint.
        now_s: the time, in seconds from anywhere; at first the moment of creation.

    Raises:
        ConfigError: a negative time or none at all, or a poll interval of zero.
    """

    quiet_s: float
    max_delay_s: float
    poll_every_s: float
    now_s: Callable[[], float] = time.monotonic
    _poll_at: float = field(init=False)
    _first: float | None = field(init=False, default=None)
    _last: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        if not (self.quiet_s >= 0 and self.max_delay_s >= 0 and self.poll_every_s > 0):
            said = f"quiet={self.quiet_s} s, max delay={self.max_delay_s} s, poll interval={self.poll_every_s} s"
            raise ConfigError(f"{said}: from 0 s, and more than that for the poll interval")
        self._poll_at = self.now_s()

    def hint(self) -> None:
        """Note that something has changed."""
        self._last = self.now_s()
        if self._first is None:
            self._first = self._last

    def wait_s(self) -> float:
        """Return the seconds until the next look as things stand, 0 where it is due."""
        due = self._poll_at
        if self._first is not None:
            due = min(due, self._last + self.quiet_s, self._first + self.max_delay_s)
        return max(due - self.now_s(), 0.0)

    def begin(self) -> None:
        """Note that a look begins: it answers the hints so far; those from now on ask for another one."""
        self._first = None
        self._poll_at = self.now_s() + self.poll_every_s


class Lookout:
    """Look when hints say so, one look at a time, in a thread of its own.

    A look that fails is told and changes nothing: the next hint or poll looks again.
    """

    def __init__(self, hints: Hints, look: Callable[[], object]) -> None:
        self._hints = hints
        self._look = look
        self._changed = threading.Condition()
        self._ended = False

    def hint(self, action: str) -> None:
        """Note a hint; returns at once, from any thread."""
        with self._changed:
            self._hints.hint()
            self._changed.notify_all()
        logger.info("webhook: %s", action)

    @contextmanager
    def looking(self) -> Iterator[None]:
        """Look while inside; a look that is under way at the end is waited for, up to `END_S`."""
        thread = threading.Thread(target=self._run, name="lookout", daemon=True)
        thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            thread.join(END_S)

    def _run(self) -> None:
        while self._wait():
            try:
                self._look()
            except HolmesError as fault:
                logger.error("%s; the next hint or poll tries again", fault)
            except Exception:
                logger.exception("a defect; the next hint or poll tries again")

    def _wait(self) -> bool:
        """Return True when a look is due, False at the end."""
        with self._changed:
            while not self._ended:
                wait_s = self._hints.wait_s()
                if not wait_s:
                    self._hints.begin()
                    return True
                self._changed.wait(min(wait_s, threading.TIMEOUT_MAX))
        return False
