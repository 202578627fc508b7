"""A model whose frozen weights are spread over the devices that train together: DeepSpeed ZeRO-3, matrix by matrix.

Each matrix of the language model's layers lies in parts on all devices and is gathered while it is multiplied. What is
trained stays whole on each, outside of DeepSpeed, as do vision tower, projector, embeddings and head: optimizer,
clipping and checkpoints are those of a training on one device, and the mean is over the answer tokens of all.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from typing import Any

import torch

from pipeline.errors import SetupError
from pipeline.train.base_model import recompute
from pipeline.train.sharding import layers_of

_PREFIX = "ACCELERATE_DEEPSPEED_"
_HONOURED = {
    "ZERO_STAGE": ("3", "zero_stage: 3"),
    "OFFLOAD_OPTIMIZER_DEVICE": ("none", "offload_optimizer_device: none"),
    "OFFLOAD_PARAM_DEVICE": ("none", "offload_param_device: none"),
    "CONFIG_FILE": ("none", "no deepspeed_config_file"),
}
"""What accelerate's settings of DeepSpeed have to be, and how its config says so."""


def is_zero_wanted() -> bool:
    """Whether `accelerate launch` was told to spread the model by DeepSpeed.

    Raises:
        SetupError: otherwise than by ZeRO-3 on the devices themselves, or DeepSpeed is not installed.
    """
    if os.environ.get("ACCELERATE_USE_DEEPSPEED", "false").lower() != "true":
        return False
    for name, (wanted, said) in _HONOURED.items():
        if (given := os.environ.get(_PREFIX + name, wanted)) != wanted:
            raise SetupError(
                f"accelerate is configured for DeepSpeed with {_PREFIX}{name}={given}; holmes train lora spreads a "
                f"model by ZeRO-3 alone: set {said}, as datasets/training/accelerate/zero3.yaml does"
            )
    if importlib.util.find_spec("deepspeed") is None:
        raise SetupError("accelerate is configured for DeepSpeed, which is not installed: pip install deepspeed")
    return True


class ZeroModel:
    """The matrices that are spread by ZeRO-3, see `sharding.SpreadModel`."""

    def __init__(self, model: Any, accelerator: Any) -> None:
        """Spread a model with LoRA, which is on the host, and move the rest of it to this process's device."""
        device = accelerator.device
        # It would take a GPU that is there although the training is to be on the CPU.
        os.environ.setdefault("DS_ACCELERATOR", device.type)
        import deepspeed

        layers = list(layers_of(model.get_decoder()))
        parts = _Parts([part for layer in layers for part in _frozen_parts(layer)])
        config = _settings(parts, len(layers))
        deepspeed.init_distributed(auto_mpi_discovery=False)
        # Matrix by matrix: a model that is to be spread need not fit on one device.
        deepspeed.zero.Init(module=parts, config_dict_or_path=config)
        # Its end takes the hooks away by which matrices are gathered.
        self._engine, *_ = deepspeed.initialize(model=parts, config=config)
        if model.get_base_model().is_gradient_checkpointing:
            # A matrix is let go before it is looked at whether what was computed again has the shape that it had.
            recompute(model.get_base_model(), determinism_check="none")
        for tensor in (*model.parameters(), *model.buffers()):
            tensor.data = tensor.data.to(device)

    def begin_pass(self, *, is_last: bool) -> None:  # noqa: ARG002
        """Have matrices gathered ahead in the order in which those of the passes before were wanted."""
        self._engine.module()


class _Parts(torch.nn.Module):
    """What DeepSpeed takes for a model; to call it says that its parts are about to be used anew."""

    def __init__(self, parts: list[torch.nn.Module]) -> None:
        super().__init__()
        self.parts = torch.nn.ModuleList(parts)

    def forward(self) -> None:
        """Do nothing: each part works at its place in the whole model."""


def _frozen_parts(layer: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Yield the modules of a layer that hold frozen matrices and nothing else; vectors are too small to be spread."""
    for module in layer.modules():
        own = list(module.parameters(recurse=False))
        is_frozen = not any(parameter.requires_grad for parameter in own)
        if is_frozen and any(p.dim() > 1 for p in own) and len(own) == len(list(module.parameters())):
            yield module


def _settings(parts: _Parts, layers: int) -> dict[str, Any]:
    """Return DeepSpeed's settings: one layer is gathered ahead of the one at work."""
    of_layer = sum(parameter.numel() for parameter in parts.parameters()) // layers
    return {
        "train_micro_batch_size_per_gpu": 1,  # wanted, and used for nothing here
        "bf16": {"enabled": any(parameter.dtype == torch.bfloat16 for parameter in parts.parameters())},
        "zero_optimization": {
            "stage": 3,
            "stage3_param_persistence_threshold": 0,
            "stage3_prefetch_bucket_size": of_layer,
            "stage3_max_live_parameters": 2 * of_layer,
            "stage3_max_reuse_distance": of_layer,
        },
    }
