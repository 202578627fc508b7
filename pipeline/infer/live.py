"""Detection in a stream that is read once: scored in windows, each span told when it is over.

Scores are computed anew for the last minutes whenever a window is full. What lies a few seconds back is settled: the
smoothing of scores reaches no further, and a span that ends there is over. Memory does not grow with the stream, but
for one score a snippet. Where a stream was interrupted, what came before and what comes after are looked at apart.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.features.base import stored
from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.infer.judgement import Judgement, judge_video
from pipeline.infer.live_frames import LiveFrames
from pipeline.infer.parts import JudgedPart, unite
from pipeline.infer.scoring import VideoScorer
from pipeline.infer.settings import DetectSettings
from pipeline.models.clip_frames import ClipFrames, bounded
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.proposals import Proposal, detect, part_at_dips
from pipeline.video.live import LiveVideo, connections
from pipeline.video.losses import FrameSpan
from pipeline.video.recorder import StreamRecorder

SCORED_EVERY_S = 10.0
"""Seconds of a stream after which it is scored anew."""

CONTEXT_S = 300.0
"""Seconds of a stream that are scored together."""

SETTLED_S = 6.0
"""Seconds after which scores and spans no longer change, unless a sampler smooths its scores more widely."""

UNIFORM_SCORE = 1.0
"""Score of a span that a video model answered Yes to where there is no sampler."""

_GAP_S, _GAP_FRAMES = 3.0, 10
"""Seconds, or frames of a slow camera, without a frame after which a stream was interrupted."""

_STRIDE_FRAMES = 16  # frames between two pictures where no sampler says it

OnSpan = Callable[[DetectedSpan], None]
Judge = Callable[[ClipFrames, float, float], Judgement]
"""Asks the video model about frames of a time in seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveTools:
    """What a stream is looked at with: a sampler, a judge or both. Without a sampler every window is judged."""

    scorer: VideoScorer | None
    judge: Judge | None
    theta: float
    num_frames: int
    max_side: int
    settings: DetectSettings


@dataclass(slots=True, kw_only=True)
class _Found:
    """What was found in a stream so far, over all of its stretches."""

    on_span: OnSpan | None
    pictures: LiveFrames
    spans: list[DetectedSpan] = field(default_factory=list)
    times_s: list[float] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    lost: list[tuple[float, float]] = field(default_factory=list)
    num_frames: int = 0
    seen_s: float = 0.0
    now_s: float = 0.0


def settled_s(scorer: VideoScorer | None) -> float:
    """Return the seconds after which scores and spans no longer change: two deviations of the smoothing, at least."""
    return SETTLED_S if scorer is None else max(SETTLED_S, 2 * scorer.sampler.smoothing_s)


def recorder_for(settings: DetectSettings, scorer: VideoScorer | None) -> StreamRecorder:
    """Return what keeps enough of a stream to cut the longest span from it when it is told."""
    longest_s = max(settings.proposal.max_s, settings.window_s)
    return StreamRecorder(longest_s + settled_s(scorer) + SCORED_EVERY_S)


def watch(
    url: str, tools: LiveTools, on_span: OnSpan | None = None, recorder: StreamRecorder | None = None
) -> Detection:
    """Read a stream to its end, tell `on_span` every span when it is over, and return what was found in all.

    While `on_span` is told, `recorder` still has the span.

    Raises:
        RecordError: nothing answers at the address, or the model cannot take its frames.
    """
    found: _Found | None = None
    for live, frames in connections(url, tools.settings.reconnect_s, recorder):
        found = found or _Found(on_span=on_span, pictures=LiveFrames(live.fps))
        _watch_connection(live, frames, tools, found)
    assert found is not None  # noqa: S101 - the first connection is there or has raised
    whole = Judgement()
    if not found.spans and tools.judge is not None:
        whole = tools.judge(found.pictures.whole(found.num_frames, tools.num_frames), 0.0, found.now_s)
    is_anomaly, said, spans = judge_video(found.spans, [whole], has_scores=tools.scorer is not None)
    return Detection(
        video=url,
        fps=found.num_frames / found.seen_s,
        duration_s=found.now_s,
        is_anomaly=is_anomaly,
        answer=said.answer,
        confidence=said.confidence,
        consistent=said.consistent,
        spans=tuple(spans),
        times_s=np.array(found.times_s),
        scores=np.array(found.scores, dtype=np.float32),
        lost=tuple(found.lost),
    )


