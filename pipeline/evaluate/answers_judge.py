"""A language model that compares answers with reference answers: reasonability, detail, consistency."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated

from pydantic import Field

from pipeline.errors import RecordError
from pipeline.evaluate.answers import JudgedAnswer
from pipeline.models.base import Spending
from pipeline.models.chat.asking import ask_for
from pipeline.models.chat.messages import Chat, ChatRequest
from pipeline.models.chat.runner import ChatRunner
from pipeline.models.chat.settings import ChatSettings
from pipeline.models.replies import Asked, format_of
from pipeline.prompts import load_prompt
from pipeline.records import digest

PROMPT = "judge_answer"
SCORES = ("reasonability", "detail", "consistency")

Points = Annotated[int, Field(ge=0, le=5)]


class AnswerScores(Asked):
    """What the model gives an answer, each from 0 to 5, the best."""

    reasonability: Points
    detail: Points
    consistency: Points
    reason: Annotated[str, Field(max_length=500)]


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerGrades:
    """The scores of the answers that were judged, by id, and why others that were asked about have none.

    Attributes:
        drawn: answers asked about, of `num_answers`.
    """

    scores: Mapping[str, AnswerScores]
    failures: Mapping[str, str]
    drawn: int
    num_answers: int
    spent: Spending

    def means(self) -> dict[str, float | None]:
        """Return the mean of each score, None where no answer was judged."""
        given = list(self.scores.values())
        return {name: sum(getattr(one, name) for one in given) / len(given) if given else None for name in SCORES}


def draw_answers(answers: Sequence[JudgedAnswer], most: int) -> list[JudgedAnswer]:
    """Return up to `most` answers, in their order; the same ids give the same draw, whatever model answered."""
    ids = sorted((answer.reference.id for answer in answers), key=lambda name: digest("judge_answer", name))
    drawn = set(ids[:most])
    return [answer for answer in answers if answer.reference.id in drawn]


def grade_answers(answers: Sequence[JudgedAnswer], settings: ChatSettings, journal: Path, most: int) -> AnswerGrades:
    """Have a language model score up to `most` answers; what it said before stands in `journal` and costs nothing.

    Raises:
        SetupError: the endpoint, the key or the model is refused, or nothing answers.
        BudgetError: the next request could exceed the budget; what was paid for is in the journal.
    """
    drawn = draw_answers(answers, most)
    runner = ChatRunner(settings, journal)

    outcomes = runner.run(drawn, partial(_grade, settings=settings))
    scores, failures = {}, {}
    for answer, outcome in zip(drawn, outcomes, strict=True):
        if isinstance(outcome, RecordError):
            failures[answer.reference.id] = outcome.detail
        else:
            scores[answer.reference.id] = outcome
    return AnswerGrades(
        scores=scores, failures=failures, drawn=len(drawn), num_answers=len(answers), spent=runner.spent()
    )


async def _grade(chat: Chat, answer: JudgedAnswer, *, settings: ChatSettings) -> AnswerScores | RecordError:
    reference = answer.reference
    messages = load_prompt(PROMPT).render(
        question=reference.question, reference=reference.answer, answer=answer.prediction
    )
    asked = ChatRequest(messages=messages, response_format=format_of("scores", AnswerScores))
    try:
        return (await ask_for(AnswerScores, chat, asked, settings))[0]
    except RecordError as fault:
        return fault
