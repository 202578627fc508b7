"""UR-DMU against a plain transcription, and what the transcription cannot do: sequences of different lengths."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import LossConfig, NetworkConfig, Recipe
from pipeline.sampler.data import Batch
from pipeline.sampler.losses import Targets, sampler_loss
from pipeline.sampler.mining import valid_mask
from pipeline.sampler.model_io import score_with
from pipeline.sampler.network import UrDmu
from pipeline.sampler.step import add_gradient

DIM, SNIPPETS, CROPS, HALF = 12, 40, 2, 3


@pytest.fixture(scope="module")
def reference() -> ModuleType:
    path = Path(__file__).resolve().parents[4] / "benchmarks" / "reference_urdmu.py"
    spec = importlib.util.spec_from_file_location("reference_urdmu", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def twins(reference: ModuleType) -> tuple[UrDmu, Any]:
    """A network and the plain one with the same weights and without dropout."""
    torch.manual_seed(0)
    ours = UrDmu(DIM, NetworkConfig(dropout=0.0))
    plain = reference.PlainUrDmu(DIM)
    for module in plain.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    pairs: list[tuple[Any, Any]] = [
        (ours.embed, plain.embedding[0]), (ours.head_in, plain.head[0]), (ours.head_out, plain.head[2]),
        (ours.latent_mean, plain.encoder_mu), (ours.latent_log_variance, plain.encoder_var),
    ]  # fmt: skip
    for layer, block in zip(ours.layers, plain.blocks, strict=True):
        pairs += [
            (layer.attention_norm, block.norm1), (layer.project_in, block.attention.to_qkvt),
            (layer.project_out, block.attention.to_out[0]), (layer.block[0], block.norm2),
            (layer.block[1], block.feed_forward[0]), (layer.block[4], block.feed_forward[3]),
        ]  # fmt: skip
    for mine, other in pairs:
        mine.load_state_dict(other.state_dict())
    ours.normal_memory.slots.data = plain.normal_memory.block.data.clone()
    ours.abnormal_memory.slots.data = plain.abnormal_memory.block.data.clone()
    return ours, plain


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(1)
    features = torch.randn(2 * HALF, CROPS, SNIPPETS, DIM)
    glances = torch.zeros(HALF, SNIPPETS)
    glances[0, 0], glances[1, 17], glances[1, 30], glances[2, SNIPPETS - 1] = 1, 1, 1, 1
    return features, glances


@pytest.mark.parametrize("step", [0, 100])
def test_loss_and_gradients_equal_the_plain_transcription(reference: ModuleType, step: int) -> None:
    ours, plain = twins(reference)
    features, glances = batch()
    targets = Targets(
        lengths=torch.full((2 * HALF,), SNIPPETS), glances=glances.bool(), glance_distance_s=torch.zeros(HALF, SNIPPETS)
    )
    torch.manual_seed(2)
    loss = torch.stack(list(sampler_loss(ours.training_output(features), targets, Recipe(), step).values())).sum()
    loss.backward()
    torch.manual_seed(2)
    expected = reference.plain_loss(plain(features), glances, step)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    torch.testing.assert_close(ours.embed.weight.grad, plain.embedding[0].weight.grad, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(ours.normal_memory.slots.grad, plain.normal_memory.block.grad, rtol=1e-3, atol=1e-6)
    for layer, block in zip(ours.layers, plain.blocks, strict=True):
        into, out = block.attention.to_qkvt, block.attention.to_out[0]
        torch.testing.assert_close(layer.project_in.weight.grad, into.weight.grad, rtol=1e-3, atol=1e-6)
        torch.testing.assert_close(layer.project_out.weight.grad, out.weight.grad, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("supervision", ["clicks", "video-label", "regions"])
def test_a_batch_in_parts_has_the_gradient_of_the_whole(supervision: str) -> None:
    network_config = NetworkConfig(hidden_dim=16, heads=2, head_dim=8, memory_slots=4, dropout=0.0, shortcut=True)
    recipe = Recipe(supervision=supervision, network=network_config, loss=LossConfig(shortcut=0.1))
    torch.manual_seed(0)
    network = UrDmu(DIM, network_config)
    # The latent's noise, drawn part by part, must not show.
    torch.nn.init.zeros_(network.latent_log_variance.weight)
    torch.nn.init.constant_(network.latent_log_variance.bias, -200.0)
    features, glances = batch()
    # A video without clicks weighs nothing, and its part less than the others; parts end with their longest video.
    lengths = torch.tensor([SNIPPETS, 21, 12, 30, 25, 9])
    features *= valid_mask(lengths, SNIPPETS)[:, None, :, None]
    glances[0], glances[1, 30], glances[2] = 0, 0, torch.arange(SNIPPETS) == 5
    distance_s = torch.where(glances.any(dim=1, keepdim=True), torch.arange(SNIPPETS) / 2.0, torch.inf)
    targets = Targets(lengths=lengths, glances=glances.bool(), glance_distance_s=distance_s)
    whole = Batch(features=features, lengths=lengths, targets=targets)

    def gradient(snippets_at_once: int) -> tuple[dict[str, torch.Tensor], list[torch.Tensor]]:
        network.zero_grad()
        terms = add_gradient(network, whole, recipe, 100, snippets_at_once=snippets_at_once, half_precision=False)
        return terms, [p.grad.clone() for p in network.parameters() if p.grad is not None]

    parts = [tuple(part.features.shape) for part in whole.parts(4 * CROPS * SNIPPETS)]
    assert parts == [(4, CROPS, SNIPPETS, DIM), (2, CROPS, 12, DIM)]
    expected_terms, expected = gradient(10**6)
    for at_once in (1, 4 * CROPS * SNIPPETS):
        terms, found = gradient(at_once)
        torch.testing.assert_close(terms, expected_terms, rtol=1e-5, atol=1e-7)
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("count", [1, 2, 7, 8])
def test_the_convolution_by_products_is_the_convolution(count: int) -> None:
    from pipeline.sampler.network import _conv3

    torch.manual_seed(0)
    conv = torch.nn.Conv1d(DIM, 5, kernel_size=3, padding=1)
    values = torch.randn(3, count, DIM)
    torch.testing.assert_close(_conv3(values, conv), conv(values.transpose(1, 2)).transpose(1, 2))


def test_mining_and_rendering_equal_the_loops(reference: ModuleType) -> None:
    from pipeline.sampler.mining import mine_events, render

    generator = torch.Generator().manual_seed(3)
    scores = torch.rand(8, 60, generator=generator)
    glances = torch.rand(8, 60, generator=generator) < 0.05
    lengths = torch.full((8,), 60)
    marks = mine_events(scores, glances, lengths, 0.4)
    by_loops = reference.mine_in_loops(scores, glances.float(), 0.4)
    assert torch.equal(marks, by_loops.bool())
    torch.testing.assert_close(render(marks, lengths, 0.1), reference.render_in_loops(by_loops, 0.1))


def test_padding_changes_nothing() -> None:
    torch.manual_seed(0)
    network = UrDmu(DIM, NetworkConfig(hidden_dim=16, heads=2, head_dim=8)).eval()
    features = torch.randn(2, 1, 30, DIM)
    alone = network(features[:1, :, :20])
    features[0, :, 20:] = 0.0
    together = network(features, torch.tensor([20, 30]))
    torch.testing.assert_close(together[0, :20], alone[0])


def test_padding_changes_no_loss() -> None:
    torch.manual_seed(0)
    config = NetworkConfig(hidden_dim=16, heads=2, head_dim=8, memory_slots=4, dropout=0.0)
    recipe = Recipe(network=config)
    network = UrDmu(DIM, config)
    features, glances = batch()
    padded = torch.cat([features, torch.zeros(2 * HALF, CROPS, 9, DIM)], dim=2)

    def terms(values: torch.Tensor, pad: int, *, masked: bool) -> dict[str, float]:
        lengths = torch.full((2 * HALF,), SNIPPETS)
        targets = Targets(
            lengths=lengths,
            glances=torch.nn.functional.pad(glances.bool(), (0, pad)),
            glance_distance_s=torch.zeros(HALF, SNIPPETS + pad),
        )
        torch.manual_seed(5)
        output = network.training_output(values, lengths if masked else None)
        return {name: value.item() for name, value in sampler_loss(output, targets, recipe, 100).items()}

    plain, masked = terms(features, 0, masked=False), terms(padded, 9, masked=True)
    # The latent is sampled, and its noise falls elsewhere where there is padding.
    for name in ("memory", "triplet", "kl"):
        assert masked[name] == pytest.approx(plain[name], rel=1e-4), name


def test_long_videos_score_the_same_in_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    # Without attention a snippet's score depends on its neighbours alone, so windows with context are exact.
    network = UrDmu(DIM, NetworkConfig(hidden_dim=16, layers=0)).eval()
    features = np.random.default_rng(0).normal(size=(2, 300, DIM)).astype(np.float32)
    whole = score_with(network, features, "cpu")
    monkeypatch.setattr("pipeline.sampler.model_io._WINDOW", 70)
    np.testing.assert_allclose(score_with(network, features, "cpu"), whole, rtol=1e-5)


def test_one_snippet_gets_a_score() -> None:
    network = UrDmu(DIM, NetworkConfig(hidden_dim=16, heads=2, head_dim=8)).eval()
    score = score_with(network, np.zeros((1, 1, DIM), np.float32), "cpu")
    assert score.shape == (1,)
    assert 0 < score[0] < 1


@pytest.mark.parametrize("supervision", ["clicks", "regions"])
def test_a_video_without_clicks_says_nothing_about_its_snippets(supervision: str) -> None:
    torch.manual_seed(0)
    config = NetworkConfig(hidden_dim=16, heads=2, head_dim=8, dropout=0.0)
    recipe = Recipe.model_validate({"supervision": supervision, "network": config.model_dump()})
    network = UrDmu(DIM, config)
    features, glances = batch()
    unclicked = torch.zeros_like(glances).bool()
    targets = Targets(
        lengths=torch.full((2 * HALF,), SNIPPETS),
        glances=unclicked,
        glance_distance_s=torch.full((HALF, SNIPPETS), torch.inf),
    )
    output = network.training_output(features)
    terms = sampler_loss(output, targets, recipe, 100)
    (gradient,) = torch.autograd.grad(terms["glance"], output.scores, allow_unused=True, retain_graph=True)
    assert gradient is None or not gradient[HALF:].any()
    assert terms["mil_abnormal"].item() > 0  # its label still counts


def test_dropout_keeps_the_mean_and_drops_its_share() -> None:
    from pipeline.sampler.network import _Dropout

    torch.manual_seed(0)
    dropout = _Dropout(0.25)
    dropped = dropout(torch.ones(999, 1001))
    assert (dropped == 0).float().mean().item() == pytest.approx(0.25, abs=0.003)
    assert dropped.mean().item() == pytest.approx(1.0, abs=0.003)
    assert (dropped[0] == 0).any()
    assert not torch.equal(dropped[0], dropped[1])
    assert torch.equal(dropout.eval()(torch.ones(3)), torch.ones(3))
