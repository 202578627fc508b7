"""Events of damage: road accidents, explosions, arson, vandalism.

Each function adds an event's cast and effects to a shot and returns the event.
"""

from __future__ import annotations

import math

from pipeline.sample.effects import Blast, Cracks, Debris, Fire, Paint, Smoke, Stain
from pipeline.sample.geometry import Colour, Place, heading_to, shifted
from pipeline.sample.layout import Lane, Target
from pipeline.sample.people import CLOTHES, Item, Look, Person
from pipeline.sample.pose import Action
from pipeline.sample.shot import Event, Shot
from pipeline.sample.tracks import DriveTrack, Ease
from pipeline.sample.vehicles import HATCHBACK, PAINTS, SEDAN, Vehicle, random_vehicle

_GLASS_BITS: tuple[Colour, ...] = ((220, 232, 236), (180, 200, 210), (60, 60, 64))
_BLOWS_A_SECOND = 1.4
_BLOW_AT = 0.3
_PAINTS = ("red", "blue", "yellow", "white", "green", "pink")


def road_accident(shot: Shot, start_s: float) -> Event:
    """Two vehicles collide, or one hits a pedestrian; it stays where it stopped."""
    return shot.rng.choice((_rear_end, _head_on, _knock_down))(shot, start_s)


def _rear_end(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    lane = rng.choice(shot.layout.lanes)
    ahead = 1 if lane.end[0] > lane.start[0] else -1
    heading, hit_s = heading_to(lane.start, lane.end), start_s + 0.7
    first, second = _two_cars(shot)
    stop = (_crash_x(shot) + ahead * first.body.length_m / 2, lane.start[1])
    speed, slow_s = lane.speed_m_s, 1.6
    brake = shifted(stop, heading, -speed * slow_s / 2)
    drive_s = math.dist(lane.start, brake) / speed
    first.track = DriveTrack(hit_s - rng.uniform(1.8, 3) - slow_s - drive_s, lane.start, heading, stays=True)
    first.track.drive(brake, drive_s).drive(stop, slow_s, Ease.BRAKE).wait(max(0.1, hit_s - first.track.now_s))
    contact = shifted(stop, heading, -(first.body.length_m + second.body.length_m) * 0.485)
    second.track = _rush(lane, contact, hit_s, max(8.0, 1.25 * speed))
    first.track.drive(shifted(stop, heading, 2.1, 0.25), 0.9, Ease.BRAKE, heading=heading + rng.choice((-1, 1)) * 0.28)
    second.track.drive(shifted(contact, heading, 0.6), 0.3, Ease.BRAKE, heading=heading - rng.choice((-1, 1)) * 0.2)
    first.crumple_rear, second.crumple_front = 0.8, 1.0
    nose = shifted(contact, heading, second.body.length_m / 2)
    sentence = shot.rng.choice(
        (
            f"A {second.words} crashes into the back of a standing {first.words} and pushes it forward",
            f"A {first.words} that has stopped is hit from behind by a {second.words}; smoke rises from the wreck",
        )
    )
    return _crashed(shot, start_s, hit_s, (first, second), nose, sentence)


def _head_on(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    lane, other = rng.sample(shot.layout.lanes, 2)
    ahead = 1 if lane.end[0] > lane.start[0] else -1
    heading, hit_s = heading_to(lane.start, lane.end), start_s + 0.9
    first, second = _two_cars(shot)
    at = (_crash_x(shot), other.start[1])
    a_at = (at[0] - ahead * first.body.length_m * 0.47, at[1])
    b_at = (at[0] + ahead * second.body.length_m * 0.47, at[1])
    speed = max(7.0, lane.speed_m_s)
    swerve_from = (a_at[0] - ahead * 0.9 * speed, lane.start[1])
    tilt = math.copysign(0.3, (other.start[1] - lane.start[1]) * ahead)
    drive_s = math.dist(lane.start, swerve_from) / speed
    first.track = DriveTrack(hit_s - 0.9 - drive_s, lane.start, heading, stays=True).drive(swerve_from, drive_s)
    first.track.drive(a_at, 0.9, heading=heading + tilt)
    second.track = _rush(other, b_at, hit_s, max(7.0, other.speed_m_s))
    first.track.drive(shifted(a_at, heading, -0.9, 0.2), 0.7, Ease.BRAKE, heading=heading + tilt + rng.choice((-1, 1)) * 0.55)
    second.track.drive(shifted(b_at, heading, 1.1, -0.2), 0.7, Ease.BRAKE, heading=second.track.heading + rng.choice((-1, 1)) * 0.45)
    first.crumple_front = second.crumple_front = 1.0
    sentence = rng.choice(
        (
            f"A {first.words} swerves into the oncoming lane and collides head-on with a {second.words}",
            f"A {first.words} and a {second.words} crash into each other head-on, and debris flies over the road",
        )
    )
    return _crashed(shot, start_s, hit_s, (first, second), at, sentence)


def _knock_down(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    lane = shot.layout.lanes[0]
    ahead = 1 if lane.end[0] > lane.start[0] else -1
    heading, hit_s = heading_to(lane.start, lane.end), start_s + 0.6
    car, _ = _two_cars(shot)
    at = (_crash_x(shot) - ahead * 0.8, lane.start[1])
    contact = shifted(at, heading, -car.body.length_m / 2 - 0.1)
    car.track = _rush(lane, contact, hit_s, max(7.5, lane.speed_m_s))
    car.track.drive(shifted(contact, heading, 2.6), 0.75, Ease.BRAKE)
    look = shot.look()
    walker = shot.arriving((at[0], at[1] - 1.9), hit_s - 1.9 / 1.3).go(at)
    walker.act(Action.THROWN, 0.95, face=contact, to=shifted(at, heading, 3.3)).until(shot.duration_s, Action.LIE)
    shot.add_person(Person(look, walker))
    shot.add_vehicle(car)
    end_s = hit_s + rng.uniform(3.2, 4.2)
    bits = (*_GLASS_BITS, PAINTS[car.colour])
    shot.effects.append(Debris(origin=(at[0], 0.8, at[1]), start_s=hit_s, end_s=1e9, seed=rng.getrandbits(32), colours=bits, count=14, speed_m_s=3))
    dust = (contact[0], 0.2, contact[1] - 0.9)
    shot.effects.append(Smoke(origin=dust, start_s=hit_s, end_s=hit_s + 0.9, seed=rng.getrandbits(32), rate=9, colour=(190, 188, 184), life_s=1.6))
    sentence = rng.choice(
        (
            f"A {car.words} hits a {look.words} who is crossing and throws {'her' if look.woman else 'him'} to the ground",
            f"A {look.words} is run over by a {car.words} and lies motionless in front of it",
        )
    )
    return Event(category="RoadAccidents", start_s=start_s, end_s=end_s, sentence=f"{sentence}.")


def _two_cars(shot: Shot) -> tuple[Vehicle, Vehicle]:
    """Make two cars in colours of their own, which are no vans, so that they are not too high to see over."""
    dim = ("black",) if shot.night else ()
    first = random_vehicle(shot.rng, DriveTrack(0.0, (0.0, 0.0), 0.0), avoid=dim)
    second = random_vehicle(shot.rng, DriveTrack(0.0, (0.0, 0.0), 0.0), avoid=(*dim, first.colour))
    first.body, second.body = shot.rng.sample((SEDAN, HATCHBACK), 2)
    return first, second


def _crash_x(shot: Shot) -> float:
    """Return the x of a collision: near the middle, but away from a car parked in front."""
    fronts = [place[0] for place, _ in shot.layout.parked if place[1] < 9]
    return -math.copysign(1.7, fronts[0]) if fronts else shot.rng.uniform(-0.9, 0.9)


def _rush(lane: Lane, contact: Place, hit_s: float, speed_m_s: float) -> DriveTrack:
    """Return the drive of a vehicle that comes along a lane and reaches `contact` unbraked at `hit_s`."""
    heading = heading_to(lane.start, lane.end)
    seconds = math.dist(lane.start, contact) / speed_m_s
    return DriveTrack(hit_s - seconds, lane.start, heading, stays=True).drive(contact, seconds)


def _crashed(shot: Shot, start_s: float, hit_s: float, cars: tuple[Vehicle, Vehicle], at: Place, sentence: str) -> Event:
    """Add two crashed vehicles with debris and smoke, and return the event."""
    rng = shot.rng
    for car in cars:
        car.crash_s = hit_s
        shot.add_vehicle(car)
    bits = (*_GLASS_BITS, *(PAINTS[car.colour] for car in cars))
    where = (at[0], 0.7, at[1] - 0.4)
    shot.effects += [
        Debris(origin=where, start_s=hit_s, end_s=1e9, seed=rng.getrandbits(32), colours=bits, count=34, speed_m_s=5),
        Smoke(origin=(at[0], 0.4, at[1] - 1.0), start_s=hit_s, end_s=hit_s + 0.5, seed=rng.getrandbits(32), rate=14,
              colour=(196, 190, 182), life_s=1.2, size_m=0.8),
        Smoke(origin=(at[0], 0.8, at[1]), start_s=hit_s + 0.2, end_s=hit_s + 3.6, seed=rng.getrandbits(32),
              colour=(206, 206, 206), life_s=2.2, alpha=0.62),
    ]  # fmt: skip
    end_s = hit_s + rng.uniform(4.6, 5.6)
    return Event(category="RoadAccidents", start_s=start_s, end_s=end_s, sentence=f"{sentence}.")


def explosion(shot: Shot, start_s: float) -> Event:
    """Something blows up: flash, fireball, smoke; one is thrown to the ground, everybody flees."""
    rng = shot.rng
    place, noun = rng.choice(shot.layout.fuels)
    words = _hit_car(shot, place, start_s) if noun == "parked car" else noun
    origin = (place[0], 0.6, place[1] - 0.3)
    shot.effects += [
        Blast(origin=origin, start_s=start_s, seed=rng.getrandbits(32), size_m=rng.uniform(2.3, 3.0)),
        Smoke(origin=(place[0], 1.0, place[1] - 0.35), start_s=start_s + 0.35, end_s=start_s + 4.8, seed=rng.getrandbits(32), rate=9,
              life_s=2.8, rise_m_s=1.5, size_m=1.5, spread_m=0.5, colour=(46, 44, 44), alpha=0.72),
        Fire(origin=(place[0], 0.35, place[1] - 0.3), start_s=start_s + 0.3, end_s=start_s + 6.4, seed=rng.getrandbits(32), size_m=0.9, grow_s=0.6),
        Debris(origin=origin, start_s=start_s, end_s=1e9, seed=rng.getrandbits(32), colours=((40, 38, 36), (90, 60, 40), (150, 146, 140)),
               count=44, speed_m_s=7.5, size_m=0.13),
    ]  # fmt: skip
    shot.stains.append(Stain(origin=(place[0], place[1] - 0.6), start_s=start_s, radius_m=1.6, spread_s=0.3))
    victim = _blown_over(shot, place, start_s)
    shot.alarms.append((start_s, place))
    shot.reserve(place, 1.6, start_s, shot.duration_s)
    sentence = rng.choice(
        (
            f"A {words} explodes in a ball of fire and throws a {victim.words} to the ground while black smoke rises",
            f"There is a flash and a huge fireball as a {words} blows up, and a {victim.words} is knocked over by the blast",
        )
    )
    return Event(category="Explosion", start_s=start_s, end_s=start_s + 7.2, sentence=f"{sentence}.")


def _hit_car(shot: Shot, place: Place, time_s: float) -> str:
    car = shot.parked_at(place)
    car.crash_s, car.crumple_front, car.crumple_rear = time_s, 0.7, 0.6
    return f"parked {car.words}"


def _blown_over(shot: Shot, place: Place, start_s: float) -> Look:
    """Add someone who stands near a blast, is thrown off his feet, gets up and runs."""
    look = shot.look()
    side = 1 if place[0] < 0 else -1
    near = shot.aside((place[0], place[1] - 2.0), 1.5 * side)
    if not shot.camera.sees(near):
        near = (near[0] * 0.7, max(near[1], 6.4))
    victim = shot.arriving(near, start_s - shot.rng.uniform(0.5, 3))
    victim.until(start_s + 0.08, Action.PHONE, face=(near[0], near[1] - 3))
    gap = math.dist(near, place)
    flung = (near[0] + (near[0] - place[0]) / gap * 1.2, near[1] + (near[1] - place[1]) / gap * 0.4)
    victim.act(Action.THROWN, 0.95, face=place, to=flung).act(Action.LIE, 2.0).act(Action.GET_UP, 1.9)
    shot.leave(victim, Action.RUN, away_from=place)
    shot.add_person(Person(look, victim))
    return look


def arson(shot: Shot, start_s: float) -> Event:
    """Someone pours fuel over something, sets it on fire and runs; the fire grows and burns out."""
    rng = shot.rng
    place, noun = rng.choice(shot.layout.fuels)
    car = shot.parked_at(place) if noun == "parked car" else None
    words = f"parked {car.words}" if car else noun
    look = shot.look(hooded=rng.random() < 0.5)
    side = -1 if place[0] > 0 else 1
    stand = (place[0] + side * 0.7, place[1] - (1.7 if car else 0.9))
    track = shot.arriving(stand, start_s)
    canister = rng.choice([c for c in ("red", "yellow", "green") if c != look.colour])
    track.act(Action.POUR, 2.2, face=place).act(Action.TOSS, 0.8, face=place)
    lit_s = track.now_s - 0.3
    shot.leave(track, Action.RUN, away_from=place)
    person = Person(look, track)
    person.hold(Item.CANISTER, CLOTHES[canister], end_s=start_s + 2.3)
    shot.add_person(person)
    end_s = lit_s + rng.uniform(5.6, 6.4)
    high, size = (0.8, 1.35) if car else (0.75, 1.1)
    front = place[1] - (0.9 if car else 0.3)
    shot.effects += [
        Fire(origin=(place[0], high, front), start_s=lit_s, end_s=end_s, seed=rng.getrandbits(32), size_m=size, grow_s=2.2),
        Smoke(origin=(place[0], high + 1.2, front), start_s=lit_s + 0.8, end_s=end_s - 2.2, seed=rng.getrandbits(32), size_m=1.2,
              rise_m_s=1.5, colour=(52, 50, 50)),
    ]  # fmt: skip
    shot.stains.append(Stain(origin=(place[0], front - 0.3), start_s=start_s + 0.4, radius_m=0.9, spread_s=2.0, keep=0.6))
    shot.reserve(place, 1.5, start_s - 1, end_s)
    sentence = rng.choice(
        (
            f"A {look.words} pours fuel from a {canister} canister over a {words}, sets it on fire and runs away",
            f"A {look.words} sets fire to a {words} and flees while the flames grow",
        )
    )
    return Event(category="Arson", start_s=start_s, end_s=end_s, sentence=f"{sentence}.")


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
    count = rng.randint(4, 6)
    track.act(Action.STRIKE, count / _BLOWS_A_SECOND, face=goal)
    end_s = track.now_s + 1.0
    shot.leave(track, Action.RUN)
    person = Person(look, track)
    person.hold(Item.BAT, (206, 168, 104))
    shot.add_person(person)
    times = [start_s + (i + _BLOW_AT) / _BLOWS_A_SECOND for i in range(count)]
    blows = tuple((time, rng.uniform(-0.55, 0.55), rng.uniform(-0.45, 0.45)) for time in times)
    shot.effects.append(Cracks(panel=target.panel, blows=blows, hole_s=math.inf if target.car else times[-2]))
    for time, across, up in blows:
        bits = _GLASS_BITS[:2] if target.car is None else _GLASS_BITS
        at = target.panel.at(across, up)
        shot.effects.append(
            Debris(origin=(at[0], at[1], at[2] - 0.15), start_s=time, end_s=1e9, seed=rng.getrandbits(32), colours=bits, count=14, speed_m_s=2.6, size_m=0.06)
        )
    words = target.noun
    if target.car is not None:
        car = shot.parked_at(target.car)
        car.shaken_s = (times[0], end_s - 0.8)
        words = f"parked {car.words}"
    shot.reserve(target.stand, 1.2, start_s - 1, end_s)
    sentence = rng.choice(
        (
            f"A {look.words} smashes a {words} with a bat and runs away",
            f"A {look.words} swings a bat at a {words} again and again until it is broken",
        )
    )
    return Event(category="Vandalism", start_s=start_s, end_s=end_s, sentence=f"{sentence}.")


def _spraying(shot: Shot, target: Target, start_s: float) -> Event:
    rng = shot.rng
    look = shot.look(hooded=rng.random() < 0.5)
    panel = target.panel
    seconds = rng.uniform(5.5, 7.5)
    colour = rng.choice([name for name in _PAINTS if name != look.colour])
    first, last = panel.at(-0.7, 0), panel.at(0.7, 0)
    off = target.stand[0] - panel.centre[0]
    begin, finish = (first[0] + off, first[2]), (last[0] + off, last[2])
    track = shot.arriving(begin, start_s)
    track.act(Action.SPRAY, seconds, face=(first[0], first[2]), to=finish)
    end_s = track.now_s + 0.8
    shot.leave(track, Action.RUN)
    person = Person(look, track)
    person.hold(Item.SPRAY_CAN, CLOTHES[colour])
    shot.add_person(person)
    shot.effects.append(Paint(panel=panel, start_s=start_s + 0.2, end_s=start_s + seconds, seed=rng.getrandbits(32), colour=CLOTHES[colour]))
    for u in (0.0, 0.5, 1.0):
        shot.reserve((begin[0], begin[1] + u * (finish[1] - begin[1])), 1.0, start_s - 1, end_s)
    sentence = f"A {look.words} sprays {colour} paint all over a wall and runs off"
    return Event(category="Vandalism", start_s=start_s, end_s=end_s, sentence=f"{sentence}.")
