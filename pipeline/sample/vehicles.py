"""Vehicles: side profiles extruded to bodies, with wheels, glass and lamps."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cache
from random import Random
from typing import Literal

import numpy as np

from pipeline.sample.canvas import Canvas
from pipeline.sample.definitions import COLOURS, load
from pipeline.sample.geometry import Colour, Floats, Place, clamp01, placed, shade, shifted, smooth
from pipeline.sample.tracks import DriveTrack

PAINTS = COLOURS["paints"]
_Part = Literal["sill", "window", "tyre", "hub"]
"""What a polygon on a vehicle's side is."""

_GLASS: Colour = (58, 72, 84)
_TYRE: Colour = (26, 26, 28)
_HUB: Colour = (134, 136, 140)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A kind of vehicle. Profiles are (fraction of the length, height in metres), from rear to front over the roof."""

    noun: str
    length_m: float
    width_m: float
    profile: tuple[tuple[float, float], ...]
    glass: tuple[int, ...]
    windows: tuple[tuple[tuple[float, float], ...], ...] = ()
    wheels: tuple[float, ...] = (-0.31, 0.31)
    wheel_m: float = 0.33
    waist_m: float = 0.96


def _row(first: float, last: float, count: int, low: float, high: float) -> tuple[tuple[tuple[float, float], ...], ...]:
    step = (last - first) / count
    return tuple(
        ((x, low), (x, high), (x + step * 0.86, high), (x + step * 0.86, low))
        for x in (first + step * i for i in range(count))
    )


_BODIES = load("vehicles", dict[str, Body])
SEDAN, HATCHBACK, VAN = (_BODIES[name] for name in ("sedan", "hatchback", "van"))
BUS = replace(_BODIES["bus"], windows=_row(-0.47, 0.46, 7, 1.25, 2.3))
TRAIN = replace(_BODIES["train"], windows=_row(-0.48, 0.48, 22, 1.3, 2.3))


@dataclass(slots=True)
class Vehicle:
    """A vehicle on its drive.

    From `crash_s` its front (or rear) is crumpled; between the two times of `shaken_s` it rocks, between those of
    `burnt_s` it turns black, between those of `blinks_s` all its lamps blink.
    """

    body: Body
    colour: str
    track: DriveTrack
    crash_s: float = math.inf
    crumple_front: float = 0.0
    crumple_rear: float = 0.0
    shaken_s: tuple[float, float] = (math.inf, math.inf)
    burnt_s: tuple[float, float] = (math.inf, math.inf)
    blinks_s: tuple[float, float] = (math.inf, math.inf)
    lamps: bool = True
    radius_m: float = field(init=False)
    reach_m: float = field(init=False)

    def __post_init__(self) -> None:
        self.radius_m = self.body.width_m / 2 + 0.35
        self.reach_m = self.body.length_m / 2 + (4.8 if self.lamps else 1.0)

    @property
    def words(self) -> str:
        """The vehicle in words, without an article: 'red car'."""
        return f"{self.colour} {self.body.noun}"

    def place(self, time_s: float) -> Place | None:
        """Return where the middle of the vehicle is, or None where it is absent."""
        return self.track.place(time_s)

    def circles(self) -> tuple[float, ...]:
        """Return how far ahead of the middle the centres of the circles lie that stand for its outline."""
        reach = max(0.0, self.body.length_m / 2 - self.body.width_m / 2)
        return tuple(np.linspace(-reach, reach, max(3, round(self.body.length_m / 1.6))))

    def draw_shadow(self, canvas: Canvas, time_s: float) -> None:
        """Darken the ground under the vehicle."""
        position = self.track.position(time_s)
        if position is None:
            return
        place, heading = position
        length, width = self.body.length_m / 2 + 0.15, self.body.width_m / 2 + 0.2
        corners = [(-length, -width, 0.0), (-length, width, 0.0), (length, width, 0.0), (length, -width, 0.0)]
        canvas.darken(placed(np.array(corners), place, heading), 0.5)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw the faces that look towards the camera, then wheels, windows and lamps on them."""
        position = self.track.position(time_s)
        if position is None:
            return
        place, heading = position
        if self.shaken_s[0] <= time_s < self.shaken_s[1]:
            heading += 0.02 * math.sin(38 * time_s)
        colour = PAINTS[self.colour]
        if time_s > self.burnt_s[0]:
            colour = shade(colour, 1 - 0.75 * smooth((time_s - self.burnt_s[0]) / (self.burnt_s[1] - self.burnt_s[0])))
        crumpled = clamp01((time_s - self.crash_s) / 0.12)
        frame = _Frame(canvas, self, (place, heading), colour=colour, crumpled=crumpled)
        if frame.visible:
            frame.draw()
            if self.blinks_s[0] <= time_s < self.blinks_s[1] and math.sin(16 * time_s) > 0:
                frame.blink()
        if self.lamps and canvas.night and time_s < self.crash_s:
            ahead = shifted(place, heading, self.body.length_m / 2 + 2.2)
            canvas.light(np.array([ahead[0], 0.1, ahead[1]]), 2.6, (200, 190, 150))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Shape:
    """The points of a body as rows (fraction of the length, height, side, metres out of it), and what they are."""

    points: Floats
    right: slice
    left: slice
    parts: tuple[tuple[int, _Part, slice], ...]
    lamps: tuple[tuple[float, slice], ...]


