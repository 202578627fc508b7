"""What reasoning models say to themselves, told from what they answer."""

from __future__ import annotations

import re

_TAGS = "think|thinking|thought|reasoning|seed:think"
# Tags of DeepSeek, Qwen and their like, of Magistral and of Kimi, and the channels of gpt-oss.
_MARK = re.compile(
    rf"(?P<end></(?:{_TAGS})>|\[/THINK\]|◁/think▷|<\|channel\|>final(?:<\|message\|>)?|\bassistantfinal)"
    rf"|<(?:{_TAGS})>|\[THINK\]|◁think▷|<\|channel\|>(?:analysis|commentary)",
    re.IGNORECASE,
)


def without_thoughts(text: str) -> str:
    """Return `text` without the reasoning in it; empty where the reasoning never ends.

    Many chat templates write the opening tag themselves: everything before a lone closing tag is reasoning.
    """
    kept: list[str] = []
    place = 0
    is_thinking = False
    for mark in _MARK.finditer(text):
        if mark["end"]:
            if not is_thinking:
                kept.clear()
            is_thinking = False
            place = mark.end()
        elif not is_thinking:
            kept.append(text[place : mark.start()])
            is_thinking = True
    return "".join(kept if is_thinking else [*kept, text[place:]])
