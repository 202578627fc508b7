"""What a captioner and a synthesizer must do, whatever model stands behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from pipeline.errors import RecordError
from pipeline.records import Caption, EventClip, Task, Video


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What the requests of one stage came to, as the endpoint's own figures say.

    `requests` counts everything that was sent, `retries` the part of it that repeats a failed one. `answers` were paid
    for in this run, `from_journal` in an earlier one; `shared` asked for what another request in flight asked for too.
    `unmetered` requests ended without telling any usage, e.g. by a lost connection: whether they are billed is unknown.
    Costs are None where the model has no price. What begins with `workspace_` is the sum of all runs, killed ones too.
    """

    model: str
    requests: int
    retries: int
    answers: int
    from_journal: int
    shared: int
    unmetered: int
    prompt_tokens: int
    completion_tokens: int
    cost: float | None
    workspace_prompt_tokens: int
    workspace_completion_tokens: int
    workspace_cost: float | None

    def __str__(self) -> str:
        """Say it in a line."""
        money = "" if self.cost is None else f", cost {self.cost:,.4f} ({self.workspace_cost:,.4f} in all runs)"
        return (
            f"{self.requests:,} requests ({self.retries:,} retries), {self.from_journal:,} answers from the journal, "
            f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens{money}"
        )


@runtime_checkable
class Pays(Protocol):
    """Whatever asks models that count or bill their tokens."""

    def spent(self) -> Spending | None:
        """Return what was spent in this run; None where nothing of the kind happens."""
        ...


@runtime_checkable
class Evident(Protocol):
    """A captioner that can tell at once whether what it says of any clip has changed."""

    def all_evidence(self) -> object:
        """Return what `evidence_of` follows from beside video and clip, as JSON-able values, None if unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class CaptionRequest:
    """A clip to describe and the video it is read from.

    Of a clip that is asked about `samples` times, `sample` in [0, samples) is which time this is: each shows others of
    its frames, and the first the same as where it is asked about once.
    """

    clip: EventClip
    video: Video
    sample: int = 0
    samples: int = 1


class Captioner(Protocol):
    """Describes clips in words."""

    name: str

    def identity(self) -> Mapping[str, object]:
        """Return what decides every text: model, revision, prompt hash, generation settings, code version."""
        ...

    def evidence_of(self, request: CaptionRequest) -> object:
        """Return what decides this one text beside video and clip, as JSON-able values; None where nothing does."""
        ...

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        """Yield one caption or one fault per request, in the order of the requests, reading no further than needed."""
        ...


@runtime_checkable
class TellsLevels(Protocol):
    """A captioner that knows texts about whole events and videos, not only about clips."""

    def level_caption(self, span: EventClip) -> Caption | None:
        """Return what is known of an event or a video, None where that is nothing."""
        ...


@dataclass(frozen=True, slots=True)
class TimedEvent:
    """An event of one class in [start_s, end_s) of what is shown."""

    start_s: float
    end_s: float
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SynthesisRequest:
    """A clip with its caption, the task and the question whose answer is to be written.

    `events` are those of a clip of another level, an event or a whole video, with their times in it.
    """

    clip: EventClip
    caption: Caption
    task: Task
    question: str
    events: tuple[TimedEvent, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Draft:
    """An answer as it will stand in the dataset, the text it was taken from, and the hash of the prompt used."""

    answer: str
    raw_response: str
    prompt_hash: str


class Synthesizer(Protocol):
    """Writes the answer of an instruction pair from label and caption."""

    name: str

    def identity(self) -> Mapping[str, object]:
        """Return everything that decides the text: model, prompt hashes, sampling settings, seed, code version."""
        ...

    def synthesize(self, requests: Iterable[SynthesisRequest]) -> Iterator[Draft | RecordError]:
        """Yield one draft or one fault per request, in the order of the requests, reading no further than needed."""
        ...
