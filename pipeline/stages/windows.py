"""Where clips begin and end: windows around glances, and random segments of normal videos that match them in length.

Pure arithmetic on seconds; nothing here reads a file.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from pipeline.config import ClipsConfig
from pipeline.errors import RecordError
from pipeline.records import Reason

# Quantiles kept of the lengths of abnormal clips: enough for any number of videos, small in a file.
MAX_LENGTHS = 1000


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open interval in seconds."""

    start_s: float
    end_s: float

    @property
    def length_s(self) -> float:
        """Length in seconds."""
        return self.end_s - self.start_s


def window_around(times_s: Sequence[float], which: int, duration_s: float, config: ClipsConfig) -> Span:
    """Return the window around one glance of a video.

    The window is centred on the glance and ends at the video's ends and half-way to the neighbouring glances, so
    that every moment belongs to the glance it is nearest to. Where that leaves less than `min_s`, the window may
    reach up to the neighbouring glances themselves, as the mining of Holmes-VAD does, but no further than `min_s`.

    Args:
        times_s: ascending times of all glances of the video.
        which: index of the glance in `times_s`.
        duration_s: length of the video.
        config: `window_s` and `min_s`.

    Raises:
        RecordError: if even so the window stays shorter than `min_s`.
    """
    time_s = times_s[which]
    before = max((t for t in times_s if t < time_s), default=None)
    after = min((t for t in times_s if t > time_s), default=None)
    half_way = (
        0.0 if before is None else (before + time_s) / 2,
        duration_s if after is None else (time_s + after) / 2,
    )
    span = _clamp(time_s, config.window_s, *half_way)
    if span.length_s < config.min_s:
        low_s, high_s = before or 0.0, duration_s if after is None else after
        # Widened to min_s inside its bounds by moving the end that is free.
        start_s = max(low_s, min(_clamp(time_s, config.min_s, low_s, high_s).start_s, high_s - config.min_s))
        span = Span(start_s, min(high_s, start_s + config.min_s))
    if span.length_s < config.min_s - 1e-9:
        raise RecordError(
            Reason.CLIP_TOO_SHORT,
            f"the window of the glance at {time_s:.2f} s is {span.length_s:.2f} s long between its neighbours and the "
            f"video's ends; clips.min_s={config.min_s:g}",
        )
    return span


def _clamp(time_s: float, length_s: float, low_s: float, high_s: float) -> Span:
    return Span(max(low_s, time_s - length_s / 2), min(high_s, time_s + length_s / 2))


@dataclass(frozen=True, slots=True)
class LengthProfile:
    """How long the abnormal clips of a build are, and how many a video has: what normal segments are matched to."""

    lengths_s: tuple[float, ...]
    clips_per_video: float

    @classmethod
    def measure(cls, videos: Sequence[Sequence[Span]], config: ClipsConfig) -> LengthProfile:
        """Summarise the clips of abnormal videos; without any, `window_s` and one clip a video."""
        lengths = sorted(span.length_s for spans in videos for span in spans)
        if not lengths:
            return cls((config.window_s,), 1.0)
        if len(lengths) > MAX_LENGTHS:
            step = (len(lengths) - 1) / (MAX_LENGTHS - 1)
            lengths = [lengths[round(i * step)] for i in range(MAX_LENGTHS)]
        return cls(tuple(lengths), fmean(len(spans) for spans in videos if spans))

    def draw_length(self, rng: random.Random) -> float:
        """Draw one of the lengths, in seconds."""
        return self.lengths_s[int(rng.random() * len(self.lengths_s))]

    def draw_segments(self, rng: random.Random, duration_s: float, config: ClipsConfig) -> list[Span]:
        """Draw random segments of a normal video: lengths as the profile's, places uniform, never overlapping.

        A length is a quantile of the profile's: with one `rng`, a profile that changes a little moves few segments.
        """
        mean = self.clips_per_video if config.normal_per_video is None else config.normal_per_video
        count = int(mean) + (rng.random() < mean % 1)
        lengths: list[float] = []
        for _ in range(count):
            length_s = min(self.draw_length(rng), duration_s)
            if sum(lengths) + length_s <= duration_s:
                lengths.append(length_s)
        free_s = duration_s - sum(lengths)
        gaps = sorted(rng.uniform(0, free_s) for _ in lengths)
        spans = []
        used_s = 0.0
        for gap_s, length_s in zip(gaps, lengths, strict=True):
            spans.append(Span(gap_s + used_s, gap_s + used_s + length_s))
            used_s += length_s
        return spans
