"""`ChatRunner`: many items through one endpoint, in order, from any kind of caller."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Iterator
from concurrent.futures import Future, wait
from itertools import chain, islice
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

from pipeline.errors import BudgetError
from pipeline.models.base import Spending
from pipeline.models.chat.account import Account
from pipeline.models.chat.client import ChatClient
from pipeline.models.chat.journal import Journal
from pipeline.models.chat.messages import Chat
from pipeline.models.chat.settings import Access, ChatSettings, find_access

T = TypeVar("T")
Q = TypeVar("Q")
A = TypeVar("A")

Work = Callable[[Chat, Q], Coroutine[Any, Any, A]]
"""Makes the result of one item out of one or more completions."""

# Results that may wait for a slower one before them, per request in flight: order costs no throughput then.
_WINDOW_PER_SLOT = 4


class ChatRunner:
    """Runs work on items against the endpoint of `settings`, with a journal in `folder`."""

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
        return self.account.spending(self._settings, self._journal.paid)

    def run(self, items: Iterable[Q], work: Work[Q, A]) -> Iterator[A]:
        """Yield the result of each item, in their order, with up to `concurrency` requests in flight.

        Until the first answer they go one at a time. Where the budget ends, what is in flight is waited for, so that
        everything that was paid for is in the journal.

        Raises:
            SetupError: key or model are refused, nothing answers before the first success, or everything fails.
            BudgetError: the next request could exceed the budget.
        """
        size = self._settings.concurrency * _WINDOW_PER_SLOT
        with self._journal:
            pending = unless_empty(items)
            if pending is not None:
                yield from self._run(pending, work, size)

    def _run(self, pending: Iterator[Q], work: Work[Q, A], size: int) -> Iterator[A]:
        with _LoopThread() as loop:
            client = loop.submit(_connect(self._settings, self._access, self._journal, self.account)).result()
            window: deque[Future[A]] = deque()
            try:
                while True:
                    window.extend(loop.submit(work(client, item)) for item in islice(pending, size - len(window)))
                    if not window:
                        return
                    yield window.popleft().result()
            except BudgetError:
                wait(window)
                # work that gathers several requests ends at the first failure, while the others are in flight
                loop.submit(client.settle()).result()
                raise
            finally:
                loop.cancel_all()
                loop.submit(client.close()).result()


def unless_empty(items: Iterable[Q]) -> Iterator[Q] | None:
    """Return an iterator over `items`, None where there are none: a run with nothing to ask connects to nothing."""
    pending = iter(items)
    first = list(islice(pending, 1))
    return chain(first, pending) if first else None


async def _connect(settings: ChatSettings, access: Access, journal: Journal, account: Account) -> ChatClient:
    return ChatClient(settings, access, journal, account)


class _LoopThread:
    """An event loop in a thread of its own: requests go on while the caller writes, and in any kind of caller."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chat", daemon=True)
        self._thread.start()
        return self

    def submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def cancel_all(self) -> None:
        """Cancel what is still in flight and wait until it is gone."""
        self.submit(_cancel_others()).result()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.submit(self._loop.shutdown_default_executor()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
