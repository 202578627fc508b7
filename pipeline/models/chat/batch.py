"""The Batch API of an endpoint: many requests in one file, answered within a day, for less money.

Upload, submit, poll, collect; every step is written down before it is taken. A run that was killed finds its batch
again, by its id or, where it died before it was told the id, by the name in the batch's metadata, and collects it: no
batch is submitted twice. The answers go into the same journal as those of single requests.
"""

from __future__ import annotations

import json
import logging
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from pipeline.errors import BudgetError, RecordError, SetupError, UnavailableError
from pipeline.models.chat.account import Account, Purse
from pipeline.models.chat.batch_state import BatchNote, BatchState
from pipeline.models.chat.faults import (
    AttemptError,
    Cause,
    explain_setup,
    failure_of,
    hidden_failure,
    no_usage,
    warn_of_lacks,
)
from pipeline.models.chat.journal import Journal
from pipeline.models.chat.messages import ChatRequest, read_usage
from pipeline.models.chat.rounds import Rounds
from pipeline.models.chat.runner import Runner, Work, unless_empty
from pipeline.models.chat.settings import Access, ChatSettings
from pipeline.models.chat.tab import Reserve
from pipeline.records import Reason, digest

if TYPE_CHECKING:
    from openai import OpenAI
    from openai.types import Batch

logger = logging.getLogger(__name__)

Q = TypeVar("Q")
A = TypeVar("A")

# The largest file that OpenAI takes is 200 MB.
_MAX_FILE_BYTES = 190_000_000

_FIRST_POLL_S = 1.0

_NAME = "holmes"
"""Key of a batch's name in its metadata."""


