"""Road accidents: two vehicles collide, or one knocks down a pedestrian.

The vehicles stay where they stopped; other traffic keeps clear of them.
"""

from __future__ import annotations

import math

from pipeline.sample.effects import Debris, Fire, Flashes, Smoke
from pipeline.sample.geometry import Colour, Place, heading_to, shifted
from pipeline.sample.layout import Lane, SceneKind
from pipeline.sample.people import Person
from pipeline.sample.pose import Action
from pipeline.sample.shot import Event, Shot
from pipeline.sample.tracks import DriveTrack, Ease
from pipeline.sample.vehicles import HATCHBACK, PAINTS, SEDAN, Vehicle, random_vehicle
from pipeline.sample.words import sentence, with_article

GLASS_BITS: tuple[Colour, ...] = ((220, 232, 236), (180, 200, 210), (60, 60, 64))


def road_accident(shot: Shot, start_s: float) -> Event:
    """Two vehicles collide, or one hits a pedestrian; it stays where it stopped."""
    return shot.rng.choice((_rear_end, _head_on, _knock_down))(shot, start_s)


def _rear_end(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    lane = rng.choice(shot.layout.lanes) if shot.layout.kind is SceneKind.STREET else shot.layout.lanes[0]
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
    first.track.drive(shifted(stop, heading, 2.3, 0.25), 1.3, Ease.BRAKE, heading=heading + rng.choice((-1, 1)) * 0.5)
    second.track.drive(shifted(contact, heading, 0.7), 0.8, Ease.BRAKE, heading=heading - rng.choice((-1, 1)) * 0.35)
    first.crumple_rear, second.crumple_front = 0.8, 1.0
    nose = shifted(contact, heading, second.body.length_m / 2)
    words = sentence(
        rng,
        "RearEnd",
        first=with_article(first.words),
        second=with_article(second.words),
        standing=f"a standing {first.words}",
    )
    return _crashed(shot, (start_s, hit_s), (first, second), nose, words)


def _head_on(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    other, lane = shot.layout.lanes
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
    first.track.drive(
        shifted(a_at, heading, -1.0, 0.2), 1.3, Ease.BRAKE, heading=heading + tilt + rng.choice((-1, 1)) * 0.9
    )
    second.track.drive(
        shifted(b_at, heading, 1.2, -0.2), 1.3, Ease.BRAKE, heading=second.track.heading + rng.choice((-1, 1)) * 0.8
    )
    first.crumple_front = second.crumple_front = 1.0
    words = sentence(rng, "HeadOn", first=with_article(first.words), second=with_article(second.words))
    return _crashed(shot, (start_s, hit_s), (first, second), at, words)


def _knock_down(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    lane = shot.layout.lanes[0]
    ahead = 1 if lane.end[0] > lane.start[0] else -1
    heading, hit_s = heading_to(lane.start, lane.end), start_s + 0.6
    car, _ = _two_cars(shot)
    at = (_crash_x(shot) - ahead * 1.8, lane.start[1])
    contact = shifted(at, heading, -car.body.length_m / 2 - 0.1)
    car.track = _rush(lane, contact, hit_s, max(7.5, lane.speed_m_s))
    car.track.drive(shifted(contact, heading, 2.6), 0.75, Ease.BRAKE)
    look = shot.look()
    walker = shot.arriving((at[0], at[1] - 1.9), hit_s - 1.9 / 1.3).go(at)
    walker.act(Action.THROWN, 0.95, face=contact, to=shifted(at, heading, 3.0))
    walker.act(Action.THROWN, 0.7, to=shifted(at, heading, 3.8)).until(shot.duration_s, Action.LIE)
    shot.add(Person(look, walker))
    shot.add(car)
    end_s = hit_s + rng.uniform(2.6, 3.2)
    car.blinks_s = (hit_s + 0.3, end_s)
    shot.alarms.append((hit_s, at))
    bits = (*GLASS_BITS, PAINTS[car.colour])
    shot.effects += [
        Debris(origin=(at[0], 0.8, at[1]), start_s=hit_s, end_s=math.inf, seed=rng.getrandbits(32), colours=bits,
               count=24, speed_m_s=4),
        Smoke(origin=(contact[0], 0.2, contact[1] - 0.9), start_s=hit_s, end_s=hit_s + 1.2, seed=rng.getrandbits(32),
              rate=12, colour=(190, 188, 184), life_s=1.6, size_m=1.2),
    ]  # fmt: skip
    return shot.told(
        "RoadAccidents",
        (start_s, end_s),
        "KnockDown",
        car=with_article(car.words),
        walker=with_article(look.words),
        walker_object="her" if look.woman else "him",
    )


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


def _crashed(shot: Shot, span_s: tuple[float, float], cars: tuple[Vehicle, Vehicle], at: Place, words: str) -> Event:
    """Add two crashed vehicles with debris and smoke, and return the event; `span_s` is its start and the impact."""
    rng = shot.rng
    start_s, hit_s = span_s
    for car in cars:
        car.crash_s = hit_s
        shot.add(car)
    bits = (*GLASS_BITS, *(PAINTS[car.colour] for car in cars))
    end_s = hit_s + rng.uniform(3.8, 4.8)
    bonnet = shifted(cars[1].track.at, cars[1].track.heading, cars[1].body.length_m / 2 - 0.7)
    seeds = [rng.getrandbits(32) for _ in range(4)]
    shot.effects += [
        Debris(origin=(at[0], 0.7, at[1] - 0.4), start_s=hit_s, end_s=math.inf, seed=seeds[0], colours=bits, count=40,
               speed_m_s=6),
        Flashes(at=(at[0], 0.7, at[1] - 0.9), times_s=(hit_s, hit_s + 0.14, hit_s + 0.3), size=1.5),
        Smoke(origin=(at[0], 0.4, at[1] - 1.0), start_s=hit_s, end_s=hit_s + 0.5, seed=seeds[1], rate=14,
              colour=(196, 190, 182), life_s=1.2, size_m=0.9),
        Smoke(origin=(bonnet[0], 1.2, bonnet[1]), start_s=hit_s + 0.2, end_s=end_s - 1.8, seed=seeds[2], rate=10,
              colour=(120, 118, 116), life_s=2.0, rise_m_s=1.8, size_m=1.1, spread_m=0.5, alpha=0.7),
        Fire(origin=(bonnet[0], 0.95, bonnet[1] - 0.3), start_s=hit_s + 0.3, end_s=end_s, seed=seeds[3], size_m=0.75,
             grow_s=1.0),
    ]  # fmt: skip
    shot.alarms.append((hit_s, at))
    return Event(category="RoadAccidents", start_s=start_s, end_s=end_s, sentence=words)
