"""What a text claims of a clip beside its events: place, light, who and how many, and the colours of what.

The words stand in `datasets/vocabulary/captions.yaml`. What they do not know is no claim: a "person" is neither man nor
woman, and a number that is only vaguely told ("several people", or two numbers that do not fit) is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.errors import SetupError
from pipeline.quality.claims import claimed_families, is_negated, phrase_pattern
from pipeline.resources import DATASETS

VOCABULARY = DATASETS / "vocabulary/captions.yaml"

EVENT, PLACE, LIGHT, WHO, NUMBER, COLOUR = "event", "place", "light", "who", "number", "colour"
KINDS = (EVENT, PLACE, LIGHT, WHO, NUMBER, COLOUR)

_PLAIN = str.maketrans({0x2018: "'", 0x2019: "'"})
# Words that end a noun phrase: "in a red bag behind the man" tells of no red man.
_LINKS = (
    "the|an?|another|his|her|their|its|of|in|on|at|by|with|from|and|or|to|near|behind|over|under|who|that|which|is|are"
)
_BETWEEN = rf"(?:[ -]+(?!(?:{_LINKS})\b)[\w'-]+){{0,2}}?[ -]+"


@dataclass(frozen=True, slots=True, order=True)
class Claim:
    """That `value` is true of `about`: colour, clothes, red. `about` is empty for kinds that tell of the whole clip."""

    kind: str
    about: str
    value: str

    @property
    def aspect(self) -> tuple[str, str]:
        """What the claim is a value of."""
        return self.kind, self.about

    def __str__(self) -> str:
        return f"{self.value} {self.about}".strip()


@lru_cache(maxsize=4096)
def claims_of(text: str) -> frozenset[Claim]:
    """Return all that a text claims; each claim stands there once, however often it is made."""
    text = text.translate(_PLAIN)
    found = {Claim(EVENT, "", family) for family in claimed_families(text)}
    for kind, phrases in _phrases().items():
        found |= {Claim(kind, "", value) for value in _values(text, phrases)}
    found |= {Claim(COLOUR, thing, colour) for colour, thing in _coloured(text)}
    for about in _vocabulary().counted:
        if (number := _number(text, about)) is not None:
            found.add(Claim(NUMBER, about, str(number)))
    return frozenset(found)


class _Counted(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    one: tuple[str, ...]
    many: tuple[str, ...]


_Phrases = Mapping[str, tuple[str, ...]]


class _Vocabulary(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    place: _Phrases
    light: _Phrases
    who: _Phrases
    colours: _Phrases
    coloured: _Phrases
    counted: Mapping[str, _Counted]
    numbers: Mapping[int, tuple[str, ...]]


@cache
def _vocabulary() -> _Vocabulary:
    try:
        return _Vocabulary.model_validate(yaml.safe_load(VOCABULARY.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
        raise SetupError(f"{VOCABULARY}: not a vocabulary: {fault}") from None


@cache
def _phrases() -> Mapping[str, Mapping[str, re.Pattern[str]]]:
    """Return what claims each value of place, light and who."""
    words = _vocabulary()
    kinds = {PLACE: words.place, LIGHT: words.light, WHO: words.who}
    return {kind: {value: _any(phrases) for value, phrases in values.items()} for kind, values in kinds.items()}


def _values(text: str, phrases: Mapping[str, re.Pattern[str]]) -> set[str]:
    found = [(match.span(), value) for value, pattern in phrases.items() for match in pattern.finditer(text)]
    return {
        value
        for (start, end), value in found
        if not any(first <= start and end <= last and last - first > end - start for (first, last), _ in found)
        and not is_negated(text, start, end)
    }


def _coloured(text: str) -> Iterator[tuple[str, str]]:
    """Yield colours with what they are of: those before a thing, and those that somebody is dressed in."""
    before_thing, dressed = _colour_patterns()
    names = {word: colour for colour, words in _vocabulary().colours.items() for word in words}
    things = {
        word: thing
        for thing, phrases in _vocabulary().coloured.items()
        for phrase in phrases
        for word in phrase.split("|")
    }
    seen = set()
    for match in before_thing.finditer(text):
        for name in ("colour", "other"):
            if match[name]:
                seen.add(match.start(name))
                yield names[match[name].lower()], things[match["thing"].lower()]
    for match in dressed.finditer(text):
        if match.start("colour") not in seen:
            yield names[match["colour"].lower()], "clothes"


@cache
def _colour_patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    words = _vocabulary()
    colours = "|".join(word for named in words.colours.values() for word in named)
    things = "|".join(phrase for phrases in words.coloured.values() for phrase in phrases)
    before_thing = rf"\b(?P<colour>{colours})(?: and (?P<other>{colours}))?\b{_BETWEEN}(?P<thing>{things})\b"
    dressed = rf"\b(?:in|wearing|wears)(?: (?:an?|all|dark|light|bright))* (?P<colour>{colours})\b"
    return re.compile(before_thing, re.IGNORECASE), re.compile(dressed, re.IGNORECASE)


def _number(text: str, about: str) -> int | None:
    """Return how many a text tells of, None where it does not say, or not exactly."""
    singles, known, several, numbered = _number_patterns(about)
    told = [
        next(number for number, words in _vocabulary().numbers.items() if match["number"].lower() in words)
        for match in numbered.finditer(text)
    ]
    # Each is told of by its number, or was told of before: "the men".
    if len(several.findall(text)) > len(told):
        return None
    mentions = [match for match in singles.finditer(text) if not is_negated(text, *match.span())]
    nouns = [match["noun"].lower() for match in mentions]
    # "the man in grey" and "the clerk", of whom nothing was told before, are further ones.
    if any(match["which"] or match["noun"].lower() not in nouns for match in known.finditer(text)):
        return None
    if not told:
        # Who tells of "a man" does not say that nobody else is there; who tells of one does.
        is_said = len(nouns) > 1 or any(match["how"].lower() == "one" for match in mentions)
        return len(nouns) if is_said else None
    return told[0] if len(told) == 1 and len(nouns) in (0, told[0]) else None


@cache
def _number_patterns(about: str) -> tuple[re.Pattern[str], ...]:
    """Return what tells of one, of one that is known, of many without those that are known, and of a number."""
    counted = _vocabulary().counted[about]
    one, many = "|".join(counted.one), "|".join(counted.many)
    numbers = "|".join(word for words in _vocabulary().numbers.values() for word in words)
    return (
        re.compile(rf"\b(?P<how>an?|another|one){_BETWEEN}(?P<noun>{one})\b", re.IGNORECASE),
        re.compile(
            rf"\b(?:the|this|that){_BETWEEN}(?P<noun>{one})\b(?P<which>\s+(?:in|with|wearing|who)\b)?", re.IGNORECASE
        ),
        re.compile(rf"(?<!\bthe )(?<!\bboth )(?<!\bthese )\b(?:{many})\b", re.IGNORECASE),
        re.compile(rf"\b(?P<number>{numbers}){_BETWEEN}(?:{many})\b", re.IGNORECASE),
    )


def _any(phrases: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(phrase_pattern, phrases)), re.IGNORECASE)
