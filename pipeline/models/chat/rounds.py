"""`Rounds`: the same work as `ChatRunner`, for answerers that want many requests at once.

The work on an item runs until it asks for something that is not in the journal; what a whole group of items lacks is
then answered together, and the work runs anew from its beginning, up to its next question. So a repair round is simply
a second round, and after a crash everything goes on from the journal.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, TypeVar

from pipeline.errors import RecordError, SetupError
from pipeline.models.chat.account import Account
from pipeline.models.chat.journal import Journal
from pipeline.models.chat.messages import ChatRequest, Completion
from pipeline.models.chat.runner import Work
from pipeline.models.chat.settings import ChatSettings
from pipeline.records import Reason

Q = TypeVar("Q")
A = TypeVar("A")

Answerer = Callable[[Mapping[str, ChatRequest]], Mapping[str, RecordError]]
"""Puts the answers to requests, by key, into the journal; returns why there is none for the others."""


class _UnansweredError(Exception):
    """A request is neither in the journal nor known to have failed."""

    def __init__(self, key: str, request: ChatRequest) -> None:
        super().__init__(key)
        self.key = key
        self.request = request


class Rounds:
    """Runs work on groups of `size` items over an open journal that `answer` fills."""

    def __init__(self, settings: ChatSettings, journal: Journal, account: Account, answer: Answerer, size: int) -> None:
        self._settings = settings
        self._journal = journal
        self._account = account
        self._answer = answer
        self._size = size

    def run(self, items: Iterable[Q], work: Work[Q, A]) -> Iterator[A]:
        """Yield the result of each item, in their order.

        Raises:
            SetupError: from the answerer, after the results before the first one that it left open.
        """
        pending = iter(items)
        while group := list(islice(pending, self._size)):
            recall = _Recall(self._settings, self._journal, self._account)
            results: dict[int, A] = {}
            open_places = list(range(len(group)))
            while open_places:
                missing: dict[str, ChatRequest] = {}
                still_open = []
                for place in open_places:
                    try:
                        results[place] = _drive(work(recall, group[place]))
                    except _UnansweredError as question:
                        missing.setdefault(question.key, question.request)
                        still_open.append(place)
                open_places = still_open
                if not open_places:
                    break
                try:
                    failures = self._answer(missing)
                except SetupError:
                    yield from (results[place] for place in range(open_places[0]))
                    raise
                recall.learn(missing, failures)
            yield from (results[place] for place in range(len(group)))


class _Recall:
    """A chat that knows what is in the journal and what failed in this group, and asks nobody."""

    def __init__(self, settings: ChatSettings, journal: Journal, account: Account) -> None:
        self._settings = settings
        self._journal = journal
        self._account = account
        self._failures: dict[str, RecordError] = {}
        self._known: set[str] = set()

    async def complete(self, request: ChatRequest) -> Completion:
        key = request.key(self._settings)
        if key in self._failures:
            raise self._failures[key]
        completion = self._journal.recall(key)
        if completion is None:
            raise _UnansweredError(key, request)
        if key not in self._known:
            self._known.add(key)
            self._account.from_journal += 1
        return completion

    def learn(self, asked: Iterable[str], failures: Mapping[str, RecordError]) -> None:
        """Take note of what was answered just now; what has neither answer nor reason has failed as well."""
        for key in asked:
            if key in failures:
                self._failures[key] = failures[key]
            elif self._journal.recall(key) is None:
                self._failures[key] = RecordError(Reason.REQUEST_FAILED, "no chat completion came back")
            else:
                self._known.add(key)


def _drive(work: Coroutine[Any, Any, A]) -> A:
    """Run a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as end:
        result: A = end.value
        return result
    work.close()
    raise RuntimeError("work on an item may wait for the chat alone")
