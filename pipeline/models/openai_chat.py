"""Answers by an LLM behind any OpenAI-compatible endpoint.

A request goes through four steps that can be run, tested and stored apart: `write_messages` (pure), `_Chat.complete`
(the network), `pipeline.models.replies.parse_reply` and `check_verdict` (pure), and `Reply.answer` (pure).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Coroutine, Iterable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar
from urllib.parse import urlsplit

from pipeline.config import SynthesizeConfig
from pipeline.errors import RecordError, SetupError, UnavailableError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.replies import ReplyError, check_verdict, parse_reply, quote, response_format
from pipeline.prompts import Message, Prompt, hash_prompts, load_prompt
from pipeline.records import NORMAL, Reason, Task
from pipeline.taxonomy import describe_class

if TYPE_CHECKING:
    from openai import APIError, AsyncOpenAI

_T = TypeVar("_T")

_PROMPT_IDS: Mapping[Task, tuple[str, ...]] = {
    Task.JUDGE_EXPLAIN: ("judge_explain_abnormal", "judge_explain_normal"),
    Task.DESCRIPTION: ("description",),
    Task.ANALYSIS: ("analysis",),
    Task.CAPTION: ("caption_task",),
}
_REPAIR = "repair"

_OPENAI = "https://api.openai.com/v1"

# From so many failures one after the other, the endpoint is at fault and not the requests.
_MAX_FAILURES_IN_A_ROW = 50

# Answers that may wait for a slower one before them, per request in flight: order costs no throughput then.
_WINDOW_PER_SLOT = 4


class OpenAISynthesizer:
    """Asks for a JSON object per answer, validates it, and gives the model one chance to repair it."""

    def __init__(self, config: SynthesizeConfig) -> None:
        """Check that the call can work as far as that shows without the network.

        Raises:
            SetupError: no model is named, the URL or the key is malformed, or there is neither of the two.
        """
        if not config.model:
            raise SetupError("synthesize.backend=openai needs synthesize.model, the name of a model of the endpoint")
        self.name = config.model
        self._config = config
        self._base_url = _check_url(config.base_url or os.environ.get("OPENAI_BASE_URL") or _OPENAI)
        self._key = os.environ.get("OPENAI_API_KEY", "").strip()
        if not self._key and self._base_url == _OPENAI:
            raise SetupError("set OPENAI_API_KEY, or synthesize.base_url to an endpoint that needs no key")
        if not (self._key.isascii() and self._key.isprintable()):
            raise SetupError("OPENAI_API_KEY holds characters that no key has")
        self._prompt_ids = sorted({_REPAIR, *(i for task in config.tasks for i in _PROMPT_IDS[task])})
        hash_prompts(self._prompt_ids)

    def identity(self) -> Mapping[str, object]:
        """Return model, prompts and sampling settings; where the endpoint runs and how it is called changes no text."""
        return {
            "backend": "openai",
            "code": 1,
            "model": self._config.model,
            "prompts": hash_prompts(self._prompt_ids),
            "temperature": self._config.temperature,
            "max_tokens": self._config.max_tokens,
            "seed": self._config.seed,
        }

    def synthesize(self, requests: Iterable[SynthesisRequest]) -> Iterator[Draft | RecordError]:
        """Yield in the order of `requests`, with up to `concurrency` of them in flight.

        Until the first answer they go one at a time, so that a wrong set-up costs one request.

        Raises:
            SetupError: key or model are refused, nothing answers before the first success, or everything fails.
        """
        pending = iter(requests)
        with _LoopThread() as loop:
            chat = loop.submit(_connect(self._config, self._base_url, self._key)).result()
            try:
                window: deque[Future[Draft | RecordError]] = deque()
                while True:
                    size = self._config.concurrency * _WINDOW_PER_SLOT if chat.has_answered else 1
                    window.extend(loop.submit(_draft(chat, request)) for request in islice(pending, size - len(window)))
                    if not window:
                        return
                    yield window.popleft().result()
            finally:
                loop.cancel_all()
                loop.submit(chat.close()).result()


def write_messages(request: SynthesisRequest) -> tuple[Prompt, list[Message]]:
    """Return the prompt of a request's task and label, and the messages that it makes of the request."""
    label = request.clip.label
    prompt_id = _PROMPT_IDS[request.task][0]
    if request.task is Task.JUDGE_EXPLAIN:
        prompt_id = _PROMPT_IDS[request.task][label == NORMAL]
    prompt = load_prompt(prompt_id)
    values = {
        "caption": request.caption.text,
        "question": request.question,
        "label": label if label == NORMAL else f"{label}: {describe_class(label).phrase}",
    }
    return prompt, prompt.render(**{name: values[name] for name in prompt.variables})


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The text of a completion, and whether it was cut off at `max_tokens`."""

    text: str
    is_cut_off: bool


async def _draft(chat: _Chat, request: SynthesisRequest) -> Draft | RecordError:
    """Ask, and ask once more with the fault quoted if the reply cannot be read."""
    if not request.caption.text.strip():
        return RecordError(Reason.EMPTY_TEXT, f"clip {request.clip.clip_id}: the caption is empty")
    try:
        prompt, messages = write_messages(request)
        completion = await chat.complete(request.task, messages)
        try:
            reply = parse_reply(request.task, completion.text)
        except ReplyError as fault:
            error = f"{fault}; it was cut off, so be brief" if completion.is_cut_off else str(fault)
            refused = Message(role="assistant", content=completion.text)
            messages = [*messages, refused, *load_prompt(_REPAIR).render(error=error)]
            completion = await chat.complete(request.task, messages)
            reply = parse_reply(request.task, completion.text)
        check_verdict(reply, request.clip.label, completion.text)
    except ReplyError as fault:
        return RecordError(Reason.BAD_RESPONSE, f"{fault}, after one repair: {quote(completion.text)}")
    except RecordError as fault:
        return fault
    return Draft(answer=reply.answer(), raw_response=completion.text, prompt_hash=prompt.hash)


class _Chat:
    """One endpoint: what it was found to support, whether it ever answered, and what its failures mean."""

    def __init__(self, client: AsyncOpenAI, config: SynthesizeConfig) -> None:
        self.has_answered = False
        self._client = client
        self._config = config
        self._slots = asyncio.Semaphore(config.concurrency)
        self._takes_schema = True
        self._failures_in_a_row = 0

    async def complete(self, task: Task, messages: list[Message]) -> Completion:
        """Return the model's text.

        Raises:
            RecordError: this request failed although the endpoint works.
            SetupError: the endpoint does not work.
        """
        from openai import APIError

        try:
            async with self._slots:
                completion = _read(await self._ask(task, messages))
        except APIError as fault:
            raise self._judge(fault) from None
        except ValueError:
            raise self._fail(Reason.BAD_RESPONSE, "the answer is not a chat completion", is_transient=True) from None
        self.has_answered = True
        self._failures_in_a_row = 0
        return completion

    async def close(self) -> None:
        await self._client.close()

    async def _ask(self, task: Task, messages: list[Message]) -> object:
        from openai import BadRequestError, InternalServerError, UnprocessableEntityError

        # the package's overloads cannot be met by settings that are put together
        create: Any = self._client.chat.completions.create
        settings: dict[str, Any] = {
            "model": self._config.model,
            "messages": messages,
            "temperature": self._config.temperature,
            "max_tokens": self._config.max_tokens,
        }
        if self._config.temperature > 0:
            # without sampling a seed changes nothing, and some endpoints refuse the field
            settings["seed"] = self._config.seed
        if self._takes_schema:
            try:
                return await create(**settings, response_format=response_format(task))
            except (BadRequestError, UnprocessableEntityError) as fault:
                if not any(word in fault.message.lower() for word in ("response_format", "schema")):
                    raise
            except InternalServerError:
                # some servers crash on a schema instead of refusing it
                if self.has_answered:
                    raise
        completion: object = await create(**settings)
        self._takes_schema = False
        return completion

    def _judge(self, fault: APIError) -> RecordError | SetupError:
        """Tell a failed request from a set-up that cannot work."""
        from openai import APIStatusError

        if not isinstance(fault, APIStatusError):
            cause = f" ({fault.__cause__})" if fault.__cause__ else ""
            return self._fail(Reason.REQUEST_FAILED, f"{fault.message}{cause}", is_transient=True)
        status = fault.status_code
        if status in (401, 403):
            # the body may repeat the key, so it is not quoted
            return SetupError(
                f"{self._host}: HTTP {status}: OPENAI_API_KEY is wrong or may not use {self._config.model}"
            )
        if status == 404:
            return SetupError(f"{self._host}: HTTP 404: no model {self._config.model!r} or no chat completions there")
        is_transient = status in (408, 409, 429) or status >= 500
        return self._fail(Reason.REQUEST_FAILED, f"HTTP {status}: {fault.message}", is_transient=is_transient)

    def _fail(self, reason: Reason, what: str, *, is_transient: bool) -> RecordError | SetupError:
        """Blame the request, or the endpoint where it never answered or answers nothing any more."""
        what = " ".join(what.replace(self._client.api_key, "***").split())[:300]
        self._failures_in_a_row += 1
        if is_transient and not self.has_answered:
            return UnavailableError(f"{self._host}: {what}; is an OpenAI-compatible server running there?")
        if self._failures_in_a_row >= max(_MAX_FAILURES_IN_A_ROW, self._config.concurrency):
            fault = UnavailableError if is_transient else SetupError
            return fault(f"{self._host}: {self._failures_in_a_row} requests failed one after the other: {what}")
        return RecordError(reason, what)

    @property
    def _host(self) -> str:
        """Scheme, host and port: the rest of a URL may hold a password or a token."""
        url = self._client.base_url
        return f"{url.scheme}://{url.host}{f':{url.port}' if url.port else ''}"


async def _connect(config: SynthesizeConfig, base_url: str, key: str) -> _Chat:
    from openai import AsyncOpenAI

    client = AsyncOpenAI(
        # the package refuses to start without a key; a server that needs one will say so
        api_key=key or "no-key",
        base_url=base_url,
        timeout=config.timeout_s,
        max_retries=config.max_retries,
    )
    return _Chat(client, config)


def _check_url(url: str) -> str:
    """Return `url` if requests can be sent there.

    Raises:
        SetupError: it is not an http or https URL; it is not quoted, for it may hold a password.
    """
    try:
        parts = urlsplit(url)
        is_valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        is_valid = False
    if not is_valid:
        raise SetupError("synthesize.base_url or OPENAI_BASE_URL must be a URL like http://127.0.0.1:8000/v1")
    return url


def _read(completion: Any) -> Completion:
    """Return the text of a completion.

    Raises:
        ValueError: the server sent something else.
    """
    try:
        choice = completion.choices[0]
        text = choice.message.content or getattr(choice.message, "refusal", None) or ""
    except (AttributeError, IndexError, TypeError):
        raise ValueError("not a chat completion") from None
    return Completion(text=str(text), is_cut_off=choice.finish_reason == "length")


class _LoopThread:
    """An event loop in a thread of its own: requests go on while the caller writes, and in any kind of caller."""

    def __enter__(self) -> Self:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="openai", daemon=True)
        self._thread.start()
        return self

    def submit(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def cancel_all(self) -> None:
        """Cancel what is still in flight and wait until it is gone."""
        self.submit(_cancel_others()).result()

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
