"""Event proposals: the spans of a video that its anomaly scores support, around glances or without any.

Around a glance this is Algorithm 1 of Holmes-VAD (walk from the click while the score stays near the click's own), with
hysteresis: on smoothed scores, between the video's calm level and the glance's score, one threshold bounds the span and
a higher one decides whether it goes on beyond a dip. Pure functions on arrays; frames are half-open intervals.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ProposalConfig
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.intervals import join, middle, runs, temporal_iou

RANKED_THETAS = tuple(np.round(np.arange(0.1, 1.0, 0.1), 1).tolist())
"""Thresholds whose proposals compete in `rank_proposals`, as fractions of the way from a video's lowest score up."""

MAX_OVERLAP = 0.5
"""tIoU above which the lower ranked of two proposals is dropped."""

DIP = 0.8
"""Fraction of the way from the calm level to the lower of two peaks below which the scores between them dip."""

APART_S = 2.0
"""Seconds between an event's span and a calm stretch beside it: what a span of scores misses of an event is shorter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GlanceMark:
    """Where a glance stands in its video, and of which class the event is."""

    frame_index: int
    category: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A proposed event.

    Attributes:
        start_frame: first frame.
        end_frame: frame after the last one.
        score: mean anomaly score of the frames, in [0, 1].
        glances: positions of the glances that it was made for, in the order given; empty for one made without.
        depth: 0 for the widest proposal of its glances, 1 and more for the tighter ones inside it.
    """

    start_frame: int
    end_frame: int
    score: float
    glances: tuple[int, ...] = ()
    depth: int = 0


def propose_around(
    curve: ScoreCurve, glances: Sequence[GlanceMark], config: ProposalConfig, *, min_s: float
) -> list[Proposal]:
    """Return the spans around the glances of a video that its scores support, each followed by those nested in it.

    Spans of one class that meet become one, up to `max_s`; other spans that overlap are parted where the score between
    their glances is lowest. A span holds its glances and lies within the video. It is at least `min_s` long unless
    other spans and the video's ends leave less room. Only classes clicked on one and the same frame share frames.

    Raises:
        ValueError: if a glance lies outside the video.
    """
    outside = [mark.frame_index for mark in glances if not 0 <= mark.frame_index < curve.num_frames]
    if outside:
        raise ValueError(f"glances at frames {outside} outside [0, {curve.num_frames})")
    if not glances:
        return []
    support = _Support(curve, config)
    max_frames = max(1, round(config.max_s * curve.fps))
    min_frames = round(min_s * curve.fps)
    events: list[_Event] = []
    for which in sorted(range(len(glances)), key=lambda i: (glances[i].frame_index, glances[i].category)):
        frame = glances[which].frame_index
        span = _best_part(support.smooth, support.around(frame, config.low), frame, max_frames)
        _add(events, _Event(*span, glances[which].category, [which], frame, frame), max_frames, curve)
    _part(events, support.smooth)
    _widen(events, min_frames, curve)
    proposals: list[Proposal] = []
    for event in events:
        proposals.append(_proposal(curve, event.start, event.end, event.members, 0))
        proposals += _nested(curve, event, glances, support, min_frames)
    return proposals


def detect(curve: ScoreCurve, theta: float, config: ProposalConfig, *, min_s: float) -> list[Proposal]:
    """Return the spans of a video in which the smoothed score reaches `theta`, in time order.

    As around a glance, a span goes on below `theta` while the score stays above the fraction `low` of the way from the
    video's calm level to the span's peak, for `max_s` on either side at most. Each is widened to `min_s` as far as the
    video reaches, and those less than `gap_s` apart become one.
    """
    support = _Support(curve, config)
    mask = support.smooth >= theta
    for start, end in _runs(curve, mask):
        mask[support.reached_from(start, end)] = True
    return _spans(curve, mask, config, min_s)


