"""Events between people: fighting, robbery, shooting.

Each function adds an event's cast to a shot, from their ordinary arrival to their leaving, and returns the event.
"""

from __future__ import annotations

from pipeline.sample.effects import MuzzleFlashes
from pipeline.sample.geometry import Place, heading_to, shifted
from pipeline.sample.people import CLOTHES, Item, Look, Person
from pipeline.sample.pose import Action
from pipeline.sample.shot import Event, Shot
from pipeline.sample.tracks import PersonTrack


def fighting(shot: Shot, start_s: float) -> Event:
    """Two people close in and trade blows until one falls; the other kicks him, or just runs."""
    rng = shot.rng
    spot, side = shot.spot(), rng.choice((-1, 1))
    a_at, b_at = shot.aside(spot, -0.45 * side), shot.aside(spot, 0.45 * side)
    a_look = shot.look()
    b_look = shot.look(a_look)
    a = shot.arriving(a_at, start_s, near=shot.aside(spot, -20 * side))
    b = shot.arriving(b_at, start_s - rng.uniform(0.3, 2.5), near=shot.aside(spot, 20 * side))
    b.until(start_s, Action.CHAT, face=a_at)
    rounds = rng.randint(2, 3)
    for i in range(rounds):
        seconds = rng.uniform(1.1, 1.6)
        winning = i % 2 == 0
        step = 0.3 * side * (1 if winning else -1)
        a.act(Action.PUNCH if winning else Action.RECOIL, seconds, face=b.at, to=shot.aside(a.at, step))
        b.act(Action.RECOIL if winning else Action.PUNCH, seconds, face=a.at, to=shot.aside(b.at, step))
    a.act(Action.PUNCH, 0.9, face=b.at)
    b.act(Action.RECOIL, 0.5, face=a.at).act(Action.FALL_BACK, 0.7, to=shot.aside(b.at, 0.5 * side))
    b.act(Action.LIE, 0.2)
    kicked = rng.random() < 0.5
    if kicked:
        a.go(shot.aside(b.at, -0.55 * side), Action.WALK, 1.2).act(Action.KICK, rng.uniform(1.4, 2.1), face=b.at)
    else:
        a.act(Action.GUARD, 0.8, face=b.at)
    end_s = a.now_s + 0.7
    shot.leave(a, Action.RUN, away_from=b.at)
    _recover(shot, b, end_s)
    shot.add_person(Person(a_look, a))
    shot.add_person(Person(b_look, b))
    shot.reserve(spot, 1.5, start_s - 1, end_s)
    pronoun = "she" if b_look.woman else "he"
    other = _other(a_look, b_look)
    sentence = rng.choice(
        (
            f"A {a_look.words} punches {other} until {pronoun} falls to the ground",
            f"A {a_look.words} and {other} fight; the {b_look.noun} in {b_look.colour} is knocked down",
            f"Two people trade blows, and a {a_look.words} knocks {other} to the ground",
        )
    )
    ending = f" and kicks {'her' if b_look.woman else 'him'}" if kicked and "until" not in sentence and "fight;" not in sentence else ""
    return Event(category="Fighting", start_s=start_s, end_s=end_s, sentence=f"{sentence}{ending}.")


def robbery(shot: Shot, start_s: float) -> Event:
    """A robber holds up a shop clerk, or someone with a bag in the open, and runs off with the loot."""
    return _shop_robbery(shot, start_s) if shot.layout.clerk else _street_robbery(shot, start_s)