@cache
def _shape(body: Body) -> _Shape:
    rows: list[tuple[float, float, float, float]] = []

    def add(points: Iterable[tuple[float, float]], side: float, out_m: float = 0.0) -> slice:
        first = len(rows)
        rows.extend((x, y, side, out_m) for x, y in points)
        return slice(first, len(rows))

    right, left = add(body.profile, -1), add(body.profile, 1)
    turn = [math.tau * k / 14 for k in range(14)]
    parts: list[tuple[int, _Part, slice]] = []
    for side in (-1, 1):
        parts.append((side, "sill", add(((-0.5, 0.3), (-0.5, 0.45), (0.5, 0.45), (0.5, 0.3)), side, 0.01)))
        parts += [(side, "window", add(window, side, 0.01)) for window in body.windows]
        for x in body.wheels:
            sizes: dict[_Part, float] = {"tyre": body.wheel_m, "hub": body.wheel_m * 0.55}
            for part, size in sizes.items():
                rim = [(x + size * math.cos(a) / body.length_m, body.wheel_m + size * math.sin(a)) for a in turn]
                parts.append((side, part, add(rim, side, 0.01)))
    lamps = []
    for end in (0.5, -0.5):
        first = len(rows)
        add(((end, 0.68),), -0.72)
        add(((end, 0.68),), 0.72)
        lamps.append((end, slice(first, len(rows))))
    return _Shape(points=np.array(rows), right=right, left=left, parts=tuple(parts), lamps=tuple(lamps))