def part_at_dips(
    curve: ScoreCurve, span: tuple[int, int], config: ProposalConfig, *, min_s: float
) -> list[tuple[int, int]]:
    """Return the parts of a span between which its smoothed scores dip below `DIP`, deepest dip first, in time order.

    As around a glance, each reaches as far as the scores stay above the fraction `low` of the way from the video's calm
    level to its own peak. A part shorter than `min_s` is not parted off. A span without a dip is returned as it is.
    """
    support = _Support(curve, config)
    parts = support.parts(*span, max(1, round(min_s * curve.fps)))
    return [support.trimmed(*part) for part in parts] if len(parts) > 1 else parts


def highest_beside(
    curve: ScoreCurve, taken: Sequence[tuple[int, int]], length_s: float, config: ProposalConfig, *, min_s: float
) -> tuple[int, int] | None:
    """Return the stretch with the highest mean smoothed score that lies `APART_S` or more from all that is taken.

    It is `length_s` long, or as long as the longest stretch that is left, and at least `min_s`;
    None where that much is not left.
    """
    margin = round(APART_S * curve.fps)
    is_free = np.ones(curve.num_frames, bool)
    for start, end in curve.lost:
        is_free[start:end] = False
    for start, end in taken:
        is_free[max(0, start - margin) : end + margin] = False
    left = [
        (first + start, first + end) for first, last in curve.parts for start, end in runs(is_free[first:last]).tolist()
    ]
    longest = max((end - start for start, end in left), default=0)
    length = min(max(1, round(length_s * curve.fps)), longest)
    if longest == 0 or length < round(min_s * curve.fps):
        return None
    sums = np.concatenate(([0.0], np.cumsum(curve.smoothed(config.smooth_s))))
    starts = np.concatenate([np.arange(start, end - length + 1) for start, end in left])
    means = (sums[starts + length] - sums[starts]) / length
    start = int(starts[middle(means >= means.max() - 1e-9)])
    return start, start + length


def rank_proposals(curve: ScoreCurve, config: ProposalConfig, *, min_s: float) -> list[Proposal]:
    """Return proposals without glances at many thresholds, best first; here `score` is the outer-inner contrast.

    That is the mean score inside less the mean score in margins of a quarter of the length on either side (Shou et al.,
    AutoLoc, ECCV 2018), in [-1, 1]. Of proposals that overlap by more than `MAX_OVERLAP`, the best is kept.
    The thresholds go with the video's own scores, so that detectors are compared whose scores are high or low.
    """
    smooth = curve.smoothed(config.smooth_s)
    low, high = float(smooth.min()), float(smooth.max())
    if low == high:
        return []
    spans = {
        (found.start_frame, found.end_frame): found.score
        for theta in RANKED_THETAS
        for found in _spans(curve, smooth >= low + theta * (high - low), config, min_s)
    }
    contrasts = {span: inner - _margin_mean(curve, *span) for span, inner in spans.items()}
    ranked = sorted(contrasts, key=lambda span: (-contrasts[span], span))
    overlap = temporal_iou(np.array(ranked).reshape(-1, 2), np.array(ranked).reshape(-1, 2))
    kept: list[int] = []
    for position in range(len(ranked)):
        if (overlap[position, kept] <= MAX_OVERLAP).all():
            kept.append(position)
    return [Proposal(start_frame=s, end_frame=e, score=contrasts[s, e]) for s, e in (ranked[i] for i in kept)]


@dataclass(slots=True)
class _Event:
    """A span in the making, with the positions of its glances and the frames of the first and the last of them."""

    start: int
    end: int
    category: str
    members: list[int]
    first: int
    last: int


