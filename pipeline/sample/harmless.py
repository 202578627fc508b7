"""Ordinary life that looks like more than it is: quarrels, shoves in passing, people who run, things that change hands.

Whoever learns from the sample world that raised arms are a fight, haste a flight and a rod a weapon learns it wrong.
"""

from __future__ import annotations

from collections.abc import Callable

from pipeline.sample.geometry import Place
from pipeline.sample.life import flee, some_way, spot_in_view, stroll
from pipeline.sample.people import CLOTHES, Item, Person, random_look
from pipeline.sample.pose import Action
from pipeline.sample.shot import Shot
from pipeline.sample.tracks import PersonTrack

_TRIES = 4
_ROD = (150, 120, 84)


def stage_harmless(shot: Shot) -> None:
    """Add what an observer might take for an event to a shot, around everything that is already in it."""
    for share, act in _ACTS:
        if shot.rng.random() < share:
            for _ in range(_TRIES):
                if act(shot):
                    break


def _quarrel(shot: Shot) -> bool:
    """Two people stand close and talk with both arms, and part."""
    pair = _meeting(shot, 0.42)
    if pair is None:
        return False
    spot, a, b = pair
    end_s = max(a.now_s, b.now_s) + shot.rng.uniform(4, 10)
    for track in (a, b):
        track.until(end_s, Action.ARGUE, face=spot)
    return _admit(shot, a, b)


def _handing_over(shot: Shot) -> bool:
    """Two people meet, talk, and one gives a bag to the other."""
    pair = _meeting(shot, 0.4)
    if pair is None:
        return False
    spot, a, b = pair
    given_s = max(a.now_s, b.now_s) + shot.rng.uniform(1, 3)
    for track in (a, b):
        track.until(given_s, Action.CHAT, face=spot).act(Action.HAND_OVER, 1.2, face=spot)
        track.act(Action.CHAT, shot.rng.uniform(0.5, 2.0), face=spot)
    colour = CLOTHES[shot.rng.choice(tuple(CLOTHES))]
    giver, taker = Person(random_look(shot.rng), a), Person(random_look(shot.rng), b)
    giver.hold(Item.BAG, colour, end_s=given_s + 0.6)
    taker.hold(Item.BAG, colour, start_s=given_s + 0.6)
    return _admit(shot, a, b, giver, taker)


def _shove(shot: Shot) -> bool:
    """Two people who walk towards each other bump shoulders, stumble and go on."""
    rng = shot.rng
    spot = spot_in_view(shot)
    if spot is None:
        return False
    meet_s = rng.uniform(1, shot.duration_s - 2)
    tracks = []
    for side in (-1, 1):
        beside = shot.aside(spot, 0.22 * side)
        track = shot.arriving(beside, meet_s, near=shot.aside(spot, 20 * side))
        track.act(Action.STUMBLE, 0.7, to=shot.aside(beside, 0.25 * side))
        track.go(shot.exit(track.at, shot.aside(spot, -20 * side)))
        tracks.append(track)
    people = [Person(random_look(rng), track) for track in tracks]
    return _take(shot, people)


def _runner(shot: Shot) -> bool:
    """Somebody runs through, with a bag now and then."""
    path = some_way(shot)
    track = stroll(path, shot.rng.uniform(-1, shot.duration_s - 3), Action.RUN, shot.rng.uniform(0.8, 1.0), 0.0)
    runner = Person(random_look(shot.rng), track)
    if shot.rng.random() < 0.5:
        runner.hold(shot.rng.choice((Item.BAG, Item.BACKPACK)), CLOTHES[shot.rng.choice(tuple(CLOTHES))])
    return _take(shot, [runner])


def _carrier(shot: Shot) -> bool:
    """Somebody carries a rod as long as an arm span over the shoulder."""
    path = some_way(shot)
    start_s = shot.rng.uniform(-4, shot.duration_s - 4)
    carrier = Person(random_look(shot.rng), stroll(path, start_s, Action.WALK, shot.rng.uniform(0.8, 1.1), 0.0))
    carrier.hold(Item.ROD, _ROD)
    return _take(shot, [carrier])


_ACTS: tuple[tuple[float, Callable[[Shot], bool]], ...] = (
    (0.3, _quarrel), (0.25, _handing_over), (0.3, _shove), (0.3, _runner), (0.25, _carrier),
)  # fmt: skip
"""Each with the share of the shots that it is tried in."""


def _meeting(shot: Shot, apart_m: float) -> tuple[Place, PersonTrack, PersonTrack] | None:
    """Return a place in view and two people who come to it from either side, None where no place is in view."""
    spot = spot_in_view(shot)
    if spot is None:
        return None
    meet_s = shot.rng.uniform(-1, max(0.0, shot.duration_s - 8))
    a, b = (
        shot.arriving(shot.aside(spot, side * apart_m), meet_s - wait_s, near=shot.aside(spot, 20 * side))
        for side, wait_s in ((-1, 0.0), (1, shot.rng.uniform(0, 1.5)))
    )
    b.until(a.now_s, Action.STAND, face=spot)
    return spot, a, b


def _admit(shot: Shot, a: PersonTrack, b: PersonTrack, *people: Person) -> bool:
    """Let two people leave, and put both on the stage if both keep clear of all others."""
    for track in (a, b):
        track.go(shot.exit(track.at))
    return _take(shot, list(people) or [Person(random_look(shot.rng), track) for track in (a, b)])


def _take(shot: Shot, people: list[Person]) -> bool:
    for person in people:
        flee(shot, person)
    return shot.admit(*people)
