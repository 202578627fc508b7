"""What is sudden in a clip: cuts, jumps, surges of motion, changes and bursts of light."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pipeline.models.motion.measure import Measurements
from pipeline.models.motion.tracks import Track
from pipeline.models.motion.usual import Usual

_MIN_SURGE, _MIN_JUMP = 0.012, 0.02  # shares of the picture; a clock whose digits all change stays below
_ENTRANCE_S = 1.2
_REST_OF_LIGHT_S = 1.5
_MIN_FLASH, _MIN_LIGHT = 4.0, 14.0  # grey levels; a flash gives back what it takes and may be weaker
_MIN_GLARE = 0.15  # share of a cell


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """Something sudden, `at_s` seconds into the clip: a surge of motion, a flash, a jump or a cut.

    `place` is where, as shares of width and height; None is the whole picture.
    """

    kind: str
    at_s: float
    place: tuple[float, float] | None = None


def find_moments(
    measured: Measurements, usual: Usual, inside: NDArray[np.intp], start_s: float, *, camera_moves: bool
) -> list[Moment]:
    """Return what is sudden in the frames `inside` of a clip that starts at `start_s`, in order of time."""
    if len(inside) < 4:
        return []
    first, last = int(inside[0]), int(inside[-1]) + 1
    times_s = measured.times_s
    cuts = [
        Moment(kind="cut", at_s=cut - start_s) for cut in measured.cuts_s if times_s[first] < cut < times_s[last - 1]
    ]
    if camera_moves:
        # Everything changes from frame to frame then, and no burst can be told from the camera's own motion.
        return cuts
    light = _light_moments(measured, first, last, start_s)
    surges = _surges(measured, usual, first, last, start_s)
    surges = [surge for surge in surges if all(abs(surge.at_s - other.at_s) > 0.6 for other in [*cuts, *light])]
    return sorted([*cuts, *light, *surges], key=lambda moment: moment.at_s)


def _surges(measured: Measurements, usual: Usual, first: int, last: int, start_s: float) -> list[Moment]:
    """Find where motion rises at once far above what is usual: a jump if for one frame only, else a surge."""
    energy, times_s = measured.energy, measured.times_s
    # The spread is capped: in a video hardly longer than the clip the surge itself would widen it.
    spread = min(usual.energy_spread, usual.energy / 2)
    limit = max(2.0 * usual.energy, usual.energy + 3 * spread, 1.3 * usual.energy_high, _MIN_SURGE) + 0.005
    found: list[Moment] = []
    for index in range(max(first, 2), last):
        at_s = float(times_s[index])
        before = energy[(times_s >= at_s - 1.5) & (times_s < at_s - 0.1)]
        if not len(before) or energy[index] < limit or (found and at_s - start_s - found[-1].at_s < 2.0):
            continue
        after = energy[index + 1 : index + 4]
        if len(after) == 3 and energy[index] > _MIN_JUMP + 4 * max(after.max(), before[-3:].max()):
            found.append(Moment(kind="jump", at_s=at_s - start_s))
        elif (
            len(after) == 3
            and after.mean() > 0.8 * limit
            and energy[index] > 2.0 * before.mean() + 0.004
            and not _enters(measured.tracks, at_s)
        ):
            found.append(Moment(kind="surge", at_s=at_s - start_s))
    return found


def _enters(tracks: Sequence[Track], at_s: float) -> bool:
    """Whether most of the motion at a time is that of things just coming in at the border, which is nothing sudden."""
    inner = outer = 0.0
    for track in tracks:
        first, last = np.searchsorted(track.times_s, [at_s, at_s + 0.4])
        for region in track.regions[first:last]:
            if at_s - track.start_s < _ENTRANCE_S and track.cut_off(region):
                outer += region.area * region.changing
            else:
                inner += region.area * region.changing
    return outer > inner


def _light_moments(measured: Measurements, first: int, last: int, start_s: float) -> list[Moment]:
    """Find sudden changes of light: of the whole picture, or of a part that nothing could have entered so fast."""
    cells = measured.cells.reshape(len(measured.times_s), -1)
    found: list[Moment] = []
    for index in range(max(first, 2), last):
        time_s = float(measured.times_s[index])
        at_s = time_s - start_s
        if any(abs(time_s - cut) < 0.6 for cut in measured.cuts_s):
            continue
        kind = _change_of_light(cells, index)
        if found and at_s - found[-1].at_s < _REST_OF_LIGHT_S:
            # Flashes come in series; whatever else follows at once belongs to what was found.
            if kind == found[-1].kind == "flash" and at_s - found[-1].at_s > 0.3:
                found.append(Moment(kind="flash", at_s=at_s))
        elif kind is not None:
            found.append(Moment(kind=kind, at_s=at_s))
        elif (place := _kindled(measured, index)) is not None:
            found.append(Moment(kind="glare", at_s=at_s, place=place))
    return found


def _change_of_light(cells: NDArray[np.float64], index: int) -> str | None:
    """Tell how the light of the whole picture, the median of its cells, changed all at once, if it did."""
    before = np.median(cells[max(index - 6, 0) : max(index - 1, 1)], axis=0)
    change = float(np.median(cells[index] - before))
    if np.median(cells[index] - cells[index - 1]) * np.sign(change) < 0.3 * abs(change):
        # It began some frames ago.
        return None
    soon = np.median(cells[index + 1 : index + 5] - before, axis=1)
    if change > _MIN_FLASH and len(soon) and abs(soon).min() < 0.4 * change:
        return "flash"
    if abs(change) <= _MIN_LIGHT:
        return None
    later = np.median(cells[min(index + 8, len(cells) - 1) :][:4], axis=0)
    if abs(float(np.median(later - before))) > 0.6 * abs(change):
        return "brighter" if change > 0 else "darker"
    return "flash" if change > 0 else "dip"


def _kindled(measured: Measurements, index: int) -> tuple[float, float] | None:
    """Return the middle of the cell that flares up at a frame, where no thing that moves explains it."""
    glow = measured.glow.reshape(len(measured.times_s), -1)
    # A dark thing that vanishes makes its place brighter too, but not brighter than the background.
    rise = glow[index] - glow[max(index - 3, 0) : max(index - 1, 1)].max(axis=0)
    rows, columns = measured.glow.shape[1:]
    row, column = divmod(int(rise.argmax()), columns)
    place = ((column + 0.5) / columns, (row + 0.5) / rows)
    covered = _covered(measured.tracks, place, float(measured.times_s[index]))
    return place if rise.max() > _MIN_GLARE and not covered else None


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
