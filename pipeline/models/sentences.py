"""Small surgery on English sentences, for answers that are put together from parts."""

from __future__ import annotations

import re

_ENDS = re.compile(r"[.!?][\"'”)]*$")
_WORD = re.compile(r"\w+")
_SENTENCE_BREAK = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'“])")
# First words whose capital belongs to the start of the sentence alone, never to a name.
_NOT_A_NAME = re.compile(
    r"(?:an?|the|this|these|those|one|two|three|four|five|six|seven|eight|nine|ten|several|some|many|few|most|all|each"
    r"|every|both|another|people|someone|somebody|nobody|no|nothing|something|things|only|single|up|at|in|on|to|from|near|almost|about|there|it|he|she|they|their|his|her)\b",
    re.IGNORECASE,
)


def tidy(text: str) -> str:
    """Return `text` on one line, with a capital at its start and a full stop at its end."""
    line = " ".join(text.split())
    line = line[:1].upper() + line[1:]
    return line if _ENDS.search(line) else line.rstrip(" ,;:-") + "."


def split_sentences(text: str) -> list[str]:
    """Split at a full stop, question or exclamation mark that a space and a capital or a quotation mark follow."""
    return _SENTENCE_BREAK.split(text.strip())


def without_repeats(text: str, before: str = "") -> str:
    """Return `text` without the sentences that `before` has, or it has had; all of it where none would be left."""
    said = set(map(_words, split_sentences(before)))
    kept = []
    for sentence in split_sentences(text):
        words = _words(sentence)
        if words not in said:
            said.add(words)
            kept.append(sentence)
    return " ".join(kept) or text


def _words(sentence: str) -> tuple[str, ...]:
    return tuple(_WORD.findall(sentence.casefold()))


def can_continue(sentence: str) -> bool:
    """Tell whether the first word of `sentence` may be written small, which a name may not."""
    return _NOT_A_NAME.match(sentence) is not None


def join_clause(opening: str, sentence: str) -> str:
    """Put `opening` before `sentence`, whose first word goes small unless it may be a name."""
    if opening and can_continue(sentence):
        sentence = sentence[0].lower() + sentence[1:]
    return f"{opening}{sentence}"
