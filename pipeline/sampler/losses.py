"""The loss of the sampler: UR-DMU's terms for videos, and the targets that clicks give for snippets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name by which it is known
from torch import Tensor, nn

from pipeline.config import LossConfig, Recipe
from pipeline.sampler.mining import mine_events, render, valid_mask
from pipeline.sampler.network import TrainingOutput, top_weights

_LATENT_MARGIN = 100.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Targets:
    """What is known of B normal and B abnormal videos, the normal ones first.

    Attributes:
        lengths: snippets of each, shape (2B,).
        glances: bool, shape (B, T): snippets of the abnormal videos that hold a click.
        glance_distance_s: seconds from each snippet of the abnormal videos to the nearest click, infinite where there
            is none, shape (B, T).
    """

    lengths: Tensor
    glances: Tensor
    glance_distance_s: Tensor


def sampler_loss(
    output: TrainingOutput, targets: Targets, recipe: Recipe, step: int, shortcut: nn.Linear | None = None
) -> dict[str, Tensor]:
    """Return the weighted terms of the loss by name; the loss is their sum."""
    weights = recipe.loss
    half = len(output.scores) // 2
    normal, abnormal = output.scores[:half], output.scores[half:]
    inside = valid_mask(targets.lengths, output.scores.shape[1])
    normal_inside, abnormal_inside = inside[:half], inside[half:]
    clicked = targets.glances.any(dim=1)
    if recipe.supervision == "video-label":
        clicked = torch.zeros_like(clicked)
    terms = {
        "mil_normal": weights.mil_normal * _top_loss(normal, normal_inside, target=0.0).mean(),
        "mil_abnormal": _abnormal_mil(abnormal, abnormal_inside, clicked, weights.mil_abnormal),
        "memory": weights.memory * _memory_loss(output, normal_inside, abnormal_inside),
        "triplet": weights.triplet
        * F.triplet_margin_loss(_unit(output.anchor), _unit(output.positive), _unit(output.negative)),
        "kl": weights.kl * output.kl,
        "distance": weights.distance
        * F.relu(_LATENT_MARGIN - output.negative_latent.norm(dim=-1) + output.anchor_latent.norm(dim=-1)).mean(),
    }  # fmt: skip
    if recipe.supervision == "clicks":
        terms["glance"] = weights.glance * _clicks_loss(
            abnormal, targets, abnormal_inside, clicked, weights=weights, step=step
        )
    elif recipe.supervision == "regions":
        terms["glance"] = weights.glance * _regions_loss(output.scores, targets, inside, weights)
    if shortcut is not None:
        terms["shortcut"] = weights.shortcut * shortcut.weight.square().sum()
    return terms


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)


def _clicks_loss(
    scores: Tensor, targets: Targets, inside: Tensor, clicked: Tensor, *, weights: LossConfig, step: int
) -> Tensor:
    """Compare the scores of abnormal videos with Gaussians around what is mined from their clicks.

    A video without clicks says nothing about its snippets: it is left out, its label still counts.
    """
    lengths = targets.lengths[len(scores) :]
    with torch.no_grad():
        marks = targets.glances
        if step >= weights.raw_steps:
            marks = mine_events(scores.detach(), marks, lengths, weights.alpha)
        rendered = render(marks, lengths, weights.sigma)
    known = inside & clicked[:, None]
    return _weighted_bce(scores, rendered, known.float())


def _regions_loss(scores: Tensor, targets: Targets, inside: Tensor, weights: LossConfig) -> Tensor:
    """Hold snippets near a click abnormal, normal videos and what is far from every click normal, the rest unknown.

    Both sides weigh the same, however few the clicks are.
    """
    half = len(scores) // 2
    distance_s = targets.glance_distance_s
    clicked = torch.isfinite(distance_s)
    near = torch.zeros_like(scores)
    near[half:] = (distance_s <= weights.positive_s).float()
    far = torch.ones_like(scores)
    far[half:] = weights.negative_weight * (clicked & (distance_s > weights.negative_s)).float()
    ones, zeros = torch.ones_like(scores), torch.zeros_like(scores)
    positive = _weighted_bce(scores, ones, near * inside)
    negative = _weighted_bce(scores, zeros, far * inside)
    return 0.5 * (positive + negative)


def _abnormal_mil(scores: Tensor, inside: Tensor, clicked: Tensor, weight: float) -> Tensor:
    """Ask for some high scores in abnormal videos: fully where there are no clicks that say where."""
    per_video = torch.where(clicked, weight, 1.0)
    return (per_video * _top_loss(scores, inside, target=1.0)).mean()


def _memory_loss(output: TrainingOutput, normal_inside: Tensor, abnormal_inside: Tensor) -> Tensor:
    """Ask each memory to know its own kind everywhere, or somewhere, and not the other kind."""
    some_abnormal = _top_loss(output.abnormal_by_abnormal.float(), abnormal_inside, target=1.0).mean()
    some_not_normal = _top_loss(1 - output.abnormal_by_normal.float(), abnormal_inside, target=1.0).mean()
    everywhere = normal_inside.float()
    all_normal = output.normal_by_normal.float()
    none_abnormal = output.normal_by_abnormal.float()
    return (
        some_abnormal
        + some_not_normal
        + _weighted_bce(all_normal, torch.ones_like(all_normal), everywhere)
        + _weighted_bce(none_abnormal, torch.zeros_like(none_abnormal), everywhere)
    )


def _top_loss(values: Tensor, inside: Tensor, target: float) -> Tensor:
    """Return the cross entropy of the mean of the top k values of each video, shape (B,)."""
    top = (values * top_weights(values.detach(), inside)).sum(dim=1).clamp(0.0, 1.0)
    return F.binary_cross_entropy(top, torch.full_like(top, target), reduction="none")


def _weighted_bce(values: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    losses = F.binary_cross_entropy(values, targets, reduction="none")
    return (losses * weights).sum() / weights.sum().clamp(min=1e-6)
