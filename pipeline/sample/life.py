"""Ordinary life: people who walk, jog, chat, shop and wait, and traffic that drives, stops, parks and leaves."""

from __future__ import annotations

import math
from itertools import pairwise

from pipeline.sample.geometry import Place, between, heading_to
from pipeline.sample.layout import Lane, SceneKind
from pipeline.sample.people import Item, Person, random_look
from pipeline.sample.pose import Action
from pipeline.sample.shot import Shot
from pipeline.sample.tracks import GAIT_M_S, DriveTrack, Ease, PersonTrack
from pipeline.sample.vehicles import TRAIN, Vehicle, random_vehicle

_PEOPLE_PER_MINUTE = {
    SceneKind.STREET: 22, SceneKind.PARKING: 10, SceneKind.ARCADE: 24, SceneKind.ALLEY: 9,
    SceneKind.PLAZA: 26, SceneKind.SHOP: 7, SceneKind.PLATFORM: 22, SceneKind.FORECOURT: 9,
}  # fmt: skip
_FLEE_M = 11.0
_TRIES = 6


def populate(shot: Shot) -> None:
    """Fill a shot with ordinary life around the events that are already in it."""
    busy = shot.rng.uniform(0.6, 1.3) * (0.7 if shot.night else 1.0)
    if shot.layout.clerk is not None and not any(p.track.at == shot.layout.clerk[0] for p in shot.people):
        place, customer = shot.layout.clerk
        clerk = PersonTrack(-1.0, place, heading_to(place, customer))
        shot.add(Person(random_look(shot.rng), clerk.until(shot.duration_s, Action.STAND, face=customer)))
    if shot.layout.kind is SceneKind.PLATFORM:
        _train(shot)
    else:
        for lane in shot.layout.lanes:
            _traffic(shot, lane)
        if shot.layout.free_slots and shot.rng.random() < 0.6:
            _parking_car(shot)
    for place, face in shot.layout.browse:
        if shot.rng.random() < 0.6:
            _browser(shot, place, face)
    count = round(_PEOPLE_PER_MINUTE[shot.layout.kind] * busy * (shot.duration_s + 10) / 60)
    if shot.layout.spots and shot.rng.random() < 0.45:
        _chatting_pair(shot)
    for _ in range(count):
        for _ in range(_TRIES):
            if _walkers(shot):
                break


