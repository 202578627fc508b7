"""The loss of answers and the learning rates."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from video_models import FAMILIES

from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.model import ModelSource, load_weights
from pipeline.train.conversation import Lesson, TrainingProcessor
from pipeline.train.loss import answer_loss
from pipeline.train.schedule import rate_factor


def lesson(seed: int, answer: str) -> Lesson:
    frames = np.random.default_rng(seed).integers(0, 255, (4, 64, 96, 3), dtype=np.uint8)
    clip = ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)
    return Lesson(clip=clip, question="Is there anything abnormal?", answer=answer)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_sum_is_that_of_transformers(video_model: Callable[[str], str], family: str) -> None:
    """transformers means over all answer tokens of a batch; here these are summed, from fewer logits."""
    import torch

    model, _, _ = load_weights(ModelSource(name=video_model(family)), "cpu")
    inputs = TrainingProcessor(ModelSource(name=video_model(family))).inputs(
        [lesson(0, "No."), lesson(1, "Yes, two cars collide at the crossing in the middle.")]
    )
    with torch.no_grad():
        theirs = model(**inputs, use_cache=False).loss
        loss, tokens = answer_loss(model, inputs)
    assert tokens == int((inputs["labels"] != -100).sum())
    assert float(loss / tokens) == pytest.approx(float(theirs), rel=1e-5)


def test_a_batch_without_answers_has_no_loss_but_a_gradient(video_model: Callable[[str], str]) -> None:
    model, _, _ = load_weights(ModelSource(name=video_model("smolvlm")), "cpu")
    inputs: dict[str, Any] = TrainingProcessor(ModelSource(name=video_model("smolvlm"))).inputs([lesson(0, "No.")])
    inputs["labels"][:] = -100
    loss, tokens = answer_loss(model, inputs)
    loss.backward()
    assert (float(loss.detach()), tokens) == (0.0, 0)
    assert all(not parameter.grad.any() for parameter in model.parameters() if parameter.grad is not None)


def test_rates_rise_straight_and_fall_as_a_cosine() -> None:
    factors = [rate_factor(step, 104, 0.0385) for step in range(104)]
    assert factors[:5] == pytest.approx([1 / 6, 2 / 6, 3 / 6, 4 / 6, 5 / 6])
    assert factors[5] == 1.0
    assert factors[5:] == sorted(factors[5:], reverse=True)
    assert 0 < factors[-1] < 1e-3
    assert rate_factor(0, 1, 0.03) == pytest.approx(0.5)
    assert rate_factor(0, 1, 0.0) == 1.0
    assert rate_factor(0, 1, 1.0) == pytest.approx(0.5)
