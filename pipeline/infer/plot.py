"""A detection as a picture: the scores over time, the spans, and what was answered."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.evaluate.drawing import (
    DETECTION,
    INK,
    PALE,
    SCORE,
    draw_lost,
    draw_theta,
    new_figure,
    save,
    style,
    thinned,
)
from pipeline.infer.detection import Detection
from pipeline.infer.judgement import is_denied
from pipeline.infer.subtitles import span_text
from pipeline.records import told_spans

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_ALARM = "#c2410c"
_LISTED_SPANS = 5
_LINE_CHARACTERS = 128
_TEXT_LINES = 2  # of a span's answer
_LINE_IN = 0.2


def write_plot(detection: Detection, theta: float, path: Path) -> None:
    """Write the picture as PNG; `theta` is the threshold of detection."""
    save(draw_detection(detection, theta), path)


def draw_detection(detection: Detection, theta: float) -> Figure:
    """Draw the scores over time with the spans, and list below what was answered about the first ones."""
    lines = _told(detection)
    text_in = _LINE_IN * (len(lines) + 1)
    figure = new_figure(11, 3.0 + text_in)
    axes, words = figure.subplots(2, 1, height_ratios=(3.0, text_in))
    for span in detection.spans:
        axes.axvspan(span.start_s, span.end_s, color=DETECTION if is_denied(span) else _ALARM, alpha=0.2, linewidth=0)
        axes.annotate(f"{span.score:.2f}", ((span.start_s + span.end_s) / 2, 1.02), ha="center", va="bottom",
                      xycoords=("data", "axes fraction"), color=INK, fontsize=8, annotation_clip=False)  # fmt: skip
    draw_lost(axes, detection.lost, detection.duration_s)
    if len(detection.scores):
        for part in detection.curve_parts():
            axes.stairs(*thinned(part.scores, part.edges_s), color=SCORE, linewidth=1.6, baseline=None)
        draw_theta(axes, theta)
    else:
        axes.annotate("no sampler: no scores", (0.5, 0.5), xycoords="axes fraction", ha="center", color=PALE)
    axes.set(ylim=(-0.02, 1.02), xlim=(0, detection.duration_s), ylabel="anomaly score", xlabel="seconds")
    axes.set_title(Path(detection.video).name, loc="left", fontsize=10, color=INK, pad=18)
    style(axes)
    words.axis("off")
    words.text(0, 1, "\n".join(lines), va="top", fontsize=9, color=INK, linespacing=1.4, parse_math=False)
    return figure


def _told(detection: Detection) -> list[str]:
    lost = _wrapped(f"No picture: {told_spans(detection.lost)}") if detection.lost else []
    if not detection.spans:
        return [*_wrapped(detection.answer or "No span reaches the threshold."), *lost]
    lines = []
    for span in detection.spans[:_LISTED_SPANS]:
        lines += _wrapped(f"[{span.start_s:.1f}s~{span.end_s:.1f}s] {span_text(span)}")
    left = len(detection.spans) - _LISTED_SPANS
    return [*lines, *([f"and {left} more"] if left > 0 else []), *lost]


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, _LINE_CHARACTERS, max_lines=_TEXT_LINES, placeholder=" ...", subsequent_indent="    ")
