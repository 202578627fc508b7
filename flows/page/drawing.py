"""The parts of the page as HTML. Whatever comes from a video, a model or a person is escaped here, and only here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from flows.page.gallery import OfferedVideo
from flows.page.working import Step
from pipeline.infer.detection import CurvePart, DetectedSpan, Detection, say_confidence
from pipeline.infer.judgement import is_denied
from pipeline.questions import load_questions
from pipeline.records import Task, told_spans
from pipeline.report.charts import clock

_POINTS_MAX = 900
"""Points of a drawn curve: more than a screen is wide shows nothing more."""

_STEPS = {"score": "Scoring the frames", "explain": "Explaining what was found"}

_SUGGESTED = (Task.DESCRIPTION, Task.ANALYSIS)
"""Kinds of questions that are offered: those that models are trained to answer, beside the one of the verdict."""


@dataclass(frozen=True, slots=True)
class Turn:
    """Something that was said about a video, or about the span at `about`."""

    role: Literal["user", "assistant", "fault"]
    text: str
    about: int | None


def draw_header(model: str, sampler: str) -> str:
    """Return the head of the page, with the names of what it works with."""
    works_with = "".join(
        f'<span class="h-tag"><b>{kind}</b> {escape(name)}</span>'
        for kind, name in (("sampler", sampler), ("model", model))
        if name
    )
    return (
        '<header class="h-head"><div><h1>Holmes</h1>'
        "<p>Finds what is abnormal in a video, shows when it happens, and says why.</p></div>"
        f"<div>{works_with}</div></header>"
    )


def draw_notice(message: str) -> str:
    """Return a message about what went wrong; nothing for no message."""
    return f'<div class="h-notice" role="alert"><b aria-hidden="true">!</b> {escape(message)}</div>' if message else ""


def draw_limits(max_mb: int, max_minutes: float) -> str:
    """Return what may be uploaded, and what becomes of it."""
    minutes = "a minute" if max_minutes == 1 else f"{max_minutes:g} minutes"
    return f'<p class="h-limits">Up to {max_mb} MB and {minutes}. An upload is removed when its page is closed.</p>'


def draw_gallery(videos: Sequence[OfferedVideo]) -> str:
    """Return the offered videos as cards that can be chosen."""
    cards = "".join(
        f'<button type="button" class="h-card" data-choose="{index}">'
        f'<span class="h-shot"><img src="{video.picture}" alt="" loading="lazy"><i>{clock(video.duration_s)}</i></span>'
        f'<span class="h-name">{escape(video.name)}</span></button>'
        for index, video in enumerate(videos)
    )
    return f'<h2 class="h-or">or choose one of these</h2><div class="h-gallery">{cards}</div>'


def draw_player(url: str, name: str, size: tuple[int, int]) -> str:
    """Return the player of a video file at `url`."""
    return (
        f'<figure class="h-player"><video src="{escape(url)}" controls muted playsinline preload="auto"'
        f' style="aspect-ratio: {size[0]} / {size[1]}" aria-label="{escape(name)}"></video>'
        '<p class="h-unplayable" hidden>This browser cannot play the video. Its analysis is not touched by that.</p>'
        f"<figcaption>{escape(name)}</figcaption></figure>"
    )


def draw_progress(step: Step | None) -> str:
    """Return how far a detection is; None is before it has begun."""
    title = "Waiting for the model" if step is None else _STEPS.get(step.name, step.name)
    if step is not None and step.name == "explain" and step.total > 1:
        title += f", {step.done} of {step.total}"
    if step is None or not step.total:
        percent, bar, now = "", '<i class="h-endless"></i>', ""
    else:
        share = 100 * step.done / step.total
        percent, bar, now = f"{share:.0f}%", f'<i style="width: {share:.1f}%"></i>', f' aria-valuenow="{share:.0f}"'
    return (
        f'<div class="h-progress"><p><span>{escape(title)}</span><span>{percent}</span></p>'
        f'<div role="progressbar" aria-label="{escape(title)}" aria-valuemin="0" aria-valuemax="100"{now}>{bar}</div>'
        "</div>"
    )


def draw_pending() -> str:
    """Return what stands in the place of the judgement until there is one."""
    return '<section class="h-verdict"><p class="h-soft">The verdict and its reasons will stand here.</p></section>'


def draw_verdict(detection: Detection) -> str:
    """Return the judgement about a video and its explanation."""
    if detection.is_anomaly is None:
        kind, mark, title = "open", "?", "Not judged"
    elif detection.is_anomaly:
        kind, mark, title = "abnormal", "▲", "Anomaly"
    else:
        kind, mark, title = "normal", "✓", "Normal"
    answer = (
        f'<p class="h-answer">{escape(detection.answer)}</p>'
        if detection.answer
        else '<p class="h-answer h-soft">There is no video model to explain it.</p>'
    )
    counted = [span for span in detection.spans if not is_denied(span)]
    total_s = sum(span.end_s - span.start_s for span in counted)
    spans = "1 span" if len(counted) == 1 else f"{len(counted)} spans"
    found = f"{spans}, {total_s:.1f} s of {clock(detection.duration_s)}" if counted else ""
    found = " · ".join(part for part in (found, say_confidence(detection.confidence)) if part)
    return (
        f'<section class="h-verdict {kind}" aria-label="Verdict">'
        f'<p class="h-badge {kind}"><b aria-hidden="true">{mark}</b>{title}</p>'
        f"<span>{found}</span>{answer}</section>"
    )


def draw_results(detection: Detection) -> str:
    """Return the curve with the spans on it, and the list of spans; each of both leads to its moment."""
    spans = "".join(
        f'<button type="button" class="h-span{" denied" if is_denied(span) else ""}" {_target(index, span)}'
        f' style="left: {_percent(span.start_s, detection)}; width: {_percent(span.end_s - span.start_s, detection)}"'
        f' title="{clock(span.start_s)} to {clock(span.end_s)}" aria-label="Play span {index + 1},'
        f' {clock(span.start_s)} to {clock(span.end_s)}"><i>{index + 1}</i></button>'
        for index, span in enumerate(detection.spans)
    )
    ticks = "".join(
        f'<i style="left: {_percent(time_s, detection)}">{clock(time_s)[:-2]}</i>'
        for time_s in _ticks(detection.duration_s)
    )
    return (
        f'<section class="h-timeline" data-duration="{detection.duration_s:.3f}" aria-label="Anomaly score over time">'
        f'<div class="h-scale" aria-hidden="true"><i>1</i><i>.5</i><i>0</i></div>'
        f'<div class="h-plot">{_curve(detection)}{spans}<div class="h-head-line" hidden></div></div>'
        f'<div class="h-ticks" aria-hidden="true">{ticks}</div></section>'
        f"{_list(detection)}"
    )


def draw_conversation(turns: Sequence[Turn], waiting: bool = False) -> str:
    """Return what was said, oldest first; `waiting` for an answer."""
    said = "".join(f'<div class="h-turn {turn.role}">{_about(turn)}<p>{escape(turn.text)}</p></div>' for turn in turns)
    if waiting:
        said += '<div class="h-turn assistant h-dots" aria-label="thinking"><i></i><i></i><i></i></div>'
    return f'<div class="h-talk" role="log" aria-live="polite">{said or _suggestions()}</div>'


def _suggestions() -> str:
    asked = "".join(
        f'<button type="button" data-ask="{escape(question)}">{escape(question)}</button>'
        for question in (load_questions(task)[0] for task in _SUGGESTED)
    )
    return f'<div class="h-suggested"><p class="h-soft">Ask anything about what the camera recorded.</p>{asked}</div>'


def draw_subject(detection: Detection | None, selected: int | None) -> str:
    """Return what the next question is about."""
    if detection is None or not detection.spans:
        return '<p class="h-subject">about <b>the whole video</b></p>'
    choices = [("", "whole video"), *((str(i), f"span {i + 1}") for i in range(len(detection.spans)))]
    pressed = "" if selected is None else str(selected)
    buttons = "".join(
        f'<button type="button" data-about="{about}" aria-pressed="{"true" if about == pressed else "false"}">'
        f"{name}</button>"
        for about, name in choices
    )
    return f'<p class="h-subject">about {buttons}</p>'


def _curve(detection: Detection) -> str:
    if not len(detection.scores):
        return '<p class="h-soft h-no-curve">No sampler: the parts of the video are judged one by one.</p>'
    lines = [_line(part, detection.duration_s) for part in detection.curve_parts()]
    curves = "".join(f'<path class="area" d="{line}V100H{x0}Z"/><path class="line" d="{line}"/>' for x0, line in lines)
    lost = "".join(
        f'<rect class="lost" x="{1000 * start_s / detection.duration_s:.1f}" y="0" height="100"'
        f' width="{max(2.0, 1000 * (end_s - start_s) / detection.duration_s):.1f}"/>'
        for start_s, end_s in detection.lost
    )
    told = f", no picture {told_spans(detection.lost)}" if detection.lost else ""
    return (
        '<svg viewBox="0 0 1000 100" preserveAspectRatio="none" role="img"'
        f' aria-label="Score curve, highest {detection.scores.max():.2f}{told}">'
        f'<path class="grid" d="M0 50H1000"/>{lost}{curves}</svg>'
    )


def _line(part: CurvePart, duration_s: float) -> tuple[str, str]:
    """Return where the curve of a part begins, and its path from edge to edge."""
    times_s, scores = _thinned(part)
    points = [
        f"{1000 * time_s / duration_s:.1f} {100 - 100 * score:.1f}"
        for time_s, score in zip(times_s.tolist(), scores.tolist(), strict=True)
    ]
    first, last = points[0].split()[1], points[-1].split()[1]
    start, end = (f"{1000 * edge_s / duration_s:g}" for edge_s in (part.edges_s[0], part.edges_s[-1]))
    return start, f"M{start} {first}L{'L'.join(points)}L{end} {last}"


def _thinned(part: CurvePart) -> tuple[NDArray[np.float64], NDArray[np.float32]]:
    """Return times and scores, of many neighbours the highest one: peaks stay."""
    count = len(part.scores)
    if count <= _POINTS_MAX:
        return part.times_s, part.scores
    starts = np.linspace(0, count, _POINTS_MAX, endpoint=False).astype(np.int64)
    return part.times_s[starts], np.maximum.reduceat(part.scores, starts)


def _list(detection: Detection) -> str:
    if not detection.spans:
        return '<p class="h-soft h-none">No span stands out.</p>'
    rows = "".join(
        f'<li><button type="button" class="h-row{" denied" if is_denied(span) else ""}" {_target(index, span)}>'
        f'<b class="h-number">{index + 1}</b><span class="h-when">{clock(span.start_s)} to {clock(span.end_s)}</span>'
        f'<span class="h-score">{_measured(span, detection)}</span>'
        f'<span class="h-said">{escape(span.answer or "")}</span></button></li>'
        for index, span in enumerate(detection.spans)
    )
    return f'<ol class="h-rows" aria-label="Spans">{rows}</ol>'


def _measured(span: DetectedSpan, detection: Detection) -> str:
    score = f"score {span.score:.2f}" if len(detection.scores) else ""
    return " · ".join(part for part in (score, say_confidence(span.confidence)) if part)


def _target(index: int, span: DetectedSpan) -> str:
    return f'data-span="{index}" data-seek="{span.start_s:.3f}" data-end="{span.end_s:.3f}"'


def _about(turn: Turn) -> str:
    return "" if turn.about is None or turn.role != "user" else f"<i>span {turn.about + 1}</i>"


def _percent(time_s: float, detection: Detection) -> str:
    return f"{100 * time_s / detection.duration_s:.2f}%"


def _ticks(duration_s: float) -> list[float]:
    """Return up to seven round times from 0 up to the end."""
    steps = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200)
    step = next((step for step in steps if duration_s / step <= 7), duration_s / 6)
    return [i * step for i in range(int(duration_s / step) + 1)]
