"""The gradient of a training step, worked out part by part in memory that does not grow with the batch."""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config import Recipe
from pipeline.devices import move
from pipeline.sampler.data import Batch
from pipeline.sampler.losses import sampler_loss
from pipeline.sampler.network import UrDmu

# On a CPU, what so many snippets activate in a layer stays near the caches, and its memory is used again instead of
# being returned to the system and zeroed anew; a GPU wants larger products.
_ON_CPU, _ON_GPU = 4096, 65536


def pick_snippets_at_once(wanted: int, device: str) -> int:
    """Return how many snippets, all crops counted, to work on at once; 0 leaves it to the device."""
    return wanted or (_ON_GPU if device.startswith("cuda") else _ON_CPU)


def add_gradient(
    network: UrDmu, batch: Batch, recipe: Recipe, step: int, *, snippets_at_once: int, half_precision: bool
) -> dict[str, Tensor]:
    """Add the gradient of a batch's loss to that of the network's parameters.

    Args:
        network: on the device to work on.
        batch: on any device.
        recipe: supervision and weights.
        step: the training step, from 0.
        snippets_at_once: bounds the memory that is needed, down to that of one pair of videos.
        half_precision: whether the forward pass runs in bfloat16 where that is safe.

    Returns:
        The weighted terms of the loss by name, detached.
    """
    device = network.embed.weight.device
    whole = batch.targets.to(device)
    sums: dict[str, Tensor] = {}
    for part in batch.parts(snippets_at_once):
        features = move(part.features, device)
        lengths = None if part.lengths is None else move(part.lengths, device)
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=half_precision):
            output = network.training_output(features, lengths)
        targets = part.targets.to(device)
        terms = sampler_loss(output, targets, recipe, step, shortcut=network.shortcut, whole=whole)
        torch.stack(list(terms.values())).sum().backward()  # type: ignore[no-untyped-call]
        for name, value in terms.items():
            sums[name] = sums[name] + value.detach() if name in sums else value.detach()
    return sums
