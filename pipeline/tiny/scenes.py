"""Clips of the sample world with everything that is known of them: frames, marks and captions.

Only the frames that a clip is shown by are painted, without a video file in between; noise, clock and camera are those
of the videos, and a JPEG of changing quality stands for what a codec leaves of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from random import Random
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.sample.plan import FPS, VideoPlan
from pipeline.sample.render import Painter
from pipeline.sample.shot import Event, Shot
from pipeline.sample.staging import stage
from pipeline.tiny.marks import mark_frame
from pipeline.tiny.words import describe

SIDE = 160
"""Side of the square frames in pixels."""

NUM_FRAMES = 16
"""Frames of a clip."""

_NORMAL_S = (4.0, 12.0)
_WINDOW_S = 10.0
_MISSED = 0.35  # of an event, at either end of a span
_WHOLE = 0.3  # of the calm clips are whole calm segments
_CALM_CLIPS = 2
_OVER_S = 0.5
_JPEG = (45, 85)


@dataclass(frozen=True, eq=False, kw_only=True)
class SceneClip:
    """A clip.

    Attributes:
        frames: RGB uint8, shape (NUM_FRAMES, SIDE, SIDE, 3), in time order.
        marks: packed bits of what each cell holds, uint8, shape (NUM_FRAMES, GRID, GRID, ceil(len(MARKS) / 8)).
        facts: its caption (what happens and where), the category of its event (None for ordinary life), and the
            place and night of the scene.
    """

    frames: NDArray[np.uint8]
    marks: NDArray[np.uint8]
    facts: dict[str, Any]


def cut_clips(plan: VideoPlan) -> list[SceneClip]:
    """Return the clips of one video: three of every event, two of ordinary life before or without any, one after."""
    cv2.setNumThreads(1)
    shot = stage(plan)
    painter = Painter(shot, plan.seed * 1_000_003 + plan.index, f"CAM {plan.scene[5:]}-{plan.camera[3:]}")
    rng = Random(f"{plan.seed}:{plan.index}:tiny")
    return [_clip(painter, plan, span_s, event, rng) for span_s, event in _spans(shot, rng)]


def _spans(shot: Shot, rng: Random) -> Iterator[tuple[tuple[float, float], Event | None]]:
    """Yield spans as the engine cuts them: windows around clicks, spans of a sampler right and wrong, calm segments."""
    for event in shot.events:
        click_s = rng.uniform(event.start_s, event.end_s)
        start_s = min(max(0.0, click_s - _WINDOW_S / 2), max(0.0, shot.duration_s - _WINDOW_S))
        yield (start_s, min(shot.duration_s, start_s + _WINDOW_S)), event
        around = (event.start_s - rng.uniform(-1, 2), event.end_s + rng.uniform(-1, 2))
        yield (max(0.0, around[0]), min(shot.duration_s, around[1])), event
        missed_s = _MISSED * (event.end_s - event.start_s)
        early = rng.random() < 0.5
        part = (
            (event.start_s - rng.uniform(0, 2), event.end_s - rng.uniform(0, missed_s))
            if early
            else (event.start_s + rng.uniform(0, missed_s), event.end_s + rng.uniform(0, 3))
        )
        yield (max(0.0, part[0]), min(shot.duration_s, part[1])), event
    calm_s = min((event.start_s - 0.5 for event in shot.events), default=shot.duration_s)
    for _ in range(_CALM_CLIPS):
        length_s = calm_s if rng.random() < _WHOLE else rng.uniform(*_NORMAL_S)
        if calm_s >= max(length_s, _NORMAL_S[0]):
            start_s = rng.uniform(0, calm_s - length_s)
            yield (start_s, start_s + length_s), None
    # what a blow, a bat or a crash leaves behind is there to see when the event is over
    over_s = max((event.end_s for event in shot.events), default=shot.duration_s) + _OVER_S
    length_s = min(rng.uniform(*_NORMAL_S), shot.duration_s - over_s)
    if length_s >= _NORMAL_S[0] / 2:
        start_s = rng.uniform(over_s, shot.duration_s - length_s)
        yield (start_s, start_s + length_s), None


def _clip(
    painter: Painter, plan: VideoPlan, span_s: tuple[float, float], event: Event | None, rng: Random
) -> SceneClip:
    first, last = round(span_s[0] * FPS), round(span_s[1] * FPS) - 1
    indices = [round(first + (i + 0.5) / NUM_FRAMES * (last - first)) for i in range(NUM_FRAMES)]
    shot = painter.shot
    return SceneClip(
        frames=np.stack([_seen(painter.frame(index), rng) for index in indices]),
        marks=np.stack([np.packbits(mark_frame(shot, index / FPS), axis=-1) for index in indices]),
        facts={
            "caption": describe(shot, plan.kind, span_s, event, rng), "category": event and event.category,
            "place": plan.kind.value, "night": shot.night > 0,
        },
    )  # fmt: skip


def _seen(planes: NDArray[np.uint8], rng: Random) -> NDArray[np.uint8]:
    """Return a frame as it comes out of a decoder and a processor: compressed, RGB, square."""
    picture = cv2.cvtColor(planes, cv2.COLOR_YUV2BGR_I420)
    _, coded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, rng.randint(*_JPEG)])
    decoded = cv2.cvtColor(cv2.imdecode(coded, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    scaler = rng.choice((cv2.INTER_AREA, cv2.INTER_LINEAR, cv2.INTER_CUBIC))
    return np.asarray(cv2.resize(decoded, (SIDE, SIDE), interpolation=scaler), np.uint8)
