"""How much of what an answer says its caption supports."""

from __future__ import annotations

import functools
import re

from pipeline.records import Caption, InstructionPair
from pipeline.taxonomy import describe_class

_WORD = re.compile(r"[a-z]{3,}")
_ENDINGS = re.compile(r"(?:ings?|edly|ed|ies|es|s|ly|er|ers)$")
# What every description says, whatever it tells.
_WORDS_HELD = 65_536
_EMPTY = frozenset(
    _WORD.findall(
        "abnormal abnormality about above after again against all also although among and anomalous anomaly "
        "another any are around because been before behavior behaviour being below between both but camera can "
        "cannot clear clearly clip could did does doing down during each event events expected explains few "
        "footage for from further had has have having here how instead into its itself just many may more most "
        "much near nor normal not nothing now off once one only ordinary other ought our out over own part rather "
        "reason same scene seen she should shown shows since some something such than that the their them then "
        "there therefore these they thing things this those through thus too two under until unusual upon use "
        "usual usually very video was way were what when where which while who whom whose why will with within "
        "without would yes you your "
    )
)


def support_of(pair: InstructionPair, caption: Caption) -> float:
    """Return the share of an answer's content words that stand in its caption, label or question, in [0, 1].

    Words are compared by their stems. An answer explains, and brings words for that: 0.4 is common for a good one. What
    tells of something else altogether comes near 0. An answer without content words is supported in full.
    """
    known = stems_of(f"{caption.text} {pair.question} {pair.label} {describe_class(pair.label).phrase}")
    said = stems_of(pair.answer)
    return len(said & known) / len(said) if said else 1.0


def stems_of(text: str) -> set[str]:
    """Return the stems of the content words of a text."""
    return set(map(_stem_of, set(_WORD.findall(text.lower())) - _EMPTY))


@functools.lru_cache(maxsize=_WORDS_HELD)
def _stem_of(word: str) -> str:
    stem = _ENDINGS.sub("", word)
    return stem if len(stem) >= 3 else word
