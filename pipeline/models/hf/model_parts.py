"""The parts of a video MLLM that training touches, found in the model itself whatever its family."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from pipeline.errors import SetupError

_PROJECTORS = {"multi_modal_projector", "connector", "merger", "deepstack_merger_list", "mm_projector", "projector"}
"""What families call the module between the vision tower and the language model."""

_PROBED_TENSORS = 12
_PROBED_VALUES = 16
_SAME_WITHIN = 0.01
"""Relative difference of probes that rounding to bfloat16, at most 0.004, stays well below."""

Probe = dict[str, list[float]]
"""A few weights of a model by the name of their tensor."""


def language_model_name(model: Any) -> str:
    """Return the name of the language model's decoder among the modules, without the output head.

    Raises:
        SetupError: the model has none of its own.
    """
    decoder = model.get_decoder()
    for name, module in model.named_modules():
        if module is decoder and name:
            return str(name)
    raise SetupError(f"{type(model).__name__}: no language model of its own in it: LoRA cannot be put there")


def lora_pattern(model: Any, layers: Sequence[str] = ()) -> str:
    """Return a regular expression of the names of linear layers of the language model of a model without an adapter.

    `layers` are last parts of the names, e.g. q_proj; empty takes every one.

    Raises:
        SetupError: a layer is named that is no linear layer there.
    """
    root = language_model_name(model)
    # 4-bit layers of bitsandbytes are linear ones as well.
    import torch

    decoder = model.get_submodule(root)
    found = sorted(
        {n.rpartition(".")[2] for n, module in decoder.named_modules() if isinstance(module, torch.nn.Linear)}
    )
    unknown = [layer for layer in layers if layer not in found]
    if unknown or not found:
        raise SetupError(f"lora.target_modules: no linear layer {', '.join(unknown)} in {root}; there are {found}")
    leaves = "|".join(re.escape(leaf) for leaf in (sorted(set(layers)) or found))
    return rf"{re.escape(root)}\.(?:.*\.)?(?:{leaves})"


def modules_beside_language_model(model: Any) -> list[str]:
    """Return the names of the outermost modules that hold no part of the language model: towers, projector, head."""
    path = language_model_name(model).split(".")
    found = []
    for depth in range(len(path)):
        around = model.get_submodule(".".join(path[:depth]))
        found += [".".join([*path[:depth], name]) for name, _ in around.named_children() if name != path[depth]]
    return found


def projector_parameters(model: Any) -> dict[str, Any]:
    """Return the parameters between vision tower and language model by name; empty where the family has none."""
    inside = language_model_name(model) + "."
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if not name.startswith(inside) and _PROJECTORS & set(name.split("."))
    }


def cut_before_projector(model: Any) -> tuple[list[Any], list[Any]]:
    """Return the modules before the projector, outermost ones first, and those of the projector; none where unknown.

    Lists of modules are opened: it is their members that are called.
    """
    from torch.nn import ModuleList

    before: list[Any] = []
    projector: list[Any] = []

    def visit(module: Any, *, is_projector: bool) -> None:
        parts = dict(module.named_children())
        names = {name for path, _ in module.named_modules() for name in path.split(".")}
        if isinstance(module, ModuleList) or (not is_projector and names & _PROJECTORS):
            for name, part in parts.items():
                visit(part, is_projector=is_projector or name in _PROJECTORS)
        elif next(module.parameters(), None) is not None:
            (projector if is_projector else before).append(module)

    for name in modules_beside_language_model(model):
        visit(model.get_submodule(name), is_projector=name.rpartition(".")[2] in _PROJECTORS)
    return before, projector


def probe_weights(model: Any) -> Probe:
    """Return a few weights that tell this model from another one of its architecture.

    They are values, not a digest: the same model loaded in another precision, or from other files, has to be known.
    """
    projector = projector_parameters(model)
    tensors = {name: p for name, p in model.named_parameters() if p.dim() >= 2 and name not in projector}
    names = list(tensors)
    step = max(1, len(names) // _PROBED_TENSORS)
    return {name: _values(tensors[name]) for name in names[::step] if _can_be_read(tensors[name])}


def differing_weights(model: Any, probe: Probe) -> str | None:
    """Return what shows that `model` is not the one that `probe` was taken of, None where nothing does."""
    parameters = dict(model.named_parameters())
    if missing := [name for name in probe if name not in parameters]:
        return f"it has no {missing[0]}"
    # Quantized layers hold codes: there is nothing to compare in them.
    pairs = [
        (a, b)
        for n, known in probe.items()
        if _can_be_read(parameters[n])
        for a, b in zip(_values(parameters[n]), known, strict=False)
    ]
    difference = sum((a - b) ** 2 for a, b in pairs) ** 0.5
    size = sum(b * b for _, b in pairs) ** 0.5
    if difference > _SAME_WITHIN * size:
        return f"its weights differ by {difference / max(size, 1e-12):.1%}"
    return None


def _can_be_read(parameter: Any) -> bool:
    return bool(parameter.is_floating_point()) and not parameter.is_meta


def _values(parameter: Any) -> list[float]:
    flat = parameter.detach().reshape(-1)
    step = max(1, flat.numel() // _PROBED_VALUES)
    return [float(f"{value:.6g}") for value in flat[::step][:_PROBED_VALUES].float().tolist()]
