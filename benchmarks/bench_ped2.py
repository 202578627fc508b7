"""Training by clicks alone on eight real videos: UCSD Ped2 untrimmed, one click an event, `motion` features.

The videos are split into folds; each fold is scored by samplers trained on the others, which also chose their recipe
there. The ground truth is read once, at the end. Beside the sampler stand the same without clicks, and what needs no
training of ours: the speed of the fastest patch, a logistic regression on clicks (pooled over positions, smoothed over
time), and click-centred windows for the spans. Of the samplers, what `holmes detect` finds without any click of these
videos is measured too, at the threshold that each chose on its own training videos.

    python benchmarks/bench_ped2.py DATA [--folds 4] [--workspace FOLDER] [--json FILE]

DATA holds videos.csv, glance_annotations.csv and ground_truth.csv. Minutes on two cores.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from annotation.stage import GlancesStage
from pipeline.config import BuildConfig, ExportConfig, Recipe, SamplerConfig, parse_config
from pipeline.evaluate.detector import DetectorMetrics, EvaluatedVideo, TrueEvent, evaluate_detector
from pipeline.features.base import open_features
from pipeline.features.motion import DIM, FASTEST, GRIDS, STATISTICS, pool_positions
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.data import Corpus, LabelledVideo, load_corpus
from pipeline.sampler.proposals import GlanceMark
from pipeline.sampler.sampling import THETA
from pipeline.sampler.smoothing import smooth
from pipeline.sampler.training import train_on
from pipeline.stages.features import FeaturesStage
from pipeline.stages.ingest import IngestStage
from pipeline.stages.looks import LooksStage
from pipeline.stages.run import run_stage
from pipeline.stages.splits import SplitsStage
from pipeline.workspace import Workspace

STRIDE_FRAMES = 8
Scorer = Callable[[Corpus, Sequence[LabelledVideo]], dict[str, NDArray[np.float32]]]


def make_workspace(data: Path, folder: Path) -> tuple[Workspace, BuildConfig]:
    """Ingest videos and clicks, and measure their motion."""
    config = parse_config(
        {
            "videos": [str(data / "videos.csv")],
            "glances": [str(data / "glance_annotations.csv")],
            "workspace": str(folder),
            "features": {"stride_frames": STRIDE_FRAMES},
        }
    )
    workspace = Workspace(config.workspace)
    run_stage(IngestStage(workspace, config.videos, config.ingest, config.video), workspace.videos)
    run_stage(GlancesStage(workspace, config.glances, config.glance, config.video), workspace.glances)
    run_stage(LooksStage(workspace, config.video), workspace.looks)
    # All of it is shared out in folds.
    run_stage(SplitsStage(workspace, ExportConfig(validation_fraction=0)), workspace.splits)
    run_stage(FeaturesStage(workspace, config.features, config.video), workspace.features)
    return workspace, config


def outer_folds(corpus: Corpus, count: int) -> list[list[LabelledVideo]]:
    """Share out the videos, abnormal and normal ones alike, so that no fold takes the last normal video away."""
    folds: list[list[LabelledVideo]] = [[] for _ in range(count)]
    ordered = sorted(corpus.videos, key=lambda video: (video.is_abnormal, video.video_id))
    for place, video in enumerate(ordered):
        folds[place % count].append(video)
    return folds


def by_sampler(config: SamplerConfig, folder: Path, thetas: dict[str, float]) -> Scorer:
    """Score with samplers trained on the other videos, and note the threshold of each."""

    def score(corpus: Corpus, held_out: Sequence[LabelledVideo]) -> dict[str, NDArray[np.float32]]:
        sampler = train_on(corpus, config, folder)
        used = [
            f"{row['supervision']}/{row['context']} {row['glance_auc']:.3f}"
            for row in sampler.validation["tried"]
            if row["used"]
        ]
        print(f"   held out {', '.join(v.video_id for v in held_out)}: {'; '.join(used)}", flush=True)
        thetas.update(dict.fromkeys((v.video_id for v in held_out), sampler.validation["theta"] or THETA))
        return {v.video_id: sampler.score(open_features(v.path), v.snippet_s) for v in held_out}

    return score


def by_regression(smoothing_s: float) -> Scorer:
    """Score with a logistic regression on clicks: near them, far from them, and normal videos."""

    def score(corpus: Corpus, held_out: Sequence[LabelledVideo]) -> dict[str, NDArray[np.float32]]:
        from sklearn.linear_model import LogisticRegression
        from sklearn.pipeline import make_pipeline
        from sklearn.preprocessing import StandardScaler

        rows, truth, weights = [], [], []
        for video in corpus.videos:
            distance_s = video.glance_distance_s
            near = distance_s <= 4.0
            far = np.where(distance_s > 10.0, 0.3 if video.is_abnormal else 1.0, 0.0)
            known = near | (far > 0)
            rows.append(pooled(video)[known])
            truth.append(near[known])
            weights.append(np.where(near, 1.0, far)[known])
        model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
        model.fit(
            np.concatenate(rows), np.concatenate(truth), logisticregression__sample_weight=np.concatenate(weights)
        )
        return {
            v.video_id: smooth(model.predict_proba(pooled(v))[:, 1].astype(np.float32), smoothing_s / v.snippet_s)
            for v in held_out
        }

    return score


def pooled(video: LabelledVideo) -> NDArray[np.float32]:
    """Return features pooled over positions, shape (T, D)."""
    return pool_positions(np.asarray(open_features(video.path)[0], dtype=np.float32))


def by_speed(smoothing_s: float) -> Scorer:
    """Score with the speed of the fastest patch in the picture, in picture widths per second, at most 1."""

    def score(_: Corpus, held_out: Sequence[LabelledVideo]) -> dict[str, NDArray[np.float32]]:
        cells = GRIDS[0][0] * GRIDS[0][1]
        scores = {}
        for video in held_out:
            stored = np.asarray(open_features(video.path)[0], dtype=np.float32)
            assert stored.shape[1] == DIM
            fastest = stored[:, : cells * STATISTICS].reshape(-1, cells, STATISTICS)[:, :, FASTEST].max(axis=1)
            scores[video.video_id] = smooth(np.clip(fastest, 0, 1), smoothing_s / video.snippet_s)
        return scores

    return score


def read_truth(data: Path) -> dict[str, list[TrueEvent]]:
    """Read the events of the ground truth."""
    events: dict[str, list[TrueEvent]] = {}
    with (data / "ground_truth.csv").open() as file:
        for row in csv.DictReader(file):
            event = TrueEvent(
                start_frame=int(row["start_frame"]), end_frame=int(row["end_frame_exclusive"]), category=row["category"]
            )
            events.setdefault(row["video_id"], []).append(event)
    return events


def measure(
    workspace: Workspace,
    config: BuildConfig,
    events: Mapping[str, list[TrueEvent]],
    scores: Mapping[str, Any],
    theta: float = THETA,
) -> DetectorMetrics:
    """Evaluate the scores of some videos."""
    glances: dict[str, list[GlanceMark]] = {}
    for glance in workspace.glances.records():
        glances.setdefault(glance.video_id, []).append(
            GlanceMark(frame_index=glance.frame_index, category=glance.category)
        )
    evaluated = [
        EvaluatedVideo(
            video_id=video.video_id,
            curve=ScoreCurve(scores[video.video_id], STRIDE_FRAMES, video.num_frames, video.fps),
            events=tuple(events.get(video.video_id, ())),
            glances=tuple(glances.get(video.video_id, ())),
        )
        for video in workspace.videos.records()
        if video.video_id in scores
    ]
    return evaluate_detector(evaluated, config.clips, theta).metrics


def main() -> None:
    """Train, score, evaluate and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--folds", type=int, default=4, help="as many as videos is leave-one-out")
    parser.add_argument("--workspace", type=Path, help="keep features here; a temporary folder otherwise")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="measure only what has this in its name")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)  # the networks are tiny; threads would only wait for one another
    with tempfile.TemporaryDirectory() as temporary:
        workspace, config = make_workspace(arguments.data, arguments.workspace or Path(temporary))
        corpus = load_corpus(workspace)
        runs = Path(temporary) / "runs"
        plain = SamplerConfig(seed=arguments.seed)
        unclicked = SamplerConfig(seed=arguments.seed, recipe=Recipe(supervision="video-label"))
        thetas: dict[str, dict[str, float]] = {"sampler (clicks)": {}, "sampler, video-label": {}}
        scorers: dict[str, Scorer] = {
            "sampler (clicks)": by_sampler(plain, runs, thetas["sampler (clicks)"]),
            "sampler, video-label": by_sampler(unclicked, runs, thetas["sampler, video-label"]),
            "flow magnitude": by_speed(0.0),
            "flow magnitude, smoothed 1.6 s": by_speed(1.6),
            "logistic regression on clicks": by_regression(1.6),
        }
        results = {}
        for name, scorer in scorers.items():
            if arguments.only and arguments.only not in name:
                continue
            print(name, flush=True)
            scores: dict[str, NDArray[np.float32]] = {}
            for fold in outer_folds(corpus, arguments.folds):
                rest = tuple(video for video in corpus.videos if video not in fold)
                scores |= scorer(dataclasses.replace(corpus, videos=rest), fold)
            results[name] = report(
                name, workspace, config,
                corpus=corpus, events=read_truth(arguments.data), scores=scores, thetas=thetas.get(name, {}),
                folds=arguments.folds,
            )  # fmt: skip
        windows = next(iter(results.values()))["windows_mean_tiou"]
        print(f"{'click-centred windows':<34}{'':>24}{windows:>8.3f}")
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")