class BatchDesk:
    """Answers requests through batches."""

    def __init__(
        self, settings: ChatSettings, access: Access, journal: Journal, account: Account, *, poll_s: float
    ) -> None:
        """Take up the batches of earlier runs; `journal` is open, `poll_s` the longest wait between two looks.

        Raises:
            SetupError: the notes of earlier batches cannot be read.
        """
        from openai import OpenAI

        self._settings = settings
        self._access = access
        self._journal = journal
        self._account = account
        self._purse = Purse(settings, account, journal.path.parent)
        self._poll_s = poll_s
        self._state = BatchState(journal.path.parent)
        self._failures: dict[str, RecordError] = {}
        self._requests: Mapping[str, ChatRequest] = {}
        self._lacks: frozenset[str] = frozenset()
        self._sent_without: frozenset[str] = frozenset()
        self._again: list[str] = []
        self._has_untold = False
        self._client: OpenAI = OpenAI(
            **access.client_options(),
            timeout=settings.endpoint.timeout_s,
            max_retries=settings.endpoint.max_retries,
        )

    def answer(self, requests: Mapping[str, ChatRequest]) -> Mapping[str, RecordError]:
        """Put the answers into the journal, first those of batches that an earlier run has left.

        Raises:
            BudgetError: the next request could exceed the budget.
            SetupError: the endpoint refuses the batch, or knows no batches.
            UnavailableError: it does not answer; the next run takes the batch up again.
        """
        self._failures.clear()
        self._requests = requests
        for note in self._state.open():
            self._take_up(note)
        # what they refused has no answer, and is to do like the rest
        self._again.clear()
        todo = {key: requests[key] for key in requests if self._journal.find(key) is None and key not in self._failures}
        while todo:
            part = self._affordable(todo)
            self._sent_without = self._lacks
            note = self._submit({key: todo.pop(key) for key in part})
            self._collect(note, part)
            todo |= {key: requests[key] for key in self._again}
            self._again.clear()
        return self._failures

    def close(self) -> None:
        """Close the connections."""
        self._client.close()
        self._purse.close()

    def _affordable(self, requests: Mapping[str, ChatRequest]) -> dict[str, Reserve]:
        """Set aside what the first of these requests cost at most, as many as fit into the budget and into a file."""
        held: dict[str, Reserve] = {}
        size = 0
        for key, request in requests.items():
            size += len(self._line(key, request))
            if size > _MAX_FILE_BYTES and held:
                break
            try:
                reserve = self._purse.take(key, request)
            except BudgetError:
                if not held:
                    raise
                break
            if reserve is None:
                break
            held[key] = reserve
        return held

    def _submit(self, requests: Mapping[str, ChatRequest]) -> BatchNote:
        name = self._state.next_name(digest(sorted(requests))[:12])
        with tempfile.NamedTemporaryFile(suffix=".jsonl", dir=self._journal.path.parent) as file:
            for key, request in requests.items():
                file.write(self._line(key, request))
            file.flush()
            with self._faults(), Path(file.name).open("rb") as upload:
                uploaded = self._client.files.create(file=(f"{name}.jsonl", upload), purpose="batch")
        note = self._state.note(BatchNote(name=name, requests=len(requests)))
        # A lost answer to this call may hide a batch that runs: it is looked for by its name rather than sent again.
        client = self._client.with_options(max_retries=0)
        with self._faults(note):
            batch = client.batches.create(
                input_file_id=uploaded.id,
                endpoint="/v1/chat/completions",
                completion_window="24h",
                metadata={_NAME: name},
            )
        logger.info("%s: batch %s of %d requests submitted", self._settings.section, batch.id, len(requests))
        return self._state.note(note, batch_id=batch.id)

    def _take_up(self, note: BatchNote) -> None:
        """Collect a batch of an earlier run, if it was submitted at all."""
        if note.batch_id is None:
            with self._faults():
                batches = self._client.batches.list()
                found = next((batch for batch in batches if (batch.metadata or {}).get(_NAME) == note.name), None)
            if found is None:
                self._state.note(note, is_settled=True)
                return
            note = self._state.note(note, batch_id=found.id)
        logger.info("%s: batch %s of an earlier run is taken up", self._settings.section, note.batch_id)
        self._collect(note, {})

    def _collect(self, note: BatchNote, held: Mapping[str, Reserve]) -> None:
        """Wait for a batch and take what it brought, also where it expired or was cancelled on the way."""
        batch = self._wait(note)
        open_reserves = dict(held)
        for file_id in (batch.output_file_id, batch.error_file_id):
            if file_id is not None:
                for line in self._lines(file_id):
                    self._take(line, open_reserves)
        self._journal.sync()
        for reserve in open_reserves.values():
            # what an endpoint gave up it does not bill; a line that is missing from a whole batch may be billed
            self._purse.settle(reserve, None, may_be_billed=batch.status == "completed")
        self._state.note(note, is_settled=True)
        for key in open_reserves:
            self._failures.setdefault(key, RecordError(Reason.REQUEST_FAILED, f"the batch {batch.status} without it"))
        if batch.status == "failed":
            faults = [error.message or "" for error in (batch.errors.data or [])] if batch.errors else []
            raise SetupError(f"{self._access.host}: batch {batch.id} failed: {self._clean('; '.join(faults[:3]))}")
        if self._has_untold and self._purse.counts_tokens:
            raise no_usage(self._access, self._settings)

    def _wait(self, note: BatchNote) -> Batch:
        pause_s = min(_FIRST_POLL_S, self._poll_s)
        done = -1
        while True:
            with self._faults():
                batch = self._client.batches.retrieve(str(note.batch_id))
            counts = batch.request_counts
            if counts is not None and counts.completed + counts.failed != done:
                done = counts.completed + counts.failed
                logger.info("%s: batch %s: %d of %d", self._settings.section, batch.id, done, note.requests)
            if batch.status in ("completed", "failed", "expired", "cancelled"):
                return batch
            time.sleep(pause_s)
            pause_s = min(2 * pause_s, self._poll_s)

    def _lines(self, file_id: str) -> Iterator[dict[str, Any]]:
        with self._faults(), self._client.files.with_streaming_response.content(file_id) as response:
            for line in response.iter_lines():
                if line.strip():
                    yield json.loads(line)

    def _take(self, line: Mapping[str, Any], held: dict[str, Reserve]) -> None:
        """Journal one line of an output or error file; one that is there already was delivered twice."""
        key = str(line["custom_id"])
        if self._journal.find(key) is not None:
            return
        response = line.get("response") or {}
        status = int(response.get("status_code") or 0)
        body = json.dumps(response.get("body") or {"error": line.get("error")})
        fault = hidden_failure(body) if status == 200 else failure_of(status, body)
        usage = read_usage(body)
        if fault is None or usage is not None:
            self._journal.append(key, self._settings.model, body, usage, status=fault.status or 0 if fault else 200)
        reserve = held.pop(key, None) or self._purse.take_over(key)
        if reserve is not None:
            self._purse.settle(reserve, usage, may_be_billed=fault is None or fault.may_be_billed)
        else:
            self._account.requests += 1
            self._account.add(usage)
        if fault is not None:
            self._judge(key, fault)
            return
        self._account.answers += 1
        self._has_untold |= usage is None

    def _judge(self, key: str, fault: AttemptError) -> None:
        """Note that a request failed, or that it is to be sent again without the fields that the endpoint refuses."""
        request = self._requests.get(key)
        sent = {} if request is None else request.body(self._settings, self._sent_without)
        refused = fault.refused_fields(sent, keeps_limit=self._purse.counts_tokens)
        if refused:
            warn_of_lacks(refused - self._lacks, fault.what, self._access)
            self._lacks |= refused
            self._again.append(key)
            return
        setup = explain_setup(fault, self._access, self._settings)
        if setup is not None:
            raise setup
        reason = Reason.CONTENT_FILTER if fault.cause is Cause.FILTER else Reason.REQUEST_FAILED
        self._failures[key] = RecordError(reason, self._clean(fault.what))

    @contextmanager
    def _faults(self, submitting: BatchNote | None = None) -> Iterator[None]:
        """Turn failures of the package into ours; while `submitting`, a refusal says that nothing was submitted."""
        from openai import APIError, APIStatusError

        host = self._access.host
        try:
            yield
        except APIStatusError as fault:
            if submitting is not None and fault.status_code < 500:
                self._state.note(submitting, is_settled=True)
            failure = failure_of(fault.status_code, fault.response.text)
            setup = explain_setup(failure, self._access, self._settings)
            if setup is not None and failure.cause is not Cause.PLACE:
                raise setup from None
            said = f"{host}: {self._clean(failure.what)}"
            if failure.cause is Cause.PASSING:
                raise UnavailableError(f"{said}; run again to go on") from None
            raise SetupError(f"{said}; {self._settings.section}.transport=chat needs no Batch API") from None
        except APIError as fault:
            raise UnavailableError(f"{host}: {self._clean(fault.message)}; run again to go on") from None

    def _clean(self, text: str) -> str:
        return self._access.without_secrets(text)

    def _line(self, key: str, request: ChatRequest) -> bytes:
        body = request.body(self._settings, self._lacks)
        line = {"custom_id": key, "method": "POST", "url": "/v1/chat/completions", "body": body}
        return json.dumps(line).encode() + b"\n"


class BatchRunner(Runner):
    """Runs work on items `size` at a time, by way of the endpoint's Batch API; `poll_s` as in `BatchDesk`."""

    def __init__(self, settings: ChatSettings, folder: Path, *, size: int, poll_s: float) -> None:
        super().__init__(settings, folder)
        self._size = size
        self._poll_s = poll_s

    def run(self, items: Iterable[Q], work: Work[Q, A]) -> Iterator[A]:
        """Yield the result of each item, in their order, a batch at a time.

        Raises:
            SetupError: from `BatchDesk.answer`; what came back before is in the journal.
        """
        with self._journal:
            pending = unless_empty(items)
            if pending is None:
                return
            desk = BatchDesk(self._settings, self._access, self._journal, self.account, poll_s=self._poll_s)
            rounds = Rounds(self._settings, self._journal, self.account, desk.answer, self._size)
            try:
                yield from rounds.run(pending, work)
            finally:
                desk.close()
