"""Facts about motion put into one to three plain English sentences.

No word names what a measurement cannot know: things are "things", never people or cars. Wordings vary with a seed,
facts do not.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Sequence

from pipeline.models.motion.facts import ClipFacts, Mover, Stirring
from pipeline.models.motion.measure import WIDE_AREA
from pipeline.models.motion.moments import Moment

# fmt: off
_NUMBERS = (
    "no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
)
# fmt: on
_TENS = {20: "twenty", 30: "thirty", 40: "forty", 50: "fifty"}
_MANY = 6
_REPEATABLE = ("cut", "jump", "flash", "surge")
_LARGE_AREA, _SMALL_AREA = 0.05, 0.003
_FASTER, _MUCH_FASTER = 1.5, 2.2
_LARGER, _FAR_LARGER = 5.0, 8.0


def describe(facts: ClipFacts, seed: str) -> str:
    """Return one to three sentences that hold of the clip; `seed` chooses among equal wordings."""
    chance = random.Random(seed)
    sentences = [_scene(facts, chance)]
    if facts.camera is None and facts.movers and not _wide(facts) and (more := _foremost(facts, chance)):
        sentences.append(more)
    if facts.moments:
        sentences.append(_sudden(facts, chance))
    elif len(sentences) == 1 and facts.steady and facts.most > 0:
        sentences.append(chance.choice(["no sudden change stands out", "there is no sudden burst of motion or light"]))
    return " ".join(sentence[0].upper() + sentence[1:] + "." for sentence in sentences)


def number(value: int) -> str:
    """Spell `value`; from twenty on it is rounded to tens, from sixty on to minutes by the caller."""
    if value < len(_NUMBERS):
        return _NUMBERS[value]
    return _TENS[min(50, max(20, 10 * round(value / 10)))]


def _scene(facts: ClipFacts, chance: random.Random) -> str:
    if facts.camera is not None:
        return _camera(facts.camera, chance)
    movers, stirring = facts.movers, facts.stirring
    if (wide := _wide(facts)) is not None:
        return _widespread(wide, chance)
    if facts.most == 0:
        still = ["the view stays still, and nothing of any size moves through it"] if not facts.moments else []
        return chance.choice(["nothing of any size moves in the view", "no moving thing can be made out", *still])
    if not movers:
        return _in_place(facts, chance)
    if len(movers) == 1 and not stirring:
        return _single(movers[0], exact=facts.exact, chance=chance)
    return _group(facts, chance)


def _camera(camera: tuple[float, float, float], chance: random.Random) -> str:
    right, down, zoom = camera
    if abs(zoom) > 2 * max(abs(right), abs(down)):
        way = "grows larger, as when a camera moves in" if zoom > 0 else "grows smaller, as when a camera draws back"
    elif abs(right) >= abs(down):
        # The picture slides against the way the camera turns.
        slide, turn = ("left", "right") if right < 0 else ("right", "left")
        way = f"slides to the {slide}, as when a camera turns {turn}"
    else:
        way = "slides upward, as when a camera tilts down" if down < 0 else "slides downward, as when a camera tilts up"
    return chance.choice(["the camera is not still: ", "the view itself moves: "]) + f"the whole picture {way}"


def _wide(facts: ClipFacts) -> Stirring | None:
    """Return the stirring that fills much of the picture, as smoke does; no count or way holds within it."""
    return next((s for s in facts.stirring if s.area >= WIDE_AREA), None)


def _widespread(wide: Stirring, chance: random.Random) -> str:
    share = ("about a fifth", "about a third", "about half", "most")[bisect_left((0.27, 0.42, 0.6), wide.area)]
    verb = chance.choice(["keeps changing", "is in constant change"])
    return f"one large area {_where(wide.place)}, {share} of the picture, {verb}"


def _in_place(facts: ClipFacts, chance: random.Random) -> str:
    strongest = facts.stirring[0]
    how = "vigorously " if strongest.vigorous else ""
    where = _where(strongest.place)
    if facts.most > 1:
        return f"{'a few' if facts.most <= 3 else 'several'} things move {how}{where}"
    stays = all(stirring.stays for stirring in facts.stirring)
    tail = chance.choice([" without going anywhere", " and stays near its place"]) if stays else ""
    return f"something moves {how}{where}{tail}"


def _single(mover: Mover, *, exact: bool, chance: random.Random) -> str:
    subject = f"{_size(mover)}moving thing"
    opening = (
        chance.choice([f"only one {subject} can be seen; it goes", f"one {subject} goes", f"a single {subject} goes"])
        if exact
        else f"a {subject} goes"
    )
    return f"{opening} {_way(mover)}"


def _group(facts: ClipFacts, chance: random.Random) -> str:
    movers = facts.movers
    most = facts.most
    if most >= _MANY:
        count = chance.choice(["many things move at the same time", "many things are in motion at once"])
    elif most >= 4:
        count = chance.choice(["several things move at the same time", "several things are in motion at once"])
    elif most >= 2:
        bound = "at least " if not facts.exact else "" if facts.throughout else "up to "
        count = f"{bound}{number(most)} things are in motion at once"
    else:
        count = chance.choice(["there is movement", "something moves"])
    return f"{count} {_spread(movers, facts.stirring)}".rstrip() + _directions(movers, most)


def _spread(movers: Sequence[Mover], stirring: Sequence[Stirring]) -> str:
    places = [end for mover in movers for end in (mover.start, mover.end)] + [s.place for s in stirring]
    xs, ys = sorted(p[0] for p in places), sorted(p[1] for p in places)
    # The outermost tenth on either side is left out: a single straggler does not move the crowd.
    cut = len(places) // 10
    low, high = ys[cut], ys[-1 - cut]
    left, right = xs[cut], xs[-1 - cut]
    if right < 0.45:
        return "on the left"
    if left > 0.55:
        return "on the right"
    if high < 0.42:
        return "in the upper part of the view"
    if low > 0.58:
        return "in the lower part of the view"
    if low > 0.28 and high < 0.72:
        return "across the middle of the view" if right - left > 0.5 else "in the middle of the view"
    return "across the view" if right - left > 0.5 else ""


def _directions(movers: Sequence[Mover], most: int) -> str:
    if most == 1 or len(movers) == 1 or (len(movers) == 2 and most > 3):
        return ""
    if len(movers) == 2:
        first, second = (_heading(mover) for mover in movers)
        if first == second:
            return f", {'both' if most == 2 else 'two of them'} {first}"
        return f", one {first} and one {second}"
    right = sum(mover.end[0] - mover.start[0] > 0.03 for mover in movers)
    left = sum(mover.start[0] - mover.end[0] > 0.03 for mover in movers)
    # In a crowd only some are followed far enough: "mostly" is left out unless they are at least half of it.
    if max(left, right) >= 0.8 * len(movers) and len(movers) >= most / 2:
        return f", mostly towards the {'right' if right > left else 'left'}"
    if left and right:
        return ", some towards the left and some towards the right"
    return ""


def _foremost(facts: ClipFacts, chance: random.Random) -> str | None:
    """Say what sets the most striking mover apart, or at least which way it goes, where that is not said yet."""
    mover = facts.movers[0]
    told = len(facts.movers) == 1 and not facts.stirring
    remarks = _comparisons(mover, chance)
    if mover.stops_s is not None:
        remarks.append(f"comes to a halt {_when(mover.stops_s, facts.length_s)}")
    if remarks:
        subject = "it" if told else f"one {_size(mover)}thing, going {_way(mover)},"
        return f"{subject} {' and '.join(remarks)}"
    if _usual_pace(facts) and (told or facts.most >= 3):
        return "its pace is usual for this video" if told else "most of them move at the pace that is usual here"
    return None if told else f"one {_size(mover)}thing goes {_way(mover)}"


def _usual_pace(facts: ClipFacts) -> bool:
    ratios = [mover.speed_ratio for mover in facts.movers]
    return all(ratio is not None and ratio < 1.4 for ratio in ratios)


def _comparisons(mover: Mover, chance: random.Random) -> list[str]:
    remarks: list[str] = []
    if mover.area_ratio is not None and mover.area_ratio >= _LARGER:
        degree = "far larger" if mover.area_ratio >= _FAR_LARGER else "clearly larger"
        remarks.append(f"is {degree} than most things that move here")
    if mover.speed_ratio is not None and mover.speed_ratio >= _FASTER:
        degree = "much faster" if mover.speed_ratio >= _MUCH_FASTER else "faster"
        usual = chance.choice(["than most things that move here", "than is usual in this video"])
        remarks.append(f"moves {degree} {'than they do' if remarks else usual}")
    return remarks


def _sudden(facts: ClipFacts, chance: random.Random) -> str:
    first, *others = facts.moments
    again = [moment for moment in others if moment.kind == first.kind]
    told = _moment(first, facts.length_s, chance)
    if len(again) >= 2 and first.kind in _REPEATABLE:
        told += " and again several times"
        others = [moment for moment in others if moment.kind != first.kind]
    if not others:
        return told
    if others[0].kind == first.kind:
        return f"{told} and again {_when(others[0].at_s, facts.length_s)}"
    return f"{told}, and {_moment(others[0], facts.length_s, chance)}"


def _moment(moment: Moment, length_s: float, chance: random.Random) -> str:
    place = _where(moment.place) if moment.place else ""
    wordings = {
        "cut": ["the view cuts to another shot"],
        "jump": ["the picture jumps, as if a moment were missing,"],
        "flash": ["the whole picture flashes brighter"],
        "dip": ["the whole picture darkens for an instant"],
        "brighter": ["the whole picture turns brighter at once"],
        "darker": ["the whole picture turns darker at once"],
        "glare": [f"a bright burst appears {place}"],
        "surge": ["motion suddenly surges", "there is a sudden burst of motion"],
    }
    return f"{chance.choice(wordings[moment.kind])} {_when(moment.at_s, length_s)}"


def _way(mover: Mover) -> str:
    start, end = _place(mover.start), _place(mover.end)
    heading, duration = _heading(mover), f"in about {_seconds(mover.duration_s)}"
    nearer = mover.growth >= 1.5 and mover.end[1] > mover.start[1] + 0.03
    farther = mover.growth <= 0.67 and mover.end[1] < mover.start[1] - 0.03
    depth = ", growing larger as it comes closer" if nearer else ", growing smaller as it goes away" if farther else ""
    if abs(mover.end[0] - mover.start[0]) > 0.6:
        side = "right" if mover.end[0] > mover.start[0] else "left"
        return f"across most of the view to the {side} {duration}{depth}"
    if not mover.whole_way:
        return f"{heading}, first seen {_where(mover.start)}{depth}"
    if start == end:
        return f"{heading} {_where(mover.end)} for about {_seconds(mover.duration_s)}{depth}"
    return f"from the {start} to the {end} of the view {duration}{depth}"


def _heading(mover: Mover) -> str:
    right, down = mover.end[0] - mover.start[0], (mover.end[1] - mover.start[1]) * 0.75
    side = "right" if right > 0 else "left"
    end = "lower" if down > 0 else "upper"
    if abs(right) > 2 * abs(down):
        return f"towards the {side}"
    if abs(down) > 2 * abs(right):
        return "towards the bottom" if down > 0 else "towards the top"
    return f"towards the {end} {side}"


def _size(mover: Mover) -> str:
    return "large " if mover.area >= _LARGE_AREA else "small " if mover.area <= _SMALL_AREA else ""


def _place(position: tuple[float, float]) -> str:
    column = ("left", "centre", "right")[min(2, max(0, int(position[0] * 3)))]
    row = ("upper", "", "lower")[min(2, max(0, int(position[1] * 3)))]
    return f"{row} {column}".strip()


def _where(position: tuple[float, float]) -> str:
    place = _place(position)
    return f"on the {place} side" if place in ("left", "right") else f"in the {place}"


def _when(at_s: float, length_s: float) -> str:
    if at_s < 0.75:
        return "right at the start"
    if length_s - at_s < 0.75:
        return "right at the end"
    return f"about {_seconds(at_s)} into the clip"


def _seconds(value: float) -> str:
    if value >= 55:
        minutes = max(1, round(value / 60))
        return "one minute" if minutes == 1 else f"{number(minutes)} minutes"
    whole = max(1, round(value))
    return "one second" if whole == 1 else f"{number(whole)} seconds"
