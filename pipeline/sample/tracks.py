"""Where people and vehicles are at any time: chains of short straight pieces, written down before the first frame."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Self

from pipeline.sample.geometry import Floats, Place, between, clamp01, heading_to, lerp, smooth, turned
from pipeline.sample.pose import Action, pose_of

GAIT_M_S = {Action.WALK: 1.3, Action.LIMP: 0.8, Action.JOG: 2.7, Action.RUN: 4.2}
_BLEND_S = 0.22
_TURN_S = 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class _Beat:
    """One action from one time and place to another; `gone_m` metres were walked before it."""

    start_s: float
    end_s: float
    start: Place
    end: Place
    heading: float
    action: Action
    gone_m: float

    def place(self, time_s: float) -> Place:
        if self.end_s <= self.start_s:
            return self.end
        return between(self.start, self.end, clamp01((time_s - self.start_s) / (self.end_s - self.start_s)))

    def pose(self, time_s: float) -> Floats:
        gone = self.gone_m + math.dist(self.start, self.place(time_s))
        return pose_of(self.action, time_s - self.start_s, gone)


@dataclass(frozen=True, slots=True)
class Stance:
    """Where a person stands, which way it looks, and its pose."""

    place: Place
    heading: float
    pose: Floats


class PersonTrack:
    """A person's actions, one after the other. It is absent before the first and after the last."""

    def __init__(self, start_s: float, at: Place, heading: float = 0.0) -> None:
        self.at = at
        self.now_s = start_s
        self.heading = heading
        self._gone_m = 0.0
        self._beats: list[_Beat] = []
        self._starts: list[float] = []

    @classmethod
    def arriving(cls, path: Sequence[Place], arrive_s: float, action: Action = Action.WALK, pace: float = 1.0) -> Self:
        """Return the track of one who comes along `path` and reaches its end at `arrive_s`."""
        length = sum(math.dist(a, b) for a, b in pairwise(path))
        track = cls(arrive_s - length / (GAIT_M_S[action] * pace), path[0])
        for place in path[1:]:
            track.go(place, action, pace)
        return track

    def go(self, to: Place, action: Action = Action.WALK, pace: float = 1.0) -> Self:
        """Walk (jog, run, limp) straight to a place, `pace` times as fast as usual."""
        seconds = math.dist(self.at, to) / (GAIT_M_S[action] * pace)
        if seconds > 0:
            self._add(action, seconds, to, heading_to(self.at, to))
        return self

    def act(self, action: Action, seconds: float, *, face: Place | None = None, to: Place | None = None) -> Self:
        """Do something for a time, looking at `face`, drifting towards `to`."""
        heading = self.heading if face is None else heading_to(self.at, face)
        self._add(action, seconds, self.at if to is None else to, heading)
        return self

    def until(self, time_s: float, action: Action, face: Place | None = None) -> Self:
        """Do something until a point in time; nothing where it has passed."""
        if time_s > self.now_s:
            self.act(action, time_s - self.now_s, face=face)
        return self

    def cut(self, time_s: float) -> Self:
        """Forget everything planned after `time_s`; the track goes on from where the person is then."""
        while self._beats and self._beats[-1].start_s >= time_s:
            self._beats.pop()
            self._starts.pop()
        if self._beats:
            beat = self._beats.pop()
            self._starts.pop()
            end_s = min(time_s, beat.end_s)
            self.now_s, self.at, self._gone_m = beat.start_s, beat.start, beat.gone_m
            self._add(beat.action, end_s - beat.start_s, beat.place(end_s), beat.heading)
        return self

    def present(self, time_s: float) -> bool:
        """Tell whether the person exists at a time."""
        return bool(self._beats) and self._starts[0] <= time_s < self._beats[-1].end_s

    def place(self, time_s: float) -> Place | None:
        """Return where the person is, or None where it is absent."""
        if not self.present(time_s):
            return None
        return self._beats[bisect_right(self._starts, time_s) - 1].place(time_s)

    def action(self, time_s: float) -> Action | None:
        """Return what the person does, or None where it is absent."""
        return self._beats[bisect_right(self._starts, time_s) - 1].action if self.present(time_s) else None

    def stance(self, time_s: float) -> Stance | None:
        """Return place, heading and pose, passing smoothly from one action to the next; None where it is absent."""
        if not self.present(time_s):
            return None
        index = bisect_right(self._starts, time_s) - 1
        beat = self._beats[index]
        pose, heading = beat.pose(time_s), beat.heading
        since = time_s - beat.start_s
        if index:
            before = self._beats[index - 1]
            if since < _BLEND_S and before.action is not beat.action:
                last = before.pose(before.end_s)
                pose = last + (pose - last) * smooth(since / _BLEND_S)
            heading = turned(before.heading, heading, smooth(since / _TURN_S))
        return Stance(beat.place(time_s), heading, pose)

    def _add(self, action: Action, seconds: float, to: Place, heading: float) -> None:
        self._starts.append(self.now_s)
        self._beats.append(
            _Beat(
                start_s=self.now_s, end_s=self.now_s + seconds, start=self.at, end=to,
                heading=heading, action=action, gone_m=self._gone_m,
            )
        )  # fmt: skip
        self._gone_m += math.dist(self.at, to)
        self.now_s += seconds
        self.at = to
        self.heading = heading


