"""What can be said of one clip: measurements of a span, judged against what is usual in its video.

Every threshold errs towards silence: a fact that is left out costs a little detail, a false one spoils a training
answer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.models.motion_measure import Measurements
from pipeline.models.motion_tracks import Track

Floats = NDArray[np.float64]

_MIN_OTHERS = 5  # tracks that make a "usual" to compare with
_OVERLAY_STRIP = 0.13  # share of the picture's height, above and below, where clocks and names are drawn
_WIDE_AREA = 0.15
_WIDE_CHANGING = 0.03  # smoke fills much of the picture and changes slowly
_ACTIVE_CHANGING = 0.12
_REST = 0.012  # widths; a thing that stays this close to its last place rests
_STAYS = 0.08  # widths
_MIN_SURGE, _MIN_JUMP = 0.012, 0.02  # shares of the picture; a clock whose digits all change stays below
_MIN_GLARE = 0.15  # share of a cell
_VIGOROUS_CHANGING = 0.28


@dataclass(frozen=True, slots=True, kw_only=True)
class Usual:
    """What is usual in a video: medians and spreads over its baseline."""

    energy: float
    energy_spread: float
    speeds: tuple[float, ...]
    flow_speeds: tuple[float, ...]
    areas: tuple[float, ...]


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
class Moment:
    """Something sudden, `at_s` seconds into the clip: a surge of motion, a flash, a jump or a cut.

    `place` is where, as shares of width and height; None is the whole picture.
    """

    kind: str
    at_s: float
    place: tuple[float, float] | None = None


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


def usual_of(measured: Sequence[Measurements]) -> Usual:
    """Summarise the baseline stretches of one video."""
    energy = np.concatenate([m.energy for m in measured])
    tracks = [t for m in measured for t in m.tracks if t.travels]
    median = float(np.median(energy))
    return Usual(
        energy=median,
        energy_spread=float(1.4826 * np.median(np.abs(energy - median))),
        speeds=tuple(t.speed for t in tracks),
        flow_speeds=tuple(t.flow_speed for t in tracks),
        areas=tuple(t.area for t in tracks),
    )


def facts_of(measured: Measurements, usual: Usual, start_s: float, end_s: float) -> ClipFacts:
    """Find what can be said of [start_s, end_s), on the clock of `measured.times_s`."""
    inside = np.flatnonzero((measured.times_s >= start_s) & (measured.times_s < end_s))
    camera = _camera(measured, inside)
    parts = [part for track in measured.tracks if (part := track.between(start_s, end_s))] if camera is None else []
    going = [part for part in parts if part.travels and not _in_overlay(part)]
    staying = [part for part in parts if _stirs(part) and not part.travels]
    counts = _counts([*going, *staying], measured.times_s[inside])
    most = _most_held(counts, measured.times_s[inside])
    exact = most <= 3 and not staying and all(part.contacts == 0 for part in going)
    movers = [_mover(part, usual, start_s, end_s) for part in going]
    return ClipFacts(
        length_s=end_s - start_s,
        most=most,
        exact=exact,
        throughout=bool(np.mean(counts >= most) > 0.75),
        movers=tuple(sorted(movers, key=_strikingness, reverse=True)),
        stirring=tuple(sorted(map(_stirring, staying), key=lambda s: (s.vigorous, s.area), reverse=True)),
        moments=tuple(
            sorted(
                _moments(measured, usual, inside, start_s, camera_moves=camera is not None),
                key=lambda moment: moment.at_s,
            )
        ),
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
    if part.area >= _WIDE_AREA:
        return part.changing >= _WIDE_CHANGING
    return part.changing >= _ACTIVE_CHANGING and part.area >= 0.0015


def _in_overlay(part: Track) -> bool:
    tops = np.median([r.top for r in part.regions]) / part.aspect
    bottoms = np.median([r.bottom for r in part.regions]) / part.aspect
    return bool(bottoms < _OVERLAY_STRIP or tops > 1 - _OVERLAY_STRIP)


def _counts(parts: Sequence[Track], times_s: Floats) -> NDArray[np.int64]:
    counts = np.zeros(len(times_s), dtype=np.int64)
    for part in parts:
        counts += (times_s >= part.start_s) & (times_s <= part.end_s)
    return counts


def _most_held(counts: NDArray[np.int64], times_s: Floats) -> int:
    """Return the largest count that holds for half a second in all."""
    if len(counts) < 2:
        return int(counts.max(initial=0))
    held = max(1, round(0.5 / float(np.median(np.diff(times_s)))))
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
    return value / float(np.median(known)) if len(known) > _MIN_OTHERS and np.median(known) > 0 else None


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


def _moments(
    measured: Measurements, usual: Usual, inside: NDArray[np.intp], start_s: float, *, camera_moves: bool
) -> list[Moment]:
    if len(inside) < 4:
        return []
    first, last = int(inside[0]), int(inside[-1]) + 1
    times_s = measured.times_s
    cuts = [
        Moment(kind="cut", at_s=cut - start_s) for cut in measured.cuts_s if times_s[first] < cut < times_s[last - 1]
    ]
    light = _light_moments(measured, first, last, start_s)
    taken = [moment.at_s for moment in [*cuts, *light]]
    if camera_moves:
        # Everything changes from frame to frame then, and no burst can be told from the camera's own motion.
        return cuts
    surges = [
        moment
        for moment in _surges(measured, usual, first, last, start_s)
        if all(abs(moment.at_s - other) > 0.6 for other in taken)
    ]
    return [*cuts, *light, *surges]


def _surges(measured: Measurements, usual: Usual, first: int, last: int, start_s: float) -> list[Moment]:
    """Find where motion rises at once far above what is usual: a jump if for one frame only, else a surge."""
    energy, times_s = measured.energy, measured.times_s
    # The spread is capped: in a video hardly longer than the clip the surge itself would widen it.
    spread = min(usual.energy_spread, usual.energy / 2)
    limit = max(2.0 * usual.energy, usual.energy + 3 * spread, _MIN_SURGE) + 0.005
    found: list[Moment] = []
    for index in range(max(first, 2), last):
        at_s = float(times_s[index])
        before = energy[(times_s >= at_s - 1.5) & (times_s < at_s - 0.1)]
        if not len(before) or energy[index] < limit or (found and at_s - start_s - found[-1].at_s < 2.0):
            continue
        after = energy[index + 1 : index + 4]
        if len(after) == 3 and energy[index] > _MIN_JUMP + 4 * max(after.max(), before[-3:].max()):
            found.append(Moment(kind="jump", at_s=at_s - start_s))
        elif len(after) == 3 and after.mean() > 0.8 * limit and energy[index] > 2.0 * before.mean() + 0.004:
            found.append(Moment(kind="surge", at_s=at_s - start_s))
    return found


def _light_moments(measured: Measurements, first: int, last: int, start_s: float) -> list[Moment]:
    """Find sudden changes of light: of the whole picture, or of a part that nothing could have entered so fast."""
    cells = measured.cells.reshape(len(measured.times_s), -1)
    glow = measured.glow.reshape(len(measured.times_s), -1)
    times_s = measured.times_s
    found: list[Moment] = []
    for index in range(max(first, 2), last):
        at_s = float(times_s[index])
        near_a_cut = any(abs(at_s - cut) < 0.6 for cut in measured.cuts_s)
        if near_a_cut or (found and at_s - start_s - found[-1].at_s < 1.5):
            continue
        before = np.median(cells[max(index - 6, 0) : index - 1], axis=0) if index >= 3 else cells[0]
        whole = float(np.median(cells[index] - before))
        if abs(whole) > 14:
            later = np.median(cells[min(index + 8, len(cells) - 1) :][:4], axis=0)
            stays = abs(float(np.median(later - before))) > 0.6 * abs(whole)
            kind = ("brighter" if whole > 0 else "darker") if stays else ("flash" if whole > 0 else "dip")
            found.append(Moment(kind=kind, at_s=at_s - start_s))
            continue
        # A dark thing that vanishes makes its place brighter too, but not brighter than the background.
        kindling = glow[index] - glow[max(index - 3, 0) : index - 1].max(axis=0)
        place = _cell_centre(int(kindling.argmax()), measured.glow.shape[1:])
        if kindling.max() > _MIN_GLARE and not _covered(measured.tracks, place, at_s):
            found.append(Moment(kind="glare", at_s=at_s - start_s, place=place))
    return found


def _cell_centre(cell: int, shape: tuple[int, ...]) -> tuple[float, float]:
    row, column = divmod(cell, shape[1])
    return (column + 0.5) / shape[1], (row + 0.5) / shape[0]


def _covered(tracks: Sequence[Track], place: tuple[float, float], at_s: float) -> bool:
    """Whether something that was there before lies over `place`: a bright thing that moves is not a burst of light."""
    for track in tracks:
        since_s = at_s - (0.0 if track.travels else 0.5)
        if not track.start_s - 0.2 <= since_s <= track.end_s:
            continue
        last = len(track.regions) - 1
        earlier, region = (track.regions[min(int(np.searchsorted(track.times_s, s)), last)] for s in (at_s - 0.4, at_s))
        y = place[1] * track.aspect
        reach_x, reach_y = 0.125, track.aspect / 6
        near = (region.left - reach_x < place[0] < region.right + reach_x) and (
            region.top - reach_y < y < region.bottom + reach_y
        )
        if near and (track.travels or region.area < 2 * earlier.area):
            return True
    return False
