"""What all plots look like."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, PALE, GRID = "#1f2933", "#9aa5b1", "#e4e7eb"
SCORE, DETECTION = "#2563a8", "#5b8c5a"
MAX_POINTS = 4000
"""Points a line is drawn with: a video of hours has more frames than a picture has pixels."""

_DPI = 110
_LEAST_HATCH = 0.004  # of the width


def new_figure(width_in: float, height_in: float) -> Figure:
    """Return an empty figure."""
    # Without pyplot no window system is asked for and no figure is kept alive.
    from matplotlib.figure import Figure

    return Figure(figsize=(width_in, height_in), layout="constrained")


def style(axes: Axes, grid: Literal["both", "x"] = "both") -> None:
    """Give axes thin spines and a pale grid behind what is drawn."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.spines[["left", "bottom"]].set_color(PALE)
    axes.tick_params(colors=INK, labelsize=8)
    axes.grid(visible=True, axis=grid, color=GRID, linewidth=0.7)
    axes.set_axisbelow(True)


def draw_theta(axes: Axes, theta: float) -> None:
    """Mark the threshold of detection."""
    axes.axhline(theta, color=PALE, linestyle=":", linewidth=1)
    axes.annotate(f"θ={theta:g}", (1, theta), xycoords=("axes fraction", "data"), xytext=(4, 0),
                  textcoords="offset points", va="center", color=PALE, fontsize=8)  # fmt: skip


def draw_lost(axes: Axes, spans: Iterable[tuple[float, float]], duration_s: float) -> None:
    """Hatch the stretches [start_s, end_s) without a picture; even a single frame's can be seen."""
    least_s = _LEAST_HATCH * duration_s
    for start_s, end_s in spans:
        more_s = max(0.0, least_s - (end_s - start_s)) / 2
        axes.axvspan(start_s - more_s, end_s + more_s, facecolor="none", edgecolor=PALE, hatch="////", linewidth=0)


def thinned(scores: Any, edges_s: Any) -> tuple[Any, Any]:
    """Return the highest score of each few neighbours, and their edges: a line of at most `MAX_POINTS` steps."""
    starts = np.arange(0, len(scores), -(-len(scores) // MAX_POINTS))
    return np.maximum.reduceat(scores, starts), np.append(edges_s[starts], edges_s[-1])


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as PNG and return the path."""
    figure.savefig(path, dpi=_DPI, format="png")
    return path