class _Frame:
    """One vehicle at one moment: all its points projected at once, and the drawing of its parts."""

    def __init__(
        self, canvas: Canvas, vehicle: Vehicle, stand: tuple[Place, float], *, colour: Colour, crumpled: float
    ) -> None:
        self.canvas = canvas
        self.body, self.shape = vehicle.body, _shape(vehicle.body)
        self.colour = colour
        self.shines = vehicle.lamps and canvas.night > 0
        self.place, self.heading = stand
        self.world = self._placed(crumpled * vehicle.crumple_front, crumpled * vehicle.crumple_rear)
        self.pixels, self.depths = canvas.camera.project(self.world)
        self.right, self.left = self.pixels[self.shape.right], self.pixels[self.shape.left]
        self.visible = bool(self.depths.min() > 1.0)

    def _placed(self, front: float, rear: float) -> Floats:
        """Return the points of the shape in the world, shape (n, 3), with front and rear crumpled that much."""
        along, high, side, out = self.shape.points.T
        ahead = along * self.body.length_m
        if front or rear:
            bump = 0.12 + 0.10 * np.sin(9 * ahead)
            for amount, sign in ((front, 1.0), (rear, -1.0)):
                zone = np.clip(sign * along - 0.22, 0, 1) / 0.28
                ahead = ahead - sign * amount * 0.62 * zone
                high = high + amount * zone * bump * (high > 0.5)
        roof = np.clip((high - self.body.waist_m) / 0.5, 0, 1)
        aside = side * (self.body.width_m / 2 * (1 - 0.2 * roof) + out)
        return placed(np.stack([ahead, aside, high], axis=1), self.place, self.heading)

    def draw(self) -> None:
        """Draw the faces across, the sides, and the lamps, as far as they look towards the camera."""
        profile = self.body.profile
        for i in range(len(profile) - 1):
            quad = self._across(i)
            if _area(quad) >= 0:
                continue
            rise = abs(profile[i + 1][1] - profile[i][1])
            run = abs(profile[i + 1][0] - profile[i][0]) * self.body.length_m
            light = 0.74 + 0.36 * run / max(0.01, math.hypot(rise, run))
            self.canvas.polygon_px(quad, shade(self.colour, light))
            if i in self.body.glass:
                middle = quad.mean(axis=0)
                self.canvas.polygon_px(middle + (quad - middle) * 0.86, (96, 116, 130))
        for side, outline in ((1, self.left), (-1, self.right)):
            if side * _area(outline) > 0:
                self._side(side, outline)
        self._lamps()

    def blink(self) -> None:
        """Flash the lamps of both ends."""
        for _, points in self.shape.lamps:
            for lamp in self.world[points]:
                self.canvas.flame(lamp, 0.5, (255, 170, 40), 0.9)
                self.canvas.light(lamp, 1.2, (120, 80, 20))

    def _across(self, i: int) -> Floats:
        return np.array([self.right[i], self.left[i], self.left[i + 1], self.right[i + 1]])

    def _side(self, side: int, outline: Floats) -> None:
        lit_cabin = self.shines and self.body.length_m > 8
        colours: dict[_Part, Colour] = {
            "sill": shade(self.colour, 0.5), "window": (226, 216, 170) if lit_cabin else _GLASS,
            "tyre": _TYRE, "hub": _HUB,
        }  # fmt: skip
        self.canvas.polygon_px(outline, shade(self.colour, 0.88))
        for where, part, points in self.shape.parts:
            if where == side:
                self.canvas.polygon_px(self.pixels[points], colours[part])

    def _lamps(self) -> None:
        for end, points in self.shape.lamps:
            front = end > 0
            if _area(self._across(len(self.body.profile) - 2 if front else 0)) >= 0:
                continue
            colour = (255, 246, 214) if front else (214, 30, 30)
            for lamp, pixel, depth in zip(self.world[points], self.pixels[points], self.depths[points], strict=True):
                self.canvas.disc_px(pixel, self.canvas.camera.scale(float(depth)) * 0.1, colour)
                if self.shines:
                    self.canvas.flame(lamp, 0.42 if front else 0.25, colour, 0.95 if front else 0.7)


def _area(points: Floats) -> float:
    """Return twice the signed area of a polygon of pixels: above 0 where it runs counter-clockwise on the screen."""
    outline: list[list[float]] = points.tolist()
    total = 0.0
    x0, y0 = outline[-1]
    for x1, y1 in outline:
        total += x1 * y0 - x0 * y1
        x0, y0 = x1, y1
    return total


def random_vehicle(rng: Random, track: DriveTrack, *, avoid: tuple[str, ...] = (), big: bool = False) -> Vehicle:
    """Draw a car or van (with `big`, a bus) in a colour that is not in `avoid`."""
    body = BUS if big else rng.choices((SEDAN, HATCHBACK, VAN), (5, 4, 2))[0]
    return Vehicle(body, rng.choice([name for name in PAINTS if name not in avoid]), track)
