"""The model that LoRA goes into, on its device."""

from __future__ import annotations

import importlib.util
import logging
from typing import Any

from pipeline.config import LoraConfig
from pipeline.errors import SetupError
from pipeline.models.hf.loading import ModelSource, check_folder
from pipeline.models.hf.model import find_source, read_weights
from pipeline.models.hf.model_parts import modules_beside_language_model

logger = logging.getLogger(__name__)


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


def load_base(source: ModelSource, config: LoraConfig, device: Any, dtype: Any, *, on_host: bool = False) -> Any:
    """Return the model, without a gradient anywhere; `dtype` is that of weights that are not quantized.

    It is on its device, or with `on_host` in the host's memory, made ready for that device.

    Raises:
        SetupError: it cannot be loaded, or quantized here, or liger is asked for and is not installed.
    """
    if config.quantize == "none":
        model = read_weights(source, dtype).to("cpu" if on_host else device)
    else:
        model = _read_quantized(source, device, dtype)
    model.requires_grad_(requires_grad=False)
    if config.kernels == "liger" or (config.kernels == "auto" and device.type == "cuda" and has_liger()):
        use_liger(model)
    if config.gradient_checkpointing:
        recompute(model)
    return model


def recompute(model: Any, **how: Any) -> None:
    """Have a model compute activations again in the pass backward; `how` are settings of PyTorch's `checkpoint`."""
    # older releases, 5.17 among them, know it by another name
    named = getattr(model, "activation_checkpointing_enable", None) or model.gradient_checkpointing_enable
    named({"use_reentrant": False, **how})


def has_liger() -> bool:
    """Whether Liger's kernels are installed."""
    return importlib.util.find_spec("liger_kernel") is not None


def use_liger(model: Any) -> None:
    """Put Liger's kernels (arXiv 2410.10989) into the language model, as far as they know it; the loss stays ours.

    Raises:
        SetupError: they are not installed.
    """
    if not has_liger():
        raise SetupError("lora.kernels=liger needs Liger: pip install liger-kernel")
    from liger_kernel.transformers.monkey_patch import (
        MODEL_TYPE_TO_APPLY_LIGER_FN,
        _apply_liger_kernel_to_instance,
    )

    decoder = model.get_decoder()
    # Releases differ in whether they know a family by its language model, or only as a whole.
    known = next((part for part in (decoder, model) if part.config.model_type in MODEL_TYPE_TO_APPLY_LIGER_FN), None)
    if known is None:
        logger.info("%s: no Liger kernels for %s", type(model).__name__, decoder.config.model_type)
        return
    _apply_liger_kernel_to_instance(model=known, fused_linear_cross_entropy=False, cross_entropy=False)
    logger.info("%s: Liger kernels in its %s", type(model).__name__, type(known).__name__)


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
