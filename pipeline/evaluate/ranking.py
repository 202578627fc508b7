"""Areas under the ROC and the precision-recall curve, from scores of many frames at once.

Frames of one score come as one entry with their numbers of positives and negatives: scores are given by snippet, so
this sorts a sixteenth of the frames, and equal scores are one threshold, as they must be.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Ranking:
    """Scores in descending order, and how many positives and negatives lie at or above each.

    Attributes:
        thresholds: the distinct scores, descending, shape (n,).
        true_positives: positive frames scored at least as high, ascending, shape (n,).
        false_positives: negative frames likewise.
    """

    thresholds: FloatArray
    true_positives: FloatArray
    false_positives: FloatArray

    @classmethod
    def of(cls, scores: NDArray[Any], positives: NDArray[Any], negatives: NDArray[Any]) -> Ranking:
        """Rank entries by score.

        Args:
            scores: shape (m,), finite.
            positives: number of positive frames of each entry, shape (m,); for single frames 0 or 1.
            negatives: number of negative ones. Entries of neither are left out.
        """
        counted = (positives + negatives) > 0
        scores, positives, negatives = scores[counted], positives[counted], negatives[counted]
        order = np.argsort(-scores.astype(np.float64), kind="stable")
        ranked = scores[order].astype(np.float64)
        # Frames of one score stand or fall together: only the last entry of each score is a point of the curves.
        last = np.append(np.flatnonzero(np.diff(ranked)), len(ranked) - 1) if len(ranked) else np.array([], int)
        return cls(
            thresholds=ranked[last],
            true_positives=np.cumsum(positives[order], dtype=np.float64)[last],
            false_positives=np.cumsum(negatives[order], dtype=np.float64)[last],
        )

    @property
    def num_positives(self) -> int:
        """Number of positive frames."""
        return int(self.true_positives.max(initial=0))

    @property
    def num_negatives(self) -> int:
        """Number of negative frames."""
        return int(self.false_positives.max(initial=0))

    @cached_property
    def roc(self) -> tuple[FloatArray, FloatArray] | None:
        """Return false and true positive rates from (0, 0) to (1, 1); None without both kinds of frames."""
        if not self.num_positives or not self.num_negatives:
            return None
        found, alarmed = self.true_positives / self.num_positives, self.false_positives / self.num_negatives
        return np.append(0.0, alarmed), np.append(0.0, found)

    @cached_property
    def precision_recall(self) -> tuple[FloatArray, FloatArray] | None:
        """Return precision and recall at each threshold, recall ascending; None without a positive frame."""
        if not self.num_positives:
            return None
        precision = self.true_positives / (self.true_positives + self.false_positives)
        return precision, self.true_positives / self.num_positives

    @property
    def auc(self) -> float | None:
        """Area under the ROC curve; None without both kinds of frames."""
        return None if self.roc is None else float(np.trapezoid(self.roc[1], self.roc[0]))

    @property
    def average_precision(self) -> float | None:
        """Mean precision over the recall gained at each threshold, without interpolation; None without a positive."""
        if self.precision_recall is None:
            return None
        precision, recall = self.precision_recall
        return float(np.dot(np.diff(recall, prepend=0.0), precision))

    @property
    def pr_trapezoid(self) -> float | None:
        """Trapezoid under the precision-recall curve from (recall 0, precision 1); older code of the field calls it AP.

        Between two thresholds it follows a straight line that no threshold reaches. None without a positive frame.
        """
        if self.precision_recall is None:
            return None
        precision, recall = self.precision_recall
        return float(np.trapezoid(np.append(1.0, precision), np.append(0.0, recall)))

    def false_alarm_rate(self, threshold: float) -> float | None:
        """Return the share of negative frames scored at least `threshold`; None without a negative frame."""
        if not self.num_negatives:
            return None
        above = int(np.searchsorted(-self.thresholds, -threshold, side="right"))
        return float(self.false_positives[above - 1] / self.num_negatives) if above else 0.0


def auc_inside(videos: Iterable[Ranking]) -> float | None:
    """Return the mean over videos of the area under the ROC curve within the video.

    Every video that holds positive and negative frames counts alike, whatever its length; the others have no such area
    and are passed over. Knowing which video is abnormal raises the area over the frames of all videos and leaves this
    one at chance, 0.5. It is the macro-averaged AUC of Georgescu et al. (TPAMI 2021), who report both.

    Args:
        videos: the frames of each video, ranked.

    Returns:
        In [0, 1]; None where no video holds both kinds of frames.
    """
    areas = [area for video in videos if (area := video.auc) is not None]
    return float(np.mean(areas)) if areas else None