class _Support:
    """Which frames around a glance the scores of one video support."""

    def __init__(self, curve: ScoreCurve, config: ProposalConfig) -> None:
        self._curve = curve
        self.smooth = curve.smoothed(config.smooth_s)
        self._level = float(np.quantile(self.smooth, config.level))
        self.config = config
        self._reach = round(config.peak_s * curve.fps)
        self._gap = config.gap_s * curve.fps
        self._fps = curve.fps

    def around(self, frame: int, low: float) -> tuple[int, int]:
        """Return the frames around the glance at `frame` that stay above the fraction `low`, dips bridged."""
        first, last = self._curve.part_of(frame)
        smooth = self.smooth[first:last]
        begin = max(0, frame - first - self._reach)
        nearby = smooth[begin : frame - first + self._reach + 1]
        anchor = begin + int(nearby.argmax())
        peak = float(nearby.max())
        stretches = runs(smooth >= self._threshold(low, peak))
        # Between two stretches the scores are lower than in either, so each segment's maximum is its stretch's own.
        tops = np.maximum.reduceat(smooth, stretches[:, 0])
        strong = stretches[tops >= self._threshold(self.config.high, peak)]
        start, end = next(span for span in join(strong, self._gap).tolist() if span[0] <= anchor < span[1])
        return min(first + start, frame), max(first + end, frame + 1)

    def reached_from(self, start: int, end: int) -> slice:
        """Return the frames up to which [start, end) goes on above the fraction `low` of its own peak."""
        threshold = self._threshold(self.config.low, float(self.smooth[start:end].max()))
        reach = round(self.config.max_s * self._fps)
        first, last = self._curve.part_of(start)
        before = self.smooth[max(first, start - reach) : start][::-1] < threshold
        after = self.smooth[end : min(last, end + reach)] < threshold
        # The first frame below it on each side ends the span; without one it goes on as far as was looked.
        return slice(
            start - (int(before.argmax()) if before.any() else len(before)),
            end + (int(after.argmax()) if after.any() else len(after)),
        )

    def parts(self, start: int, end: int, min_frames: int) -> list[tuple[int, int]]:
        """Return [start, end) parted at every dip that leaves `min_frames` on either side."""
        scores = self.smooth[start:end]
        before = np.maximum.accumulate(scores)
        after = np.maximum.accumulate(scores[::-1])[::-1]
        lower_peak = np.minimum(before, after) - self._level
        depth = (scores - self._level) - DIP * lower_peak
        inner = depth[min_frames : len(scores) - min_frames]
        if not len(inner) or inner.min() >= 0:
            return [(start, end)]
        dip = start + min_frames + middle(inner <= inner.min() + 1e-9)
        return [*self.parts(start, dip, min_frames), *self.parts(dip, end, min_frames)]

    def trimmed(self, start: int, end: int) -> tuple[int, int]:
        """Return the stretch of [start, end) from the first to the last frame above the fraction `low` of its peak."""
        scores = self.smooth[start:end]
        above = np.flatnonzero(scores >= self._threshold(self.config.low, float(scores.max())))
        return start + int(above[0]), start + int(above[-1]) + 1

    def _threshold(self, fraction: float, peak: float) -> float:
        return min(self._level + fraction * (peak - self._level), self.config.alpha * peak)


