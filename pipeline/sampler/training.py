"""Training of the temporal sampler on the clicks of a workspace.

Each candidate recipe is trained once per fold, on the videos outside of the fold, and the folds together validate it.
With one recipe they choose the number of steps and the smoothing; with one fold that is the usual choice of a
checkpoint. Where networks compete, a handful of clicks can choose neither a step nor the best of several good recipes:
all train to the end, and the sampler is the mean of those that do about as well as the best. With few videos, by
default, there is one head, and the folds choose the smoothing. What is held out takes no part in any of it. Other
heads than the network take no steps: they are fitted once a fold.

A step is a function of seed and step number alone, so that an interrupted training ends, on a CPU, at the same bits as
one that was not.
"""

from __future__ import annotations

import logging
import math
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import torch
from torch import Tensor

from pipeline.config import FeaturesConfig, Recipe, SamplerConfig
from pipeline.devices import pick_device
from pipeline.errors import DataError
from pipeline.features.base import open_features
from pipeline.records import digest
from pipeline.sampler.data import Batch, Batches, Corpus, FeatureSource, LabelledVideo, load_corpus
from pipeline.sampler.fold_run import FoldRun, KeptSteps
from pipeline.sampler.heads import HEADS, collect_rows, restore_head
from pipeline.sampler.inputs import Floats
from pipeline.sampler.model_io import TrainedRecipe, TrainedSampler, read_config, score_with
from pipeline.sampler.network import UrDmu
from pipeline.sampler.planning import expected_minutes, plan_training
from pipeline.sampler.recipes import candidate_recipes, clicks_choose
from pipeline.sampler.selection import choose_theta, glance_auc, make_folds
from pipeline.sampler.smoothing import smooth
from pipeline.sampler.step import add_gradient, pick_snippets_at_once
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

logger = logging.getLogger(__name__)

MODEL_FOLDER = "models/sampler"
_VERSION = 6
_INDISTINCT = 0.01
"""Difference in glance AUC up to which networks count as equally good: a handful of clicks cannot tell them apart."""
_LEAST_VARIANCE = 0.02
"""Of a share: that all were right in a handful of draws does not make it certain."""

Keep = Literal["best", "all", "last"]
"""Which weights of a training may still be wanted: of the step that validates best, of every validated step because
other folds have a say in it, or of the last step."""

_LOG_EVERY_S = 5.0
_RUNS = "runs"
_LOG = "tensorboard"

Progress = Callable[[str, int, int], None]
"""Called with a name, the steps done and the steps to do, of all networks together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The best of a recipe: `auc` is the glance AUC on validation at `step` with `smoothing_s`."""

    recipe: Recipe
    auc: float
    step: int
    smoothing_s: float


def training_key(corpus: Corpus, config: SamplerConfig) -> str:
    """Hash what a trained sampler depends on: the videos, features, labels and clicks, and the settings."""
    settings = {name: value for name, value in config.identity().items() if name != "weights"}
    videos = [video.identity for video in corpus.videos]
    return digest(_VERSION, corpus.encoder, corpus.stride_frames, videos, settings)[:16]


def ensure_sampler(
    workspace: Workspace,
    config: SamplerConfig,
    on_progress: Progress | None = None,
    *,
    features: FeaturesConfig | None = None,
) -> tuple[Path, Mapping[str, Any]]:
    """Return the folder of the sampler of this workspace and what validation measured, training it if need be.

    Args: as `train_sampler`.

    Raises: as `train_sampler`.
    """
    folder = workspace.storage.local_path(MODEL_FOLDER)
    known = read_config(folder)
    if known is None or known.get("trained_on") != training_key(load_corpus(workspace), config):
        return folder, train_sampler(workspace, config, on_progress, features=features).validation
    logger.info("%s: up to date", folder)
    return folder, known["validation"]


def train_sampler(
    workspace: Workspace,
    config: SamplerConfig,
    on_progress: Progress | None = None,
    *,
    features: FeaturesConfig | None = None,
) -> TrainedSampler:
    """Train on the features and clicks of a workspace and leave the sampler in its `models/sampler`.

    A training that was interrupted goes on where it last validated.

    Args:
        workspace: with features, clicks and splits.
        config: the recipes, and how they are tried.
        on_progress: told the steps done; None logs them.
        features: how the features were made, kept for those who see other videos by them.

    Raises:
        DataError: if there are no normal or no abnormal videos to train on.
        SetupError: if the device is not there.
    """
    folder = workspace.storage.local_path(MODEL_FOLDER)
    sampler = train_on(load_corpus(workspace), config, folder, on_progress)
    if features is not None:
        sampler = replace(sampler, features=features.seen())
    sampler.save(folder)
    shutil.rmtree(folder / _RUNS, ignore_errors=True)
    return sampler


