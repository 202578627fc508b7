"""Verdicts are read out of whatever words a model puts them in, and from words without one none is read."""

from __future__ import annotations

import pytest

from pipeline.evaluate.answers_verdict import read_verdict

ABNORMAL = [
    "Yes, the video shows a fight.",
    "yes",
    "YES. Two men fight.",
    '"Yes, a man is robbed."',
    "\u201cYes\u201d, a man is robbed.",
    "**Yes**, there is an explosion.",
    "- Yes: a car burns",
    "1. Yes",
    "**Answer:** Yes, there is.",
    "Judgement: yes",
    "The answer is yes.",
    "<think>No, wait. It may be no.</think>\nYes, a car hits a man.",
    "Sure! Yes, two men fight.",
    "I looked at the clip.\nFinal answer: **Yes**",
    "An anomaly exists, specifically an arrest.",
    'The anomaly exists, specifically named "Arson".',
    "There is an anomaly in the video.",
    "Abnormal.",
    "The video shows a man who breaks a window. This is abnormal because it is damage.",
    "The scene is not normal: people run away.",
    "A man walks by. Nothing else is seen at first. Then his behaviour is suspicious.",
]
NORMAL = [
    "No, the video shows people walking.",
    "No",
    "no.",
    "'No, nothing of the kind.'",
    "__No__ - all is calm",
    "A: No.",
    "No there is nothing",
    "Of course. No, people walk by.",
    "Let me see.\n\n**Answer:** no",
    "No anomaly exists in the video.",
    "No abnormal events.",
    "There is no anomaly in this video.",
    "There is no sign of violence.",
    "There are no dangerous events in the clip.",
    "There is nothing unusual here.",
    "I do not see any suspicious behaviour.",
    "The video does not show any abnormal event.",
    "I don't see anything dangerous.",
    "Normal",
    "Cars drive by. The scene is normal.",
    "Nothing abnormal happens.",
]
NEITHER = [
    "",
    "   ",
    "***",
    "A man walks along the street.",
    "No one is seen near the car.",
    "No-one walks there.",
    "There is no one in the room.",
    "A man stands there. No one else is seen.",
    "Yes and no.",
    "Yes/No",
    "Yesterday a car stood there.",
    "Noon in the city.",
    "I am sorry, but I cannot tell.",
    "The scene is normal, but the fall is abnormal.",
]


@pytest.mark.parametrize("answer", ABNORMAL)
def test_abnormal(answer: str) -> None:
    assert read_verdict(answer) is True


@pytest.mark.parametrize("answer", NORMAL)
def test_normal(answer: str) -> None:
    assert read_verdict(answer) is False


@pytest.mark.parametrize("answer", NEITHER)
def test_neither(answer: str) -> None:
    assert read_verdict(answer) is None


def test_what_opens_the_answer_decides() -> None:
    assert read_verdict("No, walking is normal. It would be abnormal to run.") is False
    assert read_verdict("Yes, this is abnormal, though the traffic is normal.") is True


def test_the_first_sentence_with_a_verdict_decides() -> None:
    assert read_verdict("A man stands there. The video is normal. An anomaly would be a fight.") is False
