"""Whether an answer says that something abnormal happens, in whatever words a model puts it."""

from __future__ import annotations

import re

from pipeline.quality.rules import plain, stated_verdicts

_THOUGHT = re.compile(r"^\s*(?:<think>)?.*</think>", re.DOTALL)
# Quotation marks, markdown, the number of a list, or the name of a part, as in `**Judgement:** Yes` and `1. A: no`.
_LEAD = re.compile(
    r"[\s\"'`*_#>()\[\]{}.:-]+|\d+[.)]\s"
    r"|(?:(?:final|short) )?(?:answer|judge?ment|verdict|conclusion|response|assistant|a)[\s*_\"']*:"
    r"|(?:the|my) (?:final )?(?:answer|judge?ment|verdict) is\b",
    re.IGNORECASE,
)
_HEDGE = re.compile(r"(?:yes|no)(?: and |,? or | ?/ ?)(?:yes|no)\b", re.IGNORECASE)
_YES = re.compile(r"yes\b", re.IGNORECASE)
# "No one is seen" judges nothing: behind a bare "no" a clause ends or a new one begins.
_NO = re.compile(r"no(?:\s*(?:[,.:;!\"'*_)\n]|$)|\s+-|\s+(?:there|this|the|it|i|nothing)\b)", re.IGNORECASE)
# Behind other sentences ("Sure! Yes, ...") only what stands on its own answers the question.
_LATE = re.compile(r"(?:(?P<yes>yes)|no)\s*(?:[,.:!\"'*_)]|$)", re.IGNORECASE)
_WORD = re.compile(r"(?:(?P<abnormal>abnormal|anomal(?:y|ous)|unusual)|normal)\s*(?:[,.:;!\"'*_)\n]|$)", re.IGNORECASE)
_DENIAL = re.compile(
    r"(?:there(?:'s| is| are| was| were) (?:no|nothing|not any)|no|nothing"
    r"|(?:i|it|the (?:video|clip|footage|scene)) (?:do not|don't|does not|doesn't|cannot|can't) "
    r"(?:see|find|spot|show|contain)(?: any(?:thing)?)?)\b"
    r"(?:\W+\w+){0,4}?\W+"
    r"(?:incident|accident|crime|violen|danger|threat|alarm|harmful|wrong|event|of concern|of note|noteworthy)",
    re.IGNORECASE,
)
_SENTENCE_END = re.compile(r"(?<=[.!?])[\"'*_)]*\s+|\n+")


def read_verdict(answer: str) -> bool | None:
    """Return True where an answer says that something is abnormal, False where nothing is, None where it tells neither.

    What opens the answer decides: Yes or No, also in quotation marks, in markdown or behind a label such as "Answer:".
    Else it is the first sentence that begins so, or that calls the video, or anything in it, abnormal or normal ("An
    anomaly exists", "There is no unusual activity", "The scene is normal"), negations turned round. A sentence that
    says both tells neither, and so does "Yes and no". The question is taken as one that Yes answers with abnormal.
    """
    text = _bare(plain(_THOUGHT.sub("", answer)))
    if _HEDGE.match(text):
        return None
    if opening := _YES.match(text) or _NO.match(text):
        return opening.re is _YES
    if (word := _WORD.match(text)) is not None:
        return word["abnormal"] is not None
    verdicts = (_verdict_in(sentence) for sentence in _SENTENCE_END.split(text))
    return next((verdict for verdict in verdicts if verdict is not None), None)


def _verdict_in(sentence: str) -> bool | None:
    bare = _bare(sentence)
    if late := _LATE.match(bare):
        return late["yes"] is not None
    stated = stated_verdicts(sentence)
    if len(stated) == 1:
        return stated == {"abnormal"}
    return False if not stated and _DENIAL.match(bare) else None


def _bare(text: str) -> str:
    """Return `text` without the marks and labels before its first word."""
    place = 0
    while (lead := _LEAD.match(text, place)) is not None:
        place = lead.end()
    return text[place:]
