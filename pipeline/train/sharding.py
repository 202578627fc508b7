"""A model whose language model is spread over the devices that train together: FSDP2, layer by layer.

Each layer's weights lie in parts on all devices and are gathered while it works (PyTorch FSDP2, `fully_shard`). Vision
tower, projector, embeddings and head stay whole on each: they are a tenth of a 7B model, and the tower may then look at
a clip on one device alone.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor

from pipeline.errors import SetupError


def is_sharding_wanted() -> bool:
    """Whether `accelerate launch` was told to spread the model. Raises: SetupError, by FSDP's first version."""
    if os.environ.get("ACCELERATE_USE_FSDP", "false").lower() != "true":
        return False
    if (version := os.environ.get("FSDP_VERSION", "1")) != "2":
        raise SetupError(
            f"accelerate is configured for FSDP {version}; holmes train lora spreads a model by FSDP 2: set "
            "fsdp_version: 2, as datasets/training/accelerate/fsdp2.yaml does"
        )
    return True


class SpreadModel(Protocol):
    """A model that is spread over the devices, which all make the same passes through it.

    It is made of a model with LoRA on the host and the `Accelerator`. Parameters that are trained are whole on each
    device, or tensors that PyTorch knows to be spread (DTensor).
    """

    def begin_pass(self, *, is_last: bool) -> None:
        """Make ready for a pass forward and backward, the last one of its step or one before."""


class ShardedModel:
    """The layers that are spread by FSDP2, see `SpreadModel`."""

    def __init__(self, model: Any, accelerator: Any) -> None:
        """Spread a model with LoRA, which is on the host, and move the rest of it to this process's device."""
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard

        device = accelerator.device
        mesh = init_device_mesh(device.type, (accelerator.num_processes,))
        self._layers = [fully_shard(layer, mesh=mesh) for layer in layers_of(model.get_decoder())]
        for tensor in (*model.parameters(), *model.buffers()):
            if not _is_spread(tensor):
                tensor.data = tensor.data.to(device)

    def begin_pass(self, *, is_last: bool) -> None:
        """Have the pass backward share gradients between devices, or only add them up on each."""
        for layer in self._layers:
            layer.set_requires_gradient_sync(is_last)


def average_whole(parameters: Iterable[Tensor], accelerator: Any) -> None:
    """Average the gradients of those parameters that are whole on each device."""
    for parameter in parameters:
        if parameter.grad is not None and not _is_spread(parameter):
            parameter.grad = accelerator.reduce(parameter.grad, reduction="mean")


def whole(value: Any) -> Any:
    """Return a state with the tensors that are spread put together; every process calls this."""
    if _is_spread(value):
        return value.full_tensor()
    if isinstance(value, dict):
        return {key: whole(part) for key, part in value.items()}
    return [whole(part) for part in value] if isinstance(value, list) else value


def spread_like(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a whole tensor as a parameter of its shape is: spread over the devices, or on this one."""
    if not _is_spread(parameter) or value.shape != parameter.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    like: Any = parameter
    return distribute_tensor(value.to(like.device), like.device_mesh, like.placements)


def clip_gradients(parameters: Iterable[Tensor], longest: float) -> float:
    """Scale gradients down to a length, whether they are spread or whole, and return what it was."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    spread = [gradient for gradient in gradients if _is_spread(gradient)]
    rest = [gradient for gradient in gradients if not _is_spread(gradient)]
    norms = [torch.nn.utils.get_total_norm(part) for part in (spread, rest) if part]
    norm = float(torch.linalg.vector_norm(torch.stack([whole(norm).float() for norm in norms])))
    scale = min(1.0, longest / (norm + 1e-6))
    for gradient in gradients:
        gradient.mul_(scale)
    return norm


def load_whole(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimizer's state that `whole` has put together."""
    optimizer.load_state_dict(dict(state))
    for parameter, kept in optimizer.state.items():
        for name, value in kept.items():
            kept[name] = spread_like(value, parameter)


def _is_spread(value: Any) -> bool:
    # Known by what it can do: importing DTensor takes seconds, and most trainings have none.
    return hasattr(value, "full_tensor")


def layers_of(decoder: Any) -> Any:
    """Return the layers of a language model: of its lists of modules the largest."""
    lists = [module for module in decoder.modules() if isinstance(module, torch.nn.ModuleList)]
    return max(lists, key=lambda module: sum(parameter.numel() for parameter in module.parameters()))
