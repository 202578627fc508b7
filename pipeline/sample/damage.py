"""Events of damage: explosions, arson, vandalism.

Each function adds an event's cast and effects to a shot and returns the event.
"""

from __future__ import annotations

import math

import numpy as np

from pipeline.sample.crashes import GLASS_BITS
from pipeline.sample.effects import Blast, Cracks, Debris, Fire, Flashes, Paint, Smoke, Stain
from pipeline.sample.geometry import Colour, Place
from pipeline.sample.layout import Target
from pipeline.sample.people import CLOTHES, Item, Look, Person
from pipeline.sample.pose import Action
from pipeline.sample.shot import Event, Shot
from pipeline.sample.words import with_article

_BLACK_SMOKE: Colour = (48, 46, 46)
_SPARKS: Colour = (200, 224, 255)
_BEACON: Colour = (255, 50, 30)
_CHARRED: tuple[Colour, ...] = ((40, 38, 36), (90, 60, 40), (150, 146, 140))
_BLOWS_A_SECOND = 1.8
_BLOW_AT = 0.3
_PAINTS = ("red", "blue", "yellow", "white", "green", "pink")


def explosion(shot: Shot, start_s: float) -> Event:
    """Something blows up: flash, fireball, smoke; one is thrown to the ground, everybody flees."""
    rng = shot.rng
    place, noun = rng.choice(shot.layout.fuels)
    thing = _hit_car(shot, place, start_s) if noun == "parked car" else noun
    origin = (place[0], 0.6, place[1] - 0.3)
    seeds = [rng.getrandbits(32) for _ in range(4)]
    shot.effects += [
        Blast(origin=origin, start_s=start_s, seed=seeds[0], size_m=rng.uniform(2.3, 3.0)),
        Smoke(origin=(place[0], 1.0, place[1] - 0.35), start_s=start_s + 0.35, end_s=start_s + 4.8, seed=seeds[1],
              rate=8, life_s=2.8, rise_m_s=1.5, size_m=1.5, spread_m=0.5, colour=_BLACK_SMOKE, alpha=0.72),
        Fire(origin=(place[0], 0.35, place[1] - 0.3), start_s=start_s + 0.3, end_s=start_s + 6.4, seed=seeds[2],
             size_m=0.9, grow_s=0.6),
        Debris(origin=origin, start_s=start_s, end_s=math.inf, seed=seeds[3], colours=_CHARRED, count=44,
               speed_m_s=7.5, size_m=0.13),
    ]  # fmt: skip
    shot.stains.append(Stain(origin=(place[0], place[1] - 0.6), start_s=start_s, radius_m=1.2, spread_s=0.3, keep=0.55))
    victim = _blown_over(shot, place, start_s)
    shot.alarms.append((start_s, place))
    shot.reserve(place, 1.6, start_s, shot.duration_s)
    return shot.told(
        "Explosion", (start_s, start_s + 7.2), "Explosion", thing=with_article(thing), victim=with_article(victim.words)
    )


def _hit_car(shot: Shot, place: Place, time_s: float) -> str:
    car = shot.parked_at(place)
    car.crash_s, car.crumple_front, car.crumple_rear, car.burnt_s = time_s, 0.7, 0.6, (time_s, time_s + 2)
    return f"parked {car.words}"


def _blown_over(shot: Shot, place: Place, start_s: float) -> Look:
    """Add someone who stands near a blast, is thrown off his feet, gets up and runs."""
    look = shot.look()
    side = 1 if place[0] < 0 else -1
    near = shot.aside((place[0], place[1] - 1.7), 1.4 * side)
    if not shot.camera.sees(near):
        near = (near[0] * 0.7, max(near[1], 6.6))
    victim = shot.arriving(near, start_s - shot.rng.uniform(0.5, 3))
    victim.until(start_s + 0.08, Action.PHONE, face=(near[0], near[1] - 3))
    victim.act(Action.THROWN, 0.95, face=shot.aside(near, -side), to=shot.aside(near, 1.1 * side)).act(
        Action.LIE, 2.0
    ).act(Action.GET_UP, 1.9)
    victim.go(shot.far_exit(place), Action.RUN)
    shot.add(Person(look, victim))
    return look


def arson(shot: Shot, start_s: float) -> Event:
    """Someone pours fuel over something, sets it on fire and runs; the fire grows and burns out."""
    rng = shot.rng
    place, noun = rng.choice(shot.layout.fuels)
    car = shot.parked_at(place) if noun == "parked car" else None
    thing = f"parked {car.words}" if car else noun
    look = shot.look(hooded=rng.random() < 0.5)
    side = -1 if place[0] > 0 else 1
    stand = (place[0] + side * 0.7, place[1] - (1.7 if car else 0.9))
    track = shot.arriving(stand, start_s)
    canister = rng.choice([c for c in ("red", "yellow", "green") if c != look.colour])
    track.act(Action.POUR, 2.2, face=place).act(Action.TOSS, 0.8, face=place)
    lit_s = track.now_s - 0.3
    track.go(shot.far_exit(place), Action.RUN)
    person = Person(look, track)
    person.hold(Item.CANISTER, CLOTHES[canister], end_s=start_s + 2.3)
    shot.add(person)
    end_s = lit_s + rng.uniform(5.6, 6.4)
    if car is not None:
        car.burnt_s = (lit_s + 1.0, end_s)
    high, size = (0.8, 1.35) if car else (0.75, 1.1)
    front = place[1] - (0.9 if car else 0.3)
    seeds = [rng.getrandbits(32) for _ in range(2)]
    shot.effects += [
        Fire(origin=(place[0], high, front), start_s=lit_s, end_s=end_s, seed=seeds[0], size_m=size, grow_s=2.2),
        Smoke(origin=(place[0], high + 1.2, front), start_s=lit_s + 0.8, end_s=end_s - 2.2, seed=seeds[1], size_m=1.2,
              rise_m_s=1.5, colour=_BLACK_SMOKE),
    ]  # fmt: skip
    shot.stains.append(
        Stain(origin=(place[0], front - 0.3), start_s=start_s + 0.4, radius_m=0.9, spread_s=2.0, keep=0.6)
    )
    shot.reserve(place, 1.5, start_s - 1, end_s)
    return shot.told(
        "Arson",
        (start_s, end_s),
        "Arson",
        arsonist=with_article(look.words),
        canister=canister,
        thing=with_article(thing),
    )


