"""The rules that drop answers: verdict, leaked prompt text, length, refusals, repetition, near-duplicates.

Pure functions on text. Where a rule looks for a phrase, what stands in quotation marks or in the caption itself is
something seen or heard in the video, and no slip of the model.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

from pipeline.config import FilterConfig
from pipeline.errors import RecordError
from pipeline.quality.phrases import Phrases
from pipeline.quality.slips import (
    find_broken_text,
    find_control_token,
    find_first_person,
    find_invented_time,
    find_other_language,
)
from pipeline.records import NORMAL, Caption, InstructionPair, Reason, Task

_Check = Callable[[InstructionPair, Caption | None, FilterConfig], RecordError | None]


_PLAIN = str.maketrans({0x2018: "'", 0x2019: "'", 0x201C: '"', 0x201D: '"', 0x2013: "-", 0x2014: "-"})
_WORD = re.compile(r"[^\W_]+(?:['-][^\W_]+)*")
# Of ASCII, which most texts are, words are found sooner: all that stands in none becomes a space.
_ASCII_WORDS = {code: " " for code in range(128) if not chr(code).isalnum() and chr(code) not in "'-"}
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_QUOTED = re.compile(r"\"[^\"]*\"|(?<!\w)'[^']+'(?!\w)")

# The comma matters: "No one is seen" judges nothing.
_OPENING_VERDICT = re.compile(r"(yes|no)\s*[,.:;!-]", re.IGNORECASE)
_BARE_VERDICT = re.compile(r"^\s*(?:yes|no),\s+", re.IGNORECASE)

_SAYS_ABNORMAL = Phrases(
    ("abnormal", "anomal", "unusual", "suspicious", "out of the ordinary"),
    r"\b(?:abnormal(?:ity)?|anomal(?:y|ies|ous)|unusual|suspicious|out of the ordinary)\b",
)
_SAYS_NORMAL = Phrases(
    (" normal", " ordinary", " routine", " harmless"),
    r"\b(?:this|it|that|everything|all of (?:this|it)|(?:the|this) (?:\w+ )?"
    r"(?:video|clip|footage|scene|recording|segment|situation|behaviou?r|activity|event))"
    r"(?: \w+){0,3}? (?:is|are|isn't|aren't|seems|appears|looks|remains)"
    r"(?: (?:not|therefore|thus|clearly|entirely|completely|quite|all|to be))*"
    r" (?P<what>normal|ordinary|routine|harmless)\b",
)
# The scene as a whole is shown or called so: "shows everyday activity", "is a normal street scene", "Only ordinary
# traffic is seen". What departs from normal behaviour, or happens amidst it or after it, is not.
_SAYS_ORDINARY_SCENE = Phrases(
    ("normal", "ordinary", "everyday", "routine", "usual"),
    r"(?:^\W*(?:(?:yes|no|overall)[,.:;!-]+ )?"
    r"|\b(?:is|are|isn't|aren't|remains?|it's|looks|seems|appears|shows?|depicts?|captures?|records?|presents?|contains?|sees?))"
    r"[\s:]*(?:(?:not|no|nothing|but|only|just|simply|clearly|thus|therefore|an?|the|what|looks|like|to|be"
    r"|other|more|than|entirely|completely|perfectly|quite|very|otherwise)\s+)*"
    r"(?P<what>(?:normal|ordinary|everyday|routine|usual)(?: (?!(?:in|on|at|for|of|to)\b)[\w-]+){0,2}?"
    r" (?:scenes?|activity|activities|day|life|situation|behaviou?r|traffic|footage|recording|video|clip))\b"
    r"(?![^.;]*\b(?:until|when|but|then|suddenly|interrupt\w*|disrupt\w*|disturb\w*|turns? (?:into|violent))\b)",
)
_NEGATION = re.compile(
    r"\b(?:no|not|nothing|never|without|neither|nor|none|nobody|hardly|lacks?)\b"
    r"(?! (?:only|just|merely|but|(?:more|other) than)\b)"
    r"|\b(?:absence of|free of|instead of|rather than)\b|n't\b",
    re.IGNORECASE,
)
_NEGATION_REACH_WORDS = 5

_MARKUP_LEAKS = Phrases(
    ("&", "```", "{", "---", '"'),
    r"&[lg]t;",
    r"```",
    r"\$\{\w+\}|\{\{",
    r"^---$",
    r"\"(?:judgement|description|analysis|caption)\"\s*:",
)
_WORD_LEAKS = Phrases(
    (
        "label",
        "caption",
        "class",
        "description",
        "category",
        "annotation",
        "ground",
        "a ai",
        "an ai",
        "artificial",
        "chatbot",
        "language model",
        "prompt",
        "instruction",
        "here is",
        "json",
        "dataset",
    ),
    r"\bthe label (?:of (?:this|the) (?:clip|video|segment)|for|says|states|is|indicates|given)\b",
    r"\b(?:given|provided|assigned|supplied|above) (?:label|caption|class|description|category)\b",
    r"\b(?:according to|based on|given|per) (?:the|this|its|that) (?:label|caption|ground[- ]truth|annotation)s?\b",
    r"\b(?:the|this) caption (?:says|states|mentions|describes|indicates|notes|does|tells|reads|implies|suggests)\b",
    r"\bas (?:the|its) (?:label|caption)\b",
    r"\blabel?led (?:as )?(?:an? )?(?:ab)?normal\b",
    r"\bground[- ]truth\b",
    r"\bas an? (?:ai|artificial intelligence|chatbot)\b",
    r"\blanguage model\b",
    r"\b(?:system|user|task) prompt\b",
    r"\bthe (?:instructions?|prompt) (?:says?|asks?|states?|above|given)\b",
    r"\bhere is (?:the|a|my) (?:json|answer|response|reply|object)\b",
    r"\b(?:json|dataset)\b",
)

_REFUSALS = Phrases(
    (
        "sorry",
        "able",
        "afraid",
        "apolog",
        "i can",
        "i could",
        "i won't",
        "i will not",
        "i don't",
        "i do not",
        "i must",
        "i refuse",
        "possible",
        "enough",
        "insufficient",
        "request",
        "question",
        "content",
    ),
    r"^(?:(?:yes|no|well|unfortunately)[,.] )?(?:but )?(?:"
    r"i(?:'m| am) (?:very |so |really )?(?:sorry|unable|afraid|not able)"
    r"|sorry[,.]|my apologies|i apologi[sz]e"
    r"|i (?:can't|cannot|can not|couldn't|could not|won't|will not|don't have|do not have|must decline|refuse)\b"
    r"|it(?:'s| is) (?:not possible|impossible) to (?:tell|say|judge|determine|assess|describe|provide|answer)"
    r"|(?:there is )?(?:not enough|insufficient) (?:information|context|detail)"
    r"|(?:this|the) (?:request|question|content) (?:cannot|can't|violates))",
    r"\bi (?:can't|cannot|am unable to|am not able to) "
    r"(?:see|tell|determine|assist|help|provide|watch|view|access|judge|describe|comply|answer|fulfil)",
)

# Each of the rules reads the same few texts, one after the other.
_TEXTS_HELD = 64
_SENTENCES_HELD = 4096

_LOOP_WORDS = 10
_LOOP_TIMES = 3
_SAME_SENTENCE_WORDS = 4
_DULL_WORDS = 30
_DULL_SHARE = 0.5


def check_answer(
    pair: InstructionPair, caption: Caption | None, config: FilterConfig, clip_s: float | None = None
) -> RecordError | None:
    """Return the first rule that an answer breaks, with the text that breaks it, or None.

    `clip_s` is the length of the clip in seconds; without it no time in the answer is too late.
    """
    if broken := find_broken_text(pair.answer):
        return RecordError(Reason.BROKEN_TEXT, broken)
    # Quotation marks excuse nothing here: LLaMA-Factory ends a whole training at an <image> without an image.
    for name, text in (
        ("answer", pair.answer),
        ("question", pair.question),
        ("caption", caption.text if caption else ""),
    ):
        if token := find_control_token(text):
            return RecordError(Reason.CONTROL_TOKEN, f"{token} of the {name}: trainers read it as no text")
    faults = (check(pair, caption, config) for check in _CHECKS)
    if fault := next((fault for fault in faults if fault is not None), None):
        return fault
    if time := find_invented_time(plain(pair.answer), caption.text if caption else "", clip_s):
        return RecordError(Reason.INVENTED_TIME, time)
    return None


def find_slip(answer: str, task: Task, label: str, caption: Caption) -> RecordError | None:
    """Return the first slip of wording for which `check_answer` would drop an answer, whatever its settings, or None.

    These are the slips that a writer can mend: words of the prompt, a writer who speaks, a verdict against the label,
    repetition.
    """
    pair = InstructionPair(
        pair_id="", clip_id=caption.clip_id, task=task.value, question="", answer=answer, label=label, llm="",
        prompt_hash="", raw_response="",
    )  # fmt: skip
    faults = (check(pair, caption, _ANY_SETTINGS) for check in _MENDABLE)
    return next((fault for fault in faults if fault is not None), None)


def near_duplicates(pairs: Iterable[InstructionPair], config: FilterConfig) -> dict[str, RecordError]:
    """Find the answers of one video that say what an earlier kept answer to the same task says, by pair id.

    Two answers are near-duplicates from a Jaccard similarity of `config.near_duplicate` of their sets of word trigrams.
    "Earlier" is the order of `pairs`.
    """
    kept: defaultdict[str, list[tuple[str, frozenset[tuple[str, ...]]]]] = defaultdict(list)
    faults: dict[str, RecordError] = {}
    for pair in pairs:
        shingles = _trigrams(words_of(pair.answer))
        for earlier_id, earlier in kept[pair.task]:
            similarity = _jaccard(shingles, earlier, at_least=config.near_duplicate)
            if similarity >= config.near_duplicate:
                detail = f"{similarity:.2f} similar to {earlier_id}, the limit is {config.near_duplicate}"
                faults[pair.pair_id] = RecordError(Reason.NEAR_DUPLICATE, detail)
                break
        else:
            kept[pair.task].append((pair.pair_id, shingles))
    return faults


def _check_speaker(pair: InstructionPair, caption: Caption | None, config: FilterConfig) -> RecordError | None:  # noqa: ARG001
    speaker = find_first_person(_unquoted(pair.answer))
    if speaker and speaker.casefold() not in (plain(caption.text).casefold() if caption else ""):
        return RecordError(Reason.FIRST_PERSON, f"{speaker!r} is the writer, not the video")
    return None


def _check_language(pair: InstructionPair, caption: Caption | None, config: FilterConfig) -> RecordError | None:  # noqa: ARG001
    other = find_other_language(_unquoted(pair.answer)) if config.language == "en" else None
    return RecordError(Reason.OTHER_LANGUAGE, f"{other}; filter.language=en") if other else None


def _check_length(pair: InstructionPair, caption: Caption | None, config: FilterConfig) -> RecordError | None:  # noqa: ARG001
    count = len(words_of(pair.answer))
    if count < config.min_words:
        return RecordError(Reason.TOO_SHORT, f"{count} words, min_words={config.min_words}: {pair.answer!r}")
    if count > config.max_words:
        return RecordError(Reason.TOO_LONG, f"{count} words, max_words={config.max_words}")
    return None


def _check_refusal(pair: InstructionPair, caption: Caption | None, config: FilterConfig) -> RecordError | None:  # noqa: ARG001
    text = _unquoted(pair.answer).strip()
    for sentence in _SENTENCE_END.split(text) if _REFUSALS.may_be_in(text) else ():
        if match := _REFUSALS.search(sentence):
            return RecordError(Reason.REFUSAL, f"{match.group()!r} in {sentence!r}")
    return None


def _check_leak(pair: InstructionPair, caption: Caption | None, config: FilterConfig) -> RecordError | None:  # noqa: ARG001
    seen = plain(caption.text).casefold() if caption else ""
    # quotation marks excuse words, but no leftovers of markup
    for phrases, text in ((_MARKUP_LEAKS, plain(pair.answer)), (_WORD_LEAKS, _unquoted(pair.answer))):
        for match in phrases.finditer(text):
            if match.group().casefold() not in seen:
                return RecordError(Reason.LEAKED_PROMPT, f"{match.group()!r} is of the prompt, not of the video")
    return None


def _check_verdict(pair: InstructionPair, caption: Caption | None, config: FilterConfig) -> RecordError | None:  # noqa: ARG001
    is_normal = pair.label == NORMAL
    if pair.task == Task.CAPTION:
        return None
    if pair.task == Task.JUDGE_EXPLAIN:
        opening = _OPENING_VERDICT.match(plain(pair.answer).strip())
        if opening is None:
            return RecordError(Reason.WRONG_VERDICT, f"it starts with neither Yes nor No: {pair.answer[:60]!r}")
        if (opening.group(1).lower() == "no") != is_normal:
            return RecordError(Reason.WRONG_VERDICT, f"it starts with {opening.group(1)}, the label is {pair.label}")
    stated = stated_verdicts(pair.answer)
    # a text may well speak of both: "walking is normal here, but ..."
    if stated == {"abnormal" if is_normal else "normal"}:
        return RecordError(Reason.WRONG_VERDICT, f"it speaks of something {min(stated)}, the label is {pair.label}")
    return None


def _check_repetition(pair: InstructionPair, caption: Caption | None, config: FilterConfig) -> RecordError | None:  # noqa: ARG001
    # "Yes, the video shows ..." is the same sentence as "The video shows ..."
    answer = _BARE_VERDICT.sub("", pair.answer)
    sentences = Counter(words_of(sentence) for sentence in _SENTENCE_END.split(answer))
    for sentence, count in sentences.items():
        if count > 1 and len(sentence) >= _SAME_SENTENCE_WORDS:
            return RecordError(Reason.REPETITION, f"a sentence stands there {count} times: {' '.join(sentence)!r}")
    words = words_of(pair.answer)
    trigrams = list(zip(words, words[1:], words[2:], strict=False))
    different = len(set(trigrams))
    # What goes round holds a trigram twice.
    if different < len(trigrams) and (loop := _find_loop(words)):
        return RecordError(Reason.REPETITION, f"{' '.join(loop)!r} goes round and round")
    if len(words) >= _DULL_WORDS and different < (1 - _DULL_SHARE) * len(trigrams):
        return RecordError(Reason.REPETITION, f"only {different} of {len(trigrams)} word trigrams differ")
    return None


# A refusal or a leak tells more about what went wrong than the length or the missing verdict that come with it.
_CHECKS: Sequence[_Check] = (
    _check_refusal, _check_leak, _check_language, _check_speaker, _check_length, _check_verdict, _check_repetition,
)  # fmt: skip

_MENDABLE: Sequence[_Check] = (_check_leak, _check_speaker, _check_verdict, _check_repetition)
_ANY_SETTINGS = FilterConfig()


@lru_cache(maxsize=_TEXTS_HELD)
def stated_verdicts(text: str) -> frozenset[str]:
    """Return which of "normal" and "abnormal" the text says of the video, negations turned round, quotes left out."""
    plain_text = _unquoted(text)
    if not any(said.may_be_in(plain_text) for said in (_SAYS_ABNORMAL, _SAYS_NORMAL, _SAYS_ORDINARY_SCENE)):
        return frozenset()
    return frozenset().union(*map(_stated_in, _SENTENCE_END.split(plain_text)))


# Sentences of a template stand in thousands of answers.
@lru_cache(maxsize=_SENTENCES_HELD)
def _stated_in(sentence: str) -> frozenset[str]:
    verdicts = set()
    for match in _SAYS_ABNORMAL.finditer(sentence):
        verdicts.add("normal" if _is_negated(sentence[: match.start()]) else "abnormal")
    for said in (_SAYS_NORMAL, _SAYS_ORDINARY_SCENE):
        for match in said.finditer(sentence):
            verdicts.add("abnormal" if _is_negated(sentence[: match.start("what")]) else "normal")
    return frozenset(verdicts)


def _is_negated(before: str) -> bool:
    """Tell whether a negation stands among the last words before a place, in the same clause."""
    clause = re.split(r"[,;:]", before)[-1]
    nearest = clause.split()[-_NEGATION_REACH_WORDS:]
    return _NEGATION.search(" ".join(nearest)) is not None


def _find_loop(words: Sequence[str]) -> Sequence[str]:
    """Return the first run of up to ten words that is repeated three times on end (one word: four), else nothing."""
    for size in range(1, _LOOP_WORDS + 1):
        needed = size * (_LOOP_TIMES - (size > 1))
        run = 0
        for place in range(len(words) - size):
            run = run + 1 if words[place] == words[place + size] else 0
            if run == needed:
                return words[place - run + 1 : place - run + 1 + size]
    return ()


def plain(text: str) -> str:
    """Return `text` with typewriter quotation marks, apostrophes and dashes."""
    # Most texts have none; finding that out costs a hundredth.
    return text if text.isascii() else text.translate(_PLAIN)


@lru_cache(maxsize=_TEXTS_HELD)
def _unquoted(text: str) -> str:
    text = plain(text)
    return _QUOTED.sub(" ", text) if '"' in text or "'" in text else text


@lru_cache(maxsize=_TEXTS_HELD)
def words_of(text: str) -> tuple[str, ...]:
    """Return the words of a text without regard to case."""
    if not text.isascii():
        return tuple(map(str.casefold, _WORD.findall(plain(text))))
    words = text.lower().translate(_ASCII_WORDS)
    # A quotation mark at the edge of a word is none of its letters.
    return tuple(_WORD.findall(words) if "'" in words or "-" in words else words.split())


def _trigrams(words: Sequence[str]) -> frozenset[tuple[str, ...]]:
    """Return the set of word trigrams; a text of fewer than three words is one shingle."""
    return frozenset(zip(words, words[1:], words[2:], strict=False) if len(words) > 2 else [tuple(words)])


def _jaccard(a: frozenset[tuple[str, ...]], b: frozenset[tuple[str, ...]], at_least: float) -> float:
    """Return the Jaccard similarity, or 0.0 where the sizes alone keep it below `at_least`."""
    if min(len(a), len(b)) < at_least * max(len(a), len(b)):
        return 0.0
    shared = len(a & b)
    return shared / (len(a) + len(b) - shared)
