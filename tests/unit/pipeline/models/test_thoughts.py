"""Reasoning and answer told apart, in the marks of the models in use."""

from __future__ import annotations

import pytest

from pipeline.models.thoughts import without_thoughts


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("A man walks.", "A man walks."),
        ("<think>Hm, {1}</think>A man walks.", "A man walks."),
        ("Hm, a man.</think>A man walks.", "A man walks."),
        ("<think>Hm <think> again</think>A man <THINK>or</THINK>walks.", "A man walks."),
        ("<think>A man walks. {}", ""),
        ("A man walks.<thinking>Is that all", "A man walks."),
        ("[THINK]Hm[/THINK]A man walks.", "A man walks."),
        ("◁think▷Hm◁/think▷A man walks.", "A man walks."),
        ("<|channel|>analysis<|message|>Hm<|end|><|channel|>final<|message|>A man walks.", "A man walks."),
        ("analysisThey want a sentence.assistantfinalA man walks.", "A man walks."),
        ("<|channel|>analysis<|message|>A man walks.", ""),
    ],
)  # fmt: skip
def test_what_a_model_thinks_is_none_of_its_answer(text: str, answer: str) -> None:
    assert without_thoughts(text) == answer