def vandalism(shot: Shot, start_s: float) -> Event:
    """Someone smashes a window, a car or a machine, or sprays paint on a wall; the marks stay."""
    seen = [target for target in shot.layout.targets if shot.camera.sees(target.stand, 0.1)]
    target = _clearest(shot, seen or shot.layout.targets)
    return _spraying(shot, target, start_s) if target.paintable else _smashing(shot, target, start_s)


def _clearest(shot: Shot, targets: list[Target]) -> Target:
    """Return a target at random; of walls on both sides, the one across from the camera."""
    across = [t for t in targets if t.panel.centre[0] * shot.camera.eye[0] < 0 and t.paintable]
    return shot.rng.choice(across or targets)


def _smashing(shot: Shot, target: Target, start_s: float) -> Event:
    rng = shot.rng
    look = shot.look(hooded=rng.random() < 0.5)
    goal = (target.panel.centre[0], target.panel.centre[2])
    track = shot.arriving(target.stand, start_s)
    count = rng.randint(6, 9)
    track.act(Action.STRIKE, count / _BLOWS_A_SECOND, face=goal)
    off_s = track.now_s
    end_s = shot.run_off(track, shot.exit(track.at))
    person = Person(look, track)
    person.hold(Item.BAT, (206, 168, 104))
    shot.add(person)
    times = [start_s + (i + _BLOW_AT) / _BLOWS_A_SECOND for i in range(count)]
    blows = tuple((time, rng.uniform(-0.55, 0.55), rng.uniform(-0.45, 0.45)) for time in times)
    shot.effects.append(Cracks(panel=target.panel, blows=blows, hole_s=math.inf if target.car else times[-2]))
    for time, across, up in blows:
        bits = GLASS_BITS[:2] if target.car is None else GLASS_BITS
        at = target.panel.at(across, up)
        shot.effects.append(
            Debris(origin=(at[0], at[1], at[2] - 0.15), start_s=time, end_s=math.inf, seed=rng.getrandbits(32),
                   colours=bits, count=14, speed_m_s=2.6, size_m=0.06)
        )  # fmt: skip
        sparks = Flashes(at=(at[0], at[1], at[2] - 0.2), times_s=(time,), size=0.5, colour=_SPARKS)
        shot.effects.append(sparks)
    thing = target.noun
    if target.car is not None:
        car = shot.parked_at(target.car)
        car.shaken_s = (times[0], off_s)
        car.blinks_s = (times[0], end_s)
        thing = f"parked {car.words}"
    else:
        beats = tuple(np.arange(times[0], end_s - 0.2, 0.3).tolist())
        beacon = target.panel.at(0.9, 1.35)
        shot.effects.append(Flashes(at=beacon, times_s=beats, size=0.8, colour=_BEACON, core=_BEACON))
    shot.reserve(target.stand, 1.2, start_s - 1, end_s)
    return shot.told(
        "Vandalism", (start_s, end_s), "Smashing", vandal=with_article(look.words), thing=with_article(thing)
    )


def _spraying(shot: Shot, target: Target, start_s: float) -> Event:
    rng = shot.rng
    look = shot.look(hooded=rng.random() < 0.5)
    panel = target.panel
    seconds = rng.uniform(5.2, 7.2)
    colour = rng.choice([name for name in _PAINTS if name != look.colour])
    first, last = panel.at(-0.7, 0), panel.at(0.7, 0)
    off = target.stand[0] - panel.centre[0]
    begin, finish = (first[0] + off, first[2]), (last[0] + off, last[2])
    track = shot.arriving(begin, start_s)
    track.act(Action.SPRAY, seconds, face=(first[0], first[2]), to=finish)
    end_s = shot.run_off(track, shot.exit(track.at))
    person = Person(look, track)
    person.hold(Item.SPRAY_CAN, CLOTHES[colour])
    shot.add(person)
    shot.effects.append(
        Paint(
            panel=panel,
            start_s=start_s + 0.2,
            end_s=start_s + seconds,
            seed=rng.getrandbits(32),
            colour=CLOTHES[colour],
        )
    )
    for u in (0.0, 0.5, 1.0):
        shot.reserve((begin[0], begin[1] + u * (finish[1] - begin[1])), 1.0, start_s - 1, end_s)
    return shot.told("Vandalism", (start_s, end_s), "Spraying", vandal=with_article(look.words), colour=colour)
