"""What a place is made of: surfaces and props to see, and the walks, lanes, spots and targets that actors use."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

import numpy as np

from pipeline.sample.canvas import Canvas
from pipeline.sample.definitions import load
from pipeline.sample.effects import Panel, Point
from pipeline.sample.geometry import Camera, Colour, Floats, Place, between, clamp01, shade


class SceneKind(StrEnum):
    """The kinds of places."""

    STREET = "street"
    PARKING = "parking"
    ARCADE = "arcade"
    ALLEY = "alley"
    PLAZA = "plaza"
    SHOP = "shop"
    PLATFORM = "platform"
    FORECOURT = "forecourt"


@dataclass(frozen=True, slots=True)
class Surface:
    """A flat polygon of the background; `lit` ones shine at night."""

    points: Floats
    colour: Colour
    lit: bool = False


@dataclass(frozen=True, slots=True)
class Box:
    """A box along the axes of the world."""

    x: tuple[float, float]
    y: tuple[float, float]
    z: tuple[float, float]
    colour: Colour

    def faces(self, eye: Point) -> Iterator[Surface]:
        """Yield the faces that look towards the eye: sides, then front, then top."""
        (x0, x1), (y0, y1), (z0, z1) = self.x, self.y, self.z
        if not x0 <= eye[0] <= x1:
            x = x0 if eye[0] < x0 else x1
            yield Surface(np.array([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)]), shade(self.colour, 0.72))
        yield Surface(np.array([(x0, y0, z0), (x0, y1, z0), (x1, y1, z0), (x1, y0, z0)]), shade(self.colour, 0.9))
        if eye[1] > y1:
            yield Surface(np.array([(x0, y1, z0), (x0, y1, z1), (x1, y1, z1), (x1, y1, z0)]), shade(self.colour, 1.12))


@dataclass(frozen=True, slots=True)
class Prop:
    """Furniture that actors pass in front of or behind; boxes are drawn in order."""

    at: Place
    boxes: tuple[Box, ...]
    radius_m: float

    def place(self, time_s: float) -> Place:  # noqa: ARG002 - asked like every other element
        """Return where the prop stands."""
        return self.at

    def draw(self, canvas: Canvas, time_s: float) -> None:  # noqa: ARG002
        """Draw the boxes."""
        for box in self.boxes:
            for face in box.faces(canvas.camera.eye):
                canvas.polygon(face.points, face.colour)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A straight lane that vehicles drive from start to end."""

    start: Place
    end: Place
    speed_m_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Something to vandalise: the panel that is hit or painted, where the vandal stands, and its name in words."""

    panel: Panel
    stand: Place
    noun: str
    paintable: bool = False
    car: Place | None = None


@dataclass(slots=True, kw_only=True)
class Layout:
    """A place. Actors outside `room` = (x0, x1, z0, z1) are hidden by its walls."""

    kind: SceneKind
    cameras: list[Camera]
    indoor: bool = False
    surfaces: list[Surface] = field(default_factory=list)
    props: list[Prop] = field(default_factory=list)
    walks: Sequence[tuple[Place, ...]] = ()
    lanes: list[Lane] = field(default_factory=list)
    parked: list[tuple[Place, float]] = field(default_factory=list)
    free_slots: list[tuple[Place, float]] = field(default_factory=list)
    spots: Sequence[Place] = ()
    exits: Sequence[Place] = ()
    targets: list[Target] = field(default_factory=list)
    fuels: list[tuple[Place, str]] = field(default_factory=list)
    lamps: Sequence[Place] = ()
    browse: list[tuple[Place, Place]] = field(default_factory=list)
    clerk: tuple[Place, Place] | None = None
    room: tuple[float, float, float, float] | None = None

    def ground(self, x: tuple[float, float], z: tuple[float, float], colour: Colour) -> None:
        """Lay a rectangle on the ground."""
        (x0, x1), (z0, z1) = x, z
        self.surfaces.append(Surface(np.array([(x0, 0, z0), (x0, 0, z1), (x1, 0, z1), (x1, 0, z0)], float), colour))

    def wall(
        self, z: float, x: tuple[float, float], y: tuple[float, float], colour: Colour, *, lit: bool = False
    ) -> None:
        """Put up a rectangle that faces the camera at a depth z."""
        (x0, x1), (y0, y1) = x, y
        corners = np.array([(x0, y0, z), (x0, y1, z), (x1, y1, z), (x1, y0, z)], float)
        self.surfaces.append(Surface(corners, colour, lit))

    def flank(
        self, x: float, z: tuple[float, float], y: tuple[float, float], colour: Colour, *, lit: bool = False
    ) -> None:
        """Put up a rectangle that runs away from the camera at one x."""
        (z0, z1), (y0, y1) = z, y
        corners = np.array([(x, y0, z0), (x, y1, z0), (x, y1, z1), (x, y0, z1)], float)
        self.surfaces.append(Surface(corners, colour, lit))

    def prop(self, at: Place, size: Point, colour: Colour, *more: Box) -> None:
        """Stand a box of size (width, height, depth) on the ground, with further boxes on it."""
        w, h, d = size
        box = Box((at[0] - w / 2, at[0] + w / 2), (0.0, h), (at[1] - d / 2, at[1] + d / 2), colour)
        self.props.append(Prop(at, (box, *more), max(w, d) / 2 + 0.25))

    def clear(self, a: Place, b: Place) -> bool:
        """Tell whether the straight way from `a` to `b` keeps off all props and parked cars."""
        if any(_distance(prop.at, a, b) < prop.radius_m for prop in self.props):
            return False
        return not any(_distance(place, a, b) < 1.6 for place, _ in self.parked)


def _distance(point: Place, a: Place, b: Place) -> float:
    along = (b[0] - a[0], b[1] - a[1])
    square = along[0] ** 2 + along[1] ** 2
    u = 0.0 if square == 0 else ((point[0] - a[0]) * along[0] + (point[1] - a[1]) * along[1]) / square
    return math.dist(point, between(a, b, clamp01(u)))


def jitter(rng: Random, colour: Colour, amount: int = 10) -> Colour:
    """Return a colour changed a little, in brightness and tint."""
    shift = rng.randint(-amount, amount)
    r, g, b = (min(255, max(0, c + shift + rng.randint(-amount // 3, amount // 3))) for c in colour)
    return r, g, b


@dataclass(frozen=True, slots=True, kw_only=True)
class _Fixed:
    """What all places of a kind share: the ranges that their cameras are drawn from, and places on the ground."""

    aside_m: tuple[float, float]
    height_m: tuple[float, float]
    target: Point
    focal_px: tuple[float, float]
    walks: tuple[tuple[Place, ...], ...] = ()
    exits: tuple[Place, ...] = ()
    spots: tuple[Place, ...] = ()
    lamps: tuple[Place, ...] = ()


_FIXED = load("places", dict[SceneKind, _Fixed])


def under_cameras(kind: SceneKind, rng: Random, *, indoor: bool = False) -> Layout:
    """Return a bare place under two cameras, left and right of the middle, at heights and zooms of their own."""
    fixed = _FIXED[kind]
    cameras = []
    for side in rng.sample((-1, 1), 2):
        eye = (side * rng.uniform(*fixed.aside_m), rng.uniform(*fixed.height_m), rng.uniform(-0.3, 0.3))
        aim = (fixed.target[0] + rng.uniform(-0.4, 0.4), fixed.target[1], fixed.target[2] + rng.uniform(-0.4, 0.4))
        cameras.append(Camera(eye=eye, target=aim, focal_px=rng.uniform(*fixed.focal_px)))
    return Layout(
        kind=kind, cameras=cameras, indoor=indoor, walks=fixed.walks, exits=fixed.exits, spots=fixed.spots,
        lamps=fixed.lamps,
    )  # fmt: skip
