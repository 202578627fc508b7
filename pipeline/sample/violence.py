"""Events between people: fighting, robbery, shooting.

Each function adds an event's cast to a shot, from their ordinary arrival to their leaving, and returns the event.
"""

from __future__ import annotations

from pipeline.sample.effects import Flashes
from pipeline.sample.geometry import Place, heading_to, shifted
from pipeline.sample.people import CLOTHES, Item, Look, Person
from pipeline.sample.pose import Action
from pipeline.sample.shot import Event, Shot
from pipeline.sample.tracks import PersonTrack
from pipeline.sample.words import with_article


def fighting(shot: Shot, start_s: float) -> Event:
    """Two people close in and trade blows until one falls; the other kicks him, or just runs."""
    rng = shot.rng
    spot = shot.spot()
    side = shot.inward(spot)
    a_at, b_at = shot.aside(spot, -0.45 * side), shot.aside(spot, 0.45 * side)
    a_look = shot.look()
    b_look = shot.look(a_look)
    a = shot.arriving(a_at, start_s, near=shot.aside(spot, -20 * side))
    b = shot.arriving(b_at, start_s - rng.uniform(0.3, 2.5), near=shot.aside(spot, 20 * side))
    b.until(start_s, Action.CHAT, face=a_at)
    rounds = rng.randint(2, 3)
    for i in range(rounds):
        seconds = rng.uniform(1.0, 1.4)
        winning = i % 2 == 0
        step = 0.3 * side * (1 if winning else -1)
        a.act(Action.PUNCH if winning else Action.RECOIL, seconds, face=b.at, to=shot.aside(a.at, step))
        b.act(Action.RECOIL if winning else Action.PUNCH, seconds, face=a.at, to=shot.aside(b.at, step))
    a.act(Action.PUNCH, 0.9, face=b.at)
    b.act(Action.RECOIL, 0.5, face=a.at).act(Action.FALL_BACK, 0.7, to=shot.aside(b.at, 0.5 * side))
    b.act(Action.LIE, 0.2)
    kicked = rng.random() < 0.5
    if kicked:
        a.go(shot.aside(b.at, -0.55 * side), Action.WALK, 1.2).act(Action.KICK, rng.uniform(1.2, 1.7), face=b.at)
    else:
        a.act(Action.GUARD, 0.8, face=b.at)
    end_s = shot.run_off(a, shot.far_exit(b.at))
    _recover(shot, b, end_s)
    shot.add(Person(a_look, a), Person(b_look, b))
    shot.reserve(spot, 1.5, start_s - 1, end_s)
    return shot.told(
        "Fighting",
        (start_s, end_s),
        "FightingKick" if kicked else "Fighting",
        a=with_article(a_look.words),
        b=_other(a_look, b_look),
        b_short=f"the {b_look.noun} in {b_look.colour}",
        b_subject="she" if b_look.woman else "he",
        b_object="her" if b_look.woman else "him",
    )


def robbery(shot: Shot, start_s: float) -> Event:
    """A robber holds up a shop clerk, or someone with a bag in the open, and runs off with the loot."""
    return _shop_robbery(shot, start_s) if shot.layout.clerk else _street_robbery(shot, start_s)


