"""The loss of the sampler: UR-DMU's terms for videos, and the targets that clicks give for snippets."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F  # noqa: N812 - the name by which it is known
from torch import Tensor, nn

from pipeline.config import LossConfig, Recipe
from pipeline.devices import move
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

    @property
    def pairs(self) -> int:
        """Number of normal videos, and of abnormal ones."""
        return len(self.lengths) // 2

    def part(self, first: int, end: int) -> Targets:
        """Return the targets of the normal videos [first, end) and of as many abnormal ones, up to their longest."""
        lengths = torch.cat([self.lengths[first:end], self.lengths[self.pairs + first : self.pairs + end]])
        longest = int(lengths.max())
        return Targets(
            lengths=lengths,
            glances=self.glances[first:end, :longest],
            glance_distance_s=self.glance_distance_s[first:end, :longest],
        )

    def to(self, device: torch.device) -> Targets:
        """Return them on a device."""
        return Targets(
            lengths=move(self.lengths, device),
            glances=move(self.glances, device),
            glance_distance_s=move(self.glance_distance_s, device),
        )


def sampler_loss(
    output: TrainingOutput,
    targets: Targets,
    recipe: Recipe,
    step: int,
    *,
    shortcut: nn.Linear | None = None,
    whole: Targets | None = None,
) -> dict[str, Tensor]:
    """Return the weighted terms of the loss by name; the loss is their sum.

    Args:
        output: of the network.
        targets: of the same videos.
        recipe: supervision and weights.
        step: the training step, from 0.
        shortcut: the network's, where it has one.
        whole: the targets of the batch that these videos are a part of; the terms of its parts then add up to those
            of the batch, and so do their gradients.
    """
    weights = recipe.loss
    whole = whole or targets
    half = targets.pairs
    normal, abnormal = output.scores[:half], output.scores[half:]
    inside = valid_mask(targets.lengths, output.scores.shape[1])
    normal_inside, abnormal_inside = inside[:half], inside[half:]
    clicked = targets.glances.any(dim=1)
    if recipe.supervision == "video-label":
        clicked = torch.zeros_like(clicked)
    share = half / whole.pairs
    means = {
        "mil_normal": weights.mil_normal * _top_loss(normal, normal_inside, target=0.0).mean(),
        "mil_abnormal": _abnormal_mil(abnormal, abnormal_inside, clicked, weights.mil_abnormal),
        "memory": weights.memory * _memory_level_loss(output, abnormal_inside),
        "triplet": weights.triplet
        * F.triplet_margin_loss(_unit(output.anchor), _unit(output.positive), _unit(output.negative)),
        "kl": weights.kl * output.kl,
        "distance": weights.distance
        * F.relu(_LATENT_MARGIN - output.negative_latent.norm(dim=-1) + output.anchor_latent.norm(dim=-1)).mean(),
    }  # fmt: skip
    if shortcut is not None:
        means["shortcut"] = weights.shortcut * shortcut.weight.square().sum()
    terms = {name: share * mean for name, mean in means.items()}
    terms["memory"] = terms["memory"] + weights.memory * _memory_snippet_loss(output, normal_inside, whole)
    if recipe.supervision == "clicks":
        marks = _mark(abnormal, targets, weights, step)
        terms["glance"] = weights.glance * _clicks_loss(abnormal, targets, marks, whole, weights.sigma)
    elif recipe.supervision == "regions":
        terms["glance"] = weights.glance * _regions_loss(output.scores, targets, whole, weights)
    return terms


def _unit(vectors: Tensor) -> Tensor:
    return F.normalize(vectors.float(), dim=-1)


@torch.no_grad()
def _mark(scores: Tensor, targets: Targets, weights: LossConfig, step: int) -> Tensor:
    """Mark what abnormal videos' clicks stand for: themselves in the first steps, then what is mined from them."""
    if step < weights.raw_steps:
        return targets.glances
    return mine_events(scores.detach(), targets.glances, targets.lengths[targets.pairs :], weights.alpha)


