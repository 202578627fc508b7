"""LoRA in a video MLLM: what is trained, and how it is written down.

The language model gets low-rank updates on its linear layers, the projector is trained in full at a rate of its own
(Holmes-VAD, arXiv 2406.12235, section 4.1), everything else stays as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pipeline.config import LoraConfig
from pipeline.errors import SetupError
from pipeline.models.hf.adapter import FACTS_FILE, PROJECTOR_FILE, TRAIN_EXTRA, AdapterFacts
from pipeline.models.hf.model_parts import lora_pattern, projector_parameters
from pipeline.storage import write_atomically

_PACKAGES = ("holmes-engine", "torch", "transformers", "peft", "accelerate", "bitsandbytes")


def insert_lora(model: Any, config: LoraConfig) -> Any:
    """Return the model with LoRA in its language model; nothing but LoRA and, if asked, the projector needs a gradient.

    What is trained is float32, whatever the precision of the rest: steps at the usual rates are lost in bfloat16. At a
    rate of 0 updates stay zero, and the projector as it is.

    Raises:
        SetupError: peft is not installed, or there is no such layer, or no projector to train.
    """
    try:
        from peft import LoraConfig as PeftLoraConfig
        from peft import get_peft_model
    except ImportError:
        raise SetupError(f"training needs peft: {TRAIN_EXTRA}") from None
    import torch

    settings = PeftLoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        lora_dropout=config.dropout,
        target_modules=lora_pattern(model, config.target_modules),
        bias="none",
    )
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        adapted = get_peft_model(model, settings)
    if not config.lr:
        adapted.requires_grad_(requires_grad=False)
    if config.projector_lr:
        projector = projector_parameters(model)
        if not projector:
            raise SetupError(f"lora.projector_lr: {type(model).__name__} has no projector: set it to 0")
        for parameter in projector.values():
            parameter.data = parameter.data.float()
            parameter.requires_grad_(requires_grad=True)
    return adapted


def save_adapter(
    adapted: Any, processor: Any, facts: AdapterFacts, folder: Path, weights: Mapping[str, Any] | None = None
) -> None:
    """Write an adapter into a folder that is there and empty; `holmes.json` comes last.

    `weights` are those that were trained, by their names in the model with LoRA; None takes them from the model.
    """
    from safetensors.torch import save

    adapted.save_pretrained(
        str(folder), state_dict=None if weights is None else dict(weights), save_embedding_layers=False
    )
    (folder / "README.md").unlink(missing_ok=True)
    if facts.has_projector:
        tensors = projector_parameters(adapted.get_base_model())
        write_atomically(
            folder / PROJECTOR_FILE, save({name: p.detach().cpu().contiguous() for name, p in tensors.items()})
        )
    processor.tokenizer.padding_side = "left"  # as generation wants it
    processor.save_pretrained(str(folder))
    write_atomically(folder / FACTS_FILE, (json.dumps(asdict(facts), indent=2) + "\n").encode())


def package_versions() -> dict[str, str]:
    """Return the releases of the packages that decide what training makes."""
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found
