"""Evaluation of a workspace's detector: its scores and glances against a file of ground truth."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from annotation.ground_truth import GroundTruth, read_ground_truth
from annotation.video_index import VideoIndex
from flows.plan import read_run_config
from pipeline.config import ClipsConfig
from pipeline.errors import ConfigError, DataError, RecordError
from pipeline.evaluate.detector import PROPOSERS, DetectorMetrics, EvaluatedVideo, Evaluation, evaluate_detector
from pipeline.evaluate.plots import write_plots
from pipeline.records import Video, VideoSplit
from pipeline.sampler.curve import read_curve
from pipeline.sampler.proposals import GlanceMark
from pipeline.sampler.sampling import THETA
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

TEST = "test"
ALL = "all"

_NAMED = 10
"""Videos named in one line of the log; the JSON names them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LeftOut:
    """What could not be evaluated: ids of videos, or places in the ground-truth file with the reason."""

    without_scores: list[str] = field(default_factory=list)
    without_ground_truth: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)

    def log(self) -> None:
        """Name them on stderr, the first ones of many."""
        for what, names in (
            ("no scores", self.without_scores),
            ("no ground truth, and not labelled Normal", self.without_ground_truth),
            ("ground truth not usable", self.faults),
        ):
            if names:
                more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
                logger.warning("%s: %d: %s%s", what, len(names), "; ".join(names[:_NAMED]), more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Basis:
    """How the sampler came to its scores of the evaluated videos.

    Attributes:
        is_known: whether it is known what the sampler was trained on.
        unseen: videos that took no part in the training.
        out_of_fold: videos that did, scored by those networks alone that were not trained on them.
        trained_on: videos that are not evaluated, because every network was trained on them.
    """

    is_known: bool
    unseen: int = 0
    out_of_fold: int = 0
    trained_on: int = 0

    def __str__(self) -> str:
        if not self.is_known:
            return "What the sampler was trained on is not known: where it was these videos, the figures flatter it."
        parts = [
            f"{count} {'video' if count == 1 else 'videos'} {what}"
            for count, what in (
                (self.unseen, "that the sampler was not trained on"),
                (self.out_of_fold, "that it was trained on, scored by the networks of the folds without them"),
            )
            if count
        ]
        left = f"; {self.trained_on} left out, every network was trained on them" if self.trained_on else ""
        return f"Figures of {' and '.join(parts)}{left}."


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkspaceEvaluation:
    """The evaluation of a workspace, the split it was made on, and what had to be left out."""

    evaluation: Evaluation
    split: str
    basis: Basis
    left_out: LeftOut
    clips: ClipsConfig

    def as_json(self) -> dict[str, Any]:
        """Return everything that the command prints as one object."""
        return {
            **self.evaluation.metrics.as_json(),
            "split": self.split,
            "basis": asdict(self.basis) | {"text": str(self.basis)},
            "left_out": asdict(self.left_out),
        }

    def write(self, folder: Path) -> None:
        """Write `metrics.json`, the curves and a score plot of every video into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "metrics.json").write_text(json.dumps(self.as_json(), indent=2) + "\n", encoding="utf-8")
        write_plots(self.evaluation, folder, self.clips.proposal.smooth_s)


def evaluate_workspace(
    workspace: Workspace,
    ground_truth: Path,
    *,
    split: str | None,
    theta: float | None = None,
    is_about: Callable[[Video], bool] = lambda _: True,
) -> WorkspaceEvaluation:
    """Measure the scores of a workspace, and the proposals made from them, against a file of ground truth.

    A video is evaluated when it has scores and either events in the file, or none and the label Normal (in the
    workspace or in the file): frames outside events are normal. What the sampler was trained on is scored by the
    networks alone that were not trained on it, and left out where there are none.

    Args:
        workspace: with videos and scores; its glances, where there are any, are used for the proposals around them.
        ground_truth: events in any format that `holmes import` reads.
        split: evaluate the videos of this split, or `all`; None is `test` where a video is of it.
        theta: smoothed score from which a span is detected; None is the sampler's own, as in detection.
        is_about: tells of a video whether the file is about its dataset; the others are not evaluated.

    Raises:
        DataError: if the file holds no events, or none of these videos', or no video can be evaluated, or the scores
            are not those of the sampler that is there.
        ConfigError: if no video is of the split.
    """
    decided = workspace.decided_splits()
    chosen = split or (TEST if any(row.split == TEST for row in decided.values()) else ALL)
    videos = [video for video in workspace.videos.records() if chosen in (ALL, decided[video.video_id].split)]
    videos = [video for video in videos if is_about(video)]
    if not videos:
        which = "no videos" if chosen == ALL else f"no video of the split {chosen!r}"
        raise ConfigError(f"{workspace.url}: {which}")
    run = workspace.read_json("run.json")
    config, folder = (None, Path()) if run is None else read_run_config(workspace)
    clips = ClipsConfig() if config is None else config.clips
    weights = None if config is None else config.sampler.weights
    training = _read_training(workspace, None if weights is None else folder / weights)
    # Every ingested video is known to the index, or an event of one left out would fall to another of its name.
    index = VideoIndex(workspace.videos.records(), [rejected.record_id for rejected in workspace.videos.rejected()])
    truth = read_ground_truth(ground_truth, index)
    if not truth.events and not truth.normal:
        first = f"; {truth.faults[0]}" if truth.faults else ""
        raise DataError(f"{ground_truth}: no usable truth of any video of {workspace.url}{first}")
    left_out = LeftOut(faults=truth.faults)
    evaluated, basis = _out_of_fold(
        list(_evaluated(workspace, videos, truth, left_out, clips.proposal.gap_s)), decided, training
    )
    left_out.log()
    if basis.trained_on and not evaluated:
        raise DataError(
            f"{workspace.url}: every network of the sampler was trained on all {basis.trained_on} videos that could be "
            "evaluated: hold some out, by a column split in the manifest or by export.test_fraction, and build again"
        )
    if not evaluated:
        raise DataError(
            f"{ground_truth}: no video of {workspace.url} has both scores and ground truth: of {len(videos)}, "
            f"{len(left_out.without_scores)} have no scores, {len(left_out.without_ground_truth)} no ground truth"
        )
    if theta is None:
        theta = THETA if training is None else training.theta
    return WorkspaceEvaluation(
        evaluation=evaluate_detector(evaluated, clips, theta),
        split=chosen,
        basis=basis,
        left_out=left_out,
        clips=clips,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Training:
    """Contents that the sampler was trained on, the scores of those that have a fold, out of it, and its theta."""

    contents: frozenset[str]
    theta: float
    out_of_fold: Mapping[str, NDArray[np.float32]]


def _read_training(workspace: Workspace, weights: Path | None) -> _Training | None:
    """Return what the sampler behind the scores was trained on, None where that is not known."""
    from pipeline.sampler.model_io import read_config, read_out_of_fold, theta_of, weights_digest
    from pipeline.sampler.training import MODEL_FOLDER

    folder = weights or workspace.storage.local_path(MODEL_FOLDER)
    known = read_config(folder)
    if known is None or "contents" not in known:
        return None
    samplers = set(workspace.scores.arrow(["sampler"]).column("sampler").to_pylist())
    if not samplers <= {known["trained_on"], weights_digest(folder)}:
        raise DataError(f"{workspace.url}: its scores are not those of the sampler in {folder}: run the build again")
    return _Training(
        contents=frozenset(known["contents"]),
        theta=theta_of(known["validation"]),
        out_of_fold=read_out_of_fold(folder),
    )


def _out_of_fold(
    evaluated: list[EvaluatedVideo], decided: Mapping[str, VideoSplit], training: _Training | None
) -> tuple[list[EvaluatedVideo], Basis]:
    """Put scores out of fold in the place of those by networks that were trained on a video; leave out the others."""
    if training is None:
        return evaluated, Basis(is_known=False)
    seen = {row.copies for row in decided.values() if row.sha256 in training.contents}
    unseen = [item for item in evaluated if decided[item.video_id].copies not in seen]
    folded = [
        replace(item, curve=replace(item.curve, scores=training.out_of_fold[decided[item.video_id].sha256]))
        for item in evaluated
        if decided[item.video_id].sha256 in training.out_of_fold
    ]
    basis = Basis(
        is_known=True,
        unseen=len(unseen),
        out_of_fold=len(folded),
        trained_on=len(evaluated) - len(unseen) - len(folded),
    )
    in_order = {item.video_id: item for item in [*unseen, *folded]}
    return [in_order[item.video_id] for item in evaluated if item.video_id in in_order], basis


def metrics_table(metrics: DetectorMetrics, basis: Basis) -> Iterator[str]:
    """Yield the lines of a table of the numbers, for people; the first one says what they are."""
    yield str(basis)
    yield (
        f"{metrics.num_videos} videos, {metrics.num_abnormal_videos} with an event; "
        f"{metrics.num_frames} frames, {metrics.num_abnormal_frames} in events"
    )
    yield ""
    # The video's label as a score says what knowing the right videos alone is worth.
    yield f"{'frames':<26}{'all':>8}{'abnormal videos':>17}{'by label alone':>16}"
    for title, all_, abnormal, by_label in (
        ("AUC", metrics.auc, metrics.auc_abnormal, metrics.auc_video_label),
        ("average precision", metrics.ap, metrics.ap_abnormal, metrics.ap_video_label),
    ):
        yield f"{title:<26}{_number(all_):>8}{_number(abnormal):>17}{_number(by_label):>16}"
    trapezoids = metrics.pr_trapezoid, metrics.pr_trapezoid_abnormal
    yield f"{'trapezoid under PR curve':<26}{_number(trapezoids[0]):>8}{_number(trapezoids[1]):>17}"
    yield f"{'AUC inside videos':<26}{_number(metrics.auc_inside):>8}  (mean over videos with an event; chance 0.5)"
    yield f"{'AUC of videos':<26}{_number(metrics.auc_video):>8}  (by their highest score)"
    yield f"{'false-alarm rate at 0.5':<26}{_number(metrics.far):>8}  (normal videos)"
    yield ""
    yield f"{'proposals':<26}{'count':>8}{'mean tIoU':>11}{'mAP':>8}   mAP at 0.1 to 0.5    F1 at 0.3 0.5"
    for proposer in PROPOSERS:
        found = metrics.localisation[proposer]
        precisions = " ".join(_number(value) for value in (found.ap_at_tiou or {}).values())
        harmonic = " ".join(_number(value) for value in (found.f1_at_tiou or {}).values())
        yield (
            f"{_PROPOSER_TITLES[proposer].format(theta=metrics.theta):<26}{found.num_proposals:>8}"
            f"{_number(found.mean_tiou):>11}{_number(found.map_tiou):>8}   {precisions}   {harmonic}"
        )
    if metrics.alarms:
        yield ""
        yield f"{'alarms':<26}{'score':>8}{'recall':>9}{'false/hour':>12}{'mean delay':>12}{'median delay':>14}"
    for name, alarms in (metrics.alarms or {}).items():
        title = f"at θ={metrics.theta:g}" if name == "theta" else f"at {name}"
        yield (
            f"{title:<26}{alarms.threshold:>8.4f}{alarms.recall:>9.3f}{alarms.false_alarms_per_hour:>12.2f}"
            f"{_seconds(alarms.mean_delay_s):>12}{_seconds(alarms.median_delay_s):>14}"
        )
    if metrics.per_class:
        yield ""
        yield f"{'class':<26}{'events':>8}{'AUC':>11}{'AP':>8}"
    for category, measured in metrics.per_class.items():
        yield f"{category:<26}{measured.num_events:>8}{_number(measured.auc):>11}{_number(measured.ap):>8}"
    for number, reason in metrics.undefined.items():
        yield f"{number}: not defined: {reason}"


_PROPOSER_TITLES = {
    "glances": "around glances, by score",
    "windows": "around glances, windows",
    "detections": "detected, θ={theta:g}",
    "ranked": "detected, ranked",
}


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f} s"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _evaluated(
    workspace: Workspace, videos: Iterable[Video], truth: GroundTruth, left_out: LeftOut, long_loss_s: float
) -> Iterator[EvaluatedVideo]:
    """Yield the videos with scores and known truth, and name the others in `left_out`.

    A loss of `long_loss_s` or more parts what lies on either side.
    """
    scores = {row.video_id: row for row in workspace.scores.records()}
    glances: dict[str, list[GlanceMark]] = {}
    for glance in workspace.glances.records():
        mark = GlanceMark(frame_index=glance.frame_index, category=glance.category)
        glances.setdefault(glance.video_id, []).append(mark)
    for video in videos:
        events = truth.events_of(video)
        if events is None:
            left_out.without_ground_truth.append(video.video_id)
        elif video.video_id not in scores:
            left_out.without_scores.append(video.video_id)
        else:
            try:
                curve = read_curve(workspace.storage, video, scores[video.video_id], long_loss_s)
            except RecordError as fault:
                left_out.without_scores.append(f"{video.video_id} ({fault.detail})")
                continue
            marks = sorted(glances.get(video.video_id, ()), key=lambda mark: mark.frame_index)
            yield EvaluatedVideo(
                video_id=video.video_id,
                curve=curve,
                events=events,
                glances=tuple(marks),
                lost=video.long_losses(0.0),
            )