def _clicks_loss(scores: Tensor, targets: Targets, marks: Tensor, whole: Targets, sigma: float) -> Tensor:
    """Compare the scores of abnormal videos with Gaussians around the marks.

    A video without clicks says nothing about its snippets: it is left out, its label still counts.
    """
    with torch.no_grad():
        rendered = render(marks, targets.lengths[targets.pairs :], sigma)
    return _weighted_bce(scores, rendered, _known(targets), _known(whole).sum())


def _known(targets: Targets) -> Tensor:
    """Return 1 in abnormal videos with clicks, 0 in those without and in padding, shape (B, T)."""
    inside = valid_mask(targets.lengths[targets.pairs :], targets.glances.shape[1])
    return (inside & targets.glances.any(dim=1)[:, None]).float()


def _regions_loss(scores: Tensor, targets: Targets, whole: Targets, weights: LossConfig) -> Tensor:
    """Hold snippets near a click abnormal, normal videos and what is far from every click normal, the rest unknown.

    Both sides weigh the same, however few the clicks are.
    """
    near, far = _regions(targets, weights)
    all_near, all_far = (near, far) if whole is targets else _regions(whole, weights)
    positive = _weighted_bce(scores, torch.ones_like(scores), near, all_near.sum())
    negative = _weighted_bce(scores, torch.zeros_like(scores), far, all_far.sum())
    return 0.5 * (positive + negative)


def _regions(targets: Targets, weights: LossConfig) -> tuple[Tensor, Tensor]:
    """Return the weights of the snippets near a click and of those held normal, each (2B, T)."""
    distance_s = targets.glance_distance_s
    inside = valid_mask(targets.lengths, distance_s.shape[1]).float()
    near, far = torch.zeros_like(inside), torch.ones_like(inside)
    near[targets.pairs :] = (distance_s <= weights.positive_s).float()
    far[targets.pairs :] = (
        weights.negative_weight * (torch.isfinite(distance_s) & (distance_s > weights.negative_s)).float()
    )
    return near * inside, far * inside


def _abnormal_mil(scores: Tensor, inside: Tensor, clicked: Tensor, weight: float) -> Tensor:
    """Ask for some high scores in abnormal videos: fully where there are no clicks that say where."""
    per_video = torch.where(clicked, weight, 1.0)
    return (per_video * _top_loss(scores, inside, target=1.0)).mean()


def _memory_level_loss(output: TrainingOutput, abnormal_inside: Tensor) -> Tensor:
    """Ask abnormal videos to be known to the abnormal memory somewhere, and unknown to the normal one somewhere."""
    some_abnormal = _top_loss(output.abnormal_by_abnormal.float(), abnormal_inside, target=1.0).mean()
    some_not_normal = _top_loss(1 - output.abnormal_by_normal.float(), abnormal_inside, target=1.0).mean()
    return some_abnormal + some_not_normal


def _memory_snippet_loss(output: TrainingOutput, normal_inside: Tensor, whole: Targets) -> Tensor:
    """Ask normal videos to be known to the normal memory everywhere, and to the abnormal one nowhere."""
    everywhere, total = normal_inside.float(), whole.lengths[: whole.pairs].sum()
    all_normal = output.normal_by_normal.float()
    none_abnormal = output.normal_by_abnormal.float()
    return _weighted_bce(all_normal, torch.ones_like(all_normal), everywhere, total) + _weighted_bce(
        none_abnormal, torch.zeros_like(none_abnormal), everywhere, total
    )


def _top_loss(values: Tensor, inside: Tensor, target: float) -> Tensor:
    """Return the cross entropy of the mean of the top k values of each video, shape (B,)."""
    top = (values * top_weights(values.detach(), inside)).sum(dim=1).clamp(0.0, 1.0)
    return F.binary_cross_entropy(top, torch.full_like(top, target), reduction="none")


def _weighted_bce(values: Tensor, targets: Tensor, weights: Tensor, total: Tensor) -> Tensor:
    """Return the weighted sum of cross entropies over `total`, the sum of the weights of the whole batch."""
    losses = F.binary_cross_entropy(values, targets, reduction="none")
    return (losses * weights).sum() / total.clamp(min=1e-6)
