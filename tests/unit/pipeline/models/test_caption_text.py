"""Captions are free of whatever else a model says: control tokens, roles, further turns, the prompt itself."""

from __future__ import annotations

import pytest

from pipeline.models.caption_text import clean_caption
from pipeline.prompts import Message, load_prompt

ASKED = load_prompt("caption").render()
PROMPT = ASKED[0]["content"]
SAID = "A man runs to the left."


@pytest.mark.parametrize(
    "text",
    [
        SAID,
        f"  {SAID}\n",
        "A man runs\n\nto the left.",
        f"ASSISTANT: {SAID}",
        f"assistant\n{SAID}",
        f"Assistant: {SAID}\nUser: And then?\nAssistant: He stops.",
        f"{SAID} USER: And then? ASSISTANT: He stops.",
        f"<|im_start|>assistant\n{SAID}<|im_end|>\n<|im_start|>user\nAnd then?",
        f"[INST] {PROMPT} [/INST] {SAID}</s>",
        f"{SAID}<end_of_utterance>",
        f"<video>\n{SAID}",
        f"{PROMPT}\n{SAID}",
        f"USER: <video>\n{PROMPT} ASSISTANT: {SAID}",
        f"user: {PROMPT} assistant: {SAID}",
        f"Report only what is visible. {SAID}",
        f"<think>\nThe user wants a caption. A man? Yes.\n</think>\n\n{SAID}",
        f"The user wants a caption.</think>{SAID}",
    ],
)
def test_what_remains_is_the_caption(text: str) -> None:
    assert clean_caption(text, ASKED) == SAID


@pytest.mark.parametrize(
    "text",
    [
        "The assistant: a woman in white, helps a user of the machine.",
        "A human walks by. A system of pipes leaks.",
        "Two men <fight> in front of a [shop].",
        "It is visible.",
        "A sign on the wall reads SYSTEM: OFF in red.",
    ],
)
def test_ordinary_words_stay(text: str) -> None:
    assert clean_caption(text, ASKED) == text


@pytest.mark.parametrize("text", ["", "ASSISTANT:", "<|im_end|>", PROMPT, "<think> The man", f"user: {PROMPT}"])
def test_nothing_said_is_nothing(text: str) -> None:
    assert clean_caption(text, ASKED) == ""


def test_the_system_prompt_is_echo_too() -> None:
    prompt = [Message(role="system", content="You describe videos in plain words."), *ASKED]
    assert clean_caption(f"You describe videos in plain words. {SAID}", prompt) == SAID


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"{SAID} Then he turns to the", SAID),
        (f'{SAID} He says "stop!" and then', f'{SAID} He says "stop!"'),
        ("A man runs to the", "A man runs to the"),
        ("A car at 3.5 metres", "A car at 3.5 metres"),
    ],
)
def test_a_text_that_was_cut_off_ends_with_a_whole_sentence(text: str, expected: str) -> None:
    assert clean_caption(text, ASKED, is_cut_off=True) == expected
    assert clean_caption(text, ASKED) == text
