"""One video's stage: place, camera, everything in it, and who is where when, so that nobody walks through others."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from random import Random
from typing import Protocol

import numpy as np

from pipeline.sample.canvas import Canvas
from pipeline.sample.effects import Stain
from pipeline.sample.geometry import SUPERSAMPLE, WIDTH, Camera, Floats, Place, shifted
from pipeline.sample.layout import Layout
from pipeline.sample.people import Look, Person, random_look
from pipeline.sample.pose import Action
from pipeline.sample.tracks import DriveTrack, PersonTrack
from pipeline.sample.vehicles import Vehicle, random_vehicle
from pipeline.sample.words import sentence

_CHECK_S = 0.2


class Element(Protocol):
    """Something to draw at a place that says how near it is."""

    def place(self, time_s: float) -> Place | None:
        """Return where it is on the ground, or None where there is nothing to draw."""
        ...

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An abnormal event: its class, its span in seconds, and what a person would say of it."""

    category: str
    start_s: float
    end_s: float
    sentence: str


@dataclass(slots=True)
class Shot:
    """The stage of one video. `night` is 0 by day or under a roof, 1 in darkness."""

    layout: Layout
    camera: Camera
    duration_s: float
    night: float
    rng: Random
    people: list[Person] = field(default_factory=list)
    vehicles: list[Vehicle] = field(default_factory=list)
    effects: list[Element] = field(default_factory=list)
    stains: list[Stain] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    alarms: list[tuple[float, Place]] = field(default_factory=list)
    _trails: list[tuple[Floats, float]] = field(default_factory=list)
    _used_spots: list[Place] = field(default_factory=list)

    def __post_init__(self) -> None:
        for place, heading in self.layout.parked:
            vehicle = random_vehicle(self.rng, DriveTrack(-1.0, place, heading, stays=True))
            vehicle.lamps = False
            self.add(vehicle)

    def admit(self, *actors: Person | Vehicle) -> bool:
        """Put actors on the stage if each keeps clear of all others at all times; tell whether they do."""
        clear = all(self.fits(actor) for actor in actors)
        if clear:
            self.add(*actors)
        return clear

    def fits(self, actor: Person | Vehicle) -> bool:
        """Tell whether an actor keeps clear of all others at all times."""
        trail = self._trail(actor)
        return all(_nearest(trail, other) > actor.radius_m + radius for other, radius in self._trails)

    def add(self, *actors: Person | Vehicle) -> None:
        """Put actors on the stage."""
        for actor in actors:
            if isinstance(actor, Person):
                self.people.append(actor)
            else:
                self.vehicles.append(actor)
            self._trails.append((self._trail(actor), actor.radius_m))

    def reserve(self, place: Place, radius_m: float, start_s: float, end_s: float) -> None:
        """Keep everybody who comes later off a place for a time."""
        times = self._times()
        inside = (times >= start_s) & (times < end_s)
        trail = np.where(inside[:, None, None], np.array([[place]]), math.nan)
        self._trails.append((trail, radius_m))

    def told(self, category: str, span_s: tuple[float, float], kind: str, **phrases: str) -> Event:
        """Return an event in one of the wordings for its kind."""
        return Event(
            category=category, start_s=span_s[0], end_s=span_s[1], sentence=sentence(self.rng, kind, **phrases)
        )

    def spot(self) -> Place:
        """Return a free place in full view, away from those used by earlier events where there is one."""
        seen = [spot for spot in self.layout.spots if self.camera.sees(spot, 0.2)] or self.layout.spots
        fresh = [s for s in seen if all(math.dist(s, used) > 1.5 for used in self._used_spots)] or seen
        chosen = self.rng.choice(fresh)
        self._used_spots.append(chosen)
        return chosen

    def inward(self, place: Place) -> int:
        """Return the side on which the middle of the picture lies as seen from a place: 1 for right, -1 for left."""
        pixels, _ = self.camera.project(np.array([[place[0], 0.0, place[1]]]))
        off = float(pixels[0, 0]) / (WIDTH * SUPERSAMPLE) - 0.5
        return self.rng.choice((-1, 1)) if abs(off) < 0.06 else int(math.copysign(1, -off))

    def aside(self, place: Place, right_m: float) -> Place:
        """Return the place so many metres to the right of `place` on the screen."""
        right = self.camera.right
        return place[0] + right[0] * right_m, place[1] + right[1] * right_m

    def arriving(
        self, goal: Place, arrive_s: float, action: Action = Action.WALK, *, near: Place | None = None
    ) -> PersonTrack:
        """Return the track of one who comes from an exit (the one nearest to `near`) and reaches `goal` in time."""
        return PersonTrack.arriving((self.exit(goal, near), goal), arrive_s, action)

    def run_off(self, track: PersonTrack, *way: Place) -> float:
        """Let a person run along a way out, and return when it has left the picture; within 2.4 seconds at most."""
        from_s, room = track.now_s, self.layout.room
        for place in way:
            track.go(place, Action.RUN)
        for time_s in np.arange(from_s, from_s + 2.4, 0.08).tolist():
            at = track.place(time_s)
            if at is None or not self.camera.glimpses(at) or (room and at[1] > room[3]):
                return float(time_s)
        return from_s + 2.4

    def far_exit(self, place: Place) -> Place:
        """Return the exit farthest from a place."""
        return max(self.layout.exits, key=lambda way: math.dist(way, place))

    def exit(self, goal: Place, near: Place | None = None) -> Place:
        """Return an exit with a clear way to `goal`."""
        ways = [way for way in self.layout.exits if self.layout.clear(way, goal)] or self.layout.exits
        return self.rng.choice(ways) if near is None else min(ways, key=lambda way: math.dist(way, near))

    def look(self, *others: Look, hooded: bool = False) -> Look:
        """Draw the looks of a member of an event's cast, told from the others by colour; bright enough by night."""
        dim = ("black",) if self.night and not hooded else ()
        return random_look(self.rng, avoid=(*dim, *(other.colour for other in others)), hooded=hooded)

    def parked_at(self, place: Place) -> Vehicle:
        """Return the vehicle that is parked at a place."""
        return next(v for v in self.vehicles if v.track.at == place and v.track.stays)

    def _times(self) -> Floats:
        times: Floats = np.arange(0.0, self.duration_s, _CHECK_S, dtype=np.float64)
        return times

    def _trail(self, actor: Person | Vehicle) -> Floats:
        """Return the circles that cover an actor over time, shape (times, circles, 2), NaN where it is absent."""
        if isinstance(actor, Person):
            return np.array([[actor.place(float(t)) or (math.nan, math.nan)] for t in self._times()])
        offsets = actor.circles()
        rows = []
        for t in self._times():
            position = actor.track.position(float(t))
            rows.append(
                [(math.nan, math.nan)] * len(offsets)
                if position is None
                else [shifted(*position, ahead) for ahead in offsets]
            )
        return np.array(rows)


def _nearest(a: Floats, b: Floats) -> float:
    gaps = np.hypot(a[:, :, None, 0] - b[:, None, :, 0], a[:, :, None, 1] - b[:, None, :, 1])
    return math.inf if np.isnan(gaps).all() else float(np.nanmin(gaps))
