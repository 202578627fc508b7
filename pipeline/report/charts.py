"""Charts as inline SVG: they take their colours from the page and scale with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from pipeline.dataset.statistics import SIDES

_WIDTH, _HEIGHT = 460, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 10, 10, 12, 34


def draw_histogram(distribution: Mapping[str, Any], *, title: str, unit: str) -> str:
    """Return a histogram of both sides over one axis, each as the share of its own side, with the medians marked.

    Args:
        distribution: `bin_edges`, and for each side `count`, `histogram` and `median`, as in `stats.json`.
        title: what is shown, for screen readers.
        unit: of the values, shown at the axis.
    """
    edges: Sequence[float] = distribution["bin_edges"]
    present = [side for side in SIDES if distribution[side]["count"]]
    shares = {side: [n / distribution[side]["count"] for n in distribution[side]["histogram"]] for side in present}
    top = max((max(values) for values in shares.values()), default=1.0)
    right = edges[-1] or 1.0

    def x(value: float) -> float:
        return round(_LEFT + value / right * (_WIDTH - _LEFT - _RIGHT), 1)

    def y(share: float) -> float:
        return round(_HEIGHT - _BOTTOM - share / top * (_HEIGHT - _TOP - _BOTTOM), 1)

    parts = []
    base = _HEIGHT - _BOTTOM
    for side in present:
        steps = [
            f"L{x(low)} {y(share)}L{x(high)} {y(share)}"
            for (low, high), share in zip(pairwise(edges), shares[side], strict=True)
        ]
        outline = f"M{x(edges[0])} {y(0)}{''.join(steps)}L{x(edges[-1])} {y(0)}Z"
        parts.append(f'<path class="area {side}" d="{outline}"/>')
    for side in present:
        median = x(distribution[side]["median"])
        parts.append(f'<line class="median {side}" x1="{median}" x2="{median}" y1="{_TOP}" y2="{base}"/>')
    parts.append(f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{base}" y2="{base}"/>')
    for tick in _ticks(right):
        anchor = "start" if tick == 0 else "middle" if x(tick) < _WIDTH - 30 else "end"
        parts.append(f'<text x="{x(tick)}" y="{base + 16}" text-anchor="{anchor}">{tick:g}</text>')
    parts.append(f'<text class="unit" x="{_WIDTH - _RIGHT}" y="{base + 31}" text-anchor="end">{escape(unit)}</text>')
    described = "; ".join(f"{side}: median {distribution[side]['median']:g} {unit}" for side in present)
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(f"{title}. {described}")}">'
        f"{''.join(parts)}</svg>"
    )


def _ticks(right: float) -> list[float]:
    """Return four to eight round values from 0 up to `right`."""
    step = 10.0**-3
    while right / step > 8:
        step *= 2.5 if f"{step:e}"[0] == "2" else 2
    return [i * step for i in range(int(right / step + 1e-9) + 1)]


def clock(time_s: float) -> str:
    """Return a time of a video as 1:02:03.4 or 2:03.4."""
    minutes, tenths = divmod(round(time_s * 10), 600)
    hours, minutes = divmod(minutes, 60)
    head = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{head}:{tenths // 10:02d}.{tenths % 10}"