def train_on(
    corpus: Corpus, config: SamplerConfig, folder: Path, on_progress: Progress | None = None
) -> TrainedSampler:
    """Train on a corpus and return the sampler; checkpoints and TensorBoard logs go to `folder`.

    Raises:
        DataError: if a simple head finds no normal or no abnormal snippets outside of a fold.
        SetupError: if the device is not there, or a head's library.
    """
    folds = make_folds(corpus.videos, config)
    show_all = _logged() if on_progress is None else on_progress
    recipes = candidate_recipes(config, corpus.encoder, len(corpus.videos))
    device = pick_device(config.device, "sampler.device")
    crops = open_features(corpus.videos[0].path).shape[0]
    on_cpu = not device.startswith("cuda")
    plan = plan_training(recipes, corpus, crops, len(folds), config, on_cpu=on_cpu)
    expected = f", about {max(0.1, expected_minutes(plan)):.1f} min on this CPU" if on_cpu else ""
    logger.info("train sampler: %d videos, %s%s", len(corpus.videos), plan, expected)
    recipes = list(plan.recipes)
    several = sum(recipe.is_network for recipe in recipes) > 1
    keep: Keep = "last" if several else "all" if len(folds) > 1 else "best"
    tried: list[tuple[Choice, list[FoldRun]]] = []
    done = 0
    for number, (recipe, steps) in enumerate(zip(recipes, plan.steps_each, strict=True)):
        trained = []
        source = None if recipe.is_network else FeatureSource(corpus.videos, recipe)
        for place, fold in enumerate(folds):
            show = partial(_show, show_all, done, plan.steps)
            if source is not None:
                trained.append(_fit(corpus, fold, source, config.seed))
                show(steps)
            else:
                trainer = _Trainer(corpus, fold, recipe, config, device, keep=keep)
                with _board(folder / _LOG / f"recipe{number}-fold{place}") as board:
                    trained.append(trainer.run(folder / _RUNS / digest(trainer.identity())[:16], board, show))
            done += steps
        choice = choose(recipe, trained, corpus.videos, config, keep)
        logger.info(
            "recipe %d of %d: %s by %s, context %s, events of %g s: glance AUC %.4f, step %d, smoothing %g s",
            number + 1, len(recipes), recipe.head, recipe.supervision, recipe.context, recipe.loss.positive_s,
            choice.auc, choice.step, choice.smoothing_s,
        )  # fmt: skip
        tried.append((choice, trained))
    if clicks_choose(config, len(corpus.videos)):
        used, auc = agree(tried, corpus.videos)
    else:
        used, auc = [True] * len(tried), _auc_together(tried, corpus.videos) or 0.5
    chosen = [pair for pair, is_used in zip(tried, used, strict=True) if is_used]
    out_of_fold = _out_of_fold(chosen, corpus.videos)
    theta = choose_theta(out_of_fold, [video for video in corpus.videos if video.video_id in out_of_fold])
    return TrainedSampler(
        recipes=[_assemble(*pair, device) for pair in chosen],
        encoder=corpus.encoder,
        dim=corpus.dim,
        stride_frames=corpus.stride_frames,
        trained_on=training_key(corpus, config),
        validation={
            "glance_auc": auc,
            "theta": None if theta is None else round(theta, 3),
            "tried": [_told(choice, is_used) for (choice, _), is_used in zip(tried, used, strict=True)],
        },
        contents=[video.content for video in corpus.videos],
        out_of_fold={v.content: out_of_fold[v.video_id] for v in corpus.videos if v.video_id in out_of_fold},
        device=device,
    )


def agree(tried: Sequence[tuple[Choice, list[FoldRun]]], videos: tuple[LabelledVideo, ...]) -> tuple[list[bool], float]:
    """Return which recipes are used together, and their glance AUC on held-out videos.

    Those are used that do about as well as the best. Where heads of several kinds compete, their scores need not suit
    each other: what they say together is measured as well, and the best is used alone where it does better.
    """
    aucs = [choice.auc for choice, _ in tried]
    best = max(aucs)
    if all(choice.recipe.is_network for choice, _ in tried):
        return [auc >= best - _INDISTINCT for auc in aucs], best
    used = [auc >= best - _chance(best, videos) for auc in aucs]
    auc = _auc_together([pair for pair, is_used in zip(tried, used, strict=True) if is_used], videos)
    if auc is None or auc >= best:
        return used, best if auc is None else auc
    return [place == aucs.index(best) for place in range(len(aucs))], best


def _auc_together(chosen: Sequence[tuple[Choice, list[FoldRun]]], videos: tuple[LabelledVideo, ...]) -> float | None:
    """Return the glance AUC on held-out videos of what recipes say together."""
    together = _out_of_fold(chosen, videos)
    return glance_auc(together, [video for video in videos if video.video_id in together])


