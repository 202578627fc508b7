"""`holmes merge`: base and adapter become one model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_adapter import make_random_adapter
from typer.testing import CliRunner
from video_models import FAMILIES

from flows.cli import app
from pipeline.errors import SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.merge import merge_adapter
from pipeline.models.hf.model import ModelSource, find_source, load_weights
from pipeline.train.conversation import Lesson, TrainingProcessor

VideoModelOf = Callable[[str], str]


@pytest.fixture(scope="module")
def adapter(video_model: VideoModelOf, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of an adapter with random updates; made when first asked for."""
    folder = tmp_path_factory.mktemp("adapters")

    def make(family: str) -> Path:
        path = folder / family
        if not path.exists():
            path.mkdir()
            make_random_adapter(video_model(family), path)
        return path

    return make


def logits(model: Any, base: str) -> Any:
    import torch

    frames = np.random.default_rng(0).integers(0, 255, (4, 64, 96, 3), dtype=np.uint8)
    clip = ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)
    inputs = TrainingProcessor(ModelSource(name=base)).inputs(
        [Lesson(clip=clip, question="Is there anything?", answer="No.")]
    )
    del inputs["labels"]
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_the_merged_model_says_what_base_and_adapter_say(
    video_model: VideoModelOf, adapter: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    import torch
    from transformers import AutoModelForImageTextToText

    out = merge_adapter(str(adapter(family)), video_model(family), tmp_path / "merged")
    assert not list(tmp_path.glob("_tmp-*"))
    assert not (out / "adapter_config.json").exists()
    assert {path.stat().st_mode & 0o777 for path in out.iterdir()} == {out.stat().st_mode & 0o666}
    merged = AutoModelForImageTextToText.from_pretrained(out).eval()
    both, _, _ = load_weights(find_source(str(adapter(family)), video_model(family)), "cpu")
    wanted = logits(both, video_model(family))
    assert torch.equal(logits(merged, str(out)), wanted)
    plain, _, _ = load_weights(ModelSource(name=video_model(family)), "cpu")
    assert not torch.allclose(logits(plain, video_model(family)), wanted, atol=0.1 * float(wanted.abs().max()))


def test_the_command(adapter: Callable[[str], Path], tmp_path: Path) -> None:
    arguments = ["merge", str(adapter("smolvlm")), "-o", str(tmp_path / "merged"), "--dtype", "bfloat16"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert done.stdout == f"model  {tmp_path / 'merged'}\n"
    model, _, _ = load_weights(ModelSource(name=str(tmp_path / "merged")), "cpu")
    assert type(model).__name__ == "SmolVLMForConditionalGeneration"


def test_what_cannot_be_merged_says_why(
    video_model: VideoModelOf, adapter: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = adapter("smolvlm")
    with pytest.raises(SetupError, match=r"no adapter there"):
        merge_adapter(video_model("smolvlm"), None, tmp_path / "merged")
    with pytest.raises(SetupError, match=r"there are files already"):
        merge_adapter(str(folder), None, folder)
    with pytest.raises(SetupError, match=r"trained on .*the base here is a"):
        merge_adapter(str(folder), video_model("internvl"), tmp_path / "merged")
    damaged = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (damaged / "adapter_model.safetensors").write_bytes(b"no")
    with pytest.raises(SetupError, match=r"adapter_model.safetensors: damaged"):
        merge_adapter(str(damaged), None, tmp_path / "merged")
    assert not (tmp_path / "merged").exists()
