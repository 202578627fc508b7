"""A trained sampler: scores features, and lives in a folder of `model.safetensors` and `config.json`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from pipeline.config import FeaturesConfig, Recipe
from pipeline.devices import move
from pipeline.errors import SetupError
from pipeline.sampler.heads import SnippetHead, restore_head
from pipeline.sampler.inputs import Floats, InputScale, arrange, scaled
from pipeline.sampler.network import UrDmu
from pipeline.sampler.sampling import THETA
from pipeline.sampler.smoothing import smooth
from pipeline.storage import write_atomically

WEIGHTS_FILE = "model.safetensors"
CONFIG_FILE = "config.json"
OUT_OF_FOLD_FILE = "out_of_fold.safetensors"
_FORMAT = 2

_WINDOW = 1024  # snippets seen at once: attention grows with the square of a video's length
_MARGIN = 64  # snippets of context on either side of a window, whose scores are thrown away


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedRecipe:
    """The networks or other heads of one recipe, one a fold; what they say together is their mean.

    Attributes:
        recipe: how they were trained.
        networks: in evaluation mode.
        scales: the input scale of each network, None where the recipe has none.
        smoothing_s: standard deviation of the Gaussian that smooths scores over time, in seconds; 0 leaves them.
    """

    recipe: Recipe
    networks: Sequence[UrDmu | SnippetHead]
    scales: Sequence[InputScale | None]
    smoothing_s: float

    def score(
        self, features: NDArray[np.floating], snippet_s: float, device: str, breaks: Sequence[int] = ()
    ) -> Floats:
        """Return scores as `TrainedSampler.score`."""
        arranged = arrange(features, self.recipe)
        scores = [
            score_with(network, scaled(arranged, scale), device)
            for network, scale in zip(self.networks, self.scales, strict=True)
        ]
        mean: Floats = np.stack(scores).mean(axis=0, dtype=np.float64).astype(np.float32)
        return smooth(mean, self.smoothing_s / snippet_s, breaks)


def theta_of(validation: Mapping[str, Any]) -> float:
    """Return the score from which a peak is an event: what validation chose, `THETA` where it chose none."""
    chosen = validation.get("theta")
    return THETA if chosen is None else float(chosen)


@dataclass(frozen=True, eq=False, kw_only=True)
class TrainedSampler:
    """Networks that score snippets together, and everything that their input went through.

    Attributes:
        recipes: those that validation could not tell from the best; scores are their mean.
        encoder, dim, stride_frames: the features that they take.
        features: how these were computed, as `FeaturesConfig.seen`; empty where that is not known.
        trained_on: hash of the videos, clicks and settings of the training.
        validation: what selection measured, for the record.
        contents: hashes of the videos that took part, each in the training of all networks but those of its fold.
        out_of_fold: scores by content, of those that have a fold, by the networks that were not trained on them. They
            are written beside the weights, and not read with them.
        device: where the networks are.
    """

    recipes: Sequence[TrainedRecipe]
    encoder: str
    dim: int
    stride_frames: int
    trained_on: str
    validation: Mapping[str, Any]
    features: Mapping[str, Any] = field(default_factory=dict)
    contents: Sequence[str] = ()
    out_of_fold: Mapping[str, Floats] = field(default_factory=dict)
    device: str = "cpu"

    @property
    def theta(self) -> float:
        """Return the score from which a peak is an event: what its validation chose, `THETA` where it chose none."""
        return theta_of(self.validation)

    @property
    def smoothing_s(self) -> float:
        """Return the widest smoothing of its recipes, a standard deviation in seconds."""
        return max(recipe.smoothing_s for recipe in self.recipes)

    def seen_by(self, given: FeaturesConfig) -> FeaturesConfig:
        """Return settings by which another video is seen as those of the training; where it runs is as given."""
        own = {"encoder": self.encoder, "stride_frames": self.stride_frames}
        return given.model_copy(update={**self.features, **own})

    def score(self, features: NDArray[np.floating], snippet_s: float, breaks: Sequence[int] = ()) -> Floats:
        """Return the anomaly scores of a video's snippets, float32 in [0, 1], shape (T,).

        Args:
            features: as stored, shape (crops, T, dim).
            snippet_s: seconds of a snippet.
            breaks: snippets with which the picture comes back or goes for long: scores are not smoothed across.

        Raises:
            SetupError: if the features are of another width than those of the training.
        """
        if features.shape[-1] != self.dim:
            raise SetupError(f"features of {features.shape[-1]} values; the sampler takes {self.dim} ({self.encoder})")
        scores = [recipe.score(features, snippet_s, self.device, breaks) for recipe in self.recipes]
        mean: Floats = np.stack(scores).mean(axis=0, dtype=np.float64).astype(np.float32)
        return mean

    def save(self, folder: Path) -> None:
        """Write weights and config; the config comes last, so that a folder with one is complete."""
        tensors: dict[str, Tensor] = {}
        for place, trained in enumerate(self.recipes):
            for index, (network, scale) in enumerate(zip(trained.networks, trained.scales, strict=True)):
                own = f"recipe{place}.network{index}"
                tensors |= {f"{own}.{name}": value.cpu() for name, value in network.state_dict().items()}
                if scale is not None:
                    tensors[f"{own}.scale.mean"] = torch.from_numpy(scale.mean)
                    tensors[f"{own}.scale.deviation"] = torch.from_numpy(scale.deviation)
        config = {
            "format": _FORMAT,
            "encoder": self.encoder,
            "dim": self.dim,
            "stride_frames": self.stride_frames,
            "features": dict(self.features),
            "recipes": [
                {
                    "networks": len(trained.networks),
                    "smoothing_s": trained.smoothing_s,
                    "recipe": trained.recipe.model_dump(mode="json"),
                }
                for trained in self.recipes
            ],
            "trained_on": self.trained_on,
            "validation": dict(self.validation),
            "contents": sorted(self.contents),
        }
        folder.mkdir(parents=True, exist_ok=True)
        (folder / CONFIG_FILE).unlink(missing_ok=True)
        write_atomically(folder / WEIGHTS_FILE, save({k: v.contiguous() for k, v in tensors.items()}))
        scores = {content: torch.from_numpy(scores) for content, scores in self.out_of_fold.items()}
        write_atomically(folder / OUT_OF_FOLD_FILE, save(scores))
        write_atomically(folder / CONFIG_FILE, (json.dumps(config, indent=2) + "\n").encode())


def read_config(folder: Path) -> dict[str, Any] | None:
    """Return the config of the sampler in a folder, None where there is none of this format."""
    try:
        config = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return None
    return config if isinstance(config, dict) and config.get("format") == _FORMAT else None


def read_out_of_fold(folder: Path) -> dict[str, Floats]:
    """Return the scores of training videos, by content, by networks that were not trained on them.

    Raises:
        SetupError: if they are not there, or damaged.
    """
    try:
        return {content: scores.numpy() for content, scores in load_file(folder / OUT_OF_FOLD_FILE).items()}
    except (FileNotFoundError, SafetensorError) as fault:
        raise SetupError(f"{folder / OUT_OF_FOLD_FILE}: {fault}; train the sampler again") from None


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
        recipes = [
            _load_recipe(entry, tensors, f"recipe{place}", device) for place, entry in enumerate(config["recipes"])
        ]
        return TrainedSampler(
            recipes=recipes,
            encoder=config["encoder"],
            dim=config["dim"],
            stride_frames=config["stride_frames"],
            trained_on=config["trained_on"],
            validation=config["validation"],
            features=FeaturesConfig.model_validate(config["features"]).seen() if config.get("features") else {},
            device=device,
        )
    except FileNotFoundError as fault:
        raise SetupError(f"{folder}: no trained sampler there: {fault.filename} is missing") from None
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError) as fault:
        raise SetupError(f"{folder}: not a sampler of this engine: {fault}") from None


def _load_recipe(entry: dict[str, Any], tensors: dict[str, Tensor], prefix: str, device: str) -> TrainedRecipe:
    recipe = Recipe.model_validate(entry["recipe"])
    networks, scales = [], []
    for index in range(entry["networks"]):
        lead = f"{prefix}.network{index}."
        own = {name.removeprefix(lead): value for name, value in tensors.items() if name.startswith(lead)}
        mean, deviation = own.pop("scale.mean", None), own.pop("scale.deviation", None)
        scales.append(
            None if mean is None or deviation is None else InputScale(mean.cpu().numpy(), deviation.cpu().numpy())
        )
        networks.append(restore_head(recipe, own).to(device))
    return TrainedRecipe(recipe=recipe, networks=networks, scales=scales, smoothing_s=entry["smoothing_s"])


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
def score_with(network: UrDmu | SnippetHead, features: Floats, device: str) -> Floats:
    """Score one video by one network or other head, long videos in windows with context, shape (T,).

    Args:
        network: in evaluation mode.
        features: what the network sees, shape (crops, T, D).
        device: where the network is.
    """
    count = features.shape[1]
    parts = []
    for start in range(0, count, _WINDOW):
        low, high = max(0, start - _MARGIN), min(count, start + _WINDOW + _MARGIN)
        window = move(torch.from_numpy(np.ascontiguousarray(features[None, :, low:high])), device)
        scores = network(window)[0].float().cpu().numpy()
        parts.append(scores[start - low : min(count, start + _WINDOW) - low])
    return np.concatenate(parts)
