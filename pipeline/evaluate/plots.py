"""Plots of an evaluation as PNG files: ROC and precision-recall curves, and the scores of each video over time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.evaluate import drawing
from pipeline.evaluate.detector import EvaluatedVideo, Evaluation
from pipeline.evaluate.drawing import DETECTION, INK, PALE, SCORE
from pipeline.evaluate.ranking import Ranking
from pipeline.records import readable_id
from pipeline.sampler.intervals import runs
from pipeline.sampler.proposals import Proposal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_TRUTH, _GLANCE = "#f2c14e", "#b3261e"


def write_plots(evaluation: Evaluation, folder: Path, smooth_s: float) -> list[Path]:
    """Write `roc.png`, `precision_recall.png` and `videos/<video>.png`; return the files, the curves first.

    Args:
        evaluation: what to show.
        folder: made where it is missing.
        smooth_s: width of the smoothing that proposals are made on.
    """
    videos = folder / "videos"
    videos.mkdir(parents=True, exist_ok=True)
    rankings = {"all videos": evaluation.overall, "videos with an event": evaluation.abnormal}
    written = [
        drawing.save(draw_roc(rankings), folder / "roc.png"),
        drawing.save(draw_precision_recall(rankings), folder / "precision_recall.png"),
    ]
    for position, video in enumerate(evaluation.videos):
        proposals = {proposer: found[position] for proposer, found in evaluation.proposals.items()}
        figure = draw_scores(video, proposals, evaluation.metrics.theta, smooth_s)
        written.append(drawing.save(figure, videos / f"{readable_id(video.video_id)}.png"))
    return written


def draw_roc(rankings: Mapping[str, Ranking]) -> Figure:
    """Draw the ROC curves of several sets of frames, and that of chance."""
    figure, axes = _square("false positive rate", "true positive rate")
    axes.plot([0, 1], [0, 1], color=PALE, linestyle=":", linewidth=1, label="chance 0.500")
    for colour, (name, ranking) in zip((SCORE, _GLANCE), rankings.items(), strict=False):
        if ranking.roc is not None:
            axes.plot(*ranking.roc, color=colour, label=f"{name}, AUC {ranking.auc:.3f}")
    axes.legend(loc="lower right", frameon=False)
    return figure


def draw_precision_recall(rankings: Mapping[str, Ranking]) -> Figure:
    """Draw the precision-recall curves of several sets of frames, and the precision of chance for each."""
    figure, axes = _square("recall", "precision")
    for colour, (name, ranking) in zip((SCORE, _GLANCE), rankings.items(), strict=False):
        if ranking.precision_recall is not None:
            precision, recall = ranking.precision_recall
            # Each threshold's precision holds back to the recall of the one before: the area is average precision.
            label = f"{name}, AP {ranking.average_precision:.3f}"
            axes.step(np.append(0, recall), np.append(precision[0], precision), color=colour, where="pre", label=label)
            share = ranking.num_positives / (ranking.num_positives + ranking.num_negatives)
            axes.axhline(share, color=colour, linestyle=":", linewidth=1, label=f"chance {share:.3f}")
    axes.legend(loc="best", frameon=False)
    return figure


def draw_scores(
    video: EvaluatedVideo, proposals: Mapping[str, Sequence[Proposal]], theta: float, smooth_s: float
) -> Figure:
    """Draw the scores of a video over time, with its true events, its glances, and the proposals below.

    Stretches without a picture are hatched, and long ones have no scores.
    """
    figure = drawing.new_figure(11, 3.4)
    axes, lanes = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
    curve = video.curve
    duration_s = curve.num_frames / curve.fps
    inside = np.zeros(curve.num_frames, dtype=bool)
    for event in video.events:
        inside[event.start_frame : event.end_frame] = True
    # Drawn once where events overlap.
    for start, end in runs(inside).tolist():
        axes.axvspan(start / curve.fps, end / curve.fps, color=_TRUTH, alpha=0.45, linewidth=0)
    drawing.draw_lost(axes, [(start / curve.fps, end / curve.fps) for start, end in video.lost], duration_s)
    scores, smooth = curve.scores.astype(np.float64), curve.smoothed(smooth_s).copy()
    for start, end in curve.lost:
        scores[(curve.edges[:-1] >= start) & (curve.edges[1:] <= end)] = np.nan
        smooth[start:end] = np.nan
    axes.stairs(*drawing.thinned(scores, curve.edges / curve.fps), color=SCORE, alpha=0.4, linewidth=1, baseline=None)
    shown = np.unique(np.linspace(0, curve.num_frames - 1, drawing.MAX_POINTS).round().astype(int))
    axes.plot(shown / curve.fps, smooth[shown], color=SCORE, linewidth=1.6)
    drawing.draw_theta(axes, theta)
    for glance in video.glances:
        axes.axvline(glance.frame_index / curve.fps, color=_GLANCE, linewidth=1.4)
    axes.set(ylim=(-0.02, 1.02), xlim=(0, duration_s), ylabel="anomaly score")
    classes = ", ".join(dict.fromkeys(event.category or "event" for event in video.events)) or "Normal"
    axes.set_title(f"{video.video_id}  ({classes})", loc="left", fontsize=10, color=INK)
    _draw_lanes(lanes, video, proposals)
    lanes.set_xlabel("seconds")
    drawing.style(axes)
    drawing.style(lanes, grid="x")
    _legend(axes, video)
    return figure


def _draw_lanes(axes: Axes, video: EvaluatedVideo, proposals: Mapping[str, Sequence[Proposal]]) -> None:
    """Draw a row of bars for the detections and, where there are glances, one for the proposals around them."""
    rows = [("detections", "detected", DETECTION)]
    if video.glances:
        rows.append(("glances", "around glances", _GLANCE))
    for row, (proposer, _, colour) in enumerate(rows):
        bars = [
            (found.start_frame / video.curve.fps, (found.end_frame - found.start_frame) / video.curve.fps)
            for found in proposals.get(proposer, ())
        ]
        axes.broken_barh(bars, (row - 0.3, 0.6), facecolor=colour, edgecolor="white", linewidth=0.8, alpha=0.8)
    axes.set_yticks(range(len(rows)), [label for _, label, _ in rows], fontsize=8)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    axes.tick_params(axis="y", length=0)


def _legend(axes: Axes, video: EvaluatedVideo) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles: list[Any] = [Line2D([], [], color=SCORE, label="score, smoothed")]
    if video.events:
        handles.append(Patch(color=_TRUTH, alpha=0.45, label="ground truth"))
    if video.glances:
        handles.append(Line2D([], [], color=_GLANCE, label="glance"))
    if video.lost:
        handles.append(Patch(facecolor="none", edgecolor=PALE, hatch="////", linewidth=0, label="no picture"))
    # Above the axes, where no score can lie beneath it.
    axes.legend(handles=handles, loc="lower right", bbox_to_anchor=(1, 1), ncols=4, frameon=False, fontsize=8)


def _square(x_label: str, y_label: str) -> tuple[Figure, Axes]:
    figure = drawing.new_figure(5, 5)
    axes = figure.subplots()
    axes.set(xlim=(0, 1), ylim=(0, 1.01), xlabel=x_label, ylabel=y_label, aspect="equal")
    drawing.style(axes)
    return figure, axes