def _chance(auc: float, videos: Sequence[LabelledVideo]) -> float:
    """Return the difference in glance AUC up to which recipes count as equally good.

    That is half the deviation of a share over as many draws as videos have clicks: a handful of clicks can tell hardly
    any two recipes apart, and then the mean of several good ones is better than the luckiest.
    """
    clicked = sum(bool(video.glances) for video in videos)
    return 0.5 * math.sqrt(max(auc * (1 - auc), _LEAST_VARIANCE) / max(1, clicked))


def _show(on_progress: Progress, before: int, total: int, step: int) -> None:
    on_progress("train sampler", before + step, total)


def _logged() -> Progress:
    """Return what logs progress every few seconds."""
    shown_at = time.monotonic()

    def show(name: str, done: int, total: int) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if now - shown_at >= _LOG_EVERY_S:
            shown_at = now
            logger.info("%s: %d of %d", name, done, total)

    return show


def choose(
    recipe: Recipe, trained: list[FoldRun], videos: tuple[LabelledVideo, ...], config: SamplerConfig, keep: Keep
) -> Choice:
    """Return the step, the last one where only that is kept, and the smoothing that do best on held-out videos."""
    steps = list(trained[0].scores)
    held_out = [video for video in videos if any(video.video_id in run.scores[steps[0]] for run in trained)]
    found = []
    for step in steps[-1:] if keep == "last" else steps:
        for smoothing_s in config.smoothing_s:
            smoothed = held_out_scores(step, smoothing_s, trained, videos)
            # Without both sides in validation nothing can be told apart, and the last step is as good as any.
            auc = glance_auc(smoothed, held_out)
            found.append(Choice(recipe=recipe, auc=0.5 if auc is None else auc, step=step, smoothing_s=smoothing_s))
    return max(found, key=lambda choice: (choice.auc, -choice.smoothing_s))


def _out_of_fold(
    chosen: Sequence[tuple[Choice, list[FoldRun]]], videos: tuple[LabelledVideo, ...]
) -> dict[str, Floats]:
    """Return the mean over the chosen recipes of what held-out videos score."""
    said: dict[str, list[Floats]] = {}
    for choice, trained in chosen:
        for video_id, score in held_out_scores(choice.step, choice.smoothing_s, trained, videos).items():
            said.setdefault(video_id, []).append(score)
    return {video_id: np.mean(scores, axis=0) for video_id, scores in said.items()}


def held_out_scores(
    step: int, smoothing_s: float, trained: list[FoldRun], videos: tuple[LabelledVideo, ...]
) -> dict[str, Floats]:
    """Return the smoothed scores of each held-out video by the network that was not trained on it."""
    raw = {video_id: score for run in trained for video_id, score in run.scores[step].items()}
    return {v.video_id: smooth(raw[v.video_id], smoothing_s / v.snippet_s) for v in videos if v.video_id in raw}


def _assemble(choice: Choice, trained: list[FoldRun], device: str) -> TrainedRecipe:
    networks = [restore_head(choice.recipe, run.states[choice.step]).to(device) for run in trained]
    return TrainedRecipe(
        recipe=choice.recipe,
        networks=networks,
        scales=[run.scale for run in trained],
        smoothing_s=choice.smoothing_s,
    )


def _told(choice: Choice, is_used: bool) -> dict[str, Any]:
    recipe = choice.recipe
    return {
        "head": recipe.head, "part": recipe.part, "supervision": recipe.supervision, "pooling": recipe.pooling,
        "context": recipe.context,
        "positive_s": recipe.loss.positive_s, "mil_abnormal": recipe.loss.mil_abnormal, "glance_auc": choice.auc,
        "step": choice.step, "smoothing_s": choice.smoothing_s, "used": is_used,
    }  # fmt: skip


def _fit(corpus: Corpus, fold: list[int], source: FeatureSource, seed: int) -> FoldRun:
    """Fit a head that takes no steps, of the recipe of a source, to the videos outside of a fold.

    Raises:
        DataError: abnormal or normal snippets are missing among them.
    """
    held = set(fold)
    training = [video for index, video in enumerate(corpus.videos) if index not in held]
    held_out = [corpus.videos[index] for index in fold]
    own = int(digest(seed, fold)[:8], 16)
    recipe = source.recipe
    source.fit(training)
    rows = collect_rows(training, source, recipe, own)
    if rows is None:
        raise DataError(
            f"of {len(training)} training videos, none has a normal snippet (a normal video, or more than "
            f"{recipe.loss.negative_s:g} s from every click), or none an abnormal one"
        )
    head = HEADS[recipe.head].fit(rows, recipe, own)
    scores = {video.video_id: score_with(head, source.read(video), "cpu") for video in held_out}
    return FoldRun(scores={0: scores}, states={0: dict(head.state_dict())}, scale=source.scale)


