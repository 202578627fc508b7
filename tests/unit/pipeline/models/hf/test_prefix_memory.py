"""What prompts about one clip begin with goes through the language model once, and changes no answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from random_adapter import make_random_adapter
from video_models import FAMILIES

from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf import prefix_memory
from pipeline.models.hf.chat import VideoChat
from pipeline.models.hf.model import VideoModel, find_source
from pipeline.models.hf.model_parts import language_model_name
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import Message

QUESTION = "Is anything abnormal?"


def clip(seed: int, *turns: tuple[str, str]) -> ClipFrames:
    frames = np.random.default_rng(seed).integers(0, 255, (4, 64, 96, 3), dtype=np.uint8)
    return ClipFrames(
        frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0,
        turns=tuple(Message(role=role, content=content) for role, content in turns),
    )  # fmt: skip


def models(source: Any, new_tokens: int = 12) -> tuple[VideoModel, VideoModel, list[int]]:
    """Return a model that keeps what a clip came to, one that does not, and the tokens in the former's first passes."""
    how = Generation(max_new_tokens=new_tokens)
    keeping, fresh = (VideoModel(source, "cpu", (), how, keeps_clip=keeps) for keeps in (True, False))
    taken: list[int] = []
    decoder = keeping._model.get_submodule(language_model_name(keeping._model))
    decoder.register_forward_pre_hook(
        lambda _, __, given: taken.append(given["inputs_embeds"].shape[1]), with_kwargs=True
    )
    return keeping, fresh, taken


ASKED: list[tuple[str, Any]] = [
    ("odds", clip(1, ("user", QUESTION))),
    ("answer", clip(1, ("user", QUESTION))),
    ("opened", clip(1, ("user", QUESTION))),
    ("answer", clip(1, ("user", QUESTION), ("assistant", "Yes, a man falls."), ("user", "Who falls?"))),
    ("answer", clip(1, ("user", "What moves?"))),
    ("answer", clip(2, ("user", "What moves?"))),
    ("odds", clip(1, ("user", "What moves?"))),
    ("odds", clip(1, ("user", "What moves? And who is there?"))),
]


def ask(model: VideoModel, how: str, asked: ClipFrames) -> object:
    if how == "odds":
        return model.odds(asked)
    return model.answer([asked], "Yes," if how == "opened" else "")


@pytest.mark.parametrize("family", [*sorted(FAMILIES), "holmes-tiny"])
def test_a_prompt_that_begins_alike_goes_on(family: str, video_model: Callable[[str], str]) -> None:
    keeping, fresh, taken = models(find_source(family if family == "holmes-tiny" else video_model(family)))
    left_out: list[int] = []
    for how, asked in ASKED:
        taken.clear()
        said, expected = ask(keeping, how, asked), ask(fresh, how, asked)
        assert said == (pytest.approx(expected, rel=1e-4) if how == "odds" else expected), (how, asked.turns)
        left_out.append(fresh._inputs([asked], ())["input_ids"].shape[1] - taken[0])
    ids = fresh._inputs([ASKED[0][1]], ())["input_ids"]
    config = keeping._model.config
    places = [getattr(config, name, -1) for name in ("image_token_id", "video_token_id")]
    shown = int(torch.isin(ids, torch.tensor(places)).sum())
    assert left_out[1] == ids.shape[1] - 1, "the same prompt but for its last token"
    assert min(left_out[2:5] + left_out[7:]) > shown > 0
    assert max(left_out[0], *left_out[5:7]) <= 0, "another clip begins anew"


@pytest.mark.slow
@pytest.mark.parametrize("family", [*sorted(FAMILIES), "holmes-tiny"])
def test_questions_about_one_clip_share_its_part_of_a_batch(family: str, video_model: Callable[[str], str]) -> None:
    _, fresh, _ = models(find_source(family if family == "holmes-tiny" else video_model(family)))
    one, other = clip(1), clip(2)
    questions = (QUESTION, "What moves from left to right, and where does it go then?", "Who?")
    batch = [
        replace(shown, turns=(Message(role="user", content=question),))
        for shown, asked in ((one, questions), (clip(3), questions[:1]), (other, questions[1:]))
        for question in asked
    ]
    expected = [fresh.answer([asked])[0] for asked in batch]
    opened = [fresh.answer([asked], "Yes,")[0] for asked in batch]
    taken: list[torch.Size] = []
    decoder = fresh._model.get_submodule(language_model_name(fresh._model))
    decoder.register_forward_pre_hook(
        lambda _, __, given: taken.append(given["inputs_embeds"].shape[:2]), with_kwargs=True
    )
    assert fresh.answer(batch) == expected
    assert len(set(expected)) > 1
    whole = fresh._processor.footprint(batch[0]).tokens
    (clips, prefix), (rows, rest) = taken[:2]
    assert (clips, rows) == (3, 6), "each clip once, then each question"
    assert prefix > whole / 2
    assert 1 < rest < 1.2 * len(questions[1])
    assert fresh.answer(batch, "Yes,") == opened


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl"])
def test_frames_may_reach_beyond_the_text_in_time(family: str, video_model: Callable[[str], str]) -> None:
    keeping, fresh, _ = models(find_source(video_model(family)))
    minutes = replace(clip(1), indices=(0, 1500, 3000, 4500), clip_frames=6000, duration_s=600.0)
    asked = [replace(minutes, turns=(Message(role="user", content=question),)) for question in ("Who?", "Whose?")]
    expected = [fresh.answer([one], "Yes,")[0] for one in asked]
    assert [keeping.answer([one], "Yes,")[0] for one in asked] == expected
    assert keeping.answer(asked, "Yes,") == expected


