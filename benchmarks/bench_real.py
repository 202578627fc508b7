"""Every head on every encoder over real recordings, in folds by source: frame AUC, and AUC inside abnormal videos.

Each head is trained as a sampler of its own, whose recipes compete on the clicks of the other folds; `auto` is the
default, and of `full` all heads compete. `forest` and `logistic` are a random forest and a logistic regression of
scikit-learn on the features as they are stored, fitted to the same clicks. `video-label` is what one gets by knowing
which video holds an event, and nothing of where. For each the clicks of the other folds choose among the same widths of
smoothing, and how far around a click is event. The ranges are of bootstraps over videos: two figures within each
other's range differ by chance.

    python benchmarks/bench_real.py DATA [--sets ped2 fight upcam ucf_c3d] [--heads ...] [--encoder motion ...]
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from real_data import RealSet, load_set
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pipeline.config import LossConfig, Recipe, SamplerConfig
from pipeline.features.base import open_features
from pipeline.sampler.data import FeatureSource, LabelledVideo
from pipeline.sampler.heads import collect_rows
from pipeline.sampler.selection import glance_auc, make_folds
from pipeline.sampler.smoothing import smooth
from pipeline.sampler.training import train_on

SETS = ("ped2", "fight", "upcam", "ucf_c3d")
SEARCHES = ("auto", "full")
PLAIN = ("forest", "logistic")
HEADS = ("video-label", *PLAIN, "linear", "trees", "neighbours", "network", *SEARCHES)
_BOOTSTRAPS = 200
_PLAIN_FOLDS = 4
_REGIONS = ({"positive_s": 1.0, "negative_s": 5.0}, {"positive_s": 4.0, "negative_s": 10.0})

Scores = Mapping[str, NDArray[np.floating]]
Scores32 = dict[str, NDArray[np.float32]]


def score_set(real: RealSet, head: str, folder: Path) -> Scores:
    """Return scores by snippet of every video, by a sampler that was trained on the other folds."""
    if head == "video-label":
        return {v.video_id: np.full(v.num_snippets, float(v.is_abnormal)) for v in real.corpus.videos}
    if head in SEARCHES:
        config = SamplerConfig.model_validate({"search": head})
    else:
        recipe = {"head": "auto" if head in PLAIN else head}
        config = SamplerConfig.model_validate({"recipe": recipe})
    scores: dict[str, NDArray[np.floating]] = {}
    for fold in real.folds:
        rest = [video for index, video in enumerate(real.corpus.videos) if index not in fold]
        held_out = [real.corpus.videos[index] for index in fold]
        if head in PLAIN:
            scores |= _score_plainly(rest, held_out, head)
            continue
        sampler = train_on(dataclasses.replace(real.corpus, videos=tuple(rest)), config, folder)
        for tried in sampler.validation["tried"]:
            if tried["used"]:
                print("   ", *(tried[name] for name in ("head", "part", "context", "positive_s", "smoothing_s")))
        scores |= {v.video_id: sampler.score(open_features(v.path), v.snippet_s) for v in held_out}
    return scores


def _score_plainly(training: Sequence[LabelledVideo], held_out: Sequence[LabelledVideo], head: str) -> Scores:
    """Return smoothed scores by what anybody would try first: features as stored, and what is near a click."""
    config = SamplerConfig(folds=_PLAIN_FOLDS)
    rated = []
    for region in _REGIONS:
        recipe = Recipe(supervision="regions", loss=LossConfig(**region))
        out_of_fold: dict[str, NDArray[np.float32]] = {}
        for fold in make_folds(training, config):
            rest = [video for index, video in enumerate(training) if index not in fold]
            out_of_fold |= _fit_plainly(rest, [training[index] for index in fold], recipe, head)
        # A single video of its kind is in no fold: one always stays to train on.
        scored = [video for video in training if video.video_id in out_of_fold]
        for width in config.smoothing_s:
            auc = glance_auc(_smoothed(out_of_fold, scored, width), scored)
            rated.append((auc or 0.5, -width, recipe))
    _, width, recipe = max(rated, key=lambda row: row[:2])
    print("   ", head, recipe.loss.positive_s, -width)
    return _smoothed(_fit_plainly(training, held_out, recipe, head), held_out, -width)


def _smoothed(scores: Mapping[str, NDArray[np.float32]], videos: Sequence[LabelledVideo], width_s: float) -> Scores32:
    return {video.video_id: smooth(scores[video.video_id], width_s / video.snippet_s) for video in videos}


def _fit_plainly(
    training: Sequence[LabelledVideo], held_out: Sequence[LabelledVideo], recipe: Recipe, head: str
) -> Scores32:
    source = FeatureSource([*training, *held_out], recipe)
    rows = collect_rows(training, source, recipe, seed=0)
    if rows is None:
        raise ValueError("the clicks leave no normal or no abnormal snippet")
    if head == "forest":
        model = RandomForestClassifier(200, random_state=0).fit(rows.values, rows.abnormal, rows.weights)
    else:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
        model.fit(rows.values, rows.abnormal, logisticregression__sample_weight=rows.weights)
    return {video.video_id: model.predict_proba(source.read(video)[0])[:, 1].astype(np.float32) for video in held_out}


def measure(real: RealSet, scores: Scores, draws: Sequence[Sequence[str]]) -> NDArray[np.float64]:
    """Return for each draw of videos the AUC over their snippets, and its mean over those that hold both kinds."""
    known = {name: truth >= 0 for name, truth in real.truth.items()}
    truth = {name: real.truth[name][known[name]] >= 0.5 for name in known}
    values = {name: scores[name][known[name]] for name in known}
    inside = {
        name: roc_auc_score(truth[name], values[name]) for name in known if 0 < truth[name].sum() < len(truth[name])
    }
    rows = []
    for names in draws:
        of_all = np.concatenate([truth[name] for name in names])
        both = 0 < of_all.sum() < len(of_all)
        auc = roc_auc_score(of_all, np.concatenate([values[name] for name in names])) if both else np.nan
        own = [inside[name] for name in names if name in inside]
        rows.append((auc, np.mean(own) if own else np.nan))
    return np.array(rows)


def main() -> None:
    """Train, score and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="+", choices=SETS, default=SETS)
    parser.add_argument("--heads", nargs="+", choices=HEADS, default=HEADS)
    parser.add_argument("--encoder", nargs="+", default=["motion"], help="several are taken together")
    parser.add_argument("--fit", help="how a picture meets a vision model: features.fit")
    parser.add_argument("--workspace", type=Path, help="keep features here; a temporary folder otherwise")
    parser.add_argument("--json", type=Path, help="add a line for each figure")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    torch.set_num_threads(1)
    encoder = arguments.encoder[0] if len(arguments.encoder) == 1 else arguments.encoder
    features = {"encoder": encoder} | ({"fit": arguments.fit} if arguments.fit else {})
    with tempfile.TemporaryDirectory() as temporary:
        for name in arguments.sets:
            real = load_set(name, arguments.data, arguments.workspace or Path(temporary), features)
            names = [video.video_id for video in real.corpus.videos]
            for head in arguments.heads:
                start = time.perf_counter()
                scores = score_set(real, head, Path(temporary) / "runs")
                rng = np.random.default_rng(0)
                draws = [names, *(rng.choice(names, len(names)).tolist() for _ in range(_BOOTSTRAPS))]
                (auc, inside), *drawn = measure(real, scores, draws).tolist()
                low, high = np.nanpercentile(drawn, [5, 95], axis=0)
                print(
                    f"{name:8} {real.corpus.encoder:24} {head:12} {auc:.3f} [{low[0]:.2f}, {high[0]:.2f}]  inside "
                    f"{inside:.3f} [{low[1]:.2f}, {high[1]:.2f}]  {time.perf_counter() - start:.0f} s",
                    flush=True,
                )
                if arguments.json:
                    row = {"set": name, "encoder": real.corpus.encoder, "fit": arguments.fit, "head": head}
                    with arguments.json.open("a") as file:
                        file.write(json.dumps(row | {"auc": auc, "inside": inside}) + "\n")


if __name__ == "__main__":
    main()
