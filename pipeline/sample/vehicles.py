"""Vehicles: side profiles extruded to bodies, with wheels, glass and lamps."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random

import numpy as np

from pipeline.sample.canvas import Canvas
from pipeline.sample.geometry import Colour, Floats, Place, clamp01, shade, shifted
from pipeline.sample.tracks import DriveTrack

PAINTS: dict[str, Colour] = {
    "red": (190, 30, 34), "blue": (36, 72, 176), "white": (232, 232, 230), "black": (40, 40, 46), "silver": (168, 172, 178),
    "green": (36, 112, 66), "yellow": (234, 194, 40), "orange": (226, 112, 34),
}  # fmt: skip
_GLASS: Colour = (58, 72, 84)
_TYRE: Colour = (26, 26, 28)


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """A kind of vehicle. Profiles are (fraction of the length, height in metres), from the rear bumper over the roof."""

    noun: str
    length_m: float
    width_m: float
    profile: tuple[tuple[float, float], ...]
    glass: tuple[int, ...]
    windows: tuple[tuple[tuple[float, float], ...], ...]
    wheels: tuple[float, ...] = (-0.31, 0.31)
    wheel_m: float = 0.33
    waist_m: float = 0.96


def _row(first: float, last: float, count: int, low: float, high: float) -> tuple[tuple[tuple[float, float], ...], ...]:
    step = (last - first) / count
    return tuple(
        ((x, low), (x, high), (x + step * 0.86, high), (x + step * 0.86, low)) for x in (first + step * i for i in range(count))
    )


SEDAN = Body(
    noun="car", length_m=4.4, width_m=1.78, glass=(3, 5),
    profile=((-0.5, 0.3), (-0.5, 0.8), (-0.46, 0.94), (-0.3, 0.96), (-0.17, 1.42), (0.11, 1.42), (0.26, 0.95), (0.46, 0.84), (0.5, 0.62), (0.5, 0.3)),
    windows=(((-0.26, 0.98), (-0.165, 1.36), (-0.04, 1.36), (-0.04, 0.98)), ((-0.02, 0.98), (-0.02, 1.36), (0.1, 1.36), (0.22, 0.98))),
)  # fmt: skip
HATCHBACK = Body(
    noun="car", length_m=3.9, width_m=1.72, glass=(3, 5),
    profile=((-0.5, 0.3), (-0.5, 0.8), (-0.49, 0.95), (-0.46, 1.0), (-0.36, 1.48), (0.1, 1.48), (0.27, 0.98), (0.46, 0.86), (0.5, 0.62), (0.5, 0.3)),
    windows=(((-0.42, 1.0), (-0.34, 1.41), (-0.1, 1.41), (-0.1, 1.0)), ((-0.07, 1.0), (-0.07, 1.41), (0.09, 1.41), (0.23, 1.0))),
)  # fmt: skip
VAN = Body(
    noun="van", length_m=5.2, width_m=1.95, glass=(4,), waist_m=1.2,
    profile=((-0.5, 0.35), (-0.5, 1.2), (-0.5, 2.2), (-0.48, 2.25), (0.22, 2.25), (0.37, 1.25), (0.48, 1.0), (0.5, 0.7), (0.5, 0.35)),
    windows=(((0.06, 1.25), (0.06, 2.0), (0.2, 2.0), (0.32, 1.25)),),
)  # fmt: skip
BUS = Body(
    noun="bus", length_m=9.5, width_m=2.4, glass=(4,), waist_m=3.0, wheels=(-0.3, 0.33), wheel_m=0.46,
    profile=((-0.5, 0.35), (-0.5, 2.7), (-0.49, 2.85), (0.48, 2.85), (0.49, 2.6), (0.5, 1.1), (0.5, 0.35)),
    windows=_row(-0.47, 0.46, 7, 1.25, 2.3),
)  # fmt: skip
TRAIN = Body(
    noun="train", length_m=34.0, width_m=2.7, glass=(4,), waist_m=3.6, wheels=(), wheel_m=0.4,
    profile=((-0.5, 0.1), (-0.5, 3.0), (-0.49, 3.2), (0.48, 3.2), (0.49, 2.8), (0.5, 1.4), (0.5, 0.1)),
    windows=_row(-0.48, 0.48, 22, 1.3, 2.3),
)  # fmt: skip


@dataclass(slots=True)
class Vehicle:
    """A vehicle on its drive. From `crash_s` its front (or rear) is crumpled; between `shaken_s` it rocks."""

    body: Body
    colour: str
    track: DriveTrack
    crash_s: float = math.inf
    crumple_front: float = 0.0
    crumple_rear: float = 0.0
    shaken_s: tuple[float, float] = (math.inf, math.inf)
    lamps: bool = True
    radius_m: float = field(init=False)

    def __post_init__(self) -> None:
        self.radius_m = self.body.width_m / 2 + 0.35

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
        corners = [shifted(place, heading, a, b) for a, b in ((-length, -width), (-length, width), (length, width), (length, -width))]
        canvas.darken(np.array([(x, 0.0, z) for x, z in corners]), 0.5)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw the faces that look towards the camera, then wheels, windows and lamps on them."""
        position = self.track.position(time_s)
        if position is None:
            return
        place, heading = position
        if self.shaken_s[0] <= time_s < self.shaken_s[1]:
            heading += 0.012 * math.sin(38 * time_s)
        frame = _Frame(canvas, self, place, heading, clamp01((time_s - self.crash_s) / 0.12))
        if frame.visible:
            frame.draw()
        if self.lamps and canvas.night and time_s < self.crash_s:
            ahead = shifted(place, heading, self.body.length_m / 2 + 2.2)
            canvas.light(np.array([ahead[0], 0.1, ahead[1]]), 2.6, (200, 190, 150))


