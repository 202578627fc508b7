"""A language model that reads answers as a reviewer would: supported, to the point, clear, and at odds with nothing."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from pipeline.config import JudgeConfig
from pipeline.errors import RecordError
from pipeline.models.base import Spending
from pipeline.models.chat.asking import REPAIR, ask_for
from pipeline.models.chat.drafts import say_label
from pipeline.models.chat.messages import Chat, ChatRequest
from pipeline.models.chat.runner import ChatRunner
from pipeline.models.chat.settings import chat_settings
from pipeline.models.replies import Asked, format_of
from pipeline.prompts import hash_prompts, load_prompt
from pipeline.records import Caption, InstructionPair, Reason

PROMPT = "judge_quality"

Points = Annotated[int, Field(ge=1, le=5)]


class Scores(Asked):
    """What the model gives an answer, each from 1, poor, to 5, and which conflict of `CONFLICTS` it sees."""

    support: Points
    relevance: Points
    clarity: Points
    conflict: Literal["none", "event_in_normal", "other_event", "contradiction", "nothing_seen"]
    reason: Annotated[str, Field(max_length=500)]

    @property
    def lowest(self) -> int:
        """The score that decides: an answer is as good as its worst side."""
        return min(self.support, self.relevance, self.clarity)


class QualityJudge:
    """Asks for scores, and once more with the fault quoted if the reply cannot be read."""

    def __init__(self, config: JudgeConfig, journal: Path, dropped: Collection[Reason] = ()) -> None:
        """Check that the call can work as far as that shows without the network; `journal` is a folder.

        `dropped` are the conflicts for which an answer is dropped.

        Raises:
            SetupError: no model is named, the URL or the key is malformed, or there is neither of the two.
        """
        self._config = config
        self._dropped = frozenset(dropped)
        self._settings = chat_settings("filter.judge", config)
        self.runner = ChatRunner(self._settings, journal)

    def identity(self) -> Mapping[str, object]:
        """Return what decides about scores and about what they let pass."""
        return {"code": 3, **self._config.identity(), "prompts": hash_prompts([PROMPT, REPAIR])}

    def spent(self) -> Spending:
        """Return what the judge has cost."""
        return self.runner.spent()

    async def score(self, chat: Chat, pair: InstructionPair, caption: Caption) -> Scores | RecordError:
        """Return the scores of an answer, or why it is dropped: a conflict, scores that are too low, or none.

        Raises:
            SetupError: from the chat.
        """
        messages = load_prompt(PROMPT).render(
            caption=caption.text, label=say_label(pair.label), question=pair.question, answer=pair.answer
        )
        asked = ChatRequest(messages=messages, response_format=format_of("scores", Scores))
        try:
            scores, _ = await ask_for(Scores, chat, asked, self._settings)
        except RecordError as fault:
            return fault
        if scores.conflict in self._dropped:
            return RecordError(Reason(scores.conflict), f"seen by the judge: {scores.reason}")
        if scores.lowest < self._config.min_score:
            given = f"support {scores.support}, relevance {scores.relevance}, clarity {scores.clarity}"
            detail = f"{given}; min_score={self._config.min_score:g}: {scores.reason}"
            return RecordError(Reason.JUDGED_POOR, detail)
        return scores
