"""From a synthesis request to a draft, whatever chat answers it.

Four steps that can be run, tested and stored apart: `write_messages` (pure), `Chat.complete` (the model),
`pipeline.models.replies.parse_reply` and `check_verdict` (pure), and `Reply.answer` (pure).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.errors import RecordError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.chat.journal import ANSWERS
from pipeline.models.chat.messages import Chat, ChatRequest, Completion
from pipeline.models.chat.settings import ChatSettings
from pipeline.models.replies import Reply, ReplyError, check_verdict, parse_reply, quote, response_format
from pipeline.prompts import Message, Prompt, load_prompt
from pipeline.records import NORMAL, Reason, Task
from pipeline.taxonomy import describe_class

_PROMPT_IDS: Mapping[Task, tuple[str, ...]] = {
    Task.JUDGE_EXPLAIN: ("judge_explain_abnormal", "judge_explain_normal"),
    Task.DESCRIPTION: ("description",),
    Task.ANALYSIS: ("analysis",),
    Task.CAPTION: ("caption_task",),
}
REPAIR = "repair"

# A model that ran wild is shown the beginning of what it wrote: the rest would be paid for once more.
_MAX_REFUSED_CHARS = 8000


def prompt_ids(tasks: Iterable[Task]) -> list[str]:
    """Return the ids of all prompts that these tasks can need, sorted."""
    return sorted({REPAIR, *(prompt_id for task in tasks for prompt_id in _PROMPT_IDS[task])})


def write_messages(request: SynthesisRequest) -> tuple[Prompt, list[Message]]:
    """Return the prompt of a request's task and label, and the messages that it makes of the request."""
    label = request.clip.label
    prompt_id = _PROMPT_IDS[request.task][0]
    if request.task is Task.JUDGE_EXPLAIN:
        prompt_id = _PROMPT_IDS[request.task][label == NORMAL]
    prompt = load_prompt(prompt_id)
    values = {"caption": request.caption.text, "question": request.question, "label": say_label(label)}
    return prompt, prompt.render(**{name: values[name] for name in prompt.variables})


def say_label(label: str) -> str:
    """Return a label as prompts name it: its class, and what that is."""
    return label if label == NORMAL else f"{label}: {describe_class(label).phrase}"


class Drafter:
    """Makes drafts: asks, and asks once more with the fault quoted if the reply cannot be read."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings

    async def draft(self, chat: Chat, request: SynthesisRequest) -> Draft | RecordError:
        """Return the draft of one request, or why there is none.

        Raises:
            SetupError: from the chat.
        """
        if not request.caption.text.strip():
            return RecordError(Reason.EMPTY_TEXT, f"clip {request.clip.clip_id}: the caption is empty")
        prompt, messages = write_messages(request)
        asked = ChatRequest(messages=messages, response_format=response_format(request.task))
        try:
            completion = await chat.complete(asked)
            try:
                reply = parse_reply(request.task, completion.text)
            except ReplyError as fault:
                completion = await chat.complete(repair_request(asked, completion, fault, self._settings))
                reply = _read_repaired(request.task, completion)
            _check(reply, request.clip.label, completion)
        except RecordError as fault:
            return fault
        return Draft(answer=reply.answer(), raw_response=completion.text, prompt_hash=prompt.hash)


def repair_request(asked: ChatRequest, refused: Completion, fault: ReplyError, settings: ChatSettings) -> ChatRequest:
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


def _read_repaired(task: Task, completion: Completion) -> Reply:
    try:
        return parse_reply(task, completion.text)
    except ReplyError as fault:
        detail = f"{fault}, after one repair: {quote(completion.text)}"
        raise RecordError(Reason.BAD_RESPONSE, detail + _in_full(completion)) from None


def _check(reply: Reply, label: str, completion: Completion) -> None:
    try:
        check_verdict(reply, label, completion.text)
    except RecordError as fault:
        raise RecordError(fault.reason, fault.detail + _in_full(completion)) from None


def _in_full(completion: Completion) -> str:
    """Say where the whole text is, of which a fault quotes the beginning."""
    return f"; in full in {ANSWERS} of the journal under {completion.key}"
