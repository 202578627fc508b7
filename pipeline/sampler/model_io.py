"""A trained sampler: scores features, and lives in a folder of `model.safetensors` and `config.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pipeline.config import Recipe
from pipeline.errors import SetupError
from pipeline.sampler.inputs import Floats, InputScale, arrange, scaled
from pipeline.sampler.network import UrDmu
from pipeline.sampler.smoothing import smooth
from pipeline.storage import write_atomically

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
_FORMAT = 1

_WINDOW = 1024  # snippets seen at once: attention grows with the square of a video's length
_MARGIN = 64  # snippets of context on either side of a window, whose scores are thrown away


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedSampler:
    """Networks that score snippets together, and everything that their input went through.

    Attributes:
        recipe: how they were trained.
        encoder, dim, stride_frames: the features that they take.
        members: the networks; scores are their mean.
        scales: the input scale of each member, None where the recipe has none.
        smoothing_s: standard deviation of the Gaussian that smooths scores over time, in seconds; 0 leaves them.
        trained_on: hash of the videos, clicks and settings of the training.
        validation: what selection measured, for the record.
        device: where the networks are.
    """

    recipe: Recipe
    encoder: str
    dim: int
    stride_frames: int
    members: Sequence[UrDmu]
    scales: Sequence[InputScale | None]
    smoothing_s: float
    trained_on: str
    validation: Mapping[str, Any]
    device: str = "cpu"

    def score(self, features: NDArray[np.floating], snippet_s: float) -> Floats:
        """Return the anomaly scores of a video's snippets, float32 in [0, 1], shape (T,).

        Args:
            features: as stored, shape (crops, T, dim).
            snippet_s: seconds of a snippet.

        Raises:
            SetupError: if the features are of another width than those of the training.
        """
        if features.shape[-1] != self.dim:
            raise SetupError(f"features of {features.shape[-1]} values; the sampler takes {self.dim} ({self.encoder})")
        arranged = arrange(features, self.recipe)
        scores = [
            score_with(member, scaled(arranged, scale), self.device)
            for member, scale in zip(self.members, self.scales, strict=True)
        ]
        mean: Floats = np.stack(scores).mean(axis=0, dtype=np.float64).astype(np.float32)
        return smooth(mean, self.smoothing_s / snippet_s)

    def save(self, folder: Path) -> None:
        """Write weights and config; the config comes last, so that a folder with one is complete."""
        tensors: dict[str, Tensor] = {}
        for index, (member, scale) in enumerate(zip(self.members, self.scales, strict=True)):
            tensors |= {f"member{index}.{name}": value.cpu() for name, value in member.state_dict().items()}
            if scale is not None:
                tensors[f"member{index}.scale.mean"] = torch.from_numpy(scale.mean)
                tensors[f"member{index}.scale.deviation"] = torch.from_numpy(scale.deviation)
        config = {
            "format": _FORMAT,
            "encoder": self.encoder,
            "dim": self.dim,
            "input_dim": self.members[0].embed.in_channels,
            "stride_frames": self.stride_frames,
            "members": len(self.members),
            "smoothing_s": self.smoothing_s,
            "trained_on": self.trained_on,
            "recipe": self.recipe.model_dump(mode="json"),
            "validation": dict(self.validation),
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        write_atomically(folder / WEIGHTS_FILE, save({k: v.contiguous() for k, v in tensors.items()}))
        write_atomically(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the config of the sampler in a folder, None where there is none of this format."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return config if isinstance(config, dict) and config.get("format") == _FORMAT else None


def load_sampler(folder: Path, device: str = "cpu") -> TrainedSampler:
    """Read a trained sampler.

    Raises:
        SetupError: if the folder holds none, or one of another make.
    """
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        tensors = load_file(folder / WEIGHTS_FILE, device=device)
        if config["format"] != _FORMAT:
            raise SetupError(f"{folder}: a sampler of format {config['format']}; this engine reads {_FORMAT}")
        recipe = Recipe.model_validate(config["recipe"])
        members, scales = [], []
        for index in range(config["members"]):
            own = {
                name.removeprefix(f"member{index}."): value
                for name, value in tensors.items()
                if name.startswith(f"member{index}.")
            }
            mean, deviation = own.pop("scale.mean", None), own.pop("scale.deviation", None)
            scales.append(
                None if mean is None or deviation is None else InputScale(mean.cpu().numpy(), deviation.cpu().numpy())
            )
            member = UrDmu(config["input_dim"], recipe.network)
            member.load_state_dict(own)
            members.append(member.to(device).eval())
        return TrainedSampler(
            recipe=recipe,
            encoder=config["encoder"],
            dim=config["dim"],
            stride_frames=config["stride_frames"],
            members=members,
            scales=scales,
            smoothing_s=config["smoothing_s"],
            trained_on=config["trained_on"],
            validation=config["validation"],
            device=device,
        )
    except FileNotFoundError as fault:
        raise SetupError(f"{folder}: no trained sampler there: {fault.filename} is missing") from None
    except (SafetensorError, KeyError, ValueError, RuntimeError) as fault:
        raise SetupError(f"{folder}: not a sampler of this engine: {fault}") from None


def weights_digest(folder: Path) -> str:
    """Hash weights and config of a trained sampler: what its scores depend on.

    Raises:
        SetupError: if the folder holds none.
    """
    digest = hashlib.blake2b(digest_size=8)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        try:
            digest.update((folder / name).read_bytes())
        except FileNotFoundError:
            raise SetupError(f"{folder}: no trained sampler there: {name} is missing") from None
    return digest.hexdigest()


@torch.inference_mode()
def score_with(network: UrDmu, features: Floats, device: str) -> Floats:
    """Score one video by one network, long videos in windows with context, shape (T,).

    Args:
        network: in evaluation mode.
        features: what the network sees, shape (crops, T, D).
        device: where the network is.
    """
    count = features.shape[1]
    parts = []
    for start in range(0, count, _WINDOW):
        low, high = max(0, start - _MARGIN), min(count, start + _WINDOW + _MARGIN)
        window = torch.from_numpy(np.ascontiguousarray(features[None, :, low:high])).to(device)
        scores = network(window)[0].float().cpu().numpy()
        parts.append(scores[start - low : min(count, start + _WINDOW) - low])
    return np.concatenate(parts)
