"""What can be said of one clip: measurements of a span, judged against what is usual in its video.

Every threshold errs towards silence: a fact that is left out costs a little detail, a false one spoils a training
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.models.motion.count import count_things
from pipeline.models.motion.measure import WIDE_AREA, Measurements
from pipeline.models.motion.moments import Moment, find_moments
from pipeline.models.motion.tracks import Track
from pipeline.models.motion.usual import Usual

Floats = NDArray[np.float64]

_MIN_OTHERS = 5  # tracks that make a "usual" to compare with
_OVERLAY_STRIP = 0.13  # share of the picture's height, above and below, where clocks and names are drawn
_ACTIVE_CHANGING = 0.12
_MIN_HELD_S = 0.8
_ROUGH_ENERGY, _MOST_IF_ROUGH = 0.05, 3
_REST = 0.012  # widths; a thing that stays this close to its last place rests
_STAYS = 0.08  # widths
_VIGOROUS_CHANGING = 0.28


@dataclass(frozen=True, slots=True, kw_only=True)
class Mover:
    """One thing that travels; positions are shares of width and height.

    `speed_ratio` and `area_ratio` compare with the median of the other things in the video and are None where too few
    others are known. `whole_way` tells that it was not lost from sight: it comes and goes at the picture's border or
    at the ends of the clip.
    """

    start: tuple[float, float]
    end: tuple[float, float]
    duration_s: float
    area: float
    growth: float
    speed_ratio: float | None
    area_ratio: float | None
    stops_s: float | None
    whole_way: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Stirring:
    """Motion that leads nowhere, or was not followed far enough to tell.

    `vigorous` where much of it changes from frame to frame; `stays` where it certainly keeps its place.
    """

    place: tuple[float, float]
    area: float
    vigorous: bool
    stays: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFacts:
    """What was found in a clip of `length_s` seconds.

    `most` is the largest number of things in motion at one time; `exact` tells whether it is a count or a lower bound,
    `throughout` whether it holds most of the time. `steady` tells that neither motion nor light swells anywhere, even
    moderately. `camera` is None, or the motion of the whole picture as (right, down, zoom) per second.
    """

    length_s: float
    most: int
    exact: bool
    throughout: bool
    movers: tuple[Mover, ...]
    stirring: tuple[Stirring, ...]
    moments: tuple[Moment, ...]
    steady: bool
    camera: tuple[float, float, float] | None


def facts_of(measured: Measurements, usual: Usual, start_s: float, end_s: float) -> ClipFacts:
    """Find what can be said of [start_s, end_s), on the clock of `measured.times_s`."""
    inside = np.flatnonzero((measured.times_s >= start_s) & (measured.times_s < end_s))
    camera = _camera(measured, inside)
    parts = [part for track in measured.tracks if (part := track.between(start_s, end_s))] if camera is None else []
    going = [part for part in parts if part.travels and not _in_overlay(part)]
    staying = [part for part in parts if _stirs(part) and not part.travels]
    counts = count_things([*going, *staying], measured.times_s[inside])
    # Something large that passes falls apart into many regions, as a train does into its windows.
    rough = measured.energy[inside] > _ROUGH_ENERGY
    counts = np.where(rough, np.minimum(counts, _MOST_IF_ROUGH), counts)
    most = _most_held(counts, measured.times_s[inside])
    exact = most <= 3 and not staying and not rough.any() and all(part.contacts == 0 for part in going)
    movers = [_mover(part, usual, start_s, end_s) for part in going]
    return ClipFacts(
        length_s=end_s - start_s,
        most=most,
        exact=exact,
        throughout=bool(np.mean(counts >= most) > 0.75),
        movers=tuple(sorted(movers, key=_strikingness, reverse=True)),
        stirring=tuple(sorted(map(_stirring, staying), key=lambda s: (s.vigorous, s.area), reverse=True)),
        moments=tuple(find_moments(measured, usual, inside, start_s, camera_moves=camera is not None)),
        steady=_steady(measured, inside),
        camera=camera,
    )


def _steady(measured: Measurements, inside: NDArray[np.intp]) -> bool:
    if len(inside) < 4:
        return False
    energy, brightness = measured.energy[inside], measured.brightness[inside]
    swelling = np.convolve(energy, np.ones(3) / 3, mode="valid").max() > 1.6 * np.median(energy) + 0.004
    return not swelling and bool(np.ptp(brightness) < 8)


def _camera(measured: Measurements, inside: NDArray[np.intp]) -> tuple[float, float, float] | None:
    moving = measured.camera_moves[inside]
    if not len(moving) or moving.mean() < 0.3:
        return None
    right, down, zoom = np.median(measured.camera[inside][moving], axis=0)
    return float(right), float(down), float(zoom)


def _stirs(part: Track) -> bool:
    """Whether a region keeps changing, long and large enough to be a thing and not noise, foliage or a clock."""
    if part.end_s - part.start_s < 1.0 or _in_overlay(part):
        return False
    if part.area >= WIDE_AREA:
        return True
    return part.changing >= _ACTIVE_CHANGING and part.area >= 0.0015


def _in_overlay(part: Track) -> bool:
    tops = np.median([r.top for r in part.regions]) / part.aspect
    bottoms = np.median([r.bottom for r in part.regions]) / part.aspect
    return bool(bottoms < _OVERLAY_STRIP or tops > 1 - _OVERLAY_STRIP)


def _most_held(counts: NDArray[np.int64], times_s: Floats) -> int:
    """Return the largest count that holds for most of a second in all."""
    if len(counts) < 2:
        return int(counts.max(initial=0))
    held = max(1, round(_MIN_HELD_S / float(np.median(np.diff(times_s)))))
    return int(np.sort(counts)[-min(held, len(counts))])


def _mover(part: Track, usual: Usual, start_s: float, end_s: float) -> Mover:
    first, last = part.positions[:3].mean(axis=0), part.positions[-3:].mean(axis=0)
    return Mover(
        start=(float(first[0]), float(first[1]) / part.aspect),
        end=(float(last[0]), float(last[1]) / part.aspect),
        duration_s=part.end_s - part.start_s,
        area=part.area,
        growth=part.growth,
        speed_ratio=_speed_ratio(part, usual),
        area_ratio=_ratio(part.area, usual.areas) if part.contacts == 0 and part.end_s - part.start_s > 1.5 else None,
        stops_s=stop - start_s if (stop := _stop(part)) is not None else None,
        whole_way=(part.start_s - start_s < 0.5 or part.cut_off(part.regions[0]))
        and (end_s - part.end_s < 0.5 or part.cut_off(part.regions[-1])),
    )


def _stop(part: Track) -> float | None:
    """Return when a thing that travelled came to a halt and stayed, or None."""
    positions, times_s = part.positions, part.times_s
    resting = np.linalg.norm(positions - positions[-3:].mean(axis=0), axis=1) < _REST
    moving = np.flatnonzero(~resting)
    if part.contacts > 1 or not len(moving) or part.cut_off(part.regions[-1]):
        return None
    stop_s = float(times_s[min(moving[-1] + 1, len(times_s) - 1)])
    before = (times_s < stop_s) & (times_s >= stop_s - 1.0)
    if part.end_s - stop_s < 1.2 or before.sum() < 4:
        return None
    approach = np.linalg.norm(positions[before][-1] - positions[before][0]) / (stop_s - times_s[before][0])
    return stop_s if approach > 0.04 else None


def _speed_ratio(part: Track, usual: Usual) -> float | None:
    """Compare by positions and by flow, and take the lower: either is fooled at times, seldom both."""
    by_position, by_flow = _ratio(part.speed, usual.speeds), _ratio(part.flow_speed, usual.flow_speeds)
    return min(by_position, by_flow) if by_position is not None and by_flow is not None else None


def _ratio(value: float, known: Sequence[float]) -> float | None:
    # The thing itself is among the known ones, hence one more.
    if len(known) <= _MIN_OTHERS or not np.median(known) > 0:
        return None
    # "Most" must hold where things are of two kinds, too: in a street with pedestrians and cars no car is remarkable.
    return value / max(float(np.median(known)), 0.85 * float(np.percentile(known, 80)))


def _strikingness(mover: Mover) -> float:
    way = float(np.hypot(mover.end[0] - mover.start[0], mover.end[1] - mover.start[1]))
    odd = max(0.0, (mover.speed_ratio or 1.0) - 1.4) + max(0.0, (mover.area_ratio or 1.0) / 3 - 1.0)
    return odd + way * float(np.sqrt(mover.area))


def _stirring(part: Track) -> Stirring:
    x, y = np.median(part.positions, axis=0)
    reach = np.ptp(np.percentile(part.positions, [10, 90], axis=0), axis=0).max()
    return Stirring(
        place=(float(x), float(y) / part.aspect),
        area=part.area,
        vigorous=part.changing >= _VIGOROUS_CHANGING,
        stays=bool(reach < _STAYS and part.end_s - part.start_s >= 2.0),
    )