class Ease(StrEnum):
    """How speed changes along a leg of a drive."""

    STEADY = "steady"
    BRAKE = "brake"
    LAUNCH = "launch"
    BOTH = "both"


_EASES = {
    Ease.STEADY: lambda u: u,
    Ease.BRAKE: lambda u: 1 - (1 - u) ** 2,
    Ease.LAUNCH: lambda u: u * u,
    Ease.BOTH: smooth,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Leg:
    start_s: float
    end_s: float
    start: Place
    end: Place
    start_heading: float
    end_heading: float
    ease: Ease


class DriveTrack:
    """A vehicle's drive as a chain of legs, absent before the first; after the last it stays where `stays` is set."""

    def __init__(self, start_s: float, at: Place, heading: float, *, stays: bool = False) -> None:
        self.first_s = self.now_s = start_s
        self.at = at
        self.heading = heading
        self.stays = stays
        self._legs: list[_Leg] = []
        self._starts: list[float] = []

    def drive(self, to: Place, seconds: float, ease: Ease = Ease.STEADY, heading: float | None = None) -> Self:
        """Move to a place in so many seconds, turning evenly to `heading`."""
        goal = self.heading if heading is None else heading
        self._starts.append(self.now_s)
        self._legs.append(
            _Leg(
                start_s=self.now_s, end_s=self.now_s + seconds, start=self.at, end=to,
                start_heading=self.heading, end_heading=goal, ease=ease,
            )
        )  # fmt: skip
        self.now_s += seconds
        self.at, self.heading = to, goal
        return self

    def wait(self, seconds: float) -> Self:
        """Stand still for a time."""
        return self.drive(self.at, seconds)

    def position(self, time_s: float) -> tuple[Place, float] | None:
        """Return place and heading, or None where the vehicle is absent."""
        if time_s < self.first_s or (time_s >= self.now_s and not self.stays):
            return None
        if not self._legs or time_s >= self.now_s:
            return self.at, self.heading
        leg = self._legs[bisect_right(self._starts, time_s) - 1]
        u = _EASES[leg.ease](clamp01((time_s - leg.start_s) / (leg.end_s - leg.start_s)))
        return between(leg.start, leg.end, u), lerp(leg.start_heading, leg.end_heading, u)

    def place(self, time_s: float) -> Place | None:
        """Return where the middle of the vehicle is, or None where it is absent."""
        position = self.position(time_s)
        return None if position is None else position[0]
