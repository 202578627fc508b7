"""How many things move at one time, never more than a person would count."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.models.motion.tracks import Region, Track

_MIN_GAP = 0.02  # widths
_MIN_GAP_ABOVE = 0.06  # between regions one above the other, which more often are parts of one person than two
_MIN_ROW = 4
_RUSHING = 0.08  # widths per second


def count_things(parts: Sequence[Track], times_s: NDArray[np.float64]) -> NDArray[np.int64]:
    """Return the number of separate things in motion at each time, shape (T,).

    Regions that touch and move alike count as one: the background shows through the windows of a train, and a
    pedestrian may fall into an upper and a lower half. Two who walk side by side are one as well; a count that is too
    low is the lesser fault.
    """
    return np.array([_separate(_rows_joined(_shown(parts, float(time_s)))) for time_s in times_s], dtype=np.int64)


def _shown(parts: Sequence[Track], time_s: float) -> list[Region]:
    return [
        part.regions[int(np.searchsorted(part.times_s, time_s))]
        for part in parts
        if part.start_s <= time_s <= part.end_s
    ]


def _separate(regions: list[Region]) -> int:
    """Count the connected groups of regions."""
    left = set(range(len(regions)))
    groups = 0
    while left:
        groups += 1
        reached = [left.pop()]
        while reached:
            region = regions[reached.pop()]
            near = {other for other in left if _same(region, regions[other])}
            left -= near
            reached += near
    return groups


def _same(a: Region, b: Region) -> bool:
    beside = max(a.left - b.right, b.left - a.right)
    above = max(a.top - b.bottom, b.top - a.bottom)
    if max(beside, above) >= _MIN_GAP and (beside > 0 or above >= _MIN_GAP_ABOVE):
        return False
    faster = max(math.hypot(a.velocity_x, a.velocity_y), math.hypot(b.velocity_x, b.velocity_y))
    return math.hypot(a.velocity_x - b.velocity_x, a.velocity_y - b.velocity_y) < 0.02 + 0.5 * faster


def _rows_joined(regions: list[Region]) -> list[Region]:
    """Leave one region of each row of four or more equal ones: the windows of a train, not its passengers."""
    kept: list[Region] = []
    left = list(regions)
    while left:
        row = [region for region in left if _alike(left[0], region)]
        kept += row[:1] if len(row) >= _MIN_ROW else row
        left = [region for region in left if not _alike(left[0], region)]
    return kept


def _alike(a: Region, b: Region) -> bool:
    heights = sorted((a.bottom - a.top, b.bottom - b.top))
    areas = sorted((a.area, b.area))
    # A row of windows may be seen aslant, but it rushes by; people who walk do not.
    rushing = min(math.hypot(r.velocity_x, r.velocity_y) for r in (a, b)) > _RUSHING
    level = abs(a.top - b.top) < (0.1 if rushing else 0.02)
    return level and heights[1] < 1.3 * heights[0] and areas[1] < 1.6 * areas[0]
