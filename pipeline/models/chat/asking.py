"""Asking for a JSON object, with one second chance where the reply cannot be read or used."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from pydantic import BaseModel

from pipeline.errors import RecordError
from pipeline.models.chat.journal import ANSWERS
from pipeline.models.chat.messages import Chat, ChatRequest, Completion
from pipeline.models.chat.settings import ChatSettings
from pipeline.models.replies import ReplyError, parse_object, quote
from pipeline.models.thoughts import without_thoughts
from pipeline.prompts import Message, load_prompt
from pipeline.records import Reason

M = TypeVar("M", bound=BaseModel)

REPAIR = "repair"

# A model that ran wild is shown the beginning of what it wrote: the rest would be paid for once more.
_MAX_REFUSED_CHARS = 8000


async def ask_for(
    kind: type[M],
    chat: Chat,
    asked: ChatRequest,
    settings: ChatSettings,
    find_slip: Callable[[M], RecordError | None] | None = None,
) -> tuple[M, Completion]:
    """Return the object that `asked` brings, and the reply that it stood in; asked once more with the fault quoted.

    `find_slip` tells what is wrong with an object that can be read: it is asked for once more as well, and the second
    one stands as it is.

    Raises:
        RecordError: neither reply can be read, or there is none.
        SetupError: from the chat.
    """
    completion = await chat.complete(asked)
    try:
        found = parse_object(kind, answer_of(completion, settings))
        if find_slip is None or (slip := find_slip(found)) is None:
            return found, completion
        raise ReplyError(f"{slip.reason.value}: {slip.detail}")
    except ReplyError as fault:
        completion = await chat.complete(_repair(asked, completion, fault, settings))
    try:
        return parse_object(kind, answer_of(completion, settings)), completion
    except ReplyError as fault:
        detail = f"{fault}, after one repair: {quote(completion.text)}{in_full(completion)}"
        raise RecordError(Reason.BAD_RESPONSE, detail) from None


def answer_of(completion: Completion, settings: ChatSettings) -> str:
    """Return what a reply says beside what the model thinks, empty where a model of its own accord says nothing.

    Raises:
        RecordError: there is no answer, and to ask again in the same way would bring none.
    """
    if completion.is_filtered:
        told = f"the endpoint's content filter stopped the answer (finish_reason {completion.finish})"
        raise RecordError(Reason.CONTENT_FILTER, told + in_full(completion))
    answer = without_thoughts(completion.text)
    if answer.strip():
        return answer
    if completion.is_cut_off:
        limit = f"{settings.section}.{settings.limit}={settings.max_tokens}"
        told = f"cut off while the model was reasoning, which it may do unseen: raise {limit}"
        raise RecordError(Reason.BAD_RESPONSE, told + in_full(completion))
    if completion.thought.strip():
        told = "the server took the whole answer for reasoning: switch its reasoning parser or the model's thinking off"
        raise RecordError(Reason.BAD_RESPONSE, told + in_full(completion))
    return answer


def in_full(completion: Completion) -> str:
    """Say where the whole text is, of which a fault quotes the beginning."""
    return f"; in full in {ANSWERS} of the journal under {completion.key}"


def _repair(asked: ChatRequest, refused: Completion, fault: ReplyError, settings: ChatSettings) -> ChatRequest:
    """Return the request that shows a model its reply and what is wrong with it."""
    error = f"{fault}; it was cut off, so be brief" if refused.is_cut_off else str(fault)
    prompt = load_prompt(REPAIR)
    shown = Message(role="assistant", content=refused.text[:_MAX_REFUSED_CHARS])
    return ChatRequest(
        messages=[*asked.messages, shown, *prompt.render(error=error)],
        response_format=asked.response_format,
        # the fault in the words of a later parser is no new request
        stands_for=f"{prompt.hash} of {asked.key(settings)}",
    )
