"""What a training costs, told before it begins, and how a CPU's is bounded.

Costs are counted from sizes, in floating-point operations, and never by the clock: what is trained is then the same on
every machine, however fast. A clock serves the expected minutes alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config import Recipe
from pipeline.sampler.data import Corpus
from pipeline.sampler.inputs import arrange

NOMINAL_FLOPS = 20e9
"""Operations a second of the processor whose minutes `sampler.cpu_minutes` counts: two busy cores of a small server."""

_FEWEST_STEPS = 300  # rather a narrower network than fewer steps
_FEWEST_VIDEOS = 16  # of each kind in a step
_NARROWEST = 32
_PER_STEP = 0.2e9  # what a step costs beside its products: 10 ms of the nominal processor
_HEAD_DIM = 128
_LOOKS = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """The recipes as they are trained, one network a fold each.

    Attributes:
        recipes: as configured, or reduced to what a CPU is to spend.
        networks: of each recipe.
        operations: floating-point operations of all together.
        reduced: what was reduced, for people; empty where nothing was.
    """

    recipes: tuple[Recipe, ...]
    networks: int
    operations: float
    reduced: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Steps of all networks."""
        return sum(recipe.steps for recipe in self.recipes) * self.networks

    def __str__(self) -> str:
        size = f"{len(self.recipes)} recipe(s) of {self.networks} network(s), {self.steps} steps in all"
        if not self.reduced:
            return size
        return f"{size}; for a CPU {', '.join(self.reduced)} (sampler.cpu_minutes=0 trains as configured)"


def plan_training(
    recipes: Sequence[Recipe], corpus: Corpus, crops: int, networks: int, cpu_minutes: float
) -> TrainingPlan:
    """Return what is trained: the recipes, reduced where all together exceed `cpu_minutes` of a nominal processor.

    A recipe that is too large takes fewer videos and one crop a step, then a narrower network, then fewer steps.

    Args:
        recipes: that compete.
        corpus: the training videos.
        crops: of their features.
        networks: folds, each with a network of every recipe.
        cpu_minutes: bound on the sum; 0 for none.
    """
    trained = sum(recipe.head == "network" for recipe in recipes)
    share = cpu_minutes * 60 * NOMINAL_FLOPS / (max(1, trained) * networks)
    fitted = [fit(recipe, corpus, crops, networks, share) if cpu_minutes else recipe for recipe in recipes]
    reduced = {
        text: None for before, after in zip(recipes, fitted, strict=True) for text in _differences(before, after)
    }
    return TrainingPlan(
        recipes=tuple(fitted),
        networks=networks,
        operations=networks * sum(operations(recipe, corpus, crops, networks) for recipe in fitted),
        reduced=tuple(reduced),
    )


def fit(recipe: Recipe, corpus: Corpus, crops: int, networks: int, bound: float) -> Recipe:
    """Return a recipe of which one network costs at most about `bound` operations, the recipe itself if it does."""
    if operations(recipe, corpus, crops, networks) <= bound:
        return recipe
    fewer = {"batch_videos": min(recipe.batch_videos, _FEWEST_VIDEOS), "crops": recipe.crops if crops == 1 else 1}
    recipe = recipe.model_copy(update=fewer)
    fewest = min(recipe.steps, _FEWEST_STEPS)

    def costs(steps: int) -> float:
        return operations(recipe.model_copy(update={"steps": steps}), corpus, crops, networks)

    while costs(fewest) > bound and recipe.network.hidden_dim > _NARROWEST:
        size = recipe.network
        narrower = {"hidden_dim": max(_NARROWEST, size.hidden_dim // 2), "head_dim": max(16, size.head_dim // 2)}
        recipe = recipe.model_copy(update={"network": size.model_copy(update=narrower)})
    affordable = int(recipe.steps * bound / costs(recipe.steps))
    return recipe.model_copy(update={"steps": max(1, min(recipe.steps, affordable))})


def operations(recipe: Recipe, corpus: Corpus, crops: int, networks: int) -> float:
    """Return about how many floating-point operations the training and validation of one network costs.

    Args:
        recipe: the network and its training.
        corpus: the training videos.
        crops: of their features.
        networks: folds that share out what is held out.
    """
    abnormal = sum(video.is_abnormal for video in corpus.videos)
    half = min(recipe.batch_videos, max(abnormal, len(corpus.videos) - abnormal))
    longest = min(recipe.segments, max(video.num_snippets for video in corpus.videos))
    at_once = min(crops, recipe.crops) if recipe.crops else crops
    products = _products(recipe, corpus.dim, longest)
    held_out = sum(video.num_snippets for video in corpus.videos) * crops / max(2, networks)
    # Each product is a multiplication and an addition, and the way back costs twice the way there.
    step = 6 * products * 2 * half * at_once * longest + _PER_STEP
    # What takes no steps is fitted in seconds: counted as one of the network's.
    return recipe.steps * step + 2 * products * held_out * _LOOKS


def _products(recipe: Recipe, dim: int, count: int) -> float:
    """Return the multiplications of a network for one snippet of a sequence of `count`."""
    network = recipe.network
    width, inner, slots = network.hidden_dim, network.heads * network.head_dim, network.memory_slots
    given = arrange(np.zeros((1, 1, dim), dtype=np.float32), recipe).shape[2]
    # Two thirds of a convolution of width 3: UrDmu._encode.
    embed = 2 * given * width
    layer = width * (3 * inner + width) + inner * width + 2 * width * width + count * (2 * inner + width)
    memory = 4 * slots * width + _HEAD_DIM * (width + 2 * slots)
    return embed + network.layers * layer + memory


def _differences(before: Recipe, after: Recipe) -> list[str]:
    pairs = (
        ("batch_videos", before.batch_videos, after.batch_videos),
        ("crops", before.crops, after.crops),
        ("hidden_dim", before.network.hidden_dim, after.network.hidden_dim),
        ("steps", before.steps, after.steps),
    )
    return [f"{name} {old} -> {new}" for name, old, new in pairs if old != new]


def expected_minutes(plan: TrainingPlan) -> float:
    """Return about how long a plan takes on this CPU as it is now, from the time of a product: for people alone."""
    left, right = torch.ones(1024, 512), torch.ones(512, 512)
    torch.mm(left, right)
    begun = time.perf_counter()
    rounds = 20
    for _ in range(rounds):
        torch.mm(left, right)
    rate = rounds * 2 * 1024 * 512 * 512 / (time.perf_counter() - begun)
    return plan.operations / rate / 60
