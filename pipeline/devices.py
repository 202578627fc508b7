"""Where and in which precision models run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pipeline.errors import SetupError

if TYPE_CHECKING:
    from torch import Tensor


def pick_device(wanted: str, setting: str) -> str:
    """Return `wanted`, or for auto the GPU where there is one; `setting` stands in the message.

    Raises:
        SetupError: if that device is not there.
    """
    import torch

    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        kind = torch.device(wanted).type
    except RuntimeError as fault:
        raise SetupError(f"{setting}={wanted}: {str(fault).splitlines()[0]}") from None
    if kind == "cuda" and not torch.cuda.is_available():
        raise SetupError(f"{setting}={wanted}: no CUDA device can be used here")
    return wanted


def pick_dtype(wanted: str, device: str) -> Any:
    """Return the torch dtype of that name; auto is bfloat16 on a GPU and float32 elsewhere."""
    import torch

    if wanted == "auto":
        return torch.bfloat16 if device.startswith("cuda") else torch.float32
    return getattr(torch, wanted)


def is_gpu(device: Any) -> bool:
    """Whether a device, or the one of that name, is a GPU that CUDA knows."""
    return str(device).startswith("cuda")


def move(value: Tensor, device: Any, dtype: Any = None) -> Tensor:
    """Return a tensor on a device, numbers with a fraction in `dtype` if one is given.

    From the host's memory to a GPU it is copied while the GPU goes on with the work that it has already been given,
    which pinned memory alone allows.
    """
    if is_gpu(device) and not is_gpu(value.device):
        value = value.pin_memory().to(device, non_blocking=True)
    return value.to(device, dtype=dtype if value.is_floating_point() else None)


def move_all(inputs: Mapping[str, Any], device: Any, dtype: Any = None) -> dict[str, Any]:
    """Return inputs of a model, its tensors on a device as `move` brings them there."""
    return {name: move(value, device, dtype) if hasattr(value, "to") else value for name, value in inputs.items()}
