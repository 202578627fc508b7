"""The verdict is the model's own probability of Yes; words that contradict it, or themselves, are made once more."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from video_models import FAMILIES

from pipeline.infer.detector import Detector
from pipeline.infer.judgement import NOTHING_VISIBLE, confidence_of, contradicts, judge
from pipeline.infer.settings import DetectSettings, default_question
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.chat import VideoChat
from pipeline.models.hf.model import find_source
from pipeline.prompts import Message

CLIP = ClipFrames(
    frames=np.random.default_rng(3).integers(0, 255, (4, 48, 64, 3), dtype=np.uint8), indices=(0, 2, 4, 6),
    clip_frames=8, fps=4.0, duration_s=2.0,
)  # fmt: skip


class Chat:
    """Says what it is told to, freely and behind an opening."""

    def __init__(self, odds: tuple[float, float], freely: str, opened: str = "", other: str = "") -> None:
        self.odds_, self.freely = odds, freely
        yes, no = (opened, other or opened) if odds[0] >= odds[1] else (other or opened, opened)
        self.opened = {"Yes,": yes, "No,": no}
        self.openings: list[str] = []

    def odds(self, clip: ClipFrames, question: str) -> tuple[float, float]:
        return self.odds_

    def answer(self, clip: ClipFrames, question: str, history: Any = (), opening: str = "") -> str:
        self.openings.append(opening)
        return self.opened[opening] if opening else self.freely


def judged(chat: Chat, question: str | None = None) -> tuple[str | None, float | None, bool, bool | None]:
    said = judge(chat, CLIP, question or default_question(), "v.mp4")  # type: ignore[arg-type]
    return said.answer, said.confidence, said.consistent, said.verdict


def test_a_clip_without_a_picture_is_not_asked_about() -> None:
    chat = Chat((0.9, 0.1), "Yes, the video shows an explosion.")
    dark = replace(CLIP, frames=np.full_like(CLIP.frames, 4))
    said = judge(chat, dark, default_question(), "v.mp4")  # type: ignore[arg-type]
    assert (said.answer, said.verdict, chat.openings) == (NOTHING_VISIBLE, False, [])
    assert confidence_of(chat, dark, default_question()) == 0.0  # type: ignore[arg-type]


def test_words_that_agree_with_the_verdict_stay() -> None:
    chat = Chat((0.6, 0.2), "Yes, a man falls.")
    assert judged(chat) == ("Yes, a man falls.", pytest.approx(0.75), True, True)
    assert chat.openings == [""]


def test_a_model_that_only_describes_judges_nothing() -> None:
    chat = Chat((0.0006, 0.0004), "A street at night.", "Yes, a street.")
    assert judged(chat) == ("A street at night.", None, True, None)
    assert chat.openings == [""]
    assert judged(Chat((0.0006, 0.0004), "Yes, a man falls.")) == ("Yes, a man falls.", None, True, True)


@pytest.mark.parametrize(
    ("odds", "freely", "opening", "opened"),
    [
        ((0.6, 0.2), "No, all is calm.", "Yes,", "Yes, a man falls."),
        ((0.6, 0.2), "Yes, a man walks. The scene is normal.", "Yes,", "Yes, a man falls."),
        ((0.2, 0.6), "No, there is an unusual collision.", "No,", "No, cars pass."),
        ((0.2, 0.6), "Yes, a man falls.", "No,", "No, he sits down."),
        ((0.1, 0.3), "A street at night.", "No,", "No, a calm street."),
    ],
)
def test_a_contradiction_is_made_once_more_behind_the_verdict(
    odds: tuple[float, float], freely: str, opening: str, opened: str
) -> None:
    chat = Chat(odds, freely, opened)
    answer, confidence, consistent, verdict = judged(chat)
    assert (answer, consistent, verdict) == (opened, True, odds[0] > odds[1])
    assert confidence == pytest.approx(odds[0] / sum(odds))
    assert chat.openings == ["", opening]


def test_what_contradicts_itself_again_is_marked(caplog: pytest.LogCaptureFixture) -> None:
    chat = Chat((0.6, 0.2), "No, all is calm.", "Yes, this video is normal.")
    assert judged(chat) == ("Yes, this video is normal.", pytest.approx(0.75), False, True)
    assert chat.openings == ["", "Yes,", "No,"]
    assert "v.mp4: the answer contradicts its own verdict or itself" in caplog.text


def test_in_doubt_the_verdict_is_taken_that_its_words_bear_out() -> None:
    no_event = "Yes, a robbery. A man lies there, which is abnormal because nobody is hurt."
    chat = Chat((0.6, 0.4), no_event, no_event, "No, a man lies there.")
    assert judged(chat) == ("No, a man lies there.", pytest.approx(0.3), True, False)
    event = "No, a man swings a bat at a car. This is abnormal because property is damaged."
    chat = Chat((0.4, 0.6), event, event, "Yes, a man swings a bat at a car.")
    assert judged(chat) == ("Yes, a man swings a bat at a car.", pytest.approx(0.7), True, True)
    assert chat.openings == ["", "No,", "Yes,"]


def test_words_move_no_verdict_that_is_beyond_doubt() -> None:
    no_event = "Yes, a robbery. A man lies there, which is abnormal because nobody is hurt."
    chat = Chat((0.95, 0.05), no_event, no_event, "No, a man lies there.")
    assert judged(chat) == (no_event, pytest.approx(0.95), False, True)
    assert chat.openings == ["", "Yes,"]


@pytest.mark.parametrize(
    ("behind", "kept"),
    [
        ("Yes, the video shows a person damaging property. A man smashes a window.", True),
        ("Yes, the video shows a person damaging property. A man is shot.", False),
        ("Yes, the video shows a person damaging property. The scene is normal.", False),
    ],
)
def test_what_names_one_event_and_describes_another_is_told_anew_by_what_it_describes(behind: str, kept: bool) -> None:
    at_odds = "Yes, the video shows a person firing a gun. A man smashes a shop window with a bat."
    chat = Chat((0.9, 0.1), at_odds)
    opening = "Yes, the video shows a person damaging property."
    chat.opened[opening] = behind
    assert judged(chat)[0] == (behind if kept else at_odds)
    assert chat.openings == ["", opening]


def test_another_question_may_not_be_one_of_yes_or_no() -> None:
    assert judged(Chat((0.01, 0.02), "Yes, a man falls."), "What happens?") == ("Yes, a man falls.", None, True, True)
    assert judged(Chat((0.01, 0.02), "A man falls."), "What happens?")[1:] == (None, True, None)
    assert judged(Chat((0.6, 0.2), "Yes, a fight."), "Is there a fight?")[1:] == (pytest.approx(0.75), True, True)


def test_what_contradicts() -> None:
    assert contradicts("Yes, but nothing unusual is seen.", verdict=True)
    assert not contradicts("Yes, a car hits a wall, which is abnormal.", verdict=True)
    assert not contradicts("No, nothing abnormal happens here.", verdict=False)
    assert contradicts("No, this is everyday life. A man punches another man.", verdict=False)


def test_the_verdict_counts_and_not_the_words(event_video: Path, sampler_folder: Path, scripted: Any) -> None:
    scripted.odds = lambda self, clip, question: (0.05, 0.95)
    scripted.say = staticmethod(lambda clip, question: "Yes, a square dashes about.")
    found = Detector(DetectSettings(sampler=str(sampler_folder), model_path="model")).detect(event_video)
    [span] = found.spans
    assert (found.is_anomaly, found.confidence, found.consistent) == (False, pytest.approx(0.05), False)
    assert (span.confidence, span.consistent) == (found.confidence, False)
    told = json.loads(json.dumps(found.as_json()))
    assert (told["confidence"], told["consistent"]) == (0.05, False)
    assert (told["spans"][0]["confidence"], told["spans"][0]["consistent"]) == (0.05, False)


@pytest.mark.parametrize("family", [*sorted(FAMILIES), "holmes-tiny"])
def test_a_models_odds_are_those_of_its_first_token(family: str, video_model: Callable[[str], str]) -> None:
    import torch

    chat = VideoChat(find_source(family if family == "holmes-tiny" else video_model(family)), "cpu", 12)
    yes, no = chat.odds(CLIP, "Is anything abnormal?")
    model, turns = chat._model, [Message(role="user", content="Is anything abnormal?")]
    asked = replace(CLIP, turns=tuple(turns))
    # a template may have every answer begin with a space
    before, _, _ = model._processor.yes_or_no(asked)
    inputs = model._processor.inputs([asked], "cpu", before)
    with torch.no_grad():
        shares = model._model(**inputs).logits[0, -1].softmax(-1)
    tokenizer = model._processor._tokenizer
    said = [(tokenizer.decode([token]).strip(), float(share)) for token, share in enumerate(shares)]
    begins = {
        word: sum(share for part, share in said if part in {word[:n] for n in range(1, 4)})
        for word in ("Yes", "yes", "YES", "No", "no", "NO")
    }
    first = {word: tokenizer(word, add_special_tokens=False)["input_ids"][0] for word in ("Yes", "No")}
    assert shares[first["Yes"]] <= yes + 1e-6 <= sum(begins[word] for word in ("Yes", "yes", "YES")) + 2e-6
    assert shares[first["No"]] <= no + 1e-6 <= sum(begins[word] for word in ("No", "no", "NO")) + 2e-6
    assert 0 < yes + no <= 1


@pytest.mark.parametrize("family", [*sorted(FAMILIES), "holmes-tiny"])
def test_a_model_goes_on_from_an_opening(family: str, video_model: Callable[[str], str]) -> None:
    """What it says behind an opening is what it would say if it had said that itself; batches are what they were."""
    import torch

    chat = VideoChat(find_source(family if family == "holmes-tiny" else video_model(family)), "cpu", 6)
    question = "Is anything abnormal?"
    opened = chat.answer(CLIP, question, opening="Yes,")
    assert opened.startswith("Yes,")
    assert len(opened) > len("Yes,")
    model = chat._model
    asked = replace(CLIP, turns=(Message(role="user", content=question),))
    assert model.answer([asked, asked], opening="Yes,") == [opened, opened]
    assert model.answer([asked, asked]) == [chat.answer(CLIP, question)] * 2
    # one token after the other, without generate's cache
    tokens = model._processor.opening(asked, "Yes,")
    ends = model._model.generation_config.eos_token_id
    with torch.no_grad():
        added = list(tokens)
        for _ in range(6):
            inputs = model._processor.inputs([asked], "cpu", added)
            token = int(model._model(**inputs).logits[0, -1].argmax())
            if token in (ends if isinstance(ends, list) else [ends]):
                break
            added.append(token)
    is_cut_off = len(added) == len(tokens) + 6
    assert model._processor.text(added, asked, is_cut_off=is_cut_off) == opened
