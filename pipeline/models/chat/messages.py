"""What is asked of a chat endpoint and what comes back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pipeline.models.chat.settings import ChatSettings
from pipeline.records import digest

Lack = Literal["response_format", "max_tokens"]
"""A field that some endpoints refuse: schemas, or `max_tokens` in the place of its newer name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatRequest:
    """Messages for a model, as the endpoint takes them, and the `response_format` that its answer should have.

    `stands_for` takes the place of the messages in the journal's key where their wording may change without the answer
    having to be asked for again: a repair names the request that it repairs.
    """

    messages: Sequence[Mapping[str, object]]
    response_format: Mapping[str, object] | None = None
    stands_for: str | None = None

    def key(self, settings: ChatSettings) -> str:
        """Return what this request is known by in the journal: a hash of all that decides its answer.

        Where the endpoint runs and how it is called decides nothing. Equal requests have one answer, at any
        temperature, since the seed is part of the request.
        """
        asked = self.messages if self.stands_for is None else self.stands_for
        return digest("chat", asked, self.response_format, settings.sampling())

    def body(self, settings: ChatSettings, lacks: frozenset[Lack] = frozenset()) -> dict[str, Any]:
        """Return the JSON object to send to an endpoint that lacks some fields."""
        body: dict[str, Any] = {"messages": self.messages, **settings.sampling()}
        if self.response_format is not None and "response_format" not in lacks:
            body["response_format"] = self.response_format
        if "max_tokens" in lacks:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return body

    def most_prompt_tokens(self) -> int | None:
        """Return an upper bound of the tokens of the messages; None where they hold images or videos.

        No tokenizer makes more tokens than bytes; the frame that a chat template puts around a message is allowed for.
        """
        total = 0
        for message in self.messages:
            content = message["content"]
            if not isinstance(content, str):
                return None
            total += len(content.encode("utf-8", "replace")) + _TEMPLATE_TOKENS
        return total


_TEMPLATE_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens of one answer, as the endpoint bills them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The text of an answer, empty where the model said nothing, and whether it was cut off at `max_tokens`.

    A refusal is the text where there is no other. `key` finds the whole response in the journal; `usage` is None where
    the endpoint does not tell.
    """

    text: str
    is_cut_off: bool
    usage: Usage | None
    key: str


class Chat(Protocol):
    """Whatever answers requests: an endpoint, a batch that was collected, a model in this process."""

    async def complete(self, request: ChatRequest) -> Completion:
        """Return the model's answer.

        Raises:
            RecordError: this request failed although others work.
            SetupError: nothing works, or the budget is spent.
        """
        ...


def read_completion(key: str, body: str) -> Completion:
    """Read the body of a response.

    Raises:
        ValueError: it is not a chat completion.
    """
    try:
        response = json.loads(body)
        choice = response["choices"][0]
        message = choice["message"]
        text = message.get("content") or message.get("refusal") or ""
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as fault:
        raise ValueError("not a chat completion") from fault
    # an escaped half of a surrogate pair is valid JSON but no text that a table can hold
    text = str(text).encode("utf-8", "replace").decode()
    return Completion(text=text, is_cut_off=choice.get("finish_reason") == "length", usage=_usage(response), key=key)


def read_usage(body: str) -> Usage | None:
    """Return the usage that a response or an error tells, None where it tells none."""
    try:
        return _usage(json.loads(body))
    except (ValueError, RecursionError):
        return None


def _usage(response: object) -> Usage | None:
    usage = response.get("usage") if isinstance(response, dict) else None
    if not isinstance(usage, dict):
        return None
    prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if not isinstance(prompt, int) or not isinstance(completion, int):
        return None
    return Usage(prompt_tokens=prompt, completion_tokens=completion)