def report(
    name: str,
    workspace: Workspace,
    config: BuildConfig,
    *,
    corpus: Corpus,
    events: Mapping[str, list[TrueEvent]],
    scores: Mapping[str, NDArray[np.float32]],
    thetas: Mapping[str, float],
    folds: int,
) -> dict[str, Any]:
    """Print frame AUC, AP and mean tIoU over all videos and per fold, and what is detected without clicks."""
    overall = measure(workspace, config, events, scores)
    columns = ("AUC", "AP", "AUC abn", "tIoU", *(("spans", "events") if thetas else ()))
    print(f"{'':<34}{''.join(f'{column:>8}' for column in columns)}")
    print(f"{name:<34}{overall.auc:>8.3f}{overall.ap:>8.3f}{overall.auc_abnormal:>8.3f}{overall.mean_tiou:>8.3f}")
    per_fold, detected = [], []
    for fold in outer_folds(corpus, folds):
        theta = thetas.get(fold[0].video_id, THETA)
        found = measure(workspace, config, events, {v.video_id: scores[v.video_id] for v in fold}, theta)
        spans = found.localisation["detections"]
        detected.append(spans)
        counts = f"{spans.num_proposals:>8}{spans.num_events:>8}" if thetas else ""
        names = "+".join(video.video_id.removeprefix("Ped2_") for video in fold)
        row = {"videos": names, "auc": found.auc, "ap": found.ap, "mean_tiou": found.mean_tiou}
        per_fold.append(row | {"detected": spans.num_proposals, "events": spans.num_events})
        shown = [f"{'-' if value is None else f'{value:.3f}':>8}" for value in (found.auc, found.ap, found.mean_tiou)]
        print(f"   {names:<31}{shown[0]}{shown[1]}{'':>8}{shown[2]}{counts}", flush=True)
    num_events = sum(spans.num_events for spans in detected)
    detected_tiou = sum((spans.mean_tiou or 0.0) * spans.num_events for spans in detected) / num_events
    num_detected = sum(spans.num_proposals for spans in detected)
    if thetas:
        print(
            f"   without clicks: {num_detected} spans for {num_events} events, mean tIoU {detected_tiou:.3f}",
            flush=True,
        )
    return {
        "detected": {
            "num_spans": num_detected,
            "num_events": num_events,
            "mean_tiou": detected_tiou,
            "thetas": dict(thetas),
        },
        "auc": overall.auc,
        "ap": overall.ap,
        "auc_abnormal": overall.auc_abnormal,
        "mean_tiou": overall.mean_tiou,
        "windows_mean_tiou": overall.localisation["windows"].mean_tiou,
        "folds": per_fold,
    }


if __name__ == "__main__":
    main()
