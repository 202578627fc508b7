"""What a training costs, told before it begins, and how a CPU's is bounded.

Costs are counted from sizes, in floating-point operations, and never by the clock: what is trained is then the same on
every machine, however fast. A clock serves the expected minutes alone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from pipeline.config import Recipe, SamplerConfig
from pipeline.sampler.data import Corpus
from pipeline.sampler.heads import ITERATIONS, MOST_NORMAL, TREES
from pipeline.sampler.inputs import arranged_dim

NOMINAL_FLOPS = 20e9
"""Operations a second of the processor whose minutes `sampler.cpu_minutes` counts: two busy cores of a small server."""

_FEWEST_STEPS = 300  # rather a narrower network than fewer steps
_FEWEST_VIDEOS = 16  # of each kind in a step
_NARROWEST = 32
_PER_STEP = 0.2e9  # what a step costs beside its products: 10 ms of the nominal processor
_HEAD_DIM = 128
_FEWEST_ROWS = 256  # of those that a simple head is fitted to
_EACH_SPLIT = 350.0  # what a tree costs a row at a level for each feature tried, in operations of that processor
_EACH_NODE = 1000.0
_TREE_LEVELS = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingPlan:
    """The recipes as they are trained, one network or other head a fold each.

    Attributes:
        recipes: as configured, or reduced to what a CPU is to spend.
        steps_each: of one network of each recipe; of a head that takes none, as many as cost as much.
        networks: of each recipe.
        operations: floating-point operations of all together.
        reduced: what was reduced, for people; empty where nothing was.
    """

    recipes: tuple[Recipe, ...]
    steps_each: tuple[int, ...]
    networks: int
    operations: float
    reduced: tuple[str, ...]

    @property
    def steps(self) -> int:
        """Steps of all networks."""
        return sum(self.steps_each) * self.networks

    def __str__(self) -> str:
        size = f"{len(self.recipes)} recipe(s) of {self.networks} network(s), {self.steps} steps in all"
        if not self.reduced:
            return size
        return f"{size}; for a CPU {', '.join(self.reduced)} (sampler.cpu_minutes=0 trains as configured)"


def plan_training(
    recipes: Sequence[Recipe], corpus: Corpus, crops: int, networks: int, config: SamplerConfig, *, on_cpu: bool
) -> TrainingPlan:
    """Return what is trained: on a CPU the recipes, their steps together costing at most `config.cpu_minutes`.

    A network that is too large takes fewer videos and one crop a step, then a narrower network, then fewer steps. Heads
    without steps get at most half of it beside networks, and are fitted to fewer rows. Validation, which scores what is
    held out, comes on top.

    Args:
        recipes: that compete.
        corpus: the training videos.
        crops: of their features.
        networks: folds, each with a network of every recipe.
        config: cpu_minutes, of a nominal processor and 0 for no bound, and evaluate_every are read.
        on_cpu: whether that is where networks are trained; other heads are always fitted there.
    """
    bound = config.cpu_minutes * 60 * NOMINAL_FLOPS
    sharing = sum(recipe.is_network for recipe in recipes)
    fitted = list(recipes)
    simple = sorted(
        (place for place, recipe in enumerate(recipes) if not recipe.is_network),
        key=lambda place: head_operations(recipes[place], corpus, crops),
    )
    spent, most = 0.0, bound / 2 if sharing else bound
    # The cheap ones first: what they leave of their share is for the others.
    for done, place in enumerate(simple):
        if bound:
            share = (most - spent) / ((len(simple) - done) * networks)
            fitted[place] = _fit_rows(recipes[place], corpus, crops, share)
        spent += networks * head_operations(fitted[place], corpus, crops)
    if on_cpu and bound:
        share = max(0.0, bound - spent) / (max(1, sharing) * networks)
        fitted = [fit(recipe, corpus, crops, share) if recipe.is_network else recipe for recipe in fitted]
    reduced = dict.fromkeys(text for pair in zip(recipes, fitted, strict=True) for text in _differences(*pair))
    return TrainingPlan(
        recipes=tuple(fitted),
        steps_each=tuple(_steps(recipe, corpus, crops) for recipe in fitted),
        networks=networks,
        operations=sum(_operations(recipe, corpus, crops, networks, config) for recipe in fitted),
        reduced=tuple(reduced),
    )


def _operations(recipe: Recipe, corpus: Corpus, crops: int, networks: int, config: SamplerConfig) -> float:
    """Return about how many operations a recipe costs with all its networks and their validation."""
    # Folds share out what is held out; a single one holds a part of it.
    share = 1.0 if networks > 1 else config.validation_fraction
    held_out = share * crops * sum(video.num_snippets for video in corpus.videos)
    if not recipe.is_network:
        rows, dim = _rows(recipe, corpus, crops), arranged_dim(corpus.dim, recipe)
        linear, trees = 2 * dim, TREES * _TREE_LEVELS * _EACH_NODE
        each = {
            "linear": linear,
            "trees": trees,
            "blend": linear + trees,
            "neighbours": 2 * dim * min(rows, MOST_NORMAL),
        }
        return networks * head_operations(recipe, corpus, crops) + held_out * each[recipe.head]
    looks = recipe.steps // max(1, min(config.evaluate_every, recipe.steps // 10)) + 1
    look = looks * held_out * 2 * sum(_products(recipe, corpus.dim, _longest(recipe, corpus)))
    return networks * recipe.steps * step_operations(recipe, corpus, crops) + look


def _steps(recipe: Recipe, corpus: Corpus, crops: int) -> int:
    if recipe.is_network:
        return recipe.steps
    return max(1, round(head_operations(recipe, corpus, crops) / _PER_STEP))


def _fit_rows(recipe: Recipe, corpus: Corpus, crops: int, bound: float) -> Recipe:
    """Return a recipe of another head than the network, fitted with at most `bound` operations: itself if it is."""
    while head_operations(recipe, corpus, crops) > bound and (rows := _rows(recipe, corpus, crops)) > _FEWEST_ROWS:
        recipe = recipe.model_copy(update={"most_rows": max(_FEWEST_ROWS, int(0.9 * rows))})
    return recipe


def head_operations(recipe: Recipe, corpus: Corpus, crops: int) -> float:
    """Return about how many operations it costs at most to fit one head other than the network.

    Args:
        recipe: the head.
        corpus: the training videos.
        crops: of their features.
    """
    rows, dim = _rows(recipe, corpus, crops), arranged_dim(corpus.dim, recipe)
    linear = 5.0 * ITERATIONS * rows * dim
    trees = TREES * _EACH_SPLIT * rows * math.sqrt(dim) * math.log2(rows + 1)
    neighbours = 2.0 * rows * min(rows, MOST_NORMAL) * dim
    return {"linear": linear, "trees": trees, "blend": linear + trees, "neighbours": neighbours}[recipe.head]


def _rows(recipe: Recipe, corpus: Corpus, crops: int) -> int:
    rows = crops * sum(video.num_snippets for video in corpus.videos)
    return min(rows, recipe.most_rows) if recipe.most_rows else rows


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
    given = arranged_dim(dim, recipe)
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
        ("most_rows", before.most_rows or "all", after.most_rows or "all"),
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
