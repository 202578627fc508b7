"""The numbers of a detector: its frame scores and its proposals against ground truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import ClipsConfig
from pipeline.errors import RecordError
from pipeline.evaluate.alarms import STATED_RECALLS, AlarmMetrics, WatchedVideo, alarms_at, alarms_at_recall
from pipeline.evaluate.localisation import Localisation, VideoSpans, measure_localisation
from pipeline.evaluate.ranking import Ranking, auc_inside
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.proposals import GlanceMark, Proposal, detect, propose_around, rank_proposals
from pipeline.stages.windows import window_around

FAR_THRESHOLD = 0.5
"""Score from which a frame of a normal video counts as a false alarm, as in the field."""

_NEED_EVENTS = (
    "auc", "ap", "pr_trapezoid", "auc_abnormal", "ap_abnormal", "pr_trapezoid_abnormal", "auc_inside", "auc_video",
    "auc_video_label", "ap_video_label", "mean_tiou", "map_tiou", "ap_at_tiou", "f1_at_tiou",
    "alarms",
)  # fmt: skip

PROPOSERS = ("glances", "windows", "detections", "ranked")
"""Proposals around glances from scores; windows around glances; spans at theta; spans at many thresholds, ranked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrueEvent:
    """An abnormal event of the ground truth: frames [start_frame, end_frame), and its class where that is known."""

    start_frame: int
    end_frame: int
    category: str | None


