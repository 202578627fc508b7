"""What a model was heard to say, reduced to the caption."""

from __future__ import annotations

import re
from collections.abc import Sequence

from pipeline.models.thoughts import without_thoughts
from pipeline.prompts import Message

_CONTROL = re.compile(r"<\|[^<>|]{1,40}\|>|</?s>|<[be]os>|<(?:start|end)_of_\w+>|\[/?INST\]")
_END = "\x1e"
_ROLES = "assistant|user|human|system"
# Where one turn ends and another may begin: a control token, or the name of a role in one of its guises.
_TURN = re.compile(
    rf"{_END}|(?:^|\n)[ \t]*(?i:{_ROLES})[ \t]*(?::|(?=\n))"
    rf"|(?:(?<=[.!?])[ \t]+(?i:{_ROLES})|\b(?:ASSISTANT|USER)):"
)
_PLACEHOLDER = re.compile(r"</?(?:image|video|img|pad|unk|IMG_CONTEXT)>")
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+")
_LAST_SENTENCE_END = re.compile(r".*[.!?][\"')\]]*(?=\s|$)", re.DOTALL)

# A prompt's own sentence of so many words is not said by chance.
_ECHO_WORDS = 4


def clean_caption(text: str, prompt: Sequence[Message], *, is_cut_off: bool = False) -> str:
    """Return the caption in a model's text, on one line; empty where there is none.

    Gone are reasoning, control tokens, role names, whatever turns follow the first one that says something, and
    sentences of the prompt. A text that was cut off ends with its last whole sentence, if it has one.
    """
    text = _CONTROL.sub(f"{_END}\n", _PLACEHOLDER.sub(" ", without_thoughts(text)))
    asked = " ".join(" ".join(message["content"] for message in prompt).split()).casefold()
    turns = (_without_echo(turn, asked) for turn in _TURN.split(text))
    caption = next((turn for turn in turns if turn), "")
    whole = _LAST_SENTENCE_END.match(caption) if is_cut_off else None
    return whole.group() if whole else caption


def _without_echo(text: str, asked: str) -> str:
    sentences = _SENTENCE_END.split(" ".join(text.split()))
    return " ".join(
        sentence for sentence in sentences if len(sentence.split()) < _ECHO_WORDS or sentence.casefold() not in asked
    )
