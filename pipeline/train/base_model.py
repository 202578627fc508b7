"""The model that LoRA goes into, on its device."""

from __future__ import annotations

import importlib.util
from typing import Any

from pipeline.config import LoraConfig
from pipeline.errors import SetupError
from pipeline.models.hf.loading import ModelSource, check_folder
from pipeline.models.hf.model import find_source, read_weights
from pipeline.models.hf.model_parts import modules_beside_language_model


def source_of_base(config: LoraConfig) -> ModelSource:
    """Return where the base of a training is read from.

    Raises:
        SetupError: there is no such folder, or an adapter in it: updates go onto whole models.
    """
    source = find_source(
        config.base,
        setting="lora.base",
        revision=config.revision,
        attention=config.attention,
        trust_remote_code=config.trust_remote_code,
        allow_pickle=config.allow_pickle,
    )
    if source.adapter is not None:
        raise SetupError(f"lora.base={config.base}: an adapter; `holmes merge` makes a model of it that can be trained")
    check_folder(source.name, "lora.base")
    return source


def load_base(source: ModelSource, config: LoraConfig, device: Any, dtype: Any) -> Any:
    """Return the model, without a gradient anywhere; `dtype` is that of weights that are not quantized.

    Raises:
        SetupError: it cannot be loaded, or quantized here.
    """
    if config.quantize == "none":
        model = read_weights(source, dtype).to(device)
    else:
        model = _read_quantized(source, device, dtype)
    model.requires_grad_(requires_grad=False)
    if config.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model


def _read_quantized(source: ModelSource, device: Any, dtype: Any) -> Any:
    if device.type != "cuda":
        raise SetupError(f"lora.quantize=4bit needs a CUDA device; this is {device}")
    if importlib.util.find_spec("bitsandbytes") is None:
        raise SetupError("lora.quantize=4bit needs bitsandbytes: pip install bitsandbytes")
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText, BitsAndBytesConfig

    # Only the names of its modules are wanted of this one: no weights are made.
    with torch.device("meta"):
        config = AutoConfig.from_pretrained(
            source.name, revision=source.revision, trust_remote_code=source.trust_remote_code
        )
        outline = AutoModelForImageTextToText.from_config(config, trust_remote_code=source.trust_remote_code)
    quantization = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=modules_beside_language_model(outline),
    )
    return read_weights(source, dtype, quantization_config=quantization, device_map={"": device})
