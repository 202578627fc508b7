"""Which abnormal events a text claims, and whether an answer contradicts itself.

What claims an event stands in the taxonomies, in phrases of this form, blind to case:

    punch*                  a word, with any ending
    hit him|her|them        words that follow one another, with alternatives
    kick* .. door|window    words with at most four others between them, in one clause
    set|sets ... on fire    words with at most eight others between them, in one sentence

A phrase claims nothing where it is negated ("no fight", "a crash is avoided"), merely likened ("as if to hit"), or
where one of the class's `denials` overlaps it ("shoots a ball").
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache

from pipeline.taxonomy import ClassEntry, family_of, find_class, load_taxonomies

_BETWEEN = r"[^\w.;:!?]+"
_GAPS = {
    "..": rf"(?:{_BETWEEN}(?!and\b|then\b|who\b)[^\W_][\w'-]*(?![,])){{0,4}}?{_BETWEEN}",
    "...": rf"(?:{_BETWEEN}\w[\w'-]*){{0,8}}?{_BETWEEN}",
}
_PLAIN = str.maketrans({0x2018: "'", 0x2019: "'", 0x2013: "-", 0x2014: ";"})
_CLAUSE_END = re.compile(r"[,.;:!?]|\b(?:but|although|while|then|and then)\b", re.IGNORECASE)
_NEGATED = re.compile(
    r"\b(?:no|not|nothing|nobody|none|never|without|neither|nor|hardly|nearly|almost|pretend(?:s|ed|ing)?"
    r"|avoid(?:s|ed|ing)?|prevent(?:s|ed|ing)?|(?:absence|sign|free) of|as (?:if|though)|instead of|rather than)\b"
    r"(?! only\b)|n't\b",
    re.IGNORECASE,
)
_NEGATED_AFTER = re.compile(
    r"^\W*(?:\w+\W+){0,2}?(?:(?:do|does|did|is|are|was|were|has|have|can|could)(?: not|n't)|never"
    r"|(?:is|are|was|were) (?:avoided|prevented|averted))\b",
    re.IGNORECASE,
)
# Right behind "abnormal because": a concession or something else said before it does not count.
_CALM_REASON = re.compile(
    r"\b(?:ab|un)(?:normal|usual)\s+(?:\w+\s+){0,2}?(?:because|since|as|that)\s+(?P<why>"
    r"(?:nobody|no[ -]?one|nothing|none)\s+(?:\w+\s+){0,3}?"
    r"(?:hurt|harmed|injured|threatened|endangered|damaged|stolen|wrong|happens|unusual|abnormal)\b"
    r"|(?:\w+\s+){1,4}?(?:behaves?|moves?|acts?|goes|go|is|are)\s+(?:just\s+)?as\s+"
    r"(?:usual|normal|expected|(?:one|anyone)\s+(?:would\s+)?expects?)\b)",
    re.IGNORECASE,
)
# "no signs of fights, thefts or crashes", "no unusual behaviour, such as fights or thefts", "no fights, no theft
# and no crash": up to the last of them.
_NEGATED_LIST = re.compile(
    r"\b(?:no|not|nothing|without|never|neither|nor)\b(?:"
    r"(?:\s+[\w'-]+){0,6}?(?:\s+of|,?\s+(?:such as|like|including))(?:\s+(?:any|an?))?"
    r"(?:\s+(?:[\w'-]+\s+){0,2}[\w'-]+,)*|(?:\s+(?:any\s+)?(?:[\w'-]+\s+)?[\w'-]+,)+"
    r")(?:\s+(?:or|and|nor))?(?:\s+[\w'-]+){0,2}\s*$",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"[.;:!?]|\bbut\b", re.IGNORECASE)
_REACH_WORDS = 5
_WORD = re.compile(r"\w+")
_NO_WORDS = {code: " " for code in range(128) if not _WORD.match(chr(code))}
_WORDS_HELD = 65_536
_PATTERNS_HELD = 4096
_OPENING = re.compile(r"\W*(yes|no)\s*[,.:;!-]", re.IGNORECASE)


def claimed_events(text: str) -> dict[str, str]:
    """Return the classes whose events a text claims, each with the words that claim it first."""
    plain = text if text.isascii() else text.translate(_PLAIN)
    found = {}
    for name, phrases in _possible(plain).items():
        claims, denials = _any(tuple(phrases)), _denials()[name]
        denied: list[tuple[int, int]] | None = None
        for match in claims.finditer(plain):
            if denied is None:
                denied = [denial.span() for denial in denials.finditer(plain)] if denials else []
            overlapped = any(start < match.end() and match.start() < end for start, end in denied)
            if not overlapped and not is_negated(plain, *match.span()):
                found[name] = match.group()
                break
    return found


def claimed_families(text: str) -> dict[str, str]:
    """Return the families of the events that a text claims, each with the words that claim it first."""
    families: dict[str, str] = {}
    for name, words in claimed_events(text).items():
        if family := family_of(name):
            families.setdefault(family, words)
    return families


def find_contradiction(answer: str, stated: Collection[str], verdict: bool | None = None) -> str | None:
    """Return how an answer contradicts its verdict or itself, None where it does not.

    Args:
        answer: the text.
        stated: which of "normal" and "abnormal" it says of the video, as `stated_verdicts` of the rules tells.
        verdict: True for abnormal, False for normal; it counts where the answer opens with neither Yes nor No. Without
            it such an answer contradicts nothing.
    """
    opening = _OPENING.match(answer)
    if opening is not None:
        is_abnormal, source = opening[1].lower() == "yes", f"it opens with {opening[1]}"
    elif verdict is not None:
        is_abnormal, source = verdict, f"its verdict is {'abnormal' if verdict else 'normal'}"
    else:
        return None
    said, against = ("abnormal", "normal") if is_abnormal else ("normal", "abnormal")
    if against in stated and said not in stated:
        return f"{source} and then speaks of something {against}"
    if is_abnormal and (calm := _CALM_REASON.search(answer.translate(_PLAIN))):
        return f"{source} and gives a reason for the normal: {calm['why']!r}"
    if not is_abnormal and (claimed := claimed_events(answer[opening.end() if opening else 0 :])):
        name, words = next(iter(claimed.items()))
        return f"{source} and then tells of {name}: {words!r}"
    return None


def described_otherwise(answer: str) -> str | None:
    """Return the class of the event that an answer describes, where it names another to begin with; None otherwise.

    The first sentence names and the others describe. One of them that claims no event, an event of the same family, or
    one that the taxonomies know to come with it, is at odds with nothing.
    """
    first, _, rest = answer.translate(_PLAIN).partition(".")
    named, described = claimed_events(first), claimed_events(rest)
    if not named or not described:
        return None
    families = {family_of(name) for name in named}
    suits = families.union(*((entry.includes + entry.beside) for name in named if (entry := find_class(name))))
    if any(family_of(name) in suits for name in described):
        return None
    return min(described, key=lambda name: rest.find(described[name]))


def is_negated(text: str, start: int, end: int) -> bool:
    """Tell whether a negation stands close before or after a phrase, in the same clause, or before a list with it."""
    if _NEGATED_LIST.search(_SENTENCE_END.split(text[:start])[-1]):
        return True
    before = _CLAUSE_END.split(text[:start])[-1].split()[-_REACH_WORDS:]
    after = _CLAUSE_END.split(text[end:], maxsplit=1)[0]
    return bool(_NEGATED.search(" ".join(before)) or _NEGATED_AFTER.search(after))


def _possible(text: str) -> Mapping[str, Sequence[str]]:
    """Return the classes of which a text may claim the event, each with the phrases that may stand in it.

    A phrase is looked for only where for each of its words one of the text fits. Letters beyond ASCII match others,
    blind to case: then any phrase may stand there.
    """
    if not text.isascii():
        return {entry.name: entry.claims for entry in _entries()}
    begun = frozenset[str]().union(*map(_begun_by, set(text.lower().translate(_NO_WORDS).split())))
    phrases, first_of = _phrases(), _phrases_by_token()
    places = [place for token in begun for place in first_of[token] if phrases[place].tokens <= begun]
    possible: defaultdict[str, list[str]] = defaultdict(list)
    for place in sorted(places):
        possible[phrases[place].name].append(phrases[place].text)
    return possible


@dataclass(frozen=True, slots=True)
class _Phrase:
    """A phrase that claims the event of a class, and its words, gaps left out."""

    name: str
    text: str
    tokens: frozenset[str]


@cache
def _phrases() -> Sequence[_Phrase]:
    """Return all phrases, class by class in their order."""
    return [
        _Phrase(entry.name, text, frozenset(token for token in text.split() if token not in _GAPS))
        for entry in _entries()
        for text in entry.claims
    ]


@cache
def _phrases_by_token() -> Mapping[str, Sequence[int]]:
    """Return the places of the phrases that begin with each token; with most, none does."""
    found: dict[str, list[int]] = {token: [] for phrase in _phrases() for token in phrase.tokens}
    for place, phrase in enumerate(_phrases()):
        found[phrase.text.split()[0]].append(place)
    return found


@lru_cache(maxsize=_WORDS_HELD)
def _begun_by(word: str) -> frozenset[str]:
    """Return the tokens of phrases that a word of a text may stand for, as far as its letters and digits tell."""
    whole, begun = _tokens_by_word()
    beginnings = (begun.get(word[:length], frozenset()) for length in range(1, len(word) + 1))
    return whole.get(word, frozenset()).union(*beginnings)


@cache
def _tokens_by_word() -> tuple[Mapping[str, frozenset[str]], Mapping[str, frozenset[str]]]:
    """Return the tokens that stand for a word, and those that stand for what begins with one."""
    whole: defaultdict[str, set[str]] = defaultdict(set)
    begun: defaultdict[str, set[str]] = defaultdict(set)
    for token in _phrases_by_token():
        for word in token.lower().split("|"):
            match = _WORD.match(word)
            if match is None:
                raise ValueError(f"{word!r}: a word of a phrase begins with a letter or digit")
            (begun if word[match.end() :].startswith("*") else whole)[match.group()].add(token)
    return {word: frozenset(of) for word, of in whole.items()}, {word: frozenset(of) for word, of in begun.items()}


@cache
def _entries() -> Sequence[ClassEntry]:
    """Return the classes that have phrases; of those of one name, in several taxonomies, the last."""
    classes = (entry for taxonomy in load_taxonomies().values() for entry in taxonomy.classes)
    return list({entry.name: entry for entry in classes if entry.claims}.values())


@cache
def _denials() -> dict[str, re.Pattern[str] | None]:
    """Return what denies each class that has phrases, of all taxonomies."""
    return {entry.name: _any(entry.denials) if entry.denials else None for entry in _entries()}


@lru_cache(maxsize=_PATTERNS_HELD)
def _any(phrases: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(phrase_pattern, phrases)), re.IGNORECASE)


def phrase_pattern(phrase: str) -> str:
    """Return a phrase, in the form that the module tells, as a regular expression without a group that captures."""
    pattern, between = "", ""
    for token in phrase.split():
        if token in _GAPS:
            between = _GAPS[token]
        else:
            pattern, between = pattern + between + _word(token), _BETWEEN
    return rf"\b{pattern}\b"


def _word(alternatives: str) -> str:
    words = (re.escape(word).replace(r"\*", r"\w*") for word in alternatives.split("|"))
    return f"(?:{'|'.join(words)})"
