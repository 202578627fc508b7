"""Choosing among networks by the clicks of videos that they were not trained on. Ground truth is never read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from pipeline.config import SamplerConfig
from pipeline.sampler.data import LabelledVideo
from pipeline.sampler.recipes import heads_compete

_CERTAIN_S = 1.0  # this close to a click the event is certainly there
_FAR_S = 10.0
_FAR_WEIGHT = 0.3  # of snippets far from every click of an abnormal video: normal, most probably

_MOST_FOLDS = 8  # with few videos: the more folds, the more each is trained on
_VALIDATED = 800  # videos divided by folds: a fold of hundreds tells recipes apart, and each fold is a training more


def make_folds(videos: Sequence[LabelledVideo], config: SamplerConfig) -> list[list[int]]:
    """Return which videos validate each network or other head, as indices into `videos`; the others train it.

    Where the manifest names a validation split, that is the only fold. Otherwise normal and abnormal videos are shared
    out alike, at random, copies together; at least one video of each kind always stays to train on.
    """
    named = [index for index, video in enumerate(videos) if video.split == "validation"]
    if named and len(named) < len(videos):
        return [named]
    copies: dict[str, list[int]] = {}
    for index, video in enumerate(videos):
        copies.setdefault(video.copies, []).append(index)
    kinds: dict[bool, list[list[int]]] = {True: [], False: []}
    for same in copies.values():
        kinds[any(videos[index].is_abnormal for index in same)].append(same)
    count = config.folds or _count_folds(len(videos), len(kinds[True]), config)
    rng = np.random.default_rng((config.seed, 0))
    folds: list[list[int]] = [[] for _ in range(count)]
    for kind in kinds.values():
        if len(kind) < 2:
            continue
        shuffled = [kind[place] for place in rng.permutation(len(kind))]
        if count == 1:
            del shuffled[max(1, round(len(kind) * config.validation_fraction)) :]
        for place, same in enumerate(shuffled):
            folds[place % count] += same
    return [sorted(fold) for fold in folds if fold]


def _count_folds(num_videos: int, num_abnormal: int, config: SamplerConfig) -> int:
    if num_videos >= config.small_below and not heads_compete(config):
        return 1
    most = max(1, min(_MOST_FOLDS, _VALIDATED // num_videos))
    return min(most, max(2, num_abnormal))


def glance_auc(scores: Mapping[str, NDArray[np.float32]], videos: Sequence[LabelledVideo]) -> float | None:
    """Return how well scores tell clicked moments from normal ones: the area under a weighted ROC curve.

    Positive are snippets within a second of a click. Negative are all snippets of normal videos and, with less weight,
    those of abnormal videos far from every click; the rest is unknown and left out. In a video that is abnormal without
    a click, the highest score counts as positive. None where one side is empty.
    """
    values, truth, weights = [], [], []
    for video in videos:
        score = scores[video.video_id]
        near: NDArray[np.bool_]
        far: NDArray[np.bool_]
        if not video.is_abnormal:
            near, far, far_weight = np.zeros(len(score), bool), np.ones(len(score), bool), 1.0
        elif video.glances:
            near = video.glance_distance_s <= max(_CERTAIN_S, video.snippet_s / 2)
            far, far_weight = video.glance_distance_s > _FAR_S, _FAR_WEIGHT
        else:
            near, far, far_weight = score == score.max(), np.zeros(len(score), bool), 1.0
        known = near | far
        values.append(score[known])
        truth.append(near[known])
        weights.append(np.where(near, 1.0, far_weight)[known])
    return weighted_auc(np.concatenate(values), np.concatenate(truth), np.concatenate(weights))


def choose_theta(scores: Mapping[str, NDArray[np.float32]], videos: Sequence[LabelledVideo]) -> float | None:
    """Return the threshold that best tells clicked events from normal videos, for videos not trained on.

    It is the one at which the share of clicks with a score that reaches it within a second, less the share of normal
    videos with any such score, is largest; of a range of equally good ones the middle. None where one side is empty.
    """
    clicked = [
        float(scores[video.video_id][abs(np.arange(video.num_snippets) - glance) * video.snippet_s <= _CERTAIN_S].max())
        for video in videos
        for glance in video.glances
    ]
    normal = [float(scores[video.video_id].max()) for video in videos if not video.is_abnormal]
    if not clicked or not normal:
        return None
    bounds = np.unique([0.0, 1.0, *clicked, *normal])
    # Between two neighbouring scores every threshold decides alike; reaching it means being at least as high.
    gains = [np.mean(np.array(clicked) >= high) - np.mean(np.array(normal) >= high) for high in bounds[1:]]
    best = np.flatnonzero(np.isclose(gains, max(gains)))
    # Of several ranges that do equally well the widest is the safest.
    ranges = np.split(best, np.flatnonzero(np.diff(best) > 1) + 1)
    low, high = max(((bounds[part[0]], bounds[part[-1] + 1]) for part in ranges), key=lambda pair: pair[1] - pair[0])
    return float((low + high) / 2)


def weighted_auc(values: NDArray[np.floating], truth: NDArray[np.bool_], weights: NDArray[np.floating]) -> float | None:
    """Return the weighted probability that a positive scores above a negative, ties counting half."""
    positive, negative = weights[truth].sum(), weights[~truth].sum()
    if not positive or not negative:
        return None
    distinct, place = np.unique(values, return_inverse=True)
    positives = np.bincount(place, weights * truth, len(distinct))
    negatives = np.bincount(place, weights * ~truth, len(distinct))
    below = np.cumsum(negatives) - negatives
    return float((positives * (below + 0.5 * negatives)).sum() / (positive * negative))
