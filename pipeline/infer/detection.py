"""What was found in a video."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedSpan:
    """An interval [start_s, end_s) that the scores mark as abnormal.

    Attributes:
        score: the highest anomaly score inside, in [0, 1].
        answer: what the video model says of it, None where there is no model.
        confidence: how probable the model finds Yes against No, in [0, 1]; None where it was not asked that.
        consistent: whether the answer agrees with that and with itself.
    """

    start_s: float
    end_s: float
    score: float
    answer: str | None
    confidence: float | None = None
    consistent: bool = True

    def as_json(self) -> dict[str, Any]:
        """Return the span as in what `holmes detect --json` prints."""
        return {
            "start_s": round(self.start_s, 3),
            "end_s": round(self.end_s, 3),
            "score": round(self.score, 4),
            "answer": self.answer,
            "confidence": _rounded(self.confidence),
            "consistent": self.consistent,
        }

    def __str__(self) -> str:
        """Say when, and what, or where there is no answer how abnormal."""
        return f"[{self.start_s:.1f}s~{self.end_s:.1f}s] {self.answer or f'score {self.score:.2f}'}"


class CurvePart(NamedTuple):
    """The scores of a stretch without a loss: middles of its n snippets, scores, and edges, shape (n + 1,)."""

    times_s: NDArray[np.float64]
    scores: NDArray[np.float32]
    edges_s: NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Detection:
    """The scores, the spans and the answer of one video.

    Attributes:
        video: the path or URL as it was given.
        is_anomaly: the judgement; None where there is neither a sampler nor a video model.
        answer: about the whole video, None where there is no video model; `confidence`, `consistent` as of a span.
        spans: in time order.
        times_s: middle of every scored snippet, shape (T,); empty without a sampler. One of which no frame decodes is
            left out.
        scores: anomaly score of every snippet, float32 in [0, 1], shape (T,).
        lost: stretches [start_s, end_s) without a picture, in time order: of frames that do not decode, and pauses.
    """

    video: str
    fps: float
    duration_s: float
    is_anomaly: bool | None
    answer: str | None
    spans: tuple[DetectedSpan, ...]
    times_s: NDArray[np.float64]
    scores: NDArray[np.float32]
    confidence: float | None = None
    consistent: bool = True
    lost: tuple[tuple[float, float], ...] = ()

    def curve_parts(self) -> list[CurvePart]:
        """Return the scores in parts, with nothing in between where a loss is longer than a snippet."""
        if not len(self.scores):
            return []
        usual_s = float(np.median(np.diff(self.times_s))) if len(self.times_s) > 1 else self.duration_s
        wide = [span for span in self.lost if span[1] - span[0] > usual_s]
        # The snippets at both sides of a loss may reach into it.
        places = np.searchsorted(self.times_s, [(start_s + end_s) / 2 for start_s, end_s in wide]).tolist()
        bounds = [0, *places, len(self.scores)]
        starts_s, ends_s = [0.0, *(end_s for _, end_s in wide)], [*(start_s for start_s, _ in wide), self.duration_s]
        parts = []
        for first, last, start_s, end_s in zip(bounds[:-1], bounds[1:], starts_s, ends_s, strict=True):
            if first < last:
                times_s = np.clip(self.times_s[first:last], start_s, end_s)
                between_s = (times_s[:-1] + times_s[1:]) / 2
                edges_s = np.concatenate(([start_s], between_s, [end_s]))
                parts.append(CurvePart(times_s, self.scores[first:last], edges_s))
        return parts

    def as_json(self) -> dict[str, Any]:
        """Return what `holmes detect --json` prints for the video."""
        from pipeline.infer.summary import summarise

        return {
            "video": self.video,
            "fps": round(self.fps, 3),
            "duration_s": round(self.duration_s, 3),
            "is_anomaly": self.is_anomaly,
            "answer": self.answer,
            "confidence": _rounded(self.confidence),
            "consistent": self.consistent,
            "spans": [span.as_json() for span in self.spans],
            "lost": [[round(start_s, 3), round(end_s, 3)] for start_s, end_s in self.lost],
            "scores": {
                "times_s": np.round(self.times_s, 3).tolist(),
                "values": np.round(self.scores.astype(np.float64), 4).tolist(),
            },
            "summary": summarise(self),
        }


def say_confidence(confidence: float | None) -> str:
    """Return how probable Yes is, for people: 'Yes 87%'; nothing where that is not known."""
    return "" if confidence is None else f"Yes {confidence:.0%}"


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)
