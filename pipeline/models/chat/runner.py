"""`ChatRunner`: many items through one endpoint, in order, from any kind of caller."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, wait
from itertools import chain, islice
from pathlib import Path
from typing import Any, TypeVar

from anyio.from_thread import start_blocking_portal

from pipeline.errors import BudgetError
from pipeline.models.base import Spending
from pipeline.models.chat.account import Account
from pipeline.models.chat.client import ChatClient
from pipeline.models.chat.journal import Journal, read_usage
from pipeline.models.chat.messages import Chat
from pipeline.models.chat.settings import ChatSettings, find_access

Q = TypeVar("Q")
A = TypeVar("A")

Work = Callable[[Chat, Q], Coroutine[Any, Any, A]]
"""Makes the result of one item out of one or more completions."""

# Results that may wait for a slower one before them, per request in flight: order costs no throughput then.
_WINDOW_PER_SLOT = 4


class Runner:
    """What runs work on items against the endpoint of `settings`, with a journal in `folder`."""

    def __init__(self, settings: ChatSettings, folder: Path) -> None:
        """Check that the call can work as far as that shows without the network.

        Raises:
            SetupError: the URL or the key is malformed, there is neither of the two, or a limit of cost has no price.
        """
        self._settings = settings
        self._access = find_access(settings)
        self._journal = Journal(folder)
        self.account = Account()

    def spent(self) -> Spending:
        """Return what was spent by this runner, and in its workspace altogether."""
        # Where nothing was to be asked, nobody has opened the journal.
        paid = self._journal.paid or {
            model: usage for model, (_, usage) in read_usage(self._journal.path.parent).items()
        }
        return self.account.spending(self._settings, paid)


class ChatRunner(Runner):
    """Runs work request by request."""

    def run(self, items: Iterable[Q], work: Work[Q, A]) -> Iterator[A]:
        """Yield the result of each item, in their order, with up to `concurrency` requests in flight.

        Until the first answer they go one at a time. Where the budget ends, what is in flight is waited for, so that
        everything that was paid for is in the journal.

        Raises:
            SetupError: key or model are refused, nothing answers before the first success, or everything fails.
            BudgetError: the next request could exceed the budget.
        """
        size = self._settings.endpoint.concurrency * _WINDOW_PER_SLOT
        with self._journal:
            pending = unless_empty(items)
            if pending is not None:
                yield from self._run(pending, work, size)

    def _run(self, pending: Iterator[Q], work: Work[Q, A], size: int) -> Iterator[A]:
        # An event loop in a thread of its own: requests go on while the caller writes, and in any kind of caller.
        with start_blocking_portal(name="chat") as portal:
            client = portal.call(self._connect)
            window: deque[Future[A]] = deque()
            try:
                while True:
                    window.extend(
                        portal.start_task_soon(work, client, item) for item in islice(pending, size - len(window))
                    )
                    if not window:
                        return
                    yield window.popleft().result()
            except BudgetError:
                wait(window)
                # work that gathers several requests ends at the first failure, while the others are in flight
                portal.call(client.settle)
                raise
            finally:
                for future in window:
                    future.cancel()
                portal.call(client.close)

    async def _connect(self) -> ChatClient:
        return ChatClient(self._settings, self._access, self._journal, self.account)


def unless_empty(items: Iterable[Q]) -> Iterator[Q] | None:
    """Return an iterator over `items`, None where there are none: a run with nothing to ask connects to nothing."""
    pending = iter(items)
    first = list(islice(pending, 1))
    return chain(first, pending) if first else None
