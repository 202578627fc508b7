"""Video MLLMs of every family on a CUDA device, in bfloat16, with frames scaled on the device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from video_models import FAMILIES, save_video_model

from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.model import ModelSource, VideoModel
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device can be used here"),
]
DEVICE = "cuda"


def clip(seed: int, height: int) -> ClipFrames:
    frames = np.random.default_rng(seed).integers(0, 255, (4, height, 96, 3), dtype=np.uint8)
    return ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)


def load(folder: Path, **generation: Any) -> VideoModel:
    prompt = load_prompt("caption").render()
    return VideoModel(ModelSource(name=str(folder)), DEVICE, prompt, Generation(max_new_tokens=8, **generation))


@pytest.mark.parametrize("temperature", [0.0, 1.0])
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_answers_a_mixed_batch(family: str, temperature: float, tmp_path: Path) -> None:
    model = load(save_video_model(family, tmp_path), temperature=temperature)
    assert model._dtype is torch.bfloat16
    answers = model.answer([clip(seed, height) for seed, height in enumerate([64, 64, 112])])
    assert all(isinstance(answer, str) for answer in answers), answers
    assert model.new_tokens > 0


@pytest.mark.parametrize("family", FAMILIES)
def test_what_prompts_share_is_computed_once(family: str, tmp_path: Path) -> None:
    source, how = (
        ModelSource(name=str(save_video_model(family, tmp_path)), dtype="float32"),
        Generation(max_new_tokens=4),
    )
    keeping, fresh = (VideoModel(source, DEVICE, (), how, keeps_clip=keeps) for keeps in (True, False))
    asked = [
        replace(clip(1, 64), turns=({"role": "user", "content": question},))
        for question in ("Is it odd?", "Who moves?")
    ]
    keeping.answer([asked[0]])
    assert keeping.odds(asked[1]) == pytest.approx(fresh.odds(asked[1]), rel=1e-2)
    assert all(isinstance(answer, str) for answer in keeping.answer(asked))