def _watch_connection(live: LiveVideo, frames: Iterator[tuple[float, Any]], tools: LiveTools, found: _Found) -> None:
    """Look at the frames of a connection; where none came for a while, what follows is looked at by itself."""
    gap_s = max(_GAP_S, _GAP_FRAMES / live.fps)
    watcher: _Watch | None = None
    for time_s, frame in frames:
        if watcher is not None and time_s - watcher.now_s > gap_s:
            watcher.finish()
            watcher = None
        if watcher is None:
            if found.num_frames and time_s - found.now_s > gap_s:
                found.lost.append((found.now_s, time_s))
            scorer = tools.scorer
            watcher = _ScoredWatch(live, tools, scorer, found) if scorer else _JudgedWatch(live, tools, found)
        watcher.see(time_s, frame)
    if watcher is not None:
        watcher.finish()


class _Watch(ABC):
    """Looks at a stretch of a stream without a break; what is made of its frames is up to those below.

    Frames are counted from the start of the stretch, but for those of the pictures. A span that is open at the end of
    the stretch ends there.
    """

    stride_frames = _STRIDE_FRAMES

    def __init__(self, live: LiveVideo, tools: LiveTools, found: _Found) -> None:
        self.live = live
        self.tools = tools
        self.found = found
        self.num_frames = 0
        self.now_s = 0.0
        self._starts_s: list[float] = []  # of every snippet
        self._before = found.num_frames
        self._picture_size = bounded(live.width, live.height, tools.max_side) or (live.width, live.height)

    def see(self, time_s: float, frame: Any) -> None:
        """Take the next frame."""
        index, stride = self.num_frames, self.stride_frames
        self.num_frames, self.now_s = index + 1, time_s + 1 / self.live.fps
        if index % stride == 0:
            self._starts_s.append(time_s)
        if self.tools.judge is not None and (index == 0 or index % stride == stride // 2):
            self.found.pictures.add(self._before + index, self.live.rgb(frame, self._picture_size))
        self.take(index, time_s, frame)

    def finish(self) -> None:
        """Come to the end of the stretch, and keep what was found in it."""
        self.end()
        scores = self.scores()
        bounds_s = np.array([*self._starts_s, self.now_s])
        self.found.times_s += ((bounds_s[:-1] + bounds_s[1:]) / 2)[: len(scores)].tolist()
        self.found.scores += scores
        self.found.num_frames += self.num_frames
        self.found.seen_s += self.now_s - self._starts_s[0]
        self.found.now_s = self.now_s

    @abstractmethod
    def take(self, index: int, time_s: float, frame: Any) -> None:
        """Make of a frame what there is to make of it."""

    @abstractmethod
    def end(self) -> None:
        """Tell the span that is open."""

    def scores(self) -> list[float]:
        """Return the scores of all snippets; none without a sampler."""
        return []

    def second_of(self, frame: int) -> float:
        """Return the time at which a frame starts, as far as those of the snippets tell."""
        frames = np.append(np.arange(len(self._starts_s)) * self.stride_frames, self.num_frames)
        return float(np.interp(frame, frames, [*self._starts_s, self.now_s]))

    def judge(self, start: int, end: int) -> Judgement:
        """Return what the model says of the frames [start, end); nothing where there is no model."""
        if self.tools.judge is None:
            return Judgement()
        clip = self.found.pictures.clip(self._before + start, self._before + end, self.tools.num_frames)
        return self.tools.judge(clip, self.second_of(start), self.second_of(end))

    def forget_before(self, frame: int) -> None:
        """Let go of the pictures before a frame."""
        self.found.pictures.forget_before(self._before + frame)

    def tell(self, start: int, end: int, score: float, said: Judgement) -> None:
        """Keep a span and tell it at once."""
        span = DetectedSpan(
            start_s=self.second_of(start),
            end_s=self.second_of(end),
            score=score,
            answer=said.answer,
            confidence=said.confidence,
            consistent=said.consistent,
        )
        self.found.spans.append(span)
        if self.found.on_span is not None:
            self.found.on_span(span)


class _JudgedWatch(_Watch):
    """Has the model judge one window after the other: the way without a sampler."""

    def __init__(self, live: LiveVideo, tools: LiveTools, found: _Found) -> None:
        super().__init__(live, tools, found)
        self._window_frames = max(1, round(tools.settings.window_s * live.fps))
        self._judged = 0

    def take(self, index: int, time_s: float, frame: Any) -> None:  # noqa: ARG002
        if index + 1 - self._judged >= self._window_frames:
            self.end()

    def end(self) -> None:
        start, end = self._judged, self.num_frames
        if start < end:
            said = self.judge(start, end)
            if said.verdict:
                self.tell(start, end, UNIFORM_SCORE, said)
            self._judged = end
            self.forget_before(end)


class _ScoredWatch(_Watch):
    """Scores the stream and tells the spans that its scores mark."""

    def __init__(self, live: LiveVideo, tools: LiveTools, scorer: VideoScorer, found: _Found) -> None:
        super().__init__(live, tools, found)
        self._sampler = scorer.sampler
        self._settled_frames = round(settled_s(scorer) * live.fps)
        self.stride_frames = scorer.sampler.stride_frames
        self._features = scorer.stream.live(live.width, live.height, live.fps, self.stride_frames)
        self._snippet_s = self.stride_frames / live.fps
        self._held: list[NDArray[np.float16]] = []
        self._first = 0  # number of the first snippet held
        self._scored = 0
        self._scores: list[float] = []  # of settled snippets
        self._told_until = 0

    def take(self, index: int, time_s: float, frame: Any) -> None:
        if not self._features.wants(index):
            return
        rgb = self.live.rgb(frame, self._features.size)
        self._hold(self._features.add(index, rgb, time_s))
        if (self._first + len(self._held) - self._scored) * self._snippet_s >= SCORED_EVERY_S:
            held_until = (self._first + len(self._held)) * self.stride_frames
            self._score(held_until, held_until - self._settled_frames)

    def end(self) -> None:
        self._hold(self._features.finish(-(-self.num_frames // self.stride_frames)))
        self._score(self.num_frames, self.num_frames)

    def scores(self) -> list[float]:
        return self._scores

    def _hold(self, finished: list[NDArray[np.float32]]) -> None:
        self._held += [stored(features) for features in finished]

    def _score(self, held_until: int, settled: int) -> None:
        """Score what is held, tell the spans that ended before the frame `settled`, and let go of what is not needed.

        Args:
            held_until: frame after the last one of the snippets held.
            settled: frame before which nothing changes any more.
        """
        stride, lead = self.stride_frames, self._first * self.stride_frames
        scores = self._sampler.score(np.stack(self._held)[None], self._snippet_s)
        self._scored = self._first + len(self._held)
        curve = ScoreCurve(scores, stride, held_until - lead, self.live.fps)
        settings = self.tools.settings
        found = detect(curve, self.tools.theta, settings.proposal, min_s=settings.min_span_s)
        needed = settled
        for proposal in found:
            needed = min(needed, self._tell_if_over(proposal, lead, settled, curve))
        until = -(-settled // stride) if settled == held_until else settled // stride
        self._scores += [float(score) for score in scores[len(self._scores) - self._first : until - self._first]]
        self._forget(needed)

    def _tell_if_over(self, found: Proposal, lead: int, settled: int, curve: ScoreCurve) -> int:
        """Tell a span that is over, or a longest part of one that is not, and return the first frame still needed."""
        settings, fps = self.tools.settings, self.live.fps
        start, end = max(found.start_frame + lead, self._told_until), found.end_frame + lead
        is_too_long = settled - start > settings.proposal.max_s * fps
        if end > settled and not is_too_long:
            return min(start, settled)
        end = min(end, settled)
        # What is left of a span that was told before, its end having moved, is no span.
        if end - start >= max(1, round(settings.min_span_s * fps)) or not self._told_until:
            for (first, last), said in self._judged(curve, (start - lead, end - lead), lead):
                highest = float(curve.scores[first // curve.stride_frames : -(-last // curve.stride_frames)].max())
                self.tell(first + lead, last + lead, highest, said)
            self._told_until = end
        return settled

    def _judged(self, curve: ScoreCurve, span: FrameSpan, lead: int) -> list[tuple[FrameSpan, Judgement]]:
        """Return a span, or what it parts into where a model tells different things of it, in frames of the curve."""
        if self.tools.judge is None:
            return [(span, Judgement())]
        settings = self.tools.settings
        parts = part_at_dips(curve, span, settings.proposal, min_s=settings.min_span_s)
        return unite(JudgedPart(part, 0, self.judge(part[0] + lead, part[1] + lead)) for part in parts)

    def _forget(self, needed: int) -> None:
        context = round(CONTEXT_S / self._snippet_s)
        first = max(self._first, min(needed // self.stride_frames, len(self._scores), self._scored - context))
        del self._held[: first - self._first]
        self._first = first
        # A span may yet begin a little before what is settled.
        self.forget_before(needed - self._settled_frames)
