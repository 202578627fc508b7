"""How well proposed spans lie on the true ones: mean tIoU, and average precision and F1 at a tIoU."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.sampler.intervals import temporal_iou

TIOU_THRESHOLDS = (0.1, 0.2, 0.3, 0.4, 0.5)
F1_THRESHOLDS = (0.3, 0.5)


@dataclass(frozen=True, eq=False)
class VideoSpans:
    """True and proposed spans of one video, in one unit.

    Attributes:
        events: [start, end) of each event, shape (n, 2).
        proposals: [start, end) of each proposal, shape (m, 2).
        confidence: by which proposals of all videos are ranked, shape (m,).
    """

    events: NDArray[np.generic]
    proposals: NDArray[np.generic]
    confidence: NDArray[np.floating]


@dataclass(frozen=True, slots=True, kw_only=True)
class Localisation:
    """How proposals lie on events; None where there is nothing to measure.

    Attributes:
        num_events: number of true events.
        num_proposals: number of proposals.
        mean_tiou: mean over the events of the best tIoU of a proposal, 0 for an event that none touches.
        mean_tiou_of_proposals: mean over the proposals of the best tIoU of an event, 0 for one that touches none.
        ap_at_tiou: average precision at each of `TIOU_THRESHOLDS`, classes aside.
        map_tiou: mean of those.
        f1_at_tiou: at each of `F1_THRESHOLDS`, the harmonic mean of the share of right proposals and the share of found
            events, as Lea et al. (CVPR 2017) measure segments; classes aside.
    """

    num_events: int
    num_proposals: int
    mean_tiou: float | None
    mean_tiou_of_proposals: float | None
    ap_at_tiou: Mapping[str, float] | None
    map_tiou: float | None
    f1_at_tiou: Mapping[str, float] | None


def measure_localisation(videos: Sequence[VideoSpans]) -> Localisation:
    """Compare the proposals of all videos with their events."""
    overlaps = [temporal_iou(video.events, video.proposals) for video in videos]
    best_of_events = [overlap.max(axis=1, initial=0.0) for overlap in overlaps]
    best_of_proposals = [overlap.max(axis=0, initial=0.0) for overlap in overlaps]
    num_events = sum(map(len, best_of_events))
    num_proposals = sum(map(len, best_of_proposals))
    confidences = [video.confidence for video in videos]
    precisions = (
        {f"{tiou:g}": average_precision_at(overlaps, confidences, tiou) for tiou in TIOU_THRESHOLDS}
        if num_events
        else None
    )
    return Localisation(
        num_events=num_events,
        num_proposals=num_proposals,
        mean_tiou=float(np.concatenate(best_of_events).mean()) if num_events else None,
        mean_tiou_of_proposals=float(np.concatenate(best_of_proposals).mean()) if num_proposals else None,
        ap_at_tiou=precisions,
        map_tiou=float(np.mean(list(precisions.values()))) if precisions else None,
        f1_at_tiou=(
            {f"{tiou:g}": f1_at(overlaps, confidences, tiou) for tiou in F1_THRESHOLDS} if num_events else None
        ),
    )


def average_precision_at(
    overlaps: Sequence[NDArray[np.float64]], confidences: Sequence[NDArray[np.floating]], tiou: float
) -> float:
    """Return the average precision of proposals, those being right that `_right` says.

    The precisions at the right ones are summed and divided by the number of events, without interpolation.

    Args:
        overlaps: tIoU of the events and proposals of each video, shape (events, proposals).
        confidences: of the proposals of each video, shape (proposals,).
        tiou: from which a proposal is right.
    """
    right = _right(overlaps, confidences, tiou)
    precision = np.cumsum(right) / np.arange(1, len(right) + 1)
    return float(precision[right].sum() / sum(map(len, overlaps)))


def f1_at(overlaps: Sequence[NDArray[np.float64]], confidences: Sequence[NDArray[np.floating]], tiou: float) -> float:
    """Return the F1 of proposals, 2 right / (events + proposals), in [0, 1]; arguments as `average_precision_at`."""
    right = _right(overlaps, confidences, tiou)
    return float(2 * right.sum() / (sum(map(len, overlaps)) + len(right)))


def _right(
    overlaps: Sequence[NDArray[np.float64]], confidences: Sequence[NDArray[np.floating]], tiou: float
) -> NDArray[np.bool_]:
    """Tell of the proposals of all videos, the most confident first, which meet a free event with at least `tiou`.

    One after the other takes the free event of its video that it overlaps most, so that an event is found once.
    """
    ranked = sorted(
        (-float(confidence), video, proposal)
        for video, values in enumerate(confidences)
        for proposal, confidence in enumerate(values)
    )
    free = [np.ones(len(overlap), dtype=bool) for overlap in overlaps]
    right = np.zeros(len(ranked), dtype=bool)
    for place, (_, video, proposal) in enumerate(ranked):
        candidates = np.where(free[video], overlaps[video][:, proposal], -1.0)
        if len(candidates) and candidates.max() >= tiou:
            free[video][candidates.argmax()] = False
            right[place] = True
    return right
