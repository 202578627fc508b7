"""What of a base is quantized, and what is said where it cannot be; the arithmetic itself needs a CUDA device."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from video_models import FAMILIES

from pipeline.config import LoraConfig
from pipeline.errors import SetupError
from pipeline.models.hf.model import ModelSource, load_weights
from pipeline.models.hf.model_parts import language_model_name, projector_parameters
from pipeline.train import base_model

VideoModelOf = Callable[[str], str]
CUDA = torch.device("cuda")


def packages(*, there: bool) -> SimpleNamespace:
    """Stand in for importlib where it is asked whether a package is installed."""
    return SimpleNamespace(util=SimpleNamespace(find_spec=lambda name: (there and name == "bitsandbytes") or None))


def test_a_missing_package_is_named(video_model: VideoModelOf, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base_model, "importlib", packages(there=False))
    source = ModelSource(name=video_model("smolvlm"))
    with pytest.raises(SetupError, match=r"lora.quantize=4bit needs bitsandbytes: pip install bitsandbytes"):
        base_model.load_base(source, LoraConfig(quantize="4bit"), CUDA, torch.bfloat16)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_language_model_alone_is_quantized(
    video_model: VideoModelOf, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = ModelSource(name=video_model(family))
    model, _, _ = load_weights(source, "cpu")
    given: dict[str, Any] = {}

    def read(source: ModelSource, dtype: torch.dtype, **settings: Any) -> Any:
        given.update(settings, dtype=dtype)
        return model

    release = importlib.metadata.version
    monkeypatch.setattr(
        importlib.metadata, "version", lambda name: release("torch" if name == "bitsandbytes" else name)
    )
    monkeypatch.setattr(base_model, "importlib", packages(there=True))
    monkeypatch.setattr(base_model, "read_weights", read)
    base_model.load_base(source, LoraConfig(quantize="4bit"), CUDA, torch.bfloat16)
    quantization = given["quantization_config"]
    assert (given["device_map"], given["dtype"]) == ({"": CUDA}, torch.bfloat16)
    assert quantization.load_in_4bit
    assert (quantization.bnb_4bit_quant_type, quantization.bnb_4bit_use_double_quant) == ("nf4", True)
    assert quantization.bnb_4bit_compute_dtype is torch.bfloat16
    linear = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    left = {
        name
        for name in linear
        if any(name == part or name.startswith(f"{part}.") for part in quantization.llm_int8_skip_modules)
    }
    inside = {name for name in linear if name.startswith(f"{language_model_name(model)}.")}
    assert left == set(linear) - inside
    assert "lm_head" in left
    assert left > {name.rpartition(".")[0] for name in projector_parameters(model)} & set(linear)
