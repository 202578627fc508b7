"""`ChatClient`: answers from the journal or from the endpoint, retries, and what failures mean.

A failed attempt is tried again on 408, 409, 429, 5xx, lost connections, timeouts and bodies that are no completion:
after a wait that doubles and is drawn at random from its upper half, or after the wait that the endpoint asks for,
which then holds for all requests. Refusals for the rate (429) count apart, for they say nothing against the request.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random

from pipeline.errors import RecordError, SetupError, UnavailableError
from pipeline.models.chat.account import Account, Purse
from pipeline.models.chat.endpoint import Endpoint
from pipeline.models.chat.faults import (
    AttemptError,
    Cause,
    explain_setup,
    no_usage,
    warn_of_lacks,
    where_it_should_be,
    words_of,
)
from pipeline.models.chat.journal import Journal
from pipeline.models.chat.messages import ChatRequest, Completion, Usage, read_completion, read_usage
from pipeline.models.chat.settings import Access, ChatSettings
from pipeline.models.chat.slots import Slots
from pipeline.records import Reason

logger = logging.getLogger(__name__)

# From so many failures one after the other, the endpoint is at fault and not the requests.
_MAX_FAILURES_IN_A_ROW = 50

_LONGEST_BACKOFF_S = 30.0

# Whoever asks for a longer wait than this is not available, rather than busy.
_LONGEST_ASKED_WAIT_S = 600.0

# Refusals for the rate that a request may meet per retry that it has.
_REFUSALS_PER_RETRY = 4

_SYNC_EVERY_S = 0.2


class ChatClient:
    """One endpoint in one run: what it was found to support, whether it ever answered, and what its failures mean.

    An equal request is never paid for twice: not after a crash, since answers come from the journal, and not within a
    run, where the second waits for the first. That loses nothing, since equal requests have equal seeds.
    """

    def __init__(self, settings: ChatSettings, access: Access, journal: Journal, account: Account) -> None:
        self.has_answered = False
        self._settings = settings
        self._access = access
        self._journal = journal
        self._account = account
        self._endpoint = Endpoint(access, settings.endpoint)
        self._first = asyncio.Lock()
        self._slots = Slots(settings.endpoint.concurrency)
        self._purse = Purse(settings, account, journal.path.parent)
        self._asked: dict[str, asyncio.Task[Completion]] = {}
        self._lacks: frozenset[str] = frozenset()
        self._failures_in_a_row = 0
        self._broken: SetupError | None = None
        self._jitter = random.Random()
        self._syncing = asyncio.create_task(self._keep_synced())

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the model's answer, from the journal where it is there.

        Raises:
            RecordError: this request failed although the endpoint works.
            SetupError: the endpoint does not work.
            BudgetError: it could cost more than is left.
        """
        key = request.key(self._settings)
        known = self._journal.recall(key)
        if known is not None:
            self._account.from_journal += 1
            return known
        task = self._asked.get(key)
        if task is None:
            task = asyncio.create_task(self._answer(key, request))
            task.add_done_callback(lambda _: self._asked.pop(key))
            self._asked[key] = task
        else:
            self._account.shared += 1
        # whoever else waits for this answer gets it even if this caller is cancelled
        return await asyncio.shield(task)

    async def settle(self) -> None:
        """Wait for what was sent, so that every answer that is paid for is in the journal."""
        while self._asked:
            await asyncio.wait(list(self._asked.values()))

    async def close(self) -> None:
        """Give up what is in flight and close the connections; what was answered is on disk."""
        running = [self._syncing, *self._asked.values()]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        await self._endpoint.close()
        self._purse.close()

    async def _answer(self, key: str, request: ChatRequest) -> Completion:
        # Until the first answer requests go alone, each with all its retries: a wrong set-up costs one request. All
        # pass through the lock, so that none that comes later overtakes those that wait: a budget ends in order.
        async with self._first:
            if not self.has_answered:
                return await self._persist(key, request)
        return await self._persist(key, request)

    async def _persist(self, key: str, request: ChatRequest) -> Completion:
        faults = refusals = 0
        while True:
            try:
                completion = await self._attempt(key, request)
            except AttemptError as fault:
                if fault.status == 429:
                    refusals += 1
                else:
                    faults += 1
                retries = self._settings.endpoint.max_retries
                is_last = faults > retries or refusals > _REFUSALS_PER_RETRY * retries
                if fault.cause is not Cause.PASSING or is_last or self._asks_too_much(fault):
                    without_schema = await self._try_without_schema(key, request, fault)
                    if without_schema is None:
                        raise self._judge(fault) from None
                    completion = without_schema
                else:
                    if fault.wait_s is None:
                        await asyncio.sleep(self._backoff_s(faults + refusals))
                    self._account.retries += 1
                    continue
            self._account.answers += 1
            return completion

    def _backoff_s(self, failures: int) -> float:
        longest = min(_LONGEST_BACKOFF_S, self._settings.retry_base_s * math.ldexp(1.0, failures - 1))
        return longest * self._jitter.uniform(0.5, 1)

    def _asks_too_much(self, fault: AttemptError) -> bool:
        return fault.wait_s is not None and fault.wait_s > _LONGEST_ASKED_WAIT_S

    async def _attempt(self, key: str, request: ChatRequest) -> Completion:
        """Ask once; where the endpoint says that it does not take a field, ask once more without it."""
        lacks, said = self._lacks, ""
        while True:
            try:
                completion = await self._send(key, request, lacks)
            except AttemptError as fault:
                sent = request.body(self._settings, lacks)
                found = fault.refused_fields(sent, keeps_limit=self._purse.counts_tokens)
                if not found:
                    raise
                lacks, said = lacks | found, fault.what
                self._account.retries += 1
            else:
                self._leave_out(lacks, said)
                return completion

    async def _try_without_schema(self, key: str, request: ChatRequest, fault: AttemptError) -> Completion | None:
        """Where nothing but crashes came so far, return the answer without a schema if the schema is what crashes it.

        It is if the same request crashes with it once more: a server that was still loading answers both.
        """
        if self.has_answered or request.response_format is None or fault.status is None or fault.status < 500:
            return None
        try:
            completion = await self._send(key, request, self._lacks | {"response_format"})
        except AttemptError:
            return None
        try:
            return await self._send(key, request, self._lacks)
        except AttemptError:
            self._leave_out(self._lacks | {"response_format"}, fault.what)
            return completion

    def _leave_out(self, lacks: frozenset[str], said: str) -> None:
        """Take note of the fields that the endpoint was found not to take, and say so once."""
        warn_of_lacks(lacks - self._lacks, said, self._access)
        self._lacks |= lacks

    async def _send(self, key: str, request: ChatRequest, lacks: frozenset[str]) -> Completion:
        acquired_at = await self._slots.acquire()
        try:
            if self._broken is not None:
                raise self._broken
            reserve = await self._purse.reserve(key, request)
            usage: Usage | None = None
            may_be_billed = True
            try:
                body = await self._endpoint.post(request.body(self._settings, lacks))
                usage = read_usage(body)
                self._journal.append(key, self._settings.model, body, usage)
                completion = _read(key, body)
            except AttemptError as fault:
                may_be_billed = fault.may_be_billed
                self._heed(fault, acquired_at)
                told = read_usage(fault.body)
                if told is not None:
                    usage = told
                    self._journal.append(key, self._settings.model, fault.body, usage, status=fault.status or 0)
                raise
            finally:
                self._purse.settle(reserve, usage, may_be_billed=may_be_billed)
            if usage is None and self._purse.counts_tokens:
                raise no_usage(self._access, self._settings)
        except SetupError as fault:
            self._broken = fault
            raise
        finally:
            self._slots.release()
        self.has_answered = True
        self._failures_in_a_row = 0
        self._slots.succeed()
        return completion

    def _heed(self, fault: AttemptError, acquired_at: float) -> None:
        """Slow down as the endpoint asks."""
        if fault.status == 429:
            self._slots.refuse(acquired_at)
        if fault.wait_s is not None and not self._asks_too_much(fault):
            if fault.wait_s > 10:
                logger.warning("%s: asks to wait %.0f s", self._access.host, fault.wait_s)
            self._slots.pause(fault.wait_s)

    def _judge(self, fault: AttemptError) -> RecordError | SetupError:
        """Tell a failed request from a set-up that cannot work."""
        judged: RecordError | SetupError
        if fault.cause is Cause.FILTER:
            # what a filter reads goes through a key and a model that work
            self.has_answered = True
            self._failures_in_a_row = 0
            return RecordError(Reason.CONTENT_FILTER, self._access.without_secrets(fault.what))
        setup = explain_setup(fault, self._access, self._settings)
        if setup is not None:
            judged = setup
        elif self._asks_too_much(fault):
            what = f"{self._access.host}: {self._access.without_secrets(fault.what)}"
            judged = UnavailableError(f"{what}; asks to come back in {fault.wait_s:.0f} s")
        else:
            judged = self._blame(fault)
        if isinstance(judged, SetupError):
            self._broken = judged
        return judged

    def _blame(self, fault: AttemptError) -> RecordError | SetupError:
        """Blame the request, or the endpoint where it never answered or answers nothing any more."""
        host, what = self._access.host, self._access.without_secrets(fault.what)
        is_passing = fault.cause is Cause.PASSING
        self._failures_in_a_row += 1
        if is_passing and not self.has_answered:
            place = where_it_should_be(self._access, self._settings)
            return UnavailableError(f"{host}: {what}; is an OpenAI-compatible server running there?{place}")
        if self._failures_in_a_row >= max(_MAX_FAILURES_IN_A_ROW, self._settings.endpoint.concurrency):
            kind = UnavailableError if is_passing else SetupError
            return kind(f"{host}: {self._failures_in_a_row} requests failed one after the other: {what}")
        return RecordError(Reason.REQUEST_FAILED, what)

    async def _keep_synced(self) -> None:
        while True:
            await asyncio.sleep(_SYNC_EVERY_S)
            try:
                await asyncio.to_thread(self._journal.sync)
            except SetupError as fault:
                self._broken = fault


def _read(key: str, body: str) -> Completion:
    try:
        return read_completion(key, body)
    except ValueError:
        raise AttemptError(f"the answer is not a chat completion: {words_of(body)}", status=200) from None
