"""What a person would write of an event: wordings from `datasets/sample`, filled with what is seen."""

from __future__ import annotations

from random import Random

from pipeline.sample.definitions import load

_WORDINGS = load("sentences", dict[str, list[str]])


def with_article(words: str) -> str:
    """Return words with 'a' or 'an' before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def sentence(rng: Random, kind: str, **phrases: str) -> str:
    """Return one of the wordings for a kind of event as a sentence."""
    words = rng.choice(_WORDINGS[kind]).format(**phrases)
    return f"{words[0].upper()}{words[1:]}."
