"""What is usual in a video: the measure of what is said to be fast, large or sudden in its clips."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.models.motion.measure import Measurements


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What is usual in a video; `energy` is the median of the baseline, `energy_high` its 80th percentile."""

    energy: float
    energy_spread: float
    energy_high: float
    speeds: tuple[float, ...]
    flow_speeds: tuple[float, ...]
    areas: tuple[float, ...]


def usual_of(measured: Sequence[Measurements]) -> Usual:
    """Summarise the baseline stretches of one video."""
    energy = np.concatenate([m.energy for m in measured])
    tracks = [t for m in measured for t in m.tracks if t.travels]
    median = float(np.median(energy))
    return Usual(
        energy=median,
        energy_spread=float(1.4826 * np.median(np.abs(energy - median))),
        energy_high=float(np.percentile(energy, 80)),
        speeds=tuple(t.speed for t in tracks),
        flow_speeds=tuple(t.flow_speed for t in tracks),
        areas=tuple(t.area for t in tracks),
    )