class _Frame:
    """One vehicle at one moment: its outline projected once, and the drawing of its parts."""

    def __init__(self, canvas: Canvas, vehicle: Vehicle, place: Place, heading: float, crumpled: float) -> None:
        self.canvas = canvas
        self.body = vehicle.body
        self.colour = PAINTS[vehicle.colour]
        self.lamps = vehicle.lamps and canvas.night > 0
        self.place, self.heading = place, heading
        self.front = crumpled * vehicle.crumple_front
        self.rear = crumpled * vehicle.crumple_rear
        count = len(self.body.profile)
        world = np.concatenate([self.at(self.body.profile, -1), self.at(self.body.profile, 1)])
        pixels, depths = canvas.camera.project(world)
        self.right, self.left = pixels[:count], pixels[count:]
        self.visible = bool(depths.min() > 1.0) and bool((np.abs(pixels) < 4000).all())

    def at(self, points: tuple[tuple[float, float], ...], side: float, out_m: float = 0.0) -> Floats:
        """Return points of the side profile on the left (1) or right (-1) side in the world, shape (n, 3)."""
        profile = np.array(points)
        ahead, high = profile[:, 0] * self.body.length_m, profile[:, 1].copy()
        bump = 0.10 * np.sin(9 * ahead)
        for amount, sign in ((self.front, 1.0), (self.rear, -1.0)):
            zone = np.clip(sign * profile[:, 0] - 0.22, 0, 1) / 0.28
            ahead = ahead - sign * amount * 0.62 * zone
            high = high + amount * zone * (0.12 + bump) * (high > 0.5)
        roof = np.clip((high - self.body.waist_m) / 0.5, 0, 1)
        aside = side * (self.body.width_m / 2 * (1 - 0.2 * roof) + out_m)
        cos, sin = math.cos(self.heading), math.sin(self.heading)
        return np.stack([self.place[0] + ahead * cos - aside * sin, high, self.place[1] + ahead * sin + aside * cos], axis=1)

    def draw(self) -> None:
        """Draw the vehicle."""
        canvas = self.canvas
        for i in range(len(self.body.profile) - 1):
            quad = np.array([self.right[i], self.left[i], self.left[i + 1], self.right[i + 1]])
            if _area(quad) >= 0:
                continue
            rise = abs(self.body.profile[i + 1][1] - self.body.profile[i][1])
            run = abs(self.body.profile[i + 1][0] - self.body.profile[i][0]) * self.body.length_m
            glass = i in self.body.glass
            light = 0.74 + 0.36 * run / max(0.01, math.hypot(rise, run))
            canvas.polygon_px(quad, shade(self.colour, light))
            if glass:
                middle = quad.mean(axis=0)
                canvas.polygon_px(middle + (quad - middle) * 0.86, (96, 116, 130))
        for side, outline in ((1, self.left), (-1, self.right)):
            if side * _area(outline) > 0:
                self._side(side, outline)
        self._lamps()

    def _side(self, side: int, outline: Floats) -> None:
        canvas, body = self.canvas, self.body
        canvas.polygon_px(outline, shade(self.colour, 0.88))
        sill = tuple((x, 0.3 if y < 0.5 else 0.45) for x, y in (body.profile[0], (body.profile[0][0], 0.6), (0.5, 0.6), (0.5, 0.3)))
        self._flat(sill, side, shade(self.colour, 0.5))
        for window in body.windows:
            self._flat(window, side, _GLASS if not self.lamps or body.length_m < 8 else (226, 216, 170))
        turn = np.linspace(0, math.tau, 14, endpoint=False)
        for x in body.wheels:
            for size, colour in ((1.0, _TYRE), (0.55, (134, 136, 140))):
                rim = [(x + body.wheel_m * size * math.cos(a) / body.length_m, body.wheel_m * (1 + size * math.sin(a))) for a in turn]
                self._flat(tuple(rim), side, colour)

    def _flat(self, points: tuple[tuple[float, float], ...], side: int, colour: Colour) -> None:
        pixels, _ = self.canvas.camera.project(self.at(points, side, 0.01))
        self.canvas.polygon_px(pixels, colour)

    def _lamps(self) -> None:
        height, body = 0.68, self.body
        for end, colour in ((0.5, (255, 246, 214)), (-0.5, (214, 30, 30))):
            i = len(body.profile) - 2 if end > 0 else 0
            if _area(np.array([self.right[i], self.left[i], self.left[i + 1], self.right[i + 1]])) >= 0:
                continue
            for side in (-0.72, 0.72):
                lamp = self.at(((end, height),), side * 1.0)[0]
                pixel, depth = self.canvas.camera.project(lamp[None])
                size = self.canvas.camera.scale(float(depth[0])) * 0.1
                self.canvas.disc_px(pixel[0], size, colour)
                if self.lamps:
                    self.canvas.flame(lamp, 0.42 if end > 0 else 0.25, colour, 0.95 if end > 0 else 0.7)
        if body.length_m > 30 and self.lamps:
            self.canvas.light(np.array([self.place[0], 1.5, self.place[1]]), 5.0, (120, 116, 96))


def _area(points: Floats) -> float:
    """Return the signed area of a polygon of pixels: above 0 where its outline runs counter-clockwise on the screen."""
    x, y = points[:, 0], points[:, 1]
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) * -0.5


def random_vehicle(rng: Random, track: DriveTrack, *, avoid: tuple[str, ...] = (), big: bool = False) -> Vehicle:
    """Draw a car or van (with `big`, a bus) in a colour that is not in `avoid`."""
    body = BUS if big else rng.choices((SEDAN, HATCHBACK, VAN), (5, 4, 2))[0]
    return Vehicle(body, rng.choice([name for name in PAINTS if name not in avoid]), track)