class _Trainer:
    """Trains one network on the videos outside of a fold."""

    def __init__(
        self, corpus: Corpus, fold: list[int], recipe: Recipe, config: SamplerConfig, device: str, *, keep: Keep
    ) -> None:
        held = set(fold)
        self._training = [video for index, video in enumerate(corpus.videos) if index not in held]
        self._held_out = [video for index, video in enumerate(corpus.videos) if index in held]
        self._recipe = recipe
        self._config = config
        self._device = device
        self._keep: Keep = keep
        self._seed = int(digest(config.seed, sorted(held))[:8], 16)
        wanted = config.precision
        # At least ten looks, however short the training.
        self._evaluate_every = max(1, min(config.evaluate_every, recipe.steps // 10))
        self._half_precision = wanted == "bfloat16" or (wanted == "auto" and device.startswith("cuda"))
        self._snippets_at_once = pick_snippets_at_once(config.snippets_at_once, device)

    def identity(self) -> dict[str, Any]:
        """Return what the run's result depends on, for telling whether a checkpoint is of this run."""
        return {
            "version": _VERSION,
            "recipe": self._recipe.identity(),
            "seed": self._config.seed,
            "half_precision": self._half_precision,
            "snippets_at_once": self._snippets_at_once,
            "evaluate_every": self._evaluate_every,
            "smoothing_s": self._config.smoothing_s,
            "keep": self._keep,
            "training": [video.identity for video in self._training],
            "held_out": [video.identity for video in self._held_out],
        }

    def run(self, folder: Path, board: SummaryWriter | None, show: Callable[[int], None]) -> FoldRun:
        """Train to the last step, from the latest checkpoint in `folder` on; `show` is told the steps done."""
        source = FeatureSource([*self._training, *self._held_out], self._recipe)
        source.fit(self._training)
        batches = Batches(self._training, source, self._recipe, self._seed)
        with _seeded(self._seed):
            network = UrDmu(source.read(self._training[0]).shape[2], self._recipe.network).to(self._device)
        optimizer = torch.optim.Adam(
            network.parameters(), lr=self._recipe.learning_rate, weight_decay=self._recipe.weight_decay
        )
        kept = KeptSteps(folder / "checkpoint.pt")
        start = kept.restore(network, optimizer, self._device)
        # The next batch is read while the network works on this one.
        with ThreadPoolExecutor(1) as reader:
            ahead = reader.submit(batches.at, start)
            for step in range(start, self._recipe.steps):
                batch = ahead.result()
                ahead = reader.submit(batches.at, step + 1)
                terms = self._step(network, optimizer, batch, step)
                done = step + 1
                show(done)
                if done % self._evaluate_every == 0 or done == self._recipe.steps:
                    self._validate(network, source, done, terms=terms, kept=kept, board=board)
                    kept.store(network, optimizer, done)
        return FoldRun(scores=kept.scores, states=kept.states, scale=source.scale)

    def _step(self, network: UrDmu, optimizer: torch.optim.Optimizer, batch: Batch, step: int) -> dict[str, Tensor]:
        network.train()
        optimizer.zero_grad(set_to_none=True)
        with _seeded(self._seed + step + 1):
            terms = add_gradient(
                network, batch, self._recipe, step,
                snippets_at_once=self._snippets_at_once, half_precision=self._half_precision,
            )  # fmt: skip
            optimizer.step()
        return terms

    def _validate(
        self,
        network: UrDmu,
        source: FeatureSource,
        step: int,
        *,
        terms: dict[str, Tensor],
        kept: KeptSteps,
        board: SummaryWriter | None,
    ) -> None:
        network.eval()
        scores = {video.video_id: score_with(network, source.read(video), self._device) for video in self._held_out}
        state = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        kept.add(step, scores, state)
        auc = glance_auc(scores, self._held_out)
        if self._keep != "all":
            run = FoldRun(scores=kept.scores, states={}, scale=None)
            kept.keep_only(choose(self._recipe, [run], tuple(self._held_out), self._config, self._keep).step)
        curves = {f"loss/{name}": value.item() for name, value in terms.items()}
        if auc is not None:
            curves["validation/glance_auc"] = auc
        if board is not None:
            for name, value in curves.items():
                board.add_scalar(name, value, step)


@contextmanager
def _board(folder: Path) -> Iterator[SummaryWriter | None]:
    """Open a TensorBoard log where TensorBoard is installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        yield None
        return
    with SummaryWriter(str(folder)) as writer:
        yield writer


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Draw random numbers from a seed and leave the generators outside as they were."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        yield
