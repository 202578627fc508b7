"""What a person would write of an event: wordings from `datasets/sample`, filled with what is seen."""

from __future__ import annotations

from functools import cache
from random import Random

import yaml

from pipeline.resources import DATASETS

_WORDINGS = DATASETS / "sample" / "sentences.yaml"


def with_article(words: str) -> str:
    """Return words with 'a' or 'an' before them."""
    return f"{'an' if words[0] in 'aeiou' else 'a'} {words}"


def sentence(rng: Random, kind: str, **phrases: str) -> str:
    """Return one of the wordings for a kind of event as a sentence."""
    words = rng.choice(_wordings()[kind]).format(**phrases)
    return f"{words[0].upper()}{words[1:]}."


@cache
def _wordings() -> dict[str, list[str]]:
    wordings: dict[str, list[str]] = yaml.safe_load(_WORDINGS.read_text(encoding="utf-8"))
    return wordings
