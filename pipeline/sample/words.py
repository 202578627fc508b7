"""What a person would write of an event: wordings from `datasets/sample`, filled with what is seen."""

from __future__ import annotations

from random import Random

from pipeline.sample.definitions import load
from pipeline.sample.layout import SceneKind

PLACES: dict[SceneKind, str] = {
    SceneKind.STREET: "a street", SceneKind.PARKING: "a car park", SceneKind.ARCADE: "an arcade of shops",
    SceneKind.ALLEY: "an alley", SceneKind.PLAZA: "a square", SceneKind.SHOP: "a shop",
    SceneKind.PLATFORM: "a railway platform", SceneKind.FORECOURT: "a filling station",
}  # fmt: skip
_WORDINGS = load("sentences", dict[str, list[str]])


def with_article(words: str) -> str:
    """Return words with 'a' or 'an' before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def place_and_light(kind: SceneKind, *, dark: bool, indoor: bool) -> str:
    """Return in a sentence what place it is, and by which light; light says nothing under a roof."""
    light = "" if indoor else (" in the dark" if dark else " in daylight")
    return f"The place is {PLACES[kind]}{light}."


def sentence(rng: Random, kind: str, **phrases: str) -> str:
    """Return one of the wordings for a kind of event as a sentence."""
    words = rng.choice(_WORDINGS[kind]).format(**phrases)
    return f"{words[0].upper()}{words[1:]}."
