"""How many requests are in flight: as many as the endpoint takes, by additive increase and multiplicative decrease."""

from __future__ import annotations

import asyncio
import time
from collections import deque

_KEPT_ON_REFUSAL = 0.7
_GROWTH_PER_ROUND = 4


class Slots:
    """Places for requests in flight, given out in turn.

    There are `most` at first. A refusal (HTTP 429) takes a part of them away, once for all requests that were in flight
    together; a round of successes brings some back. Against an endpoint that bears N requests this swings between 0.7 N
    and N; where one request in thirty is refused whatever their number, some 18 stay in flight.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._limit = float(most)
        self._in_flight = 0
        self._paused_until = 0.0
        self._cut_at = 0.0
        self._waiting: deque[asyncio.Future[None]] = deque()

    @property
    def limit(self) -> int:
        """Return how many may be in flight now."""
        return int(self._limit)

    async def acquire(self) -> float:
        """Wait for a place and return the moment it was given, which `refuse` wants to know."""
        if self._waiting or not self._has_place():
            turn = asyncio.get_running_loop().create_future()
            self._waiting.append(turn)
            try:
                await turn
            except asyncio.CancelledError:
                if turn.done() and not turn.cancelled():
                    self.release()
                raise
        else:
            self._in_flight += 1
        return time.monotonic()

    def release(self) -> None:
        """Give a place back."""
        self._in_flight -= 1
        self._give()

    def succeed(self) -> None:
        """Grow by a share of a place, so that a full round of successes adds `_GROWTH_PER_ROUND`."""
        if self._limit < self._most:
            self._limit = min(self._most, self._limit + _GROWTH_PER_ROUND / self._limit)
            self._give()

    def refuse(self, acquired_at: float) -> None:
        """Take a part of the places away, unless that happened after this request was let go."""
        if acquired_at >= self._cut_at:
            self._cut_at = time.monotonic()
            self._limit = max(1.0, self._limit * _KEPT_ON_REFUSAL)

    def pause(self, seconds: float) -> None:
        """Let nobody go for a while: the endpoint has asked for it."""
        until = time.monotonic() + seconds
        if until > self._paused_until:
            self._paused_until = until
            # a little late, so that the clock has surely passed the end of the pause
            asyncio.get_running_loop().call_later(seconds + 0.001, self._give)

    def _has_place(self) -> bool:
        return self._in_flight < int(self._limit) and time.monotonic() >= self._paused_until

    def _give(self) -> None:
        while self._waiting and self._has_place():
            turn = self._waiting.popleft()
            if not turn.done():
                self._in_flight += 1
                turn.set_result(None)
