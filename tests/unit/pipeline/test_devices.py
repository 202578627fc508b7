"""What goes to a GPU goes from pinned memory, beside its work; what stays on a CPU is not copied."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from video_models import FAMILIES

from pipeline import devices
from pipeline.config import FeaturesConfig
from pipeline.devices import move, move_all
from pipeline.features import vision_tower
from pipeline.features.vision_tower import VisionTower
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf import inputs as hf_inputs
from pipeline.models.hf.loading import ModelSource
from pipeline.models.hf.model import VideoModel
from pipeline.models.hf.sampling import Generation
from pipeline.train.trainer import Trainer

VideoModelOf = Callable[[str], str]
Pinned = list[torch.Tensor]


class Recording:
    """A tensor of the host that notes what is done to it."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.done: list[object] = []

    def is_floating_point(self) -> bool:
        return True

    def pin_memory(self) -> Recording:
        self.done.append("pinned")
        return self

    def to(self, device: object, dtype: object = None, *, non_blocking: bool = False) -> Recording:
        self.done.append((device, dtype, non_blocking))
        self.device = torch.device(str(device))
        return self


@pytest.mark.parametrize("device", ["cuda", "cuda:1", torch.device("cuda", 0)])
def test_a_gpu_is_given_pinned_memory_that_it_need_not_wait_for(device: Any) -> None:
    tensor: Any = Recording()
    move(tensor, device, torch.bfloat16)
    assert tensor.done == ["pinned", (device, None, True), (device, torch.bfloat16, False)]
    there: Any = Recording()
    there.device = torch.device("cuda:0")
    move(there, device)
    assert there.done == [(device, None, False)], "what is there already is pinned nowhere"


def test_on_a_cpu_nothing_is_copied() -> None:
    given = {"ids": torch.arange(3), "pixels": torch.ones(2), "names": ["a"]}
    made = move_all(given, "cpu")
    assert all(made[name] is value for name, value in given.items())
    halved = move_all(given, "cpu", torch.bfloat16)
    assert (halved["ids"].dtype, halved["pixels"].dtype) == (torch.int64, torch.bfloat16)


@pytest.fixture
def pinned(monkeypatch: pytest.MonkeyPatch) -> Pinned:
    """The tensors that are pinned on a machine whose CPU, by its name, is taken for a GPU."""
    found: Pinned = []

    def pin(tensor: torch.Tensor) -> torch.Tensor:
        found.append(tensor)
        return tensor

    monkeypatch.setattr(torch.Tensor, "pin_memory", pin)
    for module in (devices, hf_inputs, vision_tower):
        monkeypatch.setattr(module, "is_gpu", lambda device: isinstance(device, str))
    return found


@pytest.mark.parametrize("family", FAMILIES)
def test_a_video_model_is_given_the_same_by_way_of_pinned_memory(
    family: str, video_model: VideoModelOf, request: pytest.FixtureRequest
) -> None:
    frames = np.random.default_rng(0).integers(0, 255, (4, 40, 56, 3), dtype=np.uint8)
    clip = ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)
    prompt = ({"role": "user", "content": "What moves?"},)
    model = VideoModel(ModelSource(name=video_model(family)), "cpu", prompt, Generation(max_new_tokens=2))
    expected = dict(model._inputs([clip, clip], ()))
    found: Pinned = request.getfixturevalue("pinned")
    made = model._inputs([clip, clip], ())
    assert expected.keys() == made.keys()
    for name, value in expected.items():
        assert torch.equal(value, made[name]), name
        assert any(value.shape == tensor.shape for tensor in found), name
    assert sum(tensor.dtype == torch.uint8 and tensor.shape == frames.shape for tensor in found) == 2


def test_a_vision_tower_is_given_the_same_by_way_of_pinned_memory(
    tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    import transformers

    size = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    transformers.Dinov2Model(transformers.Dinov2Config(**size, image_size=32, patch_size=16)).save_pretrained(tmp_path)
    shape = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    transformers.BitImageProcessor(**shape).save_pretrained(tmp_path)
    frames = np.random.default_rng(0).integers(0, 255, (3, 40, 56, 3), dtype=np.uint8)
    towers = [
        VisionTower(FeaturesConfig(encoder=str(tmp_path), batch_size=2, device="cpu", fit=fit))
        for fit in ("model", "tiles")
    ]
    expected = [tower.encode(frames) for tower in towers]
    found: Pinned = request.getfixturevalue("pinned")
    for tower, features in zip(towers, expected, strict=True):
        found.clear()
        assert np.array_equal(tower.encode(frames), features)
        assert sum(tensor.dtype == torch.uint8 for tensor in found) >= 2, "each batch of frames"


def test_a_training_batch_goes_by_way_of_pinned_memory(pinned: Pinned) -> None:
    trainer: Any = Trainer.__new__(Trainer)
    trainer.is_alone, trainer._accelerator = False, SimpleNamespace(device="cpu")
    inputs = {"input_ids": torch.arange(4), "labels": torch.arange(4)}
    assert trainer.place(inputs).keys() == inputs.keys()
    assert [tensor is inputs["input_ids"] for tensor in pinned] == [True], "labels stay where they are"