def _spans(curve: ScoreCurve, mask: NDArray[np.bool_], config: ProposalConfig, min_s: float) -> list[Proposal]:
    """Return the stretches in which `mask`, shape (num_frames,), is true, widened and joined within each part."""
    spans = []
    for first, last in curve.parts:
        starts, ends = runs(mask[first:last]).T
        lengths = np.minimum(last - first, np.maximum(ends - starts, round(min_s * curve.fps)))
        starts = np.clip(starts - (lengths - (ends - starts)) // 2, 0, last - first - lengths)
        joined = join(np.column_stack((starts, starts + lengths)), config.gap_s * curve.fps)
        spans += [_proposal(curve, first + start, first + end) for start, end in joined.tolist()]
    return spans


def _runs(curve: ScoreCurve, mask: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Return the stretches [start, end) in which `mask`, shape (num_frames,), is true within each part."""
    return [
        (first + start, first + end) for first, last in curve.parts for start, end in runs(mask[first:last]).tolist()
    ]


def _proposal(curve: ScoreCurve, start: int, end: int, members: Sequence[int] = (), depth: int = 0) -> Proposal:
    return Proposal(start_frame=start, end_frame=end, score=curve.mean(start, end), glances=tuple(members), depth=depth)


def _best_part(smooth: NDArray[np.float64], span: tuple[int, int], frame: int, max_frames: int) -> tuple[int, int]:
    """Return the `max_frames` of a longer span that hold the glance at `frame` and have the highest mean score."""
    start, end = span
    if end - start <= max_frames:
        return span
    earliest, latest = max(start, frame - max_frames + 1), min(frame, end - max_frames)
    sums = np.concatenate(([0.0], np.cumsum(smooth[earliest : latest + max_frames])))
    totals = sums[max_frames:] - sums[:-max_frames]
    start = earliest + middle(totals >= totals.max() - 1e-9 * max_frames)
    return start, start + max_frames


def _add(events: list[_Event], new: _Event, max_frames: int, curve: ScoreCurve) -> None:
    """Append `new`, or let it grow the latest event of its class where they meet and no other class stands between.

    Events of two parts of a video never meet.
    """
    latest = next((event for event in reversed(events) if event.category == new.category), None)
    if latest is not None and new.start <= latest.end and curve.part_of(latest.first) == curve.part_of(new.first):
        start, end = min(latest.start, new.start), max(latest.end, new.end)
        between = any(latest.last < event.first < new.first for event in events)
        if not between and end - start <= max_frames:
            latest.start, latest.end, latest.last = start, end, new.last
            latest.members += new.members
            return
    events.append(new)


def _part(events: Sequence[_Event], smooth: NDArray[np.float64]) -> None:
    """Part overlapping events at the lowest score between their glances, midway where it is flat."""
    for position, event in enumerate(events):
        for other in events[position + 1 :]:
            if event.last < other.first and event.end > other.start:
                between = smooth[event.last + 1 : other.first + 1]
                cut = event.last + 1 + middle(between <= between.min() + 1e-9)
                event.end, other.start = min(event.end, cut), max(other.start, cut)


def _widen(events: Sequence[_Event], min_frames: int, curve: ScoreCurve) -> None:
    """Widen short events evenly, without reaching into others or beyond their part of the video."""
    for event in events:
        lacking = min_frames - (event.end - event.start)
        if lacking > 0:
            first, last = curve.part_of(event.first)
            floor = max([first, *(other.end for other in events if other.last < event.first)])
            roof = min([last, *(other.start for other in events if other.first > event.last)])
            event.start = max(floor, min(event.start - lacking // 2, roof - min_frames))
            event.end = min(roof, event.start + min_frames)


def _nested(
    curve: ScoreCurve, event: _Event, glances: Sequence[GlanceMark], support: _Support, min_frames: int
) -> list[Proposal]:
    """Return the tighter spans inside an event, at thresholds rising evenly from `low` to `high`."""
    config = support.config
    found: list[Proposal] = []
    known = {(event.start, event.end)}
    for depth in range(1, config.nested):
        fraction = config.low + (config.high - config.low) * depth / (config.nested - 1)
        for which in event.members:
            start, end = support.around(glances[which].frame_index, fraction)
            span = max(start, event.start), min(end, event.end)
            if span not in known and span[1] - span[0] >= min_frames:
                known.add(span)
                found.append(_proposal(curve, *span, [which], depth))
    return found


def _margin_mean(curve: ScoreCurve, start: int, end: int) -> float:
    """Return the mean score in a quarter of the length before and after a span; 0 where the video has neither."""
    margin = max(1, round((end - start) / 4))
    sides = [(max(0, start - margin), start), (end, min(curve.num_frames, end + margin))]
    frames = sum(high - low for low, high in sides)
    if not frames:
        return 0.0
    return sum(curve.mean(low, high) * (high - low) for low, high in sides if high > low) / frames