@dataclass(frozen=True, kw_only=True)
class EvaluatedVideo:
    """A video with scores and ground truth; without events it is normal. `lost`: frames without a picture."""

    video_id: str
    curve: ScoreCurve
    events: tuple[TrueEvent, ...]
    glances: tuple[GlanceMark, ...] = ()
    lost: tuple[tuple[int, int], ...] = ()

    @property
    def spans(self) -> NDArray[np.int64]:
        """The events' frames [start, end), shape (n, 2)."""
        return np.array([(event.start_frame, event.end_frame) for event in self.events], np.int64).reshape(-1, 2)

    def positives(self, category: str | None = None) -> NDArray[np.int64]:
        """Return how many frames of each snippet lie in an event (of one class, where given), shape (T,)."""
        inside = np.zeros(self.curve.num_frames, dtype=np.int64)
        for event in self.events:
            if category is None or event.category == category:
                inside[event.start_frame : event.end_frame] = 1
        return np.asarray(np.add.reduceat(inside, self.curve.edges[:-1]), dtype=np.int64)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassMetrics:
    """Frames in events of one class against the frames of no event, in the videos of that class and the normal ones."""

    num_events: int
    auc: float | None
    ap: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectorMetrics:
    """The numbers of a detector; None where there is nothing to measure, and `undefined` says why.

    Attributes:
        auc: area under the ROC curve over the frames of all videos.
        ap: average precision over the same.
        pr_trapezoid: trapezoid under the precision-recall curve, which older code of the field calls AP.
        auc_abnormal: as `auc`, over the videos with an event.
        ap_abnormal: as `ap`, over the videos with an event.
        pr_trapezoid_abnormal: as `pr_trapezoid`, over the videos with an event.
        auc_inside: mean over the videos with both kinds of frames of the area within the video.
        auc_video: area under the ROC curve over videos, each with the highest of its scores.
        auc_video_label: what `auc` is for the video's own label as the score of all its frames: what can be had by
            knowing which videos hold an event, and nothing of when.
        ap_video_label: as `auc_video_label`, of `ap`.
        far: share of the frames of normal videos with a score of at least `FAR_THRESHOLD`.
        mean_tiou: of the proposals around glances where there are any, otherwise of the detections at `theta`.
        mean_tiou_of: which of these two.
        map_tiou: of the ranked proposals, which need no glance.
        ap_at_tiou: likewise, at each tIoU.
        f1_at_tiou: of the detections at `theta`.
        alarms: false alarms and delays at `theta` and at each of `STATED_RECALLS`.
        per_class: by class of the events.
        localisation: of each of `PROPOSERS`.
        theta: of the detections.
        num_videos: videos with scores and ground truth.
        num_abnormal_videos: those with an event.
        num_frames: frames of all.
        num_abnormal_frames: frames in events.
        undefined: why a number is None.
    """

    auc: float | None
    ap: float | None
    pr_trapezoid: float | None
    auc_abnormal: float | None
    ap_abnormal: float | None
    pr_trapezoid_abnormal: float | None
    auc_inside: float | None
    auc_video: float | None
    auc_video_label: float | None
    ap_video_label: float | None
    far: float | None
    mean_tiou: float | None
    mean_tiou_of: str
    map_tiou: float | None
    ap_at_tiou: Mapping[str, float] | None
    f1_at_tiou: Mapping[str, float] | None
    alarms: Mapping[str, AlarmMetrics] | None
    per_class: Mapping[str, ClassMetrics]
    localisation: Mapping[str, Localisation]
    theta: float
    num_videos: int
    num_abnormal_videos: int
    num_frames: int
    num_abnormal_frames: int
    undefined: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the numbers as JSON-able values."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The numbers and what they were computed from.

    Attributes:
        metrics: the numbers.
        videos: what was evaluated.
        overall: ranking of the frames of all videos.
        abnormal: ranking of the frames of the videos with an event.
        proposals: for each of `PROPOSERS`, the proposals of each video.
    """

    metrics: DetectorMetrics
    videos: Sequence[EvaluatedVideo]
    overall: Ranking
    abnormal: Ranking
    proposals: Mapping[str, Sequence[Sequence[Proposal]]]


def evaluate_detector(videos: Sequence[EvaluatedVideo], clips: ClipsConfig, theta: float) -> Evaluation:
    """Measure scores and proposals of `videos` against their events.

    Args:
        videos: videos with scores and known truth.
        clips: settings of windows and proposals.
        theta: smoothed score from which a span is detected.
    """
    abnormal = [video for video in videos if video.events]
    normal = [video for video in videos if not video.events]
    of_all, of_abnormal, of_normal = rank_frames(videos), rank_frames(abnormal), rank_frames(normal)
    is_abnormal = np.array([bool(video.events) for video in videos])
    of_videos = Ranking.of(np.array([video.curve.scores.max() for video in videos]), is_abnormal, ~is_abnormal)
    of_labels = _rank_labels(videos)
    proposals = {
        proposer: [propose(video) for video in videos] for proposer, propose in _proposers(clips, theta).items()
    }
    localisation = {
        proposer: measure_localisation(
            [
                _spans(video, found)
                for video, found in zip(videos, of_videos, strict=True)
                # What needs a glance is measured where there is one.
                if video.glances or proposer in ("detections", "ranked")
            ]
        )
        for proposer, of_videos in proposals.items()
    }
    source = "glances" if localisation["glances"].num_events else "detections"
    metrics = DetectorMetrics(
        auc=of_all.auc,
        ap=of_all.average_precision,
        pr_trapezoid=of_all.pr_trapezoid,
        auc_abnormal=of_abnormal.auc,
        ap_abnormal=of_abnormal.average_precision,
        pr_trapezoid_abnormal=of_abnormal.pr_trapezoid,
        auc_inside=auc_inside(rank_frames([video]) for video in abnormal),
        auc_video=of_videos.auc,
        auc_video_label=of_labels.auc,
        ap_video_label=of_labels.average_precision,
        far=of_normal.false_alarm_rate(FAR_THRESHOLD),
        mean_tiou=localisation[source].mean_tiou,
        mean_tiou_of=source,
        map_tiou=localisation["ranked"].map_tiou,
        ap_at_tiou=localisation["ranked"].ap_at_tiou,
        f1_at_tiou=localisation["detections"].f1_at_tiou,
        alarms=_measure_alarms(videos, theta),
        per_class=_measure_classes(abnormal, normal),
        localisation=localisation,
        theta=theta,
        num_videos=len(videos),
        num_abnormal_videos=len(abnormal),
        num_frames=of_all.num_positives + of_all.num_negatives,
        num_abnormal_frames=of_all.num_positives,
        undefined=_explain_undefined(of_all, of_abnormal, of_normal, of_videos),
    )
    return Evaluation(metrics=metrics, videos=videos, overall=of_all, abnormal=of_abnormal, proposals=proposals)


def rank_frames(videos: Sequence[EvaluatedVideo], category: str | None = None) -> Ranking:
    """Rank the frames of videos by score: those in events (of one class, where given) against those in none."""
    scores = [video.curve.scores for video in videos]
    positives = [video.positives(category) for video in videos]
    negatives = [np.diff(video.curve.edges) - video.positives() for video in videos]
    # An empty array stands before the others, since nothing cannot be joined.
    return Ranking.of(*(np.concatenate([np.empty(0), *column]) for column in (scores, positives, negatives)))


def _rank_labels(videos: Sequence[EvaluatedVideo]) -> Ranking:
    """Rank the frames of videos by whether their video holds an event."""
    positives = np.array([video.positives().sum() for video in videos])
    lengths = np.array([video.curve.num_frames for video in videos])
    return Ranking.of((positives > 0).astype(float), positives, lengths - positives)


def _measure_alarms(videos: Sequence[EvaluatedVideo], theta: float) -> dict[str, AlarmMetrics] | None:
    watched = [WatchedVideo(video.curve, video.spans) for video in videos]
    measured = {"theta": alarms_at(watched, theta)}
    measured |= {f"recall {recall:g}": alarms_at_recall(watched, recall) for recall in STATED_RECALLS}
    known = {name: alarms for name, alarms in measured.items() if alarms is not None}
    return known or None


def _proposers(clips: ClipsConfig, theta: float) -> dict[str, Callable[[EvaluatedVideo], list[Proposal]]]:
    settings, min_s = clips.proposal, clips.min_s
    return {
        "glances": lambda video: propose_around(video.curve, video.glances, settings, min_s=min_s),
        "windows": lambda video: _windows(video, clips),
        "detections": lambda video: detect(video.curve, theta, settings, min_s=min_s),
        "ranked": lambda video: rank_proposals(video.curve, settings, min_s=min_s),
    }


def _windows(video: EvaluatedVideo, clips: ClipsConfig) -> list[Proposal]:
    """Return the click-centred windows of a video: what proposals from scores have to be better than."""
    curve = video.curve
    times_s = sorted(mark.frame_index / curve.fps for mark in video.glances)
    found = []
    for which in range(len(times_s)):
        try:
            span = window_around(times_s, which, curve.num_frames / curve.fps, clips)
        except RecordError:
            continue
        start, end = round(span.start_s * curve.fps), round(span.end_s * curve.fps)
        found.append(Proposal(start_frame=start, end_frame=end, score=curve.mean(start, end), glances=(which,)))
    return found


def _spans(video: EvaluatedVideo, proposals: Sequence[Proposal]) -> VideoSpans:
    return VideoSpans(
        events=video.spans,
        proposals=np.array([(found.start_frame, found.end_frame) for found in proposals], int).reshape(-1, 2),
        confidence=np.array([found.score for found in proposals], float),
    )


def _measure_classes(abnormal: Sequence[EvaluatedVideo], normal: Sequence[EvaluatedVideo]) -> dict[str, ClassMetrics]:
    categories = sorted({event.category for video in abnormal for event in video.events if event.category})
    measured = {}
    for category in categories:
        bearing = [video for video in abnormal if any(event.category == category for event in video.events)]
        ranking = rank_frames([*bearing, *normal], category)
        measured[category] = ClassMetrics(
            num_events=sum(event.category == category for video in bearing for event in video.events),
            auc=ranking.auc,
            ap=ranking.average_precision,
        )
    return measured


def _explain_undefined(of_all: Ranking, of_abnormal: Ranking, of_normal: Ranking, of_videos: Ranking) -> dict[str, str]:
    reasons: dict[str, str] = {}
    if not of_all.num_positives:
        reasons |= dict.fromkeys(_NEED_EVENTS, "no frame is in an event")
    elif not of_all.num_negatives:
        reasons |= dict.fromkeys(("auc", "auc_video_label"), "every frame is in an event")
    if of_abnormal.num_positives and not of_abnormal.num_negatives:
        every = "every frame of the videos with an event is in one"
        reasons |= dict.fromkeys(("auc_abnormal", "auc_inside"), every)
    if not of_normal.num_negatives:
        reasons["far"] = "no normal video was evaluated"
    if of_videos.num_positives and not of_videos.num_negatives:
        reasons["auc_video"] = "no normal video was evaluated"
    return reasons