def _street_robbery(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    spot, side = shot.spot(), rng.choice((-1, 1))
    at, stand = shot.aside(spot, -0.65 * side), shot.aside(spot, 0.65 * side)
    robber_look = shot.look(hooded=True)
    victim_look = shot.look(robber_look)
    bag = rng.choice([c for c in ("red", "yellow", "white", "orange") if c != victim_look.colour])
    victim = shot.arriving(stand, start_s - rng.uniform(1, 4), near=shot.aside(spot, 20 * side))
    victim.until(start_s + 0.4, Action.PHONE, face=at)
    robber = shot.arriving(at, start_s, near=shot.aside(spot, -20 * side))
    threat_s = rng.uniform(2.0, 3.0)
    robber.act(Action.AIM, threat_s, face=stand)
    victim.act(Action.HANDS_UP, threat_s - 0.1, face=at)
    robber.act(Action.GRAB, 0.9, face=stand, to=shot.aside(stand, -0.55 * side))
    taken_s = robber.now_s - 0.5
    victim.act(Action.FALL_BACK, 0.8, face=at, to=shot.aside(stand, 0.5 * side)).act(Action.LIE, 0.6)
    away = shot.exit(robber.at, shot.aside(spot, -20 * side))
    end_s = robber.now_s + 1.5
    robber.go(away, Action.RUN)
    _recover(shot, victim, end_s)
    thief, owner = Person(robber_look, robber), Person(victim_look, victim)
    thief.hold(Item.GUN, end_s=taken_s)
    thief.hold(Item.BAG, CLOTHES[bag], start_s=taken_s)
    owner.hold(Item.BAG, CLOTHES[bag], end_s=taken_s)
    shot.add_person(thief)
    shot.add_person(owner)
    shot.reserve(spot, 1.7, start_s - 0.5, end_s)
    way = _direction(shot, spot, away)
    their = "her" if victim_look.woman else "his"
    sentence = rng.choice(
        (
            f"A {robber_look.words} points a gun at a {victim_look.words}, snatches {their} {bag} bag and runs off {way}",
            f"A {victim_look.words} raises {their} hands before a {robber_look.words}, who takes the {bag} bag and runs away {way}",
        )
    )
    return Event(category="Robbery", start_s=start_s, end_s=end_s, sentence=f"{sentence}.")


def _shop_robbery(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    assert shot.layout.clerk is not None  # noqa: S101 - the caller asked
    behind, customer = shot.layout.clerk
    robber_look = shot.look(hooded=True)
    clerk_look = shot.look(robber_look)
    clerk = PersonTrack(-1.0, behind, heading_to(behind, customer)).until(start_s + 0.4, Action.STAND, face=customer)
    robber = PersonTrack.arriving((*_shop_way(shot), customer), start_s)
    threat_s = rng.uniform(2.2, 3.2)
    robber.act(Action.AIM, threat_s, face=behind)
    clerk.act(Action.HANDS_UP, threat_s + 2.2, face=customer)
    counter = shifted(customer, heading_to(customer, behind), 0.65)
    robber.act(Action.GRAB, 0.9, face=behind, to=counter)
    taken_s = robber.now_s - 0.5
    end_s = robber.now_s + 1.5
    for place in reversed(_shop_way(shot)):
        robber.go(place, Action.RUN)
    clerk.until(end_s, Action.HANDS_UP).until(end_s + 3, Action.PHONE).until(shot.duration_s, Action.STAND, face=customer)
    thief = Person(robber_look, robber)
    thief.hold(Item.GUN, end_s=taken_s)
    bag = rng.choice(("white", "yellow", "red", "green"))
    thief.hold(Item.BAG, CLOTHES[bag], start_s=taken_s)
    shot.add_person(thief)
    shot.add_person(Person(clerk_look, clerk))
    shot.reserve(customer, 1.3, start_s - 1, end_s)
    sentence = rng.choice(
        (
            f"A {robber_look.words} points a gun at the shop clerk, grabs a {bag} bag from the counter and runs to the door",
            f"The clerk in {clerk_look.colour} raises both hands while a {robber_look.words} robs the shop and runs out with a {bag} bag",
        )
    )
    return Event(category="Robbery", start_s=start_s, end_s=end_s, sentence=f"{sentence}.")


def shooting(shot: Shot, start_s: float) -> Event:
    """Someone fires a gun at another, who falls; people near by flee."""
    rng = shot.rng
    spot, side = shot.spot(), rng.choice((-1, 1))
    at, stand = shot.aside(spot, -1.1 * side), shot.aside(spot, 1.1 * side)
    shooter_look = shot.look()
    victim_look = shot.look(shooter_look)
    shooter = shot.arriving(at, start_s, near=shot.aside(spot, -20 * side))
    shots = tuple(start_s + 0.8 + 0.55 * i for i in range(rng.randint(3, 5)))
    shooter.until(shots[-1] + 0.6, Action.AIM, face=stand)
    victim = shot.arriving(stand, start_s - rng.uniform(0.5, 3), near=shot.aside(spot, 20 * side))
    victim.until(shots[1], Action.STAND, face=at)
    victim.act(Action.FALL_BACK, 0.8, face=at, to=shot.aside(stand, 0.4 * side)).until(shot.duration_s, Action.LIE)
    end_s = shooter.now_s + 1.6
    away = shot.exit(shooter.at, shot.aside(spot, -20 * side))
    shooter.go(away, Action.RUN)
    gunman = Person(shooter_look, shooter)
    gunman.hold(Item.GUN, start_s=start_s - 0.2)
    shot.add_person(gunman)
    shot.add_person(Person(victim_look, victim))
    shot.reserve(spot, 2.2, start_s - 0.5, end_s)
    heading = heading_to(at, stand)
    hand = shifted(at, heading, 0.98, -0.12)
    shot.effects.append(MuzzleFlashes(at=(hand[0], 0.83 * shooter_look.height_m, hand[1]), shots_s=shots))
    shot.alarms.append((shots[0], spot))
    way = _direction(shot, spot, away)
    sentence = rng.choice(
        (
            f"A {shooter_look.words} fires a gun at {_other(shooter_look, victim_look)}, who falls, and runs away {way}",
            f"A {victim_look.words} is shot by a {shooter_look.words} and collapses while the shooter runs off {way}",
        )
    )
    return Event(category="Shooting", start_s=start_s, end_s=end_s, sentence=f"{sentence}.")


def _recover(shot: Shot, track: PersonTrack, from_s: float) -> None:
    """Let someone on the ground lie for a while, get up and walk off slowly."""
    track.until(from_s + shot.rng.uniform(0.8, 2.0), Action.LIE).act(Action.GET_UP, 1.9)
    shot.leave(track, Action.LIMP)


def _shop_way(shot: Shot) -> tuple[Place, ...]:
    """Return the way from the door of a shop along its aisle."""
    return shot.layout.walks[0][:3]


def _direction(shot: Shot, start: Place, end: Place) -> str:
    right = shot.camera.right
    across = (end[0] - start[0]) * right[0] + (end[1] - start[1]) * right[1]
    along = (end[0] - start[0]) * -right[1] + (end[1] - start[1]) * right[0]
    if abs(along) > abs(across):
        return "into the distance" if along > 0 else "towards the camera"
    return "to the right" if across > 0 else "to the left"


def _other(first: Look, second: Look) -> str:
    """Name the second person with 'another' where both are men or both are women."""
    return f"{'another' if first.noun == second.noun else 'a'} {second.words}"
