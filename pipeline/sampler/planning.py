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

from pipeline.config import Recipe, SamplerConfig
from pipeline.sampler.data import Corpus
from pipeline.sampler.inputs import arrange

NOMINAL_FLOPS = 20e9
"""Operations a second of the processor whose minutes `sampler.cpu_minutes` counts: two busy cores of a small server."""

_FEWEST_STEPS = 300  # rather a narrower network than fewer steps
_FEWEST_VIDEOS = 16  # of each kind in a step
_NARROWEST = 32
_PER_STEP = 0.2e9  # what a step costs beside its products: 10 ms of the nominal processor
_HEAD_DIM = 128


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
    recipes: Sequence[Recipe], corpus: Corpus, crops: int, networks: int, config: SamplerConfig, *, on_cpu: bool
) -> TrainingPlan:
    """Return what is trained: on a CPU the recipes, their steps together costing at most `config.cpu_minutes`.

    A recipe that is too large takes fewer videos and one crop a step, then a narrower network, then fewer steps.
    Validation, which scores what is held out, comes on top.

    Args:
        recipes: that compete.
        corpus: the training videos.
        crops: of their features.
        networks: folds, each with a network of every recipe.
        config: cpu_minutes, of a nominal processor and 0 for no bound, and evaluate_every are read.
        on_cpu: whether that is where it is trained.
    """
    # What takes a single step is fitted in seconds and needs no share.
    sharing = max(1, sum(recipe.steps > 1 for recipe in recipes))
    bound = config.cpu_minutes * 60 * NOMINAL_FLOPS / (sharing * networks)
    fitted = [fit(recipe, corpus, crops, bound) if on_cpu and bound else recipe for recipe in recipes]
    reduced = dict.fromkeys(text for pair in zip(recipes, fitted, strict=True) for text in _differences(*pair))
    held_out = sum(video.num_snippets for video in corpus.videos) * crops
    cost = 0.0
    for recipe in fitted:
        looks = recipe.steps // max(1, min(config.evaluate_every, recipe.steps // 10)) + 1
        # Folds share out what is held out; a single one holds a part of it.
        share = 1.0 if networks > 1 else config.validation_fraction
        cost += networks * recipe.steps * step_operations(recipe, corpus, crops)
        cost += looks * share * held_out * 2 * sum(_products(recipe, corpus.dim, _longest(recipe, corpus)))
    return TrainingPlan(recipes=tuple(fitted), networks=networks, operations=cost, reduced=tuple(reduced))


def fit(recipe: Recipe, corpus: Corpus, crops: int, bound: float) -> Recipe:
    """Return a recipe, the steps of one network costing at most `bound` operations: itself if they do."""
    if recipe.steps * step_operations(recipe, corpus, crops) <= bound:
        return recipe
    fewer = {"batch_videos": min(recipe.batch_videos, _FEWEST_VIDEOS), "crops": recipe.crops if crops == 1 else 1}
    recipe = recipe.model_copy(update=fewer)
    fewest = min(recipe.steps, _FEWEST_STEPS)
    while fewest * step_operations(recipe, corpus, crops) > bound and recipe.network.hidden_dim > _NARROWEST:
        size = recipe.network
        narrower = {"hidden_dim": max(_NARROWEST, size.hidden_dim // 2), "head_dim": max(16, size.head_dim // 2)}
        recipe = recipe.model_copy(update={"network": size.model_copy(update=narrower)})
    affordable = int(bound / step_operations(recipe, corpus, crops))
    return recipe.model_copy(update={"steps": max(1, min(recipe.steps, affordable))})


def step_operations(recipe: Recipe, corpus: Corpus, crops: int) -> float:
    """Return about how many floating-point operations a training step of one network costs.

    Args:
        recipe: the network and its training.
        corpus: the training videos.
        crops: of their features.
    """
    abnormal = sum(video.is_abnormal for video in corpus.videos)
    half = min(recipe.batch_videos, max(abnormal, len(corpus.videos) - abnormal))
    at_once = min(crops, recipe.crops) if recipe.crops else crops
    longest = _longest(recipe, corpus)
    embed, inner = _products(recipe, corpus.dim, longest)
    # A product is a multiplication and an addition, and is done again for the weights and for what it was given: of the
    # first one that is the features, which need no gradient.
    return (4 * embed + 6 * inner) * 2 * half * at_once * longest + _PER_STEP


def _longest(recipe: Recipe, corpus: Corpus) -> int:
    return min(recipe.segments, max(video.num_snippets for video in corpus.videos))


def _products(recipe: Recipe, dim: int, count: int) -> tuple[float, float]:
    """Return the multiplications for one snippet of a sequence of `count`: of the embedding, and of what follows."""
    network = recipe.network
    width, inner, slots = network.hidden_dim, network.heads * network.head_dim, network.memory_slots
    given = arrange(np.zeros((1, 1, dim), dtype=np.float32), recipe).shape[2]
    layer = width * (3 * inner + width) + inner * width + 2 * width * width + count * (2 * inner + width)
    memory = 4 * slots * width + _HEAD_DIM * (width + 2 * slots)
    # Two thirds of a convolution of width 3: UrDmu._encode.
    return 2 * given * width, network.layers * layer + memory


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