def _walkers(shot: Shot) -> bool:
    """Try to add one to four people who go the same way; tell whether they fitted."""
    rng = shot.rng
    path = some_way(shot)
    action = Action.JOG if not shot.layout.indoor and rng.random() < 0.12 else Action.WALK
    pace = rng.uniform(0.82, 1.2)
    size = 1 if action is Action.JOG else rng.choices((1, 2, 3, 4), (70, 20, 7, 3))[0]
    start_s = rng.uniform(-6.0 * (path[0] != path[-1]), shot.duration_s - 2)
    shift = (rng.uniform(-0.4, 0.4), rng.uniform(-0.5, 0.5))
    pause_s = rng.uniform(2, 6) if rng.random() < 0.15 else 0.0
    for i in range(size):
        offset = (shift[0] - 0.3 * (i // 2), shift[1] + 0.95 * (i % 2) + 0.1 * i)
        places = [(x + offset[0], z + offset[1]) for x, z in path]
        track = stroll(places, start_s - i // 2 * 0.9 / GAIT_M_S[action], action, pace, pause_s)
        person = Person(random_look(rng), track)
        flee(shot, person)
        _load(shot, person)
        if not shot.admit(person):
            return i > 0
    return True


def some_way(shot: Shot) -> list[Place]:
    """Draw one of the ways through a place, in either direction."""
    path = list(shot.rng.choice(shot.layout.walks))
    if shot.rng.random() < 0.5:
        path.reverse()
    return path


def spot_in_view(shot: Shot) -> Place | None:
    """Draw a place to stop at that the camera sees; None where it sees none."""
    spots = [spot for spot in shot.layout.spots if shot.camera.sees(spot, 0.1)]
    return shot.rng.choice(spots) if spots else None


def stroll(path: list[Place], start_s: float, action: Action, pace: float, pause_s: float) -> PersonTrack:
    """Return the track of one who goes along a path, and looks at a phone on the way for `pause_s` seconds."""
    track = PersonTrack(start_s, path[0])
    for i, (a, b) in enumerate(pairwise(path)):
        if pause_s and i == 0:
            track.go(between(a, b, 0.45), action, pace).act(Action.PHONE, pause_s)
        track.go(b, action, pace)
    return track


def _load(shot: Shot, person: Person) -> None:
    choice = shot.rng.random()
    colour = shot.rng.choice(((96, 62, 40), (40, 44, 60), (150, 40, 50), (60, 100, 80)))
    if choice < 0.18:
        person.hold(Item.BAG, colour)
    elif choice < 0.32:
        person.hold(Item.BACKPACK, colour)
    elif choice < 0.38 and shot.layout.kind is SceneKind.PLATFORM:
        person.hold(Item.SUITCASE, colour)


def flee(shot: Shot, person: Person) -> None:
    """Let a person run away from alarms that go off near by."""
    for alarm_s, source in shot.alarms:
        place = person.place(alarm_s + 0.3)
        if place is None or math.dist(place, source) > _FLEE_M:
            continue
        track = person.track.cut(alarm_s + shot.rng.uniform(0.3, 0.7))
        exits = sorted(shot.layout.exits, key=lambda way: math.dist(way, track.at) - math.dist(way, source))
        track.go((exits[0][0] + shot.rng.uniform(-0.3, 0.3), exits[0][1] + shot.rng.uniform(-0.5, 0.5)), Action.RUN)
        return


def _chatting_pair(shot: Shot) -> None:
    rng = shot.rng
    spot = spot_in_view(shot)
    if spot is None:
        return
    meet_s = rng.uniform(-4, 0.5 * shot.duration_s)
    talk_s = rng.uniform(6, 16)
    pair = []
    for side in (-0.5, 0.5):
        place = shot.aside(spot, side)
        track = shot.arriving(place, meet_s + abs(side) * rng.uniform(0, 2), near=shot.aside(spot, 20 * side))
        track.until(meet_s + talk_s, Action.CHAT, face=spot)
        track.go(shot.exit(track.at))
        person = Person(random_look(rng), track)
        flee(shot, person)
        pair.append(person)
    shot.admit(*pair)


def _browser(shot: Shot, place: Place, face: Place) -> None:
    rng = shot.rng
    leave_s = rng.uniform(0.3, 1.5) * shot.duration_s
    track = PersonTrack(-1.0, place, heading_to(place, face)).until(leave_s, Action.REACH, face=face)
    track.go(shot.exit(track.at))
    person = Person(random_look(rng), track)
    flee(shot, person)
    shot.admit(person)


def _traffic(shot: Shot, lane: Lane) -> None:
    """Let vehicles come along a lane, all at its speed, some with a stop."""
    rng = shot.rng
    heading = heading_to(lane.start, lane.end)
    seconds = math.dist(lane.start, lane.end) / lane.speed_m_s
    spacing_s = rng.uniform(4, 8) if shot.layout.kind is SceneKind.STREET else rng.uniform(9, 16)
    time_s = rng.uniform(-seconds, 1.0)
    while time_s < shot.duration_s:
        track = DriveTrack(time_s, lane.start, heading)
        if rng.random() < (0.15 if shot.layout.kind is SceneKind.STREET else 0.4):
            _stop_on_the_way(track, lane, rng.uniform(0.36, 0.56), rng.uniform(2, 6))
        else:
            track.drive(lane.end, seconds)
        big = shot.layout.kind is SceneKind.STREET and rng.random() < 0.14
        shot.admit(random_vehicle(rng, track, big=big))
        time_s += spacing_s * rng.uniform(0.5, 1.6)


def _stop_on_the_way(track: DriveTrack, lane: Lane, where: float, wait_s: float) -> None:
    """Brake gently, wait, and drive on."""
    length, speed, slow_s = math.dist(lane.start, lane.end), lane.speed_m_s, 2.2
    ramp = speed * slow_s / 2 / length
    before, stop, after = (between(lane.start, lane.end, u) for u in (where - ramp, where, where + ramp))
    track.drive(before, (where - ramp) * length / speed).drive(stop, slow_s, Ease.BRAKE).wait(wait_s)
    track.drive(after, slow_s, Ease.LAUNCH).drive(lane.end, (1 - where - ramp) * length / speed)


def _parking_car(shot: Shot) -> None:
    """Let a car come along the aisle and turn into a free slot, or leave one."""
    rng = shot.rng
    lane = shot.layout.lanes[0]
    (slot, _) = rng.choice([s for s in shot.layout.free_slots if abs(s[0][0]) < 8] or shot.layout.free_slots)
    turn_in = (slot[0] - 3.4, lane.start[1])
    if turn_in[0] <= lane.start[0]:
        return
    start_s = rng.uniform(-3, 0.6 * shot.duration_s)
    drive_s = (turn_in[0] - lane.start[0]) / lane.speed_m_s
    track = DriveTrack(start_s, lane.start, 0.0, stays=True).drive(turn_in, drive_s)
    middle = (slot[0] - 0.5, lane.start[1] + 1.9)
    track.drive(middle, 1.6, Ease.BRAKE, heading=math.pi / 3).drive(slot, 2.2, Ease.BOTH, heading=math.pi / 2)
    shot.admit(random_vehicle(rng, track))


def _train(shot: Shot) -> None:
    """Let a train come in, stop and leave, in most shots."""
    rng = shot.rng
    if rng.random() < 0.3:
        return
    lane = shot.layout.lanes[0]
    middle = between(lane.start, lane.end, 0.5)
    track = DriveTrack(rng.uniform(-6, 0.6 * shot.duration_s), lane.start, 0.0)
    track.drive(middle, 6.0, Ease.BRAKE).wait(rng.uniform(5, 9)).drive(lane.end, 6.5, Ease.LAUNCH)
    shot.add(Vehicle(TRAIN, rng.choice(("silver", "blue", "red", "green")), track))
