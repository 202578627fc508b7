"""BLEU, ROUGE-L, METEOR and CIDEr of answers against reference answers, by the libraries that the field uses.

BLEU        pycocoevalcap: BLEU-1 to 4 of the corpus, closest reference length, no smoothing; `bleu` is their sum, the
            cumulative BLEU of Holmes-VAU
ROUGE-L     pycocoevalcap: F of the longest common subsequence, beta 1.2, mean over the answers
CIDEr       pycocoevalcap: CIDEr-D, document frequencies of the references given
METEOR      `stem`: NLTK, Lavie and Agarwal 2007, exact and stem matches but no synonyms, mean over the answers
            `java`: pycocoevalcap, METEOR 1.5 for English with synonyms and paraphrases, of the corpus

Words are those of NLTK's Treebank tokenizer, in lower case, without the punctuation that pycocoevalcap leaves out. The
Java program that pycocoevalcap would call splits alike but for parentheses and units; this one runs on every machine.
"""

from __future__ import annotations

import functools
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import SimpleNamespace
from typing import Any

from pipeline.errors import SetupError

_SENTENCE_END = re.compile(r"(?<=[.!?])[\"')\]]*\s+")


class Meteor(StrEnum):
    """Which METEOR is measured; numbers of one cannot be compared with those of the other."""

    STEM = "stem"
    JAVA = "java"


@dataclass(frozen=True, slots=True, kw_only=True)
class TextMetrics:
    """What the texts of a group come to.

    Attributes:
        bleu: sum of `bleu_1` to `bleu_4`, each in [0, 1].
        rouge_l, meteor: in [0, 1].
        meteor_variant: which METEOR that is.
        cider: in [0, 10]; None of a single answer, whose words all have the weight 0.
    """

    bleu: float
    bleu_1: float
    bleu_2: float
    bleu_3: float
    bleu_4: float
    rouge_l: float
    meteor: float
    meteor_variant: Meteor
    cider: float | None


def check_text_metrics(meteor: Meteor) -> None:
    """Find out whether the texts can be measured here.

    Raises:
        SetupError: a package or, for `java`, a Java runtime is missing.
    """
    try:
        import nltk  # noqa: F401
        import pycocoevalcap.cider.cider  # noqa: F401
    except ImportError as fault:
        raise SetupError(
            f"text metrics need {fault.name}: pip install 'holmes-engine[eval]', or --no-text for judgements alone"
        ) from None
    if meteor is Meteor.JAVA and shutil.which("java") is None:
        raise SetupError("--meteor java needs a Java runtime on the path; --meteor stem needs none")


def measure_texts(references: Sequence[str], predictions: Sequence[str], meteor: Meteor = Meteor.STEM) -> TextMetrics:
    """Compare every prediction with the one reference at its place.

    Raises:
        ValueError: there are none, or not as many of one as of the other.
        SetupError: as `check_text_metrics`, or the Java program fails.
    """
    if not references or len(references) != len(predictions):
        raise ValueError(f"{len(references)} references for {len(predictions)} predictions")
    check_text_metrics(meteor)
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge

    wanted = {place: [" ".join(split_words(text))] for place, text in enumerate(references)}
    given = {place: [" ".join(split_words(text))] for place, text in enumerate(predictions)}
    bleu = [float(value) for value in Bleu(4).compute_score(wanted, given, verbose=0)[0]]
    rouge_l = float(Rouge().compute_score(wanted, given)[0])
    cider = float(Cider().compute_score(wanted, given)[0]) if len(references) > 1 else None
    return TextMetrics(
        bleu=sum(bleu),
        **{f"bleu_{size}": value for size, value in enumerate(bleu, start=1)},
        rouge_l=rouge_l,
        meteor=_stem_meteor(wanted, given) if meteor is Meteor.STEM else _java_meteor(wanted, given),
        meteor_variant=meteor,
        cider=cider,
    )


def split_words(text: str) -> list[str]:
    """Return the words of a text in lower case, without punctuation."""
    tokenizer, punctuation = _tokenizer()
    # The tokenizer splits off the full stop at the very end of what it is given alone.
    return [
        word.lower()
        for sentence in _SENTENCE_END.split(text.replace("|||", " "))
        for word in tokenizer.tokenize(sentence)
        if word not in punctuation
    ]


@functools.cache
def _tokenizer() -> tuple[Any, frozenset[str]]:
    """Return what splits words, and what of them is punctuation."""
    from nltk.tokenize import TreebankWordTokenizer
    from pycocoevalcap.tokenizer.ptbtokenizer import PUNCTUATIONS

    return TreebankWordTokenizer(), frozenset([*PUNCTUATIONS, *"()[]{}"])


def _stem_meteor(wanted: dict[int, list[str]], given: dict[int, list[str]]) -> float:
    from nltk.stem.porter import PorterStemmer
    from nltk.translate.meteor_score import single_meteor_score

    # Answers say the same words over and over; WordNet, which NLTK would load, no package brings along.
    stemmer = SimpleNamespace(stem=functools.cache(PorterStemmer().stem))
    no_synonyms = SimpleNamespace(synsets=lambda _: ())
    scores: list[float] = [
        single_meteor_score(wanted[place][0].split(), given[place][0].split(), stemmer=stemmer, wordnet=no_synonyms)
        for place in wanted
    ]
    return sum(scores) / len(scores)


def _java_meteor(wanted: dict[int, list[str]], given: dict[int, list[str]]) -> float:
    try:
        return float(_java_program().compute_score(wanted, given)[0])
    except (OSError, ValueError) as fault:
        raise SetupError(f"--meteor java: METEOR 1.5 gave no score ({fault}); does `java -version` work?") from None


@functools.cache
def _java_program() -> Any:
    """Start METEOR 1.5, once: it reads its 60 MB of paraphrases first."""
    from pycocoevalcap.meteor.meteor import Meteor as Program

    return Program()
