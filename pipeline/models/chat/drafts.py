"""From a synthesis request to a draft, whatever chat answers it.

Four steps that can be run, tested and stored apart: `write_messages` (pure), `ask_for` (the model),
`pipeline.models.replies.check_verdict` (pure), and `Reply.answer` (pure).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.errors import RecordError
from pipeline.models.base import Draft, SynthesisRequest, TimedEvent
from pipeline.models.chat.asking import REPAIR, ask_for, in_full
from pipeline.models.chat.messages import Chat, ChatRequest
from pipeline.models.chat.settings import ChatSettings
from pipeline.models.replies import REPLIES, Reply, check_verdict, expected_judgement, quote, response_format
from pipeline.models.timed import say_span
from pipeline.prompts import Message, Prompt, load_prompt
from pipeline.quality.rules import find_slip
from pipeline.records import NORMAL, Level, Reason, Task
from pipeline.taxonomy import describe_class

_PROMPT_IDS: Mapping[Task, tuple[str, ...]] = {
    Task.JUDGE_EXPLAIN: ("judge_explain_abnormal", "judge_explain_normal"),
    Task.DESCRIPTION: ("description",),
    Task.ANALYSIS: ("analysis",),
    Task.CAPTION: ("caption_task",),
}


_LEVEL_PROMPT_IDS: Mapping[Task, str] = {
    Task.JUDGE_EXPLAIN: "level_judge_explain",
    Task.DESCRIPTION: "level_description",
    Task.ANALYSIS: "level_analysis",
}
"""Of events and whole videos, told by the captions of their clips."""


def prompt_ids(tasks: Iterable[Task], levels: Iterable[Level] = (Level.CLIP,)) -> list[str]:
    """Return the ids of all prompts that these tasks can need, sorted."""
    wanted = list(tasks)
    ids = {REPAIR, *(prompt_id for task in wanted for prompt_id in _PROMPT_IDS[task])}
    if set(levels) - {Level.CLIP}:
        ids |= {_LEVEL_PROMPT_IDS[task] for task in wanted if task in _LEVEL_PROMPT_IDS}
    return sorted(ids)


def write_messages(request: SynthesisRequest) -> tuple[Prompt, list[Message]]:
    """Return the prompt of a request's task and label, and the messages that it makes of the request."""
    label = request.clip.label
    prompt_id = _PROMPT_IDS[request.task][0]
    if request.clip.level is not Level.CLIP:
        prompt_id = _LEVEL_PROMPT_IDS[request.task]
    elif request.task is Task.JUDGE_EXPLAIN:
        prompt_id = _PROMPT_IDS[request.task][label == NORMAL]
    prompt = load_prompt(prompt_id)
    values = {
        "caption": request.caption.text,
        "question": request.question,
        "label": say_label(label),
        "events": say_timed(request.events) or say_label(label),
        "judgement": expected_judgement(label),
    }
    return prompt, prompt.render(**{name: values[name] for name in prompt.variables})


def say_label(label: str) -> str:
    """Return a label as prompts name it: its class, and what that is."""
    return label if label == NORMAL else f"{label}: {describe_class(label).phrase}"


def say_timed(events: Iterable[TimedEvent]) -> str:
    """Return events as prompts name them: class and times, one a line."""
    return "\n".join(f"{say_span(event.start_s, event.end_s)}: {say_label(event.label)}" for event in events)


class Drafter:
    """Makes drafts."""

    def __init__(self, settings: ChatSettings) -> None:
        self._settings = settings

    async def draft(self, chat: Chat, request: SynthesisRequest) -> Draft | RecordError:
        """Return the draft of one request, or why there is none.

        A slip of wording for which the filter would drop the answer is given the second chance too.

        Raises:
            SetupError: from the chat.
        """
        if not request.caption.text.strip():
            return RecordError(Reason.EMPTY_TEXT, f"clip {request.clip.clip_id}: the caption is empty")
        prompt, messages = write_messages(request)
        asked = ChatRequest(messages=messages, response_format=response_format(request.task))

        def slip_of(reply: Reply) -> RecordError | None:
            # to judge against the label is no slip of wording
            if reply.verdict not in (None, expected_judgement(request.clip.label)):
                return None
            return find_slip(reply.answer(), request.task, request.clip.label, request.caption)

        try:
            reply, completion = await ask_for(REPLIES[request.task], chat, asked, self._settings, slip_of)
            check_verdict(reply, request.clip.label, f"{quote(completion.text)}{in_full(completion)}")
        except RecordError as fault:
            return fault
        return Draft(answer=reply.answer(), raw_response=completion.text, prompt_hash=prompt.hash)
