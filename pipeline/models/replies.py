"""The replies an LLM is asked for: their JSON schemas, reading them out of whatever text came, and the answers.

No server is trusted to keep to a schema: some ignore it silently, some wrap the object in a fence or in prose.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, StringConstraints, ValidationError

from pipeline.errors import RecordError
from pipeline.models.sentences import join_clause, tidy, without_repeats
from pipeline.records import NORMAL, Reason, Task

M = TypeVar("M", bound=BaseModel)

_MAX_REPLY_CHARS = 100_000
_MAX_QUOTE_CHARS = 500

_VERDICT = re.compile(r"^(?:yes|no)\s*[,.:;!]\s*", re.IGNORECASE)
_BECAUSE = re.compile(r"^because\b", re.IGNORECASE)


def _lower(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


Judgement = Annotated[Literal["abnormal", "normal"], BeforeValidator(_lower)]
# The bounds also keep a constrained decoder from writing one string until its tokens run out.
Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1200)]


class ReplyError(ValueError):
    """A reply is not the JSON object that was asked for; the message tells the model what to mend."""


class Asked(BaseModel):
    """An object that a model is asked for. The schema allows no other keys; those that come all the same are ignored.

    A decoder that keeps to the schema would otherwise invent keys until its tokens run out.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, json_schema_extra={"additionalProperties": False})


class Reply(Asked, ABC):
    """What every reply has in common."""

    @property
    def verdict(self) -> str | None:
        """What the reply judges, "abnormal" or "normal"; None where the task asks for no judgement."""
        return getattr(self, "judgement", None)

    @abstractmethod
    def answer(self) -> str:
        """Return the answer in the look of the dataset."""


class JudgeExplainReply(Reply):
    """Judgement, what happens, and why that is normal or abnormal."""

    judgement: Judgement
    description: Text
    analysis: Text

    def answer(self) -> str:
        """Return "Yes, the video shows ... This is abnormal because ...", or the like with "No".

        Small models tell in the analysis once more what they have described; what is new in it stands alone here.
        """
        description = tidy(without_repeats(_VERDICT.sub("", self.description)))
        analysis = without_repeats(_VERDICT.sub("", self.analysis), description)
        if _BECAUSE.match(analysis):
            analysis = f"This is {self.judgement} {analysis[0].lower()}{analysis[1:]}"
        opening = "Yes, " if self.judgement == "abnormal" else "No, "
        return f"{join_clause(opening, description)} {tidy(analysis)}"


class DescriptionReply(Reply):
    """What happens, and the judgement that shows whether the model kept to the label."""

    judgement: Judgement
    description: Text

    def answer(self) -> str:
        return tidy(without_repeats(self.description))


class AnalysisReply(Reply):
    """Reasons that end in the verdict."""

    judgement: Judgement
    analysis: Text

    def answer(self) -> str:
        return tidy(without_repeats(self.analysis))


class CaptionReply(Reply):
    """A caption, which judges nothing."""

    caption: Text

    def answer(self) -> str:
        return tidy(self.caption)


REPLIES: Mapping[Task, type[Reply]] = {
    Task.JUDGE_EXPLAIN: JudgeExplainReply,
    Task.DESCRIPTION: DescriptionReply,
    Task.ANALYSIS: AnalysisReply,
    Task.CAPTION: CaptionReply,
}


@cache
def response_format(task: Task) -> dict[str, Any]:
    """Return the `response_format` that asks an OpenAI-compatible endpoint for the reply of this task."""
    return format_of(task.value, REPLIES[task])


def format_of(name: str, kind: type[BaseModel]) -> dict[str, Any]:
    """Return the `response_format` that asks for a JSON object of a kind."""
    schema = kind.model_json_schema()
    return {"type": "json_schema", "json_schema": {"name": name, "strict": True, "schema": schema}}


def parse_object(kind: type[M], text: str) -> M:
    """Read the last JSON object in `text` that is of a kind; fences and prose around it do not matter.

    Raises:
        ReplyError: there is none; the message says what is wrong with the last object that came nearest.
    """
    if len(text) > _MAX_REPLY_CHARS:
        raise ReplyError(f"the reply has {len(text)} characters, more than {_MAX_REPLY_CHARS}")
    found: M | None = None
    fault = "the reply holds no complete JSON object"
    for candidate in _objects(text):
        try:
            found = kind.model_validate(candidate)
        except ValidationError as error:
            fault = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()[:5])
    if found is None:
        raise ReplyError(fault)
    return found


def expected_judgement(label: str) -> str:
    """Return what has to be judged of a clip with this label."""
    return "normal" if label == NORMAL else "abnormal"


def check_verdict(reply: Reply, label: str, quoted: str) -> None:
    """Compare the judgement of a reply, `quoted` as it came, with the label that it was given.

    Raises:
        RecordError: they differ.
    """
    if reply.verdict not in (None, expected_judgement(label)):
        raise RecordError(Reason.WRONG_VERDICT, f"judged {reply.verdict}, the label is {label}: {quoted}")


def quote(text: str) -> str:
    """Return `text` as a literal, cut to a length that a person reads."""
    return repr(text if len(text) <= _MAX_QUOTE_CHARS else f"{text[:_MAX_QUOTE_CHARS]}...")


def _objects(text: str) -> Iterator[object]:
    """Yield the outermost JSON objects that stand anywhere in `text`."""
    # models put raw line breaks into strings, which strict JSON forbids
    decoder = json.JSONDecoder(strict=False)
    place = text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (json.JSONDecodeError, RecursionError):
            end = place + 1
        else:
            yield value
        place = text.find("{", end)
