"""What a training costs, and how it is cut to what a CPU is to spend."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config import NetworkConfig, Recipe, SamplerConfig
from pipeline.sampler.data import Corpus, LabelledVideo
from pipeline.sampler.network import UrDmu
from pipeline.sampler.planning import NOMINAL_FLOPS, fit, head_operations, plan_training, step_operations
from pipeline.sampler.recipes import candidate_recipes


def corpus(videos: int = 200, snippets: int = 32, dim: int = 4096) -> Corpus:
    rows = [
        LabelledVideo(
            video_id=f"v{number}", path=Path("x.npy"), num_snippets=snippets, snippet_s=1.0,
            is_abnormal=bool(number % 2), glances=(), split="train", copies=str(number), content=str(number),
            sha256=str(number),
        )
        for number in range(videos)
    ]  # fmt: skip
    return Corpus(videos=tuple(rows), encoder="npy", dim=dim, stride_frames=16)


@pytest.mark.parametrize(("hidden", "dim"), [(512, 1024), (64, 4096), (32, 512)])
def test_what_is_counted_is_near_what_a_step_does(hidden: int, dim: int) -> None:
    recipe = Recipe(network=NetworkConfig(hidden_dim=hidden, head_dim=hidden // 4), steps=1, batch_videos=2)
    network = UrDmu(dim, recipe.network)
    with FlopCounterMode(display=False) as counter:
        output = network.training_output(torch.randn(4, 1, 64, dim))
        output.scores.sum().backward()
    ours = step_operations(recipe, corpus(4, 64, dim), 1)
    assert ours - 0.2e9 == pytest.approx(counter.get_total_flops(), rel=0.35)


def test_a_plan_without_a_bound_or_within_it_is_the_recipes() -> None:
    wide, small = Recipe(), Recipe(network=NetworkConfig(hidden_dim=32, head_dim=16), steps=50, batch_videos=8)
    unbound = plan_training([wide], corpus(), 1, 1, SamplerConfig(cpu_minutes=0), on_cpu=True)
    assert unbound == plan_training([wide], corpus(), 1, 1, SamplerConfig(), on_cpu=False)
    assert (unbound.recipes, unbound.steps, unbound.reduced) == ((wide,), 1500, ())
    within = plan_training([small, small], corpus(dim=64), 1, 3, SamplerConfig(), on_cpu=True)
    assert (within.recipes, within.steps, within.reduced) == ((small, small), 300, ())
    assert str(within) == "2 recipe(s) of 3 network(s), 300 steps in all"


@pytest.mark.parametrize("size", [corpus(), corpus(2000, 200), corpus(200, 200, 1024), corpus(40, 3000, 2048)])
@pytest.mark.parametrize("crops", [1, 10])
def test_a_plan_keeps_to_its_minutes_whatever_the_size(size: Corpus, crops: int) -> None:
    plan = plan_training([Recipe(), Recipe(context="video")], size, crops, 2, SamplerConfig(), on_cpu=True)
    steps = sum(recipe.steps * step_operations(recipe, size, crops) for recipe in plan.recipes)
    assert 0.9 * 5 * 60 * NOMINAL_FLOPS < 2 * steps <= 5 * 60 * NOMINAL_FLOPS
    assert plan.operations > 2 * steps, "validation comes on top"
    assert min(recipe.steps for recipe in plan.recipes) >= 20
    assert "sampler.cpu_minutes=0" in str(plan)


def test_crops_and_videos_of_a_step_go_before_width_and_width_before_steps() -> None:
    size = corpus(dim=1024)
    ample = 1500 * step_operations(Recipe(batch_videos=16, crops=1), size, 10)
    taken = fit(Recipe(), size, 10, ample * 1.01)
    assert taken == Recipe(batch_videos=16, crops=1)
    half = fit(Recipe(), size, 10, ample / 2)
    assert (half.network.hidden_dim, 300 <= half.steps < 1500) == (512, True)
    tenth = fit(Recipe(), size, 10, ample / 10)
    assert tenth.network.hidden_dim < 512
    assert tenth.steps >= 300


@pytest.mark.parametrize("size", [corpus(2000, 200), corpus(40, 3000, 2048)])
def test_simple_heads_and_networks_share_the_minutes(size: Corpus) -> None:
    config = SamplerConfig(search="full")
    tried = candidate_recipes(config, "npy", len(size.videos))
    plan = plan_training(tried, size, 1, 2, config, on_cpu=True)
    assert [recipe.head for recipe in plan.recipes] == [recipe.head for recipe in tried], "each in its place"
    heads = [recipe for recipe in plan.recipes if recipe.head != "network"]
    networks = [recipe for recipe in plan.recipes if recipe.head == "network"]
    fits = 2 * sum(head_operations(recipe, size, 1) for recipe in heads)
    steps = 2 * sum(recipe.steps * step_operations(recipe, size, 1) for recipe in networks)
    bound = 5 * 60 * NOMINAL_FLOPS
    assert fits <= bound / 2
    assert fits + steps <= bound
    assert max(recipe.most_rows for recipe in heads) > 1000
    assert plan.operations > fits + steps, "validation comes on top"
    assert plan.steps == 2 * sum(plan.steps_each) > 2 * sum(recipe.steps for recipe in networks)
    simple = [recipe for recipe in tried if recipe.head != "network"]
    alone = plan_training(simple, size, 1, 2, config, on_cpu=False)
    assert bound / 2 < 2 * sum(head_operations(recipe, size, 1) for recipe in alone.recipes) <= bound
    unbound = plan_training(tried, size, 1, 2, SamplerConfig(cpu_minutes=0), on_cpu=True)
    assert unbound.recipes == tuple(tried)
    small = corpus(dim=512)
    assert {recipe.most_rows for recipe in plan_training(tried, small, 1, 2, config, on_cpu=True).recipes} == {0}
