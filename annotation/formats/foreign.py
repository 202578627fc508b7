"""Annotations as a foreign file states them, before they are matched with videos.

Readers produce these; `annotation.resolve` matches them with the ingested videos. `place` names the spot in the
file, for messages: `glances.csv:17` (a line) or `export.json: $[3].annotations[0].result[1]` (a JSON path).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum

from pipeline.records import NORMAL, Reason
from pipeline.taxonomy import canonical

IGNORE = "Ignore"
"""The class of a click that is none: here is nothing abnormal, or a click near by does not count."""


class SpanKind(StrEnum):
    """What a span stands for."""

    EVENT = "event"
    """An abnormal event, with its class, and a sentence or two where the source has them."""
    CLIP = "clip"
    """A part of an event."""
    CAPTION = "caption"
    """A sentence about what is seen, whether abnormal or not."""
    VIDEO = "video"
    """The whole video; the bounds may be None."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignGlance:
    """One click, at a frame or at a time.

    `video` is the name as written; `paths` are further names of the same file, the most telling first. `frame_index`
    is 0-based and counted at `frame_rate` frames a second; a `frame_rate` of None means frames as a decoder puts them
    out. `by_player` says that the frames or times are those of a player that starts the file at 0, as Label Studio's
    does, which seeks by time. `last_frame` ends the range of which `frame_index` is the middle, None for a click on one
    frame. `num_frames` and `is_exact` are as in `ForeignSpan`.
    """

    video: str
    paths: tuple[str, ...] = ()
    frame_index: int | None = None
    time_s: float | None = None
    last_frame: int | None = None
    frame_rate: float | None = None
    by_player: bool = False
    num_frames: int | None = None
    is_exact: bool = False
    category: str | None = None
    annotator: str | None = None
    place: str

    def problem(self) -> tuple[Reason, str] | None:
        """Return what is wrong with the click whatever the video, None where nothing is."""
        if self.frame_index is None and self.time_s is None:
            return Reason.MALFORMED_ROW, "neither a frame nor a time is given"
        if self.frame_index is not None and self.frame_index < 0:
            return Reason.FRAME_OUT_OF_RANGE, f"frame {self.frame_index} is negative; frames count from 0"
        if self.time_s is not None and self.time_s < 0:
            return Reason.FRAME_OUT_OF_RANGE, f"time {self.time_s:g} s is negative"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Viewing:
    """One person's submitted judgement of a whole video: clicks, or that nothing abnormal happens in it."""

    video: str
    paths: tuple[str, ...] = ()
    annotator: str | None
    clicks: int
    place: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignSpan:
    """A half-open span, in frames (0-based, [start_frame, end_frame)) or in seconds ([start_s, end_s)).

    `num_frames` and `frame_rate` are what the source says of the video as a whole, None where it is silent. `is_exact`
    says that the source has an entry for each of the `num_frames`, so that a video of one frame more is another.
    `by_player` says that the seconds are those of a player that starts the file at 0, be it with sound alone. `event`
    numbers the events of a video, on each event and on its clips; `judgement`, `description` and `analysis` are the
    parts of a sentence about an event or a video, where the source has it in parts too.
    """

    video: str
    paths: tuple[str, ...] = ()
    start_frame: int | None = None
    end_frame: int | None = None
    start_s: float | None = None
    end_s: float | None = None
    category: str | None = None
    sentence: str | None = None
    kind: SpanKind
    frame_rate: float | None = None
    num_frames: int | None = None
    is_exact: bool = False
    by_player: bool = False
    event: int | None = None
    judgement: str | None = None
    description: str | None = None
    analysis: str | None = None
    place: str

    def middle(self) -> ForeignGlance | None:
        """Return the click in the middle of an abnormal event, None for a span that is none or has no bounds."""
        if self.kind is not SpanKind.EVENT or canonical(self.category or "") == NORMAL:
            return None
        click = ForeignGlance(
            video=self.video,
            paths=self.paths,
            category=self.category,
            frame_rate=self.frame_rate,
            num_frames=self.num_frames,
            is_exact=self.is_exact,
            by_player=self.by_player,
            place=f"{self.place} (middle)",
        )
        if self.start_frame is not None and self.end_frame is not None:
            return replace(click, frame_index=(self.start_frame + self.end_frame - 1) // 2)
        if self.start_s is not None and self.end_s is not None:
            return replace(click, time_s=(self.start_s + self.end_s) / 2)
        return None

    def problem(self) -> tuple[Reason, str] | None:
        """Return what is wrong with the span whatever the video, None where nothing is."""
        frames, times = (self.start_frame, self.end_frame), (self.start_s, self.end_s)
        for (start, end), unit in ((frames, "frames"), (times, "seconds")):
            if (start is None) != (end is None):
                return Reason.MALFORMED_ROW, f"of the span in {unit}, one bound is missing"
            if start is not None and end is not None and not 0 <= start < end:
                return Reason.FRAME_OUT_OF_RANGE, f"[{start:g}, {end:g}) {unit} is no span: 0 <= start < end is needed"
        if frames == times == (None, None) and self.kind is not SpanKind.VIDEO:
            return Reason.MALFORMED_ROW, "neither frames nor seconds are given"
        if self.kind is SpanKind.CAPTION and not self.sentence:
            return Reason.EMPTY_TEXT, "the sentence is empty"
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignFault:
    """A part of a file that could not be taken over, and why. `detail` names the value and the limit."""

    place: str
    video: str | None
    reason: Reason
    detail: str

    def __str__(self) -> str:
        """Return the line that a person reads on stderr."""
        return f"{self.place}: {self.reason}: {self.detail}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Import:
    """Everything a file says, in file order. `notes` are remarks on how it was read, for a person."""

    format: str
    glances: list[ForeignGlance] = field(default_factory=list)
    spans: list[ForeignSpan] = field(default_factory=list)
    viewings: list[Viewing] = field(default_factory=list)
    faults: list[ForeignFault] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def fault(self, place: str, video: str | None, reason: Reason, detail: object) -> None:
        """Record a part that could not be taken over."""
        self.faults.append(ForeignFault(place=place, video=video, reason=reason, detail=str(detail)))

    def take(self, item: ForeignGlance | ForeignSpan) -> None:
        """Add a click or a span, or the fault that it is."""
        problem = item.problem()
        if problem:
            self.fault(item.place, item.video, *problem)
        elif isinstance(item, ForeignGlance):
            self.glances.append(item)
        else:
            self.spans.append(item)

    @property
    def videos(self) -> list[str]:
        """The videos that the good part speaks of, by name as written, in the order of first mention."""
        names = [glance.video for glance in self.glances] + [span.video for span in self.spans]
        return list(dict.fromkeys(names))
