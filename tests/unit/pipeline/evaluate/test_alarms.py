"""False alarms an hour and delays, by hand and against frames one by one."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.evaluate.alarms import AlarmMetrics, WatchedVideo, alarms_at, alarms_at_recall
from pipeline.sampler.curve import ScoreCurve


def watched(scores: list[float], events: list[tuple[int, int]], stride: int = 10, fps: float = 10.0) -> WatchedVideo:
    curve = ScoreCurve(np.array(scores), stride, stride * len(scores), fps)
    return WatchedVideo(curve, np.array(events, np.int64).reshape(-1, 2))


def test_by_hand() -> None:
    # snippets of a second; the event begins in the middle of snippet 2, the alarm in it at snippet 3
    video = watched([0.9, 0.1, 0.2, 0.8, 0.1, 0.7, 0.7, 0.1], [(25, 45)])
    normal = watched([0.1, 0.75, 0.1, 0.1], [])
    assert alarms_at_recall([video, normal], 0.5) == AlarmMetrics(
        threshold=0.8,
        recall=1.0,
        false_alarms=1,
        false_alarms_per_hour=1 / (12 / 3600),
        mean_delay_s=0.5,
        median_delay_s=0.5,
    )
    lower = alarms_at([video, normal], 0.7)
    assert lower is not None
    assert lower.false_alarms == 3
    higher = alarms_at([video, normal], 0.85)
    assert higher is not None
    assert (higher.recall, higher.false_alarms, higher.mean_delay_s) == (0.0, 1, None)


def test_an_alarm_that_is_on_at_the_start_has_no_delay_and_touches_the_event() -> None:
    [metrics] = [alarms_at([watched([0.9, 0.9, 0.9, 0.1], [(15, 25)])], 0.5)]
    assert metrics is not None
    assert (metrics.mean_delay_s, metrics.false_alarms) == (0.0, 0)


def test_no_event_is_nothing_to_measure() -> None:
    assert alarms_at([watched([0.9], [])], 0.5) is None
    assert alarms_at_recall([watched([0.9], [])], 0.5) is None


def test_the_share_of_events_that_is_wanted_is_exact() -> None:
    videos = [watched([score], [(0, 10)]) for score in (0.1, 0.2, 0.3, 0.4, 0.5)]
    for recall, threshold in ((0.6, 0.3), (0.61, 0.2), (1.0, 0.1), (0.01, 0.5)):
        found = alarms_at_recall(videos, recall)
        assert found is not None
        assert found.threshold == threshold


@pytest.mark.parametrize("seed", range(20))
def test_agrees_with_frames_one_by_one(seed: int) -> None:
    rng = np.random.default_rng(seed)
    videos = []
    for _ in range(4):
        count, stride = int(rng.integers(3, 30)), int(rng.integers(1, 7))
        num_frames = count * stride - int(rng.integers(0, stride))
        cuts = np.sort(rng.choice(num_frames + 1, 2 * int(rng.integers(0, 2)) if num_frames < 6 else 4, replace=False))
        curve = ScoreCurve(rng.integers(0, 8, count) / 8, stride, num_frames, 5.0)
        videos.append(WatchedVideo(curve, cuts.reshape(-1, 2)))
    for threshold in np.arange(9) / 8:
        metrics = alarms_at(videos, float(threshold))
        assert metrics is not None
        noticed, false, delays, total = 0, 0, [], 0
        for video in videos:
            alarming = video.curve.by_frame() >= threshold
            for start, end in video.events:
                total += 1
                frames = [frame for frame in range(start, end) if alarming[frame]]
                noticed += bool(frames)
                delays += [(frames[0] - start) / 5.0] if frames else []
            alarm: list[int] = []
            for frame in range(video.curve.num_frames + 1):
                if frame < video.curve.num_frames and alarming[frame]:
                    alarm.append(frame)
                elif alarm:
                    false += not any(start <= at < end for start, end in video.events for at in alarm)
                    alarm = []
        assert metrics.recall == noticed / total
        assert metrics.false_alarms == false
        assert metrics.mean_delay_s == (pytest.approx(np.mean(delays)) if delays else None)
