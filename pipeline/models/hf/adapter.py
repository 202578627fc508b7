"""What `holmes train lora` leaves in a folder, and how it goes onto its base model.

adapter_config.json         peft's: rank, alpha, which layers
adapter_model.safetensors   the low-rank updates of the language model
projector.safetensors       the projector as trained; absent where it was frozen
holmes.json                 the base it was trained on, frames and sides shown, versions, metrics
processor_config.json, ...  the base's processor and tokenizer
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pipeline.errors import SetupError
from pipeline.models.hf.loading import first_line
from pipeline.models.hf.model_parts import Probe, differing_weights, projector_parameters

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PICKLED_FILE = "adapter_model.bin"
PROJECTOR_FILE = "projector.safetensors"
FACTS_FILE = "holmes.json"
PROCESSOR_FILE = "processor_config.json"

TRAIN_EXTRA = "pip install 'holmes-engine[train]'"


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterFacts:
    """What an adapter knows about itself.

    Attributes:
        base: id, path or bundled name of the model it was trained on, of that `revision`.
        architecture: class of that model in transformers.
        probe: a few of its weights; empty where they are not known.
        num_frames: frames of a clip that it was shown, of sides up to `max_side`; None where it is not known.
        trained_on: hash of dataset, base and settings of the training.
        metrics: what validation measured at the end of training.
        versions: releases of the packages that trained it.
    """

    base: str
    revision: str | None = None
    architecture: str = ""
    probe: Probe = field(default_factory=dict)
    has_projector: bool = False
    num_frames: int | None = None
    max_side: int | None = None
    trained_on: str = ""
    metrics: dict[str, float] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


def is_adapter(model: str) -> bool:
    """Whether a model's name is that of a local folder with an adapter."""
    return (Path(model) / CONFIG_FILE).is_file()


def read_facts(folder: Path) -> AdapterFacts:
    """Return what an adapter knows about itself; of one that others trained, its base alone.

    Raises:
        SetupError: a file is damaged, or no base is named.
    """
    path = folder / FACTS_FILE
    try:
        if path.is_file():
            return AdapterFacts(**json.loads(path.read_text(encoding="utf-8")))
        path = folder / CONFIG_FILE
        config = json.loads(path.read_text(encoding="utf-8"))
        return AdapterFacts(base=str(config["base_model_name_or_path"]), revision=config.get("revision"))
    except (OSError, ValueError, TypeError, KeyError) as fault:
        raise SetupError(f"{path}: not the description of an adapter: {first_line(fault)}") from None


def apply_adapter(model: Any, folder: Path, *, allow_pickle: bool = False, merges: bool = True) -> Any:
    """Return `model` with the adapter's updates added to its weights, and with the adapter's projector.

    Where `merges` is False the updates stay layers of their own, as they were in training.

    Onto quantized weights nothing can be added exactly: there the updates stay layers of their own. Updates in a pickle
    file are read where `allow_pickle` says so and there is no safetensors file, and tensors alone.

    Raises:
        SetupError: the adapter is of another base, a file is missing or damaged, or peft is not installed.
    """
    facts = read_facts(folder)
    _check_base(model, facts, folder)
    projector = _read_projector(model, facts, folder)
    updates = _read_updates(folder, allow_pickle=allow_pickle)
    adapted = _insert(model, updates, folder)
    _set_projector(model, projector, folder)
    return adapted if getattr(model, "is_quantized", False) or not merges else adapted.merge_and_unload()


def _check_base(model: Any, facts: AdapterFacts, folder: Path) -> None:
    name = type(model).__name__
    if facts.architecture and facts.architecture != name:
        raise SetupError(f"{folder}: trained on {facts.base} ({facts.architecture}), the base here is a {name}")
    if difference := differing_weights(model, facts.probe):
        raise SetupError(f"{folder}: trained on {facts.base}, the base here is another model: {difference}")


def _read_projector(model: Any, facts: AdapterFacts, folder: Path) -> dict[str, Any]:
    path = folder / PROJECTOR_FILE
    if not path.is_file():
        if facts.has_projector:
            raise SetupError(f"{path}: missing: the adapter was trained with a projector of its own")
        return {}
    tensors = _load_safetensors(path)
    known = projector_parameters(model)
    for name, tensor in tensors.items():
        if name not in known or known[name].shape != tensor.shape:
            there = tuple(known[name].shape) if name in known else "nothing of that name"
            raise SetupError(f"{path}: of another base: {name} is {tuple(tensor.shape)}, in the base {there}")
    if missing := known.keys() - tensors.keys():
        raise SetupError(f"{path}: of another base, or incomplete: no {min(missing)} in it")
    return tensors


def _set_projector(model: Any, tensors: dict[str, Any], folder: Path) -> None:
    import torch

    known = projector_parameters(model)
    with torch.no_grad():
        for name, tensor in tensors.items():
            if not bool(torch.isfinite(tensor).all()):
                raise SetupError(f"{folder / PROJECTOR_FILE}: {name} holds values that are no finite numbers")
            known[name].copy_(tensor)


def _read_updates(folder: Path, *, allow_pickle: bool) -> dict[str, Any]:
    path, pickled = folder / WEIGHTS_FILE, folder / PICKLED_FILE
    if path.is_file():
        return _load_safetensors(path)
    if not pickled.is_file():
        raise SetupError(f"{path}: missing: {folder} holds no trained adapter")
    if not allow_pickle:
        raise SetupError(f"{pickled}: a pickle file, which can run code when it is read; allow_pickle permits it")
    import pickle

    import torch

    try:
        content = torch.load(pickled, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, pickle.UnpicklingError) as fault:
        raise SetupError(f"{pickled}: holds more than tensors, or is damaged: {first_line(fault)}") from None
    if not isinstance(content, dict):
        raise SetupError(f"{pickled}: a mapping of tensors is expected, not {type(content).__name__}")
    return content


def _load_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        tensors: dict[str, Any] = load_file(path)
    except (SafetensorError, OSError, ValueError) as fault:
        raise SetupError(f"{path}: damaged: {first_line(fault)}") from None
    return tensors


def _insert(model: Any, updates: dict[str, Any], folder: Path) -> Any:
    try:
        from peft import PeftConfig, get_peft_model, set_peft_model_state_dict
    except ImportError:
        raise SetupError(f"{folder}: an adapter needs peft: {TRAIN_EXTRA}") from None
    try:
        config = PeftConfig.from_pretrained(str(folder))
        config.inference_mode = True
        adapted = get_peft_model(model, config)
        left = set_peft_model_state_dict(adapted, updates)
    except (RuntimeError, ValueError, KeyError, TypeError) as fault:
        raise SetupError(f"{folder}: does not fit onto this base: {first_line(fault)}") from None
    missing = [name for name in left.missing_keys if "lora_" in name]
    if wrong := [*left.unexpected_keys, *missing]:
        raise SetupError(
            f"{folder}: does not fit onto this base: {len(left.unexpected_keys)} updates have no place in it, "
            f"{len(missing)} layers no update, e.g. {wrong[0]}"
        )
    return adapted
