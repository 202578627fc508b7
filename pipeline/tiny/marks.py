"""What can be seen where in a frame of the sample world, as targets for a vision tower.

The scenes are staged, so what is where is known to the pixel. A tower that is trained to say it for every patch learns
in minutes what captions alone would not teach it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from pipeline.sample.effects import Blast, Cracks, Fire, Paint, Smoke
from pipeline.sample.geometry import HEIGHT, SUPERSAMPLE, WIDTH, Camera, Floats, placed
from pipeline.sample.people import CLOTHES, Item, Person
from pipeline.sample.pose import Action
from pipeline.sample.shot import Element, Shot
from pipeline.sample.vehicles import PAINTS, Vehicle

GRID = 10
"""Cells along either side of a frame."""

_ACTIONS: dict[str, tuple[Action, ...]] = {
    "ordinary": (
        Action.WALK,
        Action.LIMP,
        Action.STAND,
        Action.CHAT,
        Action.PHONE,
        Action.REACH,
        Action.ARGUE,
        Action.STUMBLE,
        Action.HAND_OVER,
    ),
    "running": (Action.RUN, Action.JOG),
    "fighting": (Action.GUARD, Action.PUNCH, Action.KICK, Action.RECOIL),
    "down": (Action.FALL_BACK, Action.THROWN, Action.LIE, Action.GET_UP),
    "aiming": (Action.AIM,),
    "hands up": (Action.HANDS_UP,),
    "grabbing": (Action.GRAB,),
    "striking": (Action.STRIKE,),
    "spraying": (Action.SPRAY,),
    "pouring": (Action.POUR, Action.TOSS),
}
_GROUP_OF = {action: group for group, actions in _ACTIONS.items() for action in actions}
_PERSON = (
    "person",
    "woman",
    "hooded",
    *_ACTIONS,
    *(f"wears {colour}" for colour in CLOTHES),
    *(f"has {i}" for i in Item),
)
_VEHICLE = ("vehicle", "wreck", *(f"paint {colour}" for colour in PAINTS))
_EFFECTS: dict[type, str] = {Fire: "fire", Blast: "fire", Smoke: "smoke", Cracks: "cracks", Paint: "paint"}
MARKS = (*_PERSON, *_VEHICLE, *dict.fromkeys(_EFFECTS.values()))
"""What a cell can hold, in the order of the targets."""

_INDEX = {name: index for index, name in enumerate(MARKS)}
_COVERED = 0.2


def mark_frame(shot: Shot, time_s: float) -> NDArray[np.bool_]:
    """Return which marks each cell of a frame holds, shape (GRID, GRID, len(MARKS)); things behind others included."""
    marks = np.zeros((GRID, GRID, len(MARKS)), np.bool_)
    elements: list[Element] = [*shot.people, *shot.vehicles, *shot.effects]
    for element in elements:
        if element.place(time_s) is None:
            continue
        named = _names(element, time_s)
        cells = _cells(_box(element, shot.camera, time_s)) if named else None
        if cells is not None:
            for name in named:
                marks[cells, _INDEX[name]] = True
    return marks


def held_marks(packed: NDArray[np.uint8]) -> set[str]:
    """Return the marks that any cell of any frame holds, of packed bits of shape (..., ceil(len(MARKS) / 8))."""
    held = np.unpackbits(packed, axis=-1).reshape(-1, packed.shape[-1] * 8).max(axis=0)
    return {name for name, is_there in zip(MARKS, held, strict=False) if is_there}


def _names(element: Element, time_s: float) -> list[str]:
    if isinstance(element, Person):
        action = element.track.action(time_s)
        names = ["person", f"wears {element.look.colour}"]
        names += ["woman"] * element.look.woman + ["hooded"] * element.look.hooded
        names += [] if action is None else [_GROUP_OF[action]]
        return names + [f"has {item}" for item, _, start_s, end_s in element.carries if start_s <= time_s < end_s]
    if isinstance(element, Vehicle):
        wrecked = time_s >= min(element.crash_s, element.burnt_s[0], element.shaken_s[0])
        return ["vehicle", f"paint {element.colour}"] + ["wreck"] * wrecked
    return [_EFFECTS[type(element)]] if type(element) in _EFFECTS else []


def _box(element: Element, camera: Camera, time_s: float) -> tuple[float, float, float, float] | None:
    """Return left, top, right and bottom of an element as fractions of the picture, None where it is out of view."""
    place = element.place(time_s)
    if place is None:
        return None
    if isinstance(element, Person):
        points = _person_points(element, place, time_s)
    elif isinstance(element, Vehicle):
        points = _vehicle_points(element, time_s)
    elif isinstance(element, Cracks | Paint):
        points = np.array([element.panel.at(a, b) for a in (-1.0, 1.0) for b in (-1.0, 1.0)])
    else:
        size = float(getattr(element, "size_m", 1.5))
        low = float(element.origin[1]) if isinstance(element, Fire | Blast | Smoke) else 0.0
        points = np.array([(place[0] + a * size / 2, low + b * size, place[1]) for a in (-1, 1) for b in (-0.2, 1.0)])
    pixels, depths = camera.project(points)
    if depths.min() < 0.5:
        return None
    scaled = pixels / (np.array([WIDTH, HEIGHT]) * SUPERSAMPLE)
    (left, top), (right, bottom) = scaled.min(axis=0), scaled.max(axis=0)
    return float(left), float(top), float(right), float(bottom)


def _person_points(person: Person, place: tuple[float, float], time_s: float) -> Floats:
    lies = person.track.action(time_s) in (Action.LIE, Action.THROWN)
    high, wide = (0.5, 0.9) if lies else (person.look.height_m, 0.3)
    return np.array([(place[0] + a * wide, b, place[1]) for a in (-1, 1) for b in (0.0, high)])


def _vehicle_points(vehicle: Vehicle, time_s: float) -> Floats:
    position = vehicle.track.position(time_s)
    assert position is not None  # noqa: S101 - it has a place
    long, wide = vehicle.body.length_m / 2, vehicle.body.width_m / 2
    corners = np.array([(a * long, b * wide, h) for a in (-1, 1) for b in (-1, 1) for h in (0.0, 1.5)])
    return placed(corners, *position)


def _cells(box: tuple[float, float, float, float] | None) -> NDArray[np.bool_] | None:
    """Return the cells that a box covers to a fifth, of the cell or of itself; None where there are none."""
    if box is None:
        return None
    left, top, right, bottom = box
    edges = np.arange(GRID + 1) / GRID
    across = np.clip(np.minimum(right, edges[1:]) - np.maximum(left, edges[:-1]), 0, None)
    down = np.clip(np.minimum(bottom, edges[1:]) - np.maximum(top, edges[:-1]), 0, None)
    shared = down[:, None] * across[None, :]
    least = _COVERED * min(1 / GRID**2, (right - left) * (bottom - top))
    covered: NDArray[np.bool_] = (shared > 0) & (shared >= least)
    return covered if covered.any() else None
