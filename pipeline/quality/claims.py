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
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import cache

from pipeline.taxonomy import ClassEntry, family_of, load_taxonomies

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
_HEAD_LETTERS = 6
_OPENING = re.compile(r"\W*(yes|no)\s*[,.:;!-]", re.IGNORECASE)


def claimed_events(text: str) -> dict[str, str]:
    """Return the classes whose events a text claims, each with the words that claim it first."""
    plain = text.translate(_PLAIN)
    found = {}
    begun = _beginnings(plain)
    for name, (claims, denials) in _vocabulary().items():
        if begun is not None and begun.isdisjoint(_heads()[name]):
            continue
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


def is_negated(text: str, start: int, end: int) -> bool:
    """Tell whether a negation stands close before or after a phrase, in the same clause, or before a list with it."""
    if _NEGATED_LIST.search(_SENTENCE_END.split(text[:start])[-1]):
        return True
    before = _CLAUSE_END.split(text[:start])[-1].split()[-_REACH_WORDS:]
    after = _CLAUSE_END.split(text[end:], maxsplit=1)[0]
    return bool(_NEGATED.search(" ".join(before)) or _NEGATED_AFTER.search(after))


def _beginnings(text: str) -> set[str] | None:
    """Return how the words of a text begin; None where letters beyond ASCII may match others, blind to case."""
    if not text.isascii():
        return None
    words = set(_WORD.findall(text.lower()))
    return {word[:length] for word in words for length in range(1, _HEAD_LETTERS + 1)}


@cache
def _heads() -> dict[str, frozenset[str]]:
    """Return of each class how the words begin with which its phrases do: without one of them no search is needed."""
    return {entry.name: frozenset(map(_head, _first_words(entry.claims))) for entry in _entries()}


def _first_words(phrases: Iterable[str]) -> Iterator[str]:
    for phrase in phrases:
        yield from phrase.split()[0].split("|")


def _head(word: str) -> str:
    # up to the asterisk or whatever else ends a word
    match = _WORD.match(word.lower())
    if match is None:
        raise ValueError(f"{word!r}: a phrase begins with a letter or digit")
    return match.group()[:_HEAD_LETTERS]


@cache
def _entries() -> Sequence[ClassEntry]:
    return [entry for taxonomy in load_taxonomies().values() for entry in taxonomy.classes if entry.claims]


@cache
def _vocabulary() -> dict[str, tuple[re.Pattern[str], re.Pattern[str] | None]]:
    """Return what claims and what denies each class that has phrases, of all taxonomies."""
    return {e.name: (_any(e.claims), _any(e.denials) if e.denials else None) for e in _entries()}


def _any(phrases: Sequence[str]) -> re.Pattern[str]:
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
