"""Shares of right answers with their intervals."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

_Z_95 = 1.959963984540054


@dataclass(frozen=True, slots=True, kw_only=True)
class Share:
    """`right` of `num`, as a share with its 95% confidence interval [low, high] after Wilson (JASA 1927)."""

    num: int
    right: int
    share: float
    low: float
    high: float


def share_of(answers: Collection[bool]) -> Share | None:
    """Return the share of the true ones, None of nothing."""
    if not answers:
        return None
    right = sum(answers)
    low, high = wilson_interval(right, len(answers))
    return Share(num=len(answers), right=right, share=right / len(answers), low=low, high=high)


def wilson_interval(correct: int, num: int) -> tuple[float, float]:
    """Return the 95% interval of a share, Wilson's: it stays within [0, 1] and holds for few and for all-right answers.

    Raises:
        ValueError: `num` is 0.
    """
    if num == 0:
        raise ValueError("a share of nothing has no interval")
    share, z2 = correct / num, _Z_95**2
    middle = (share + z2 / (2 * num)) / (1 + z2 / num)
    half = _Z_95 / (1 + z2 / num) * math.sqrt(share * (1 - share) / num + z2 / (4 * num * num))
    # at both ends the bound is exact, which the roots of rounded numbers are not
    return 0.0 if correct == 0 else middle - half, 1.0 if correct == num else middle + half
