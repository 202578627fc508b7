"""Regions of foreground followed over time, and which of them travel."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MAX_GAP_S = 0.5
_MIN_TRACK_S = 0.6
_REACH = 0.05  # farthest a region may jump between frames beyond its own half size, in widths
_MIN_TRAVEL = 0.05  # widths
_MIN_STRAIGHTNESS = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A connected region of foreground in one frame, in widths; `area` is a share of the picture.

    `changing` is the share of its pixels that differ from the frame before; velocities are widths per second by
    optical flow.
    """

    x: float
    y: float
    left: float
    top: float
    right: float
    bottom: float
    area: float
    changing: float
    velocity_x: float
    velocity_y: float

    @property
    def size(self) -> float:
        """The mean side of the box, in widths."""
        return ((self.right - self.left) + (self.bottom - self.top)) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """One region followed over time; arrays have one entry per sighting. `aspect` is picture height over width.

    `contacts` counts how often another region merged into it or split off.
    """

    times_s: Floats
    regions: tuple[Region, ...]
    aspect: float
    contacts: int

    @property
    def start_s(self) -> float:
        return float(self.times_s[0])

    @property
    def end_s(self) -> float:
        return float(self.times_s[-1])

    def between(self, start_s: float, end_s: float) -> Track | None:
        """Return the part of the track in [start_s, end_s), or None where fewer than three sightings lie in it."""
        first, last = np.searchsorted(self.times_s, [start_s, end_s])
        if last - first < 3:
            return None
        return replace(self, times_s=self.times_s[first:last], regions=self.regions[first:last])

    @property
    def positions(self) -> Floats:
        """Centres in widths, shape (n, 2)."""
        return np.array([(r.x, r.y) for r in self.regions])

    @property
    def area(self) -> float:
        """Area while whole in the picture, as a share of the picture.

        A low percentile: a track may have borrowed its neighbours' area for half of its time.
        """
        inner = [r.area for r in self.regions if not self.cut_off(r)]
        return float(np.percentile(inner or [r.area for r in self.regions], 25))

    @property
    def changing(self) -> float:
        """Mean share of its pixels that change from frame to frame."""
        return float(np.mean([r.changing for r in self.regions]))

    @property
    def travel(self) -> Floats:
        """Way from the first to the last position, (right, down) in widths; ends are means of three sightings."""
        positions = self.positions
        travel: Floats = positions[-3:].mean(axis=0) - positions[:3].mean(axis=0)
        return travel

    @property
    def flow_travel(self) -> Floats:
        """The same way by optical flow, which a merge with a neighbour cannot make jump."""
        velocity = np.array([(r.velocity_x, r.velocity_y) for r in self.regions])
        travel: Floats = np.median(velocity, axis=0) * (self.end_s - self.start_s)
        return travel

    @property
    def speed(self) -> float:
        """Median speed in widths per second, from positions half a second apart."""
        positions, times_s = self.positions, self.times_s
        later = np.searchsorted(times_s, times_s + 0.45)
        earlier = np.flatnonzero(later < len(times_s))
        if not len(earlier):
            return float(np.hypot(*self.travel) / max(self.end_s - self.start_s, 1e-6))
        steps = np.linalg.norm(positions[later[earlier]] - positions[earlier], axis=1)
        return float(np.median(steps / (times_s[later[earlier]] - times_s[earlier])))

    @property
    def flow_speed(self) -> float:
        """Median speed in widths per second by optical flow: too low throughout, but not fooled by merges."""
        return float(np.hypot(*self.flow_travel) / max(self.end_s - self.start_s, 1e-6))

    @property
    def travels(self) -> bool:
        """Whether it goes somewhere: by a way that is long for its size, straight enough, and seen by the flow too."""
        way = float(np.hypot(*self.travel))
        flow_way = float(np.hypot(*self.flow_travel))
        if self.end_s - self.start_s < _MIN_TRACK_S or way < _MIN_TRAVEL:
            return False
        positions = self.positions[::2]
        walked = np.linalg.norm(np.diff(positions, axis=0), axis=1).sum()
        size = float(np.median([r.size for r in self.regions]))
        agrees = float(self.travel @ self.flow_travel) > 0.5 * way * flow_way
        return way > 0.6 * size and way > _MIN_STRAIGHTNESS * walked and flow_way > 0.25 * way and agrees

    @property
    def growth(self) -> float:
        """Height at the end over height at the start, while whole in the picture; 1.0 where that cannot be told."""
        heights = [r.bottom - r.top for r in self.regions if not self.cut_off(r)]
        if len(heights) < 8:
            return 1.0
        part = max(3, len(heights) // 4)
        return float(np.median(heights[-part:]) / np.median(heights[:part]))

    def cut_off(self, region: Region) -> bool:
        """Whether the picture's border may hide a part of `region`."""
        margin = 0.01
        return (
            region.left < margin
            or region.top < margin
            or region.right > 1 - margin
            or region.bottom > self.aspect - margin
        )


class _Growing:
    """A track under construction."""

    def __init__(self, index: int, region: Region) -> None:
        self.indices = [index]
        self.regions = [region]
        self.contacts = 0

    def predicted(self, now_s: float, times_s: Floats) -> tuple[float, float]:
        last = self.regions[-1]
        recent = self.regions[-4:]
        gone_s = min(now_s - float(times_s[self.indices[-1]]), _MAX_GAP_S)
        return (
            last.x + gone_s * sum(r.velocity_x for r in recent) / len(recent),
            last.y + gone_s * sum(r.velocity_y for r in recent) / len(recent),
        )


def follow(frames: Iterable[Sequence[Region]], times_s: Floats, aspect: float) -> list[Track]:
    """Link the regions of consecutive frames into tracks, nearest pair first.

    A region may be away for half a second. Tracks shorter than three sightings are dropped as noise.
    """
    alive: list[_Growing] = []
    ended: list[_Growing] = []
    for index, regions in enumerate(frames):
        now_s = float(times_s[index])
        still = [t for t in alive if now_s - float(times_s[t.indices[-1]]) <= _MAX_GAP_S]
        ended += [t for t in alive if t not in still]
        taken = _link(still, regions, index, times_s)
        alive = still + [_Growing(index, region) for n, region in enumerate(regions) if n not in taken]
    return [
        Track(times_s=times_s[t.indices], regions=tuple(t.regions), aspect=aspect, contacts=t.contacts)
        for t in ended + alive
        if len(t.indices) >= 3
    ]


def _link(tracks: Sequence[_Growing], regions: Sequence[Region], index: int, times_s: Floats) -> set[int]:
    """Give each region to the track that expects it; return the numbers of the regions given away."""
    now_s = float(times_s[index])
    pairs: list[tuple[float, int, int]] = []
    for t, track in enumerate(tracks):
        x, y = track.predicted(now_s, times_s)
        last = track.regions[-1]
        for n, region in enumerate(regions):
            distance = math.hypot(region.x - x, region.y - y)
            if distance < _REACH + 0.5 * min(last.size, region.size):
                ratio = max(region.area, last.area) / max(min(region.area, last.area), 1e-9)
                pairs.append((distance + 0.02 * math.log(ratio), t, n))
    linked: set[int] = set()
    taken: set[int] = set()
    for _, t, n in sorted(pairs):
        if t in linked or n in taken:
            # Another claim on a region already given away: two things meet or part here.
            if t in linked and n not in taken:
                tracks[t].contacts += 1
            continue
        linked.add(t)
        taken.add(n)
        tracks[t].indices.append(index)
        tracks[t].regions.append(regions[n])
    return taken
