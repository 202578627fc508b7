"""Where and in which precision models run."""

from __future__ import annotations

from typing import Any

from pipeline.errors import SetupError


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