@pytest.mark.parametrize("family", ["qwen2_5_vl", "qwen3_vl", "video_llava"])
def test_what_lies_between_two_questions_does_no_harm(family: str, video_model: Callable[[str], str]) -> None:
    keeping, fresh, taken = models(find_source(video_model(family)))
    asked, other = clip(1, ("user", QUESTION)), clip(2, ("user", "Where?"))
    expected = fresh.answer([asked])
    assert keeping.answer([asked]) == expected
    keeping.answer([other, asked, other])
    taken.clear()
    assert keeping.answer([asked]) == expected
    assert taken[0] > 1, "a batch takes the memory, and counts positions of its own"
    unfit = replace(other, frames=np.zeros((0, 64, 96, 3), np.uint8))
    keeping.answer([asked, unfit])
    assert keeping.answer([asked]) == expected


def test_frames_behind_what_is_alike_are_shown_again(video_model: Callable[[str], str]) -> None:
    keeping, fresh, taken = models(find_source(video_model("qwen2_5_vl")))
    for system in ("Be brief.", "Be thorough."):
        asked = clip(1, ("system", system), ("user", QUESTION))
        taken.clear()
        assert keeping.answer([asked]) == fresh.answer([asked])
        assert taken[0] > fresh._processor.footprint(asked).tokens / 2


def test_a_family_that_is_not_tested_is_asked_in_full(
    video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(prefix_memory, "FAMILIES", prefix_memory.FAMILIES - {"llava_onevision"})
    keeping, fresh, taken = models(find_source(video_model("llava_onevision")))
    asked = clip(1, ("user", QUESTION))
    assert keeping.answer([asked]) == keeping.answer([asked]) == fresh.answer([asked])
    whole = fresh._processor.footprint(asked).tokens
    assert taken.count(whole) == 2


def test_every_family_that_goes_on_is_tested() -> None:
    assert set(FAMILIES) == prefix_memory.FAMILIES


def test_layers_that_forget_are_not_gone_on_from(video_model: Callable[[str], str]) -> None:
    """Of a sliding window the first keys are gone."""
    from transformers import DynamicCache
    from transformers.cache_utils import DynamicSlidingWindowLayer

    keeping, _, taken = models(find_source(video_model("llava_onevision")))
    asked = clip(1, ("user", QUESTION))
    keeping.answer([asked])
    cache = DynamicCache(keeping._memory._layers)
    cache.layers[0] = DynamicSlidingWindowLayer(sliding_window=4)
    keeping._memory.forget()
    keeping._memory.keep(asked, keeping._inputs([asked], ()), cache)
    taken.clear()
    keeping.answer([asked])
    assert taken[0] > 1


def test_an_adapter_that_stays_apart_goes_on_as_well(video_model: Callable[[str], str], tmp_path: Path) -> None:
    make_random_adapter(video_model("qwen2_5_vl"), tmp_path)
    keeping, fresh, taken = models(replace(find_source(str(tmp_path)), merges=False))
    for how, asked in ASKED[:3]:
        taken.clear()
        said, expected = ask(keeping, how, asked), ask(fresh, how, asked)
        assert said == (pytest.approx(expected, rel=1e-4) if how == "odds" else expected)
    assert taken[0] <= 3


def test_the_chat_keeps_what_a_clip_came_to(video_model: Callable[[str], str]) -> None:
    chat = VideoChat(find_source(video_model("smolvlm")), "cpu", 4)
    decoder = chat._model._model.get_submodule(language_model_name(chat._model._model))
    taken: list[int] = []
    decoder.register_forward_pre_hook(
        lambda _, __, given: taken.append(given["inputs_embeds"].shape[1]), with_kwargs=True
    )
    chat.odds(clip(1), QUESTION)
    chat.answer(clip(1), QUESTION)
    assert taken[1] == 1
