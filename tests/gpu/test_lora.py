"""LoRA training of every family on a CUDA device, in bfloat16 and on quantized weights."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import pytest
import torch
from lora_dataset import write_dataset
from video_models import FAMILIES, save_video_model

from pipeline.config import LoraConfig, VideoConfig
from pipeline.models.hf.model import find_source, load_weights
from pipeline.train.lora import train_lora
from pipeline.workspace import Workspace

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device can be used here"),
]


def train(base: Path, workspace: Path, **values: object) -> list[float]:
    settings = {
        "base": str(base), "rank": 8, "lr": 1e-2, "projector_lr": 1e-3, "batch_size": 4, "micro_batch": 2, "epochs": 6,
        "num_frames": 4, "judged_rows": 4, "validation_rows": 4, "log_to": "none", **values,
    }  # fmt: skip
    site = write_dataset(workspace)
    trained = train_lora(Workspace(str(site)), LoraConfig.model_validate(settings), VideoConfig(workers=1))
    _, device, dtype = load_weights(find_source(str(trained.folder)), "cuda")
    assert device.startswith("cuda")
    assert dtype is torch.bfloat16
    losses: list[float] = json.loads((site / "reports" / "train-lora.json").read_text())["losses"]
    return losses


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_in_bfloat16(family: str, tmp_path: Path) -> None:
    first, last = train(save_video_model(family, tmp_path / "base"), tmp_path / "site")
    assert last < 0.8 * first


@pytest.mark.parametrize("family", FAMILIES)
def test_kept_features_teach_the_same(family: str, tmp_path: Path) -> None:
    base = save_video_model(family, tmp_path / "base")
    kept = train(base, tmp_path / "kept", epochs=2)
    pixels = train(base, tmp_path / "pixels", epochs=2, keep_features=False)
    assert kept == pytest.approx(pixels, rel=0.05)


@pytest.mark.skipif(importlib.util.find_spec("bitsandbytes") is None, reason="bitsandbytes is not installed")
@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_learns_on_quantized_weights(family: str, tmp_path: Path) -> None:
    first, last = train(save_video_model(family, tmp_path / "base"), tmp_path / "site", quantize="4bit")
    assert last < 0.8 * first