def _street_robbery(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    spot = shot.spot()
    side = shot.inward(spot)
    at, stand = shot.aside(spot, -0.65 * side), shot.aside(spot, 0.65 * side)
    robber_look = shot.look(hooded=True)
    victim_look = shot.look(robber_look)
    bag = rng.choice([c for c in ("red", "yellow", "white", "orange") if c != victim_look.colour])
    victim = shot.arriving(stand, start_s - rng.uniform(1, 4), near=shot.aside(spot, 20 * side))
    victim.until(start_s + 0.4, Action.PHONE, face=at)
    robber = shot.arriving(at, start_s, near=shot.aside(spot, -20 * side))
    threat_s = rng.uniform(1.6, 2.5)
    robber.act(Action.AIM, threat_s, face=stand, to=shot.aside(at, 0.45 * side))
    victim.act(Action.HANDS_UP, threat_s - 0.1, face=at, to=shot.aside(stand, 0.45 * side))
    stand = victim.at
    robber.act(Action.GRAB, 0.9, face=stand, to=shot.aside(stand, -0.55 * side))
    taken_s = robber.now_s - 0.5
    victim.act(Action.FALL_BACK, 0.8, face=at, to=shot.aside(stand, 0.5 * side)).act(Action.LIE, 0.6)
    away = shot.exit(robber.at, shot.aside(spot, -20 * side))
    end_s = shot.run_off(robber, away)
    _recover(shot, victim, end_s)
    thief, owner = Person(robber_look, robber), Person(victim_look, victim)
    thief.hold(Item.GUN, end_s=taken_s)
    thief.hold(Item.BAG, CLOTHES[bag], start_s=taken_s)
    owner.hold(Item.BAG, CLOTHES[bag], end_s=taken_s)
    shot.add(thief, owner)
    shot.reserve(spot, 1.7, start_s - 0.5, end_s)
    return shot.told(
        "Robbery",
        (start_s, end_s),
        "Robbery",
        robber=with_article(robber_look.words),
        victim=with_article(victim_look.words),
        their="her" if victim_look.woman else "his",
        bag=bag,
        way=_direction(shot, spot, away),
    )


def _shop_robbery(shot: Shot, start_s: float) -> Event:
    rng = shot.rng
    assert shot.layout.clerk is not None  # noqa: S101 - the caller asked
    behind, customer = shot.layout.clerk
    robber_look = shot.look(hooded=True)
    clerk_look = shot.look(robber_look)
    clerk = PersonTrack(-1.0, behind, heading_to(behind, customer)).until(start_s + 0.4, Action.STAND, face=customer)
    way = shot.layout.walks[0][:3]  # from the door along the aisle
    robber = PersonTrack.arriving((*way, customer), start_s)
    threat_s = rng.uniform(1.8, 2.6)
    robber.act(Action.AIM, threat_s, face=behind)
    clerk.act(Action.HANDS_UP, threat_s + 2.2, face=customer)
    counter = shifted(customer, heading_to(customer, behind), 0.65)
    robber.act(Action.GRAB, 0.9, face=behind, to=counter)
    taken_s = robber.now_s - 0.5
    end_s = shot.run_off(robber, *reversed(way))
    clerk.until(end_s, Action.HANDS_UP).until(end_s + 3, Action.PHONE).until(
        shot.duration_s, Action.STAND, face=customer
    )
    thief = Person(robber_look, robber)
    thief.hold(Item.GUN, end_s=taken_s)
    bag = rng.choice(("white", "yellow", "red", "green"))
    thief.hold(Item.BAG, CLOTHES[bag], start_s=taken_s)
    shot.add(thief, Person(clerk_look, clerk))
    shot.reserve(customer, 1.3, start_s - 1, end_s)
    return shot.told(
        "Robbery",
        (start_s, end_s),
        "ShopRobbery",
        robber=with_article(robber_look.words),
        clerk=clerk_look.colour,
        bag=bag,
    )


def shooting(shot: Shot, start_s: float) -> Event:
    """Someone fires a gun at another, who falls; people near by flee."""
    rng = shot.rng
    spot = shot.spot()
    side = shot.inward(spot)
    at, stand = shot.aside(spot, -1.1 * side), shot.aside(spot, 1.1 * side)
    shooter_look = shot.look()
    victim_look = shot.look(shooter_look)
    shooter = shot.arriving(at, start_s, near=shot.aside(spot, -20 * side))
    shots = tuple(start_s + 1.2 + 0.45 * i for i in range(rng.randint(4, 6)))
    shooter.until(shots[-1] + 0.3, Action.AIM, face=stand)
    victim = shot.arriving(stand, start_s - rng.uniform(0.5, 3), near=shot.aside(spot, 20 * side))
    victim.until(shots[1], Action.STAND, face=at)
    victim.act(Action.FALL_BACK, 0.8, face=at, to=shot.aside(stand, 0.4 * side)).until(shot.duration_s, Action.LIE)
    away = shot.exit(shooter.at, shot.aside(spot, -20 * side))
    end_s = shot.run_off(shooter, away)
    gunman = Person(shooter_look, shooter)
    gunman.hold(Item.GUN, start_s=start_s - 0.2)
    shot.add(gunman, Person(victim_look, victim))
    shot.reserve(spot, 2.2, start_s - 0.5, end_s)
    heading = heading_to(at, stand)
    hand = shifted(at, heading, 0.98, -0.12)
    shot.effects.append(Flashes(at=(hand[0], 0.83 * shooter_look.height_m, hand[1]), times_s=shots))
    shot.alarms.append((shots[0], spot))
    return shot.told(
        "Shooting",
        (start_s, end_s),
        "Shooting",
        shooter=with_article(shooter_look.words),
        shooter_as_second=_other(victim_look, shooter_look),
        victim=_other(shooter_look, victim_look),
        victim_as_first=with_article(victim_look.words),
        way=_direction(shot, spot, away),
    )


def _recover(shot: Shot, track: PersonTrack, from_s: float) -> None:
    """Let someone on the ground lie for a while, get up and walk off slowly."""
    track.until(from_s + shot.rng.uniform(0.8, 2.0), Action.LIE).act(Action.GET_UP, 1.9)
    track.go(shot.exit(track.at), Action.LIMP)


def _direction(shot: Shot, start: Place, end: Place) -> str:
    right = shot.camera.right
    across = (end[0] - start[0]) * right[0] + (end[1] - start[1]) * right[1]
    along = (end[0] - start[0]) * -right[1] + (end[1] - start[1]) * right[0]
    if abs(along) > abs(across):
        return "into the distance" if along > 0 else "towards the camera"
    return "to the right" if across > 0 else "to the left"


def _other(first: Look, second: Look) -> str:
    """Name the second person with 'another' where both are men or both are women."""
    return f"another {second.words}" if first.noun == second.noun else with_article(second.words)
