"""What is said of the sample world: captions of clips, and questions about what can be seen, with their answers.

Nothing here judges: no caption and no question speaks of normal or abnormal.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from random import Random

import numpy as np

from pipeline.sample.definitions import COLOURS
from pipeline.sample.geometry import Camera
from pipeline.sample.layout import SceneKind
from pipeline.sample.people import Person
from pipeline.sample.pose import Action
from pipeline.sample.shot import Event, Shot
from pipeline.sample.vehicles import Vehicle
from pipeline.sample.words import place_and_light, with_article

_COLOUR = "|".join({*COLOURS["clothes"], *COLOURS["paints"]})
_CLOTHES = re.compile(rf" in (?:an? )?(?:{_COLOUR})(?: (?:top|coat|jacket|shirt|sweater|hoodie))?\b")
_PAINTED = re.compile(rf"\b(?:(an?) )?(?:{_COLOUR}) (\w+)", re.IGNORECASE)
_DOES: dict[Action, tuple[str, str]] = {
    Action.WALK: ("walks along", "walk along"), Action.LIMP: ("walks along", "walk along"),
    Action.JOG: ("jogs along", "jog along"), Action.RUN: ("runs", "run"),
    Action.CHAT: ("stands and talks", "stand and talk"), Action.ARGUE: ("argues", "argue"),
    Action.PHONE: ("looks at a phone", "look at a phone"), Action.STAND: ("stands still", "stand still"),
    Action.LIE: ("lies on the ground", "lie on the ground"),
    Action.REACH: ("reaches for something on a shelf", "reach for things on a shelf"),
}  # fmt: skip
_STEPS_S = 0.5
_MOVED_M = 2.0


def describe(shot: Shot, kind: SceneKind, span_s: tuple[float, float], event: Event | None, rng: Random) -> str:
    """Return the caption of a clip: what happens, then where."""
    happens = ordinary_life(shot, span_s, rng) if event is None else without_colours(event.sentence)
    return f"{happens} {place_and_light(kind, dark=bool(shot.night), indoor=shot.layout.indoor)}"


def without_colours(text: str) -> str:
    """Return a text without the colours of clothes and things.

    So small a model, shown a crowd in frames of 160 pixels, gives half of them to the wrong person: it had better not
    speak of them.

    >>> without_colours("A man in an orange shirt pours fuel from a red canister over an orange car.")
    'A man pours fuel from a canister over a car.'
    """

    def unpainted(match: re.Match[str]) -> str:
        article, thing = match.groups()
        words = with_article(thing) if article else thing
        return _capital(words) if match[0][0].isupper() else words

    return _PAINTED.sub(unpainted, _CLOTHES.sub("", text))


def ordinary_life(shot: Shot, span_s: tuple[float, float], rng: Random) -> str:
    """Return one or two sentences about the people and the traffic of a clip without an event."""
    times = np.arange(span_s[0], span_s[1], _STEPS_S).tolist()
    sentences = []
    seen = [(person, does) for person in shot.people if (does := _does(person, shot.camera, times)) is not None]
    if seen:
        counts = Counter(does for _, does in seen)
        first, count = counts.most_common(1)[0]
        who = next(person for person, does in seen if does == first).look.noun
        sentences.append(_say(with_article(who) if count == 1 else "people", first, count))
        others = sorted(does for does in counts if _DOES[does] != _DOES[first])
        if others:
            other = rng.choice(others)
            sentences.append(_say("somebody else" if counts[other] == 1 else "other people", other, counts[other]))
    moving = [vehicle for vehicle in shot.vehicles if _moves(vehicle, shot.camera, times)]
    if len(moving) == 1:
        does_what = "comes in" if moving[0].body.noun == "train" else "drives past"
        sentences.append(_capital(f"{with_article(moving[0].body.noun)} {does_what}."))
    elif moving:
        sentences.append("Vehicles drive past.")
    return " ".join(sentences) if sentences else "Nothing moves."


def _does(person: Person, camera: Camera, times: Sequence[float]) -> Action | None:
    """Return what a person mostly does while in view, None where it is hardly seen or does nothing ordinary."""
    actions = Counter(
        action
        for time_s in times
        if (place := person.place(time_s)) is not None and camera.glimpses(place)
        and (action := person.track.action(time_s)) in _DOES
    )  # fmt: skip
    if sum(actions.values()) * _STEPS_S < 1.0:
        return None
    chosen = actions.most_common(1)[0][0]
    return Action.WALK if chosen is Action.LIMP else chosen


def _moves(vehicle: Vehicle, camera: Camera, times: Sequence[float]) -> bool:
    places = [place for time_s in times if (place := vehicle.place(time_s)) is not None and camera.glimpses(place)]
    return len(places) > 1 and float(np.ptp(np.array(places), axis=0).max()) > _MOVED_M


def _say(who: str, action: Action, count: int) -> str:
    return _capital(f"{who} {_DOES[action][count > 1]}.")


def _capital(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}"
