"""What is asked of a chat endpoint and what comes back."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from pipeline.models.chat.settings import ChatSettings
from pipeline.records import digest

_CUT_OFF = frozenset({"length", "max_tokens", "model_length"})
_FILTERED = frozenset(
    {"content_filter", "safety", "prohibited_content", "blocklist", "recitation", "image_safety", "sensitive"}
)
# Types of the parts of a message that are no answer.
_THOUGHTS = frozenset({"thinking", "redacted_thinking", "thought", "reasoning", "reasoning_text"})

_PIXELS_PER_TOKEN = 14 * 14
"""Of the vision towers in use none has smaller patches."""
_VIDEO_BYTES_PER_TOKEN = 64


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

    def body(self, settings: ChatSettings, lacks: frozenset[str] = frozenset()) -> dict[str, Any]:
        """Return the JSON object to send to an endpoint that refuses the fields `lacks`."""
        body: dict[str, Any] = {"messages": self.messages, **settings.sampling()}
        if self.response_format is not None:
            body["response_format"] = self.response_format
        if "max_tokens" in lacks:
            body["max_completion_tokens"] = body["max_tokens"]
        return {name: value for name, value in body.items() if name not in lacks}

    def most_prompt_tokens(self) -> tuple[int, int]:
        """Return an upper bound of the tokens of all texts, and what pictures and videos may come to by their size.

        No tokenizer makes more tokens than bytes; the frame that a chat template puts around a message is allowed for.
        """
        texts = media = 0
        for message in self.messages:
            content = message["content"]
            texts += _TEMPLATE_TOKENS
            for part in content if isinstance(content, list) else [{"type": "text", "text": content}]:
                if part["type"] == "text":
                    texts += len(str(part["text"]).encode("utf-8", "replace"))
                else:
                    media += _media_tokens(part)
        return texts, media


_TEMPLATE_TOKENS = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The tokens of one answer, as the endpoint bills them."""

    prompt_tokens: int
    completion_tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Completion:
    """The text of an answer, empty where the model said nothing, and what the server set apart as reasoning.

    A refusal is the text where there is no other. `finish` says why the answer ended, in small letters. `key` finds the
    whole response in the journal; `usage` is None where the endpoint does not tell.
    """

    text: str
    thought: str
    finish: str
    usage: Usage | None
    key: str

    @property
    def is_cut_off(self) -> bool:
        """Tell whether the answer ended at `max_tokens`."""
        return self.finish in _CUT_OFF

    @property
    def is_filtered(self) -> bool:
        """Tell whether the endpoint withheld the answer, or the rest of it."""
        return self.finish in _FILTERED


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
        if error_in(response):
            raise ValueError("an error in the place of a chat completion")
        message = choice["message"]
        text = _text_of(message.get("content")) or message.get("refusal") or ""
        told = message.get("reasoning_content") or message.get("reasoning") or _thought_of(message.get("content"))
    except (KeyError, IndexError, TypeError, AttributeError, RecursionError) as fault:
        raise ValueError("not a chat completion") from fault
    finish = str(choice.get("finish_reason") or "").lower()
    thought = told if isinstance(told, str) else json.dumps(told)
    if not text.strip() and finish not in _CUT_OFF | _FILTERED and thought.strip()[:1] == "{":
        # a reasoning parser before a model that did not reason takes the whole answer for reasoning
        text = thought
    return Completion(text=_as_text(text), thought=_as_text(thought), finish=finish, usage=_usage(response), key=key)


def error_in(response: object) -> object:
    """Return the error in a response that calls itself a success, as routers send it; None where there is none."""
    if not isinstance(response, dict):
        return None
    choices = response.get("choices")
    first = choices[0] if isinstance(choices, list) and choices else None
    in_choice = first.get("error") if isinstance(first, dict) else None
    return response.get("error") or in_choice or (response if response.get("object") == "error" else None)


def _text_of(content: object) -> str:
    """Return the text of a message's content, which may be a list of parts."""
    if not isinstance(content, list):
        return _as_text(content or "")
    parts = [part if isinstance(part, dict) else {"text": part} for part in content]
    texts = (part.get("text") or part.get("refusal") for part in parts if part.get("type") not in _THOUGHTS)
    return "".join(text for text in texts if isinstance(text, str))


def _thought_of(content: object) -> str:
    parts = content if isinstance(content, list) else []
    return "".join(json.dumps(part) for part in parts if isinstance(part, dict) and part.get("type") in _THOUGHTS)


def _as_text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text is a {type(value).__name__}")
    # an escaped half of a surrogate pair is valid JSON but no text that a table can hold
    return value.encode("utf-8", "replace").decode()


def _media_tokens(part: Mapping[str, Any]) -> int:
    """Return what a picture or video may come to: by its pixels, or by the bytes of a video."""
    from PIL import Image

    kind = part["type"]
    content = base64.b64decode(str(part[kind]["url"]).partition(",")[2])
    if kind != "image_url":
        return len(content) // _VIDEO_BYTES_PER_TOKEN
    with Image.open(io.BytesIO(content)) as picture:
        return picture.width * picture.height // _PIXELS_PER_TOKEN


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
    total = usage.get("total_tokens")
    if isinstance(total, int):
        # some bill what a model thinks and leave it out of the completion
        completion = max(completion, total - prompt)
    return Usage(prompt_tokens=prompt, completion_tokens=completion)
