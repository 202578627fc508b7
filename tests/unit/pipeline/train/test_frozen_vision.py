"""What the frozen tower makes of a clip is made once, and the language model is given the same of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lora_dataset import write_dataset
from video_models import FAMILIES

from pipeline.config import LoraConfig, VideoConfig
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.loading import ModelSource
from pipeline.train.adapter import insert_lora
from pipeline.train.base_model import load_base, source_of_base
from pipeline.train.batches import DataSettings, TrainingBatches
from pipeline.train.conversation import Lesson, TrainingProcessor
from pipeline.train.frame_store import FrameStore
from pipeline.train.frozen_vision import FrozenVision, find_frozen_vision, outlined
from pipeline.train.lora import train_lora
from pipeline.train.loss import answer_loss
from pipeline.train.seen_clips import SeenClips
from pipeline.video.pool import VideoPool
from pipeline.workspace import Workspace


def lesson(seed: int, height: int = 64) -> Lesson:
    frames = np.random.default_rng(seed).integers(0, 255, (4, height, 96, 3), dtype=np.uint8)
    clip = ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)
    return Lesson(clip=clip, question="What moves?" * seed, answer="A thing.")


@pytest.mark.parametrize("family", FAMILIES)
def test_what_is_kept_of_clips_trains_like_their_pixels(family: str, video_model: Callable[[str], str]) -> None:
    config = LoraConfig(base=video_model(family), rank=2, alpha=4, gradient_checkpointing=True)
    source = source_of_base(config)
    processor = TrainingProcessor(source)
    model = insert_lora(load_base(source, config, torch.device("cpu"), torch.float32), config).train()
    lessons = [lesson(1), lesson(2, 48), lesson(3)]
    batch = processor.inputs(lessons)
    vision = find_frozen_vision(model, [processor.inputs([one]) for one in lessons], batch)
    assert isinstance(vision, FrozenVision)

    def gradients(inputs: Any) -> tuple[float, list[torch.Tensor]]:
        model.zero_grad()
        loss, _ = answer_loss(model, inputs)
        loss.backward()
        return loss.item(), [p.grad.clone() for p in model.parameters() if p.grad is not None]

    expected, wanted = gradients(batch)
    clips = [vision.look(processor.inputs([one])) for one in lessons]
    with vision.shown(clips):
        loss, found = gradients(outlined(batch))
    assert loss == pytest.approx(expected, rel=1e-5)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)
    with vision.shown([clips[1], clips[0], clips[2]]):
        assert gradients(batch)[0] != pytest.approx(expected, rel=1e-5)
    assert gradients(batch)[0] == pytest.approx(expected, rel=1e-5)


ROWS, EPOCHS = 6, 2


@pytest.mark.slow
def test_two_epochs_decode_and_look_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import LevitModel

    decoded: list[Any] = []
    looked: list[int] = []
    submit, forward = VideoPool.submit, LevitModel.forward

    def counted(self: Any, pixel_values: torch.Tensor, *args: Any, **named: Any) -> Any:
        looked.append(len(pixel_values))
        return forward(self, pixel_values, *args, **named)

    monkeypatch.setattr(VideoPool, "submit", lambda self, fn, item: decoded.append(item) or submit(self, fn, item))
    monkeypatch.setattr(LevitModel, "forward", counted)

    def train(name: str, *, keep_features: bool) -> tuple[list[float], torch.Tensor]:
        decoded.clear()
        looked.clear()
        site = Workspace(str(write_dataset(tmp_path / name, train=ROWS, validation=0)))
        config = LoraConfig(
            rank=4, alpha=8, batch_size=2, micro_batch=2, epochs=EPOCHS, num_frames=2, log_to="none", device="cpu",
            keep_features=keep_features,
        )  # fmt: skip
        folder = train_lora(site, config, VideoConfig(workers=1)).folder
        report = json.loads((tmp_path / name / "reports" / "train-lora.json").read_text())
        from safetensors.torch import load_file

        weights = load_file(folder / "adapter_model.safetensors")
        return report["losses"], torch.cat([weights[key].flatten() for key in sorted(weights)])

    losses, weights = train("pixels", keep_features=False)
    assert sum(looked) >= EPOCHS * ROWS * 2
    kept_losses, kept_weights = train("features", keep_features=True)
    trial = [2, 2, 4]  # two clips of noise, alone and together
    assert looked == [*trial, *[2] * ROWS], "each clip of two frames once"
    assert len(decoded) == ROWS
    assert kept_losses == pytest.approx(losses, rel=1e-4)
    assert float((kept_weights - weights).norm()) < 0.02 * float(weights.norm())


def test_what_leaves_the_memory_is_found_on_disk(tmp_path: Path) -> None:
    clips = {number: lesson(number).clip for number in range(3)}
    made = {number: (torch.full((2, 3), number, dtype=torch.bfloat16), torch.ones(1)) for number in clips}
    seen = SeenClips(0, FrameStore(tmp_path / "features", 10**6))
    for number, clip in clips.items():
        seen.keep(number, clip, made[number])
        seen.trim()
    assert len(seen._clips) == 1
    for number, clip in clips.items():
        found = seen.get(number)
        assert found is not None
        assert found.clip.frames.shape == clip.frames.shape
        assert (found.clip.indices, found.clip.fps) == (clip.indices, clip.fps)
        assert all(torch.equal(a, b) for a, b in zip(found.features, made[number], strict=True))
    assert SeenClips(0).get(0) is None


def test_a_model_that_cannot_says_so(video_model: Callable[[str], str], caplog: pytest.LogCaptureFixture) -> None:
    config = LoraConfig(base=video_model("smolvlm"), rank=2, alpha=4)
    source = source_of_base(config)
    processor = TrainingProcessor(source)
    model = load_base(source, config, torch.device("cpu"), torch.float32)
    inputs = processor.inputs([lesson(1)])
    with caplog.at_level(logging.WARNING):
        # What another clip came to is not what the model sees of this one.
        assert find_frozen_vision(model, [processor.inputs([lesson(2)])], inputs) is None
        model.requires_grad_(requires_grad=True)
        assert find_frozen_vision(model, [inputs], inputs) is None
    assert "would not be what the model sees" in caplog.text
    assert "its vision tower is trained" in caplog.text


def test_batches_made_ahead_ask_for_one_look_a_clip(tmp_path: Path, video_model: Callable[[str], str]) -> None:
    """As on a GPU: a thread makes batches while the tower is at work, and clips leave the memory for the disk."""
    site = write_dataset(tmp_path / "site", train=ROWS, validation=0)
    settings = DataSettings(
        num_frames=2, max_side=64, video=VideoConfig(workers=1), prepared_ahead=2, cache_mb=0, frames_mb=100
    )
    processor = TrainingProcessor(ModelSource(name=video_model("llava_onevision")))
    batches = TrainingBatches(site / "dataset", "train", processor, settings, batch_size=2)
    assert batches.asks_again(EPOCHS)
    assert not batches.asks_again(1)
    seen = batches.look_once(tmp_path / "features")
    looks: list[int] = []
    for epoch in range(EPOCHS):
        batches.set_epoch(epoch)
        for batch in batches:
            assert len(batch.views) == len(batch.ids)
            for view in batch.views:
                if view.features is None and seen.get(view.number) is None:
                    assert view.inputs is not None
                    looks.append(view.number)
                    seen.keep(view.number, view.clip, (torch.full((2, 3), view.number),))
                known = seen.get(view.number)
                assert known is not None
                assert int(known.features[0][0, 0]) == view.number
    assert sorted(looks) == list(range(ROWS))
