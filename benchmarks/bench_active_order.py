"""Does the order of annotation matter? How fast a sampler learns when the least certain video is annotated next.

A pool of videos is annotated little by little with what their true clicks say: from a first random handful, a sampler
is trained, orders the rest, and the next few are annotated, until the budget is spent. The orders are `uncertain`, that
of `holmes labelstudio suggest`; `highest`, the highest score first; and `random`. After each round the frame AUC is
measured on other videos. Every order begins with the same handful; nobody knows the label of a video before it is
annotated.

    python benchmarks/bench_active_order.py --pool WORKSPACE --test WORKSPACE --truth FILE [--seeds 0 1 2]

The workspaces hold videos, clicks and features, as `holmes train sampler` leaves them; splits named `test` stay out of
the pool. Minutes on one core.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from annotation.ground_truth import read_ground_truth
from annotation.video_index import VideoIndex
from pipeline.config import ProposalConfig, Recipe, SamplerConfig
from pipeline.evaluate.detector import EvaluatedVideo, rank_frames
from pipeline.features.base import open_features
from pipeline.records import Video
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.data import Corpus, LabelledVideo, load_corpus
from pipeline.sampler.model_io import TrainedSampler
from pipeline.sampler.peaks import certainty
from pipeline.sampler.recipes import candidate_recipes
from pipeline.sampler.training import train_on
from pipeline.workspace import Workspace

Order = Callable[[TrainedSampler, LabelledVideo], float]
"""What the videos are sorted by, ascending."""


def curve_of(sampler: TrainedSampler, video: LabelledVideo) -> ScoreCurve:
    """Score a video; its last snippet is taken to be whole."""
    scores = sampler.score(open_features(video.path), video.snippet_s)
    frames = video.num_snippets * sampler.stride_frames
    return ScoreCurve(scores, sampler.stride_frames, frames, sampler.stride_frames / video.snippet_s)


def least_certain(sampler: TrainedSampler, video: LabelledVideo) -> float:
    """Order as suggestions are ordered, nothing being known of the video."""
    return certainty(curve_of(sampler, video), sampler.theta, ProposalConfig())


def highest(sampler: TrainedSampler, video: LabelledVideo) -> float:
    """Order by the highest smoothed score, falling."""
    return -float(curve_of(sampler, video).smoothed(ProposalConfig().smooth_s).max())


ORDERS: dict[str, Order] = {"random": lambda _sampler, _video: 0.0, "uncertain": least_certain, "highest": highest}


def settings_for(corpus: Corpus, folds: int) -> SamplerConfig:
    """Return the first of the small recipes, without a search among them."""
    recipe = candidate_recipes(SamplerConfig(recipe=Recipe(head="network")), corpus.encoder, 1)[0]
    return SamplerConfig(search="off", recipe=recipe, folds=folds, device="cpu")


def first_handful(videos: Sequence[LabelledVideo], size: int, rng: np.random.Generator) -> list[LabelledVideo]:
    """Draw as many abnormal as normal videos: a sampler needs both."""
    kinds = [[v for v in videos if v.is_abnormal == abnormal] for abnormal in (True, False)]
    return [kind[place] for kind in kinds for place in rng.permutation(len(kind))[: size // 2]]


def train(corpus: Corpus, videos: Sequence[LabelledVideo], config: SamplerConfig) -> TrainedSampler:
    """Train on a part of a corpus."""
    with tempfile.TemporaryDirectory() as folder:
        ordered = tuple(sorted(videos, key=lambda video: video.video_id))
        return train_on(replace(corpus, videos=ordered), config, Path(folder))


def learning_curves(
    corpus: Corpus,
    *,
    sizes: Sequence[int],
    seed: int,
    config: SamplerConfig,
    measure: Callable[[TrainedSampler], float],
) -> dict[str, list[tuple[float, int]]]:
    """Return, for every order, the frame AUC and the number of clicks at each number of annotated videos."""
    handful = first_handful(corpus.videos, sizes[0], np.random.default_rng(seed))
    first = train(corpus, handful, config)
    curves = {}
    for name, order in ORDERS.items():
        rng, known, sampler = np.random.default_rng((seed, 1)), list(handful), first
        curves[name] = [(measure(first), sum(len(video.glances) for video in known))]
        for size in sizes[1:]:
            waiting = [video for video in corpus.videos if video not in known]
            # ties are broken at random, never by name
            keys = [(order(sampler, video), rng.random()) for video in waiting]
            ranked = [waiting[place] for place in sorted(range(len(waiting)), key=keys.__getitem__)]
            known += ranked[: size - len(known)]
            sampler = train(corpus, known, config)
            curves[name].append((measure(sampler), sum(len(video.glances) for video in known)))
    return curves


def frame_auc(workspace: Workspace, truth: Path) -> Callable[[TrainedSampler], float]:
    """Return what measures the frame AUC of a sampler on all videos of a workspace."""
    videos = list(workspace.videos.records())
    known = read_ground_truth(truth, VideoIndex(videos))
    files = {row.video_id: workspace.storage.local_path(row.path) for row in workspace.features.records()}

    def evaluated(sampler: TrainedSampler, video: Video) -> EvaluatedVideo:
        scores = sampler.score(open_features(files[video.video_id]), sampler.stride_frames / video.fps)
        curve = ScoreCurve(scores, sampler.stride_frames, video.num_frames, video.fps)
        return EvaluatedVideo(video_id=video.video_id, curve=curve, events=known.events_of(video) or ())

    return lambda sampler: rank_frames([evaluated(sampler, video) for video in videos]).auc or 0.5


def merge(pools: Sequence[str]) -> Corpus:
    """Join the training videos of workspaces whose features are of one kind; ids are told apart by their workspace."""
    corpora = [load_corpus(Workspace(pool)) for pool in pools]
    videos = [replace(v, video_id=f"{n}_{v.video_id}") for n, corpus in enumerate(corpora) for v in corpus.videos]
    return replace(corpora[0], videos=tuple(videos))


def tell(results: dict[str, list[list[tuple[float, int]]]], sizes: Sequence[int]) -> None:
    """Print, of every order and size, the frame AUC, the starts at which it beats the random order, and the clicks."""
    aucs = {name: np.array([[auc for auc, _ in run] for run in runs]) for name, runs in results.items()}
    print(f"{'order':<12}{'videos':>8}{'clicks':>8}{'AUC':>8}{'deviation':>11}{'beats random':>14}")
    for name, runs in results.items():
        for place, size in enumerate(sizes):
            mine, clicks = aucs[name][:, place], np.mean([run[place][1] for run in runs])
            wins = int((mine > aucs["random"][:, place]).sum())
            better = "" if name == "random" else f"{wins} of {len(runs)}"
            print(f"{name:<12}{size:>8}{clicks:>8.1f}{mine.mean():>8.3f}{mine.std():>11.3f}{better:>14}")


def main() -> None:
    """Run all orders from the same starts and print the learning curves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pool", action="append", required=True)
    parser.add_argument("--test", required=True)
    parser.add_argument("--truth", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("--sizes", type=int, nargs="+", default=[8, 16, 24, 32])
    parser.add_argument("--folds", type=int, default=2)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    corpus, measure = merge(options.pool), frame_auc(Workspace(options.test), options.truth)
    config = settings_for(corpus, options.folds)
    results: dict[str, list[list[tuple[float, int]]]] = {name: [] for name in ORDERS}
    started = time.monotonic()
    for seed in options.seeds:
        curves = learning_curves(corpus, sizes=options.sizes, seed=seed, config=config, measure=measure)
        for name, curve in curves.items():
            results[name].append(curve)
            shown = " ".join(f"{auc:.3f}" for auc, _ in curve)
            print(f"seed {seed} {name:<10} {shown}  {time.monotonic() - started:.0f} s", flush=True)
    print(f"pool of {len(corpus.videos)} videos, {sum(v.is_abnormal for v in corpus.videos)} of them abnormal")
    tell(results, options.sizes)
    if options.json:
        options.json.write_text(json.dumps({"sizes": options.sizes, "results": results}, indent=2) + "\n")


if __name__ == "__main__":
    main()
