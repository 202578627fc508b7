"""Where a sampler would click, and which video it is least certain of."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config import ProposalConfig
from pipeline.sampler.curve import ScoreCurve
from pipeline.sampler.peaks import Peak, certainty, event_peaks

FPS = 10.0
THETA = 0.6
RAW = ProposalConfig(smooth_s=0, gap_s=0)


def curve_of(*scores: float) -> ScoreCurve:
    return ScoreCurve(np.asarray(scores, np.float32), 1, len(scores), FPS)


def peaks(*scores: float, is_abnormal: bool = False, config: ProposalConfig = RAW) -> list[Peak]:
    return event_peaks(curve_of(*scores), THETA, config, min_s=0.1, is_abnormal=is_abnormal)


def certain(*scores: float, theta: float = THETA, is_abnormal: bool | None = None) -> float:
    return certainty(curve_of(*scores), theta, RAW, is_abnormal=is_abnormal)


def test_every_span_has_one_peak_at_its_highest_frame() -> None:
    found = peaks(0, 0, 0.7, 0.9, 0.8, 0, 0, 0, 0, 0.65, 0, 0)
    assert [peak.frame_index for peak in found] == [3, 9]
    assert [peak.score for peak in found] == pytest.approx([0.9, 0.65])


def test_of_a_plateau_the_middle_is_clicked() -> None:
    assert [peak.frame_index for peak in peaks(0, 0, 0, 0, 0.9, 0.9, 0.9, 0.9, 0.9, 0, 0, 0)] == [6]
    assert [peak.frame_index for peak in peaks(*[0.9] * 9)] == [4]


def test_no_peak_where_no_score_reaches_theta_unless_the_video_is_known_to_be_abnormal() -> None:
    calm = (0.1, 0.2, 0.5, 0.2, 0.4, 0.1)
    assert peaks(*calm) == []
    assert [peak.frame_index for peak in peaks(*calm, is_abnormal=True)] == [2]
    assert [peak.frame_index for peak in peaks(*[0.0] * 5, is_abnormal=True)] == [2]


def test_a_score_at_theta_is_uncertain_and_the_ends_are_certain() -> None:
    assert certain(0, 0.6, 0) == pytest.approx(0, abs=1e-6)
    assert certain(0, 1, 0) == certain(0, 0, 0) == pytest.approx(1)
    assert (certain(0, 0.3, 0), certain(0, 0.8, 0)) == pytest.approx((0.5, 0.5), abs=1e-6)


def test_only_the_highest_peak_decides_whether_there_is_an_event() -> None:
    assert certain(0, 1, 0, 0.55, 0) == certain(0, 0.6, 1, 0.6, 0) == certain(0, 1, 0)
    assert certain(0, 0.4, 0, 0.5, 0) == certain(0, 0.5, 0) < certain(0, 0.4, 0)


def test_what_is_known_of_a_video_decides() -> None:
    assert certain(0, 0.6, 0, is_abnormal=False) == 1
    assert certain(0, 0.2, 0, is_abnormal=True) == 0
    assert certain(0, 0.9, 0, is_abnormal=True) == certain(0, 0.9, 0)


@pytest.mark.parametrize("theta", [0.0, 1.0])
def test_any_threshold_gives_a_certainty(theta: float) -> None:
    assert 0 <= certain(0, 0.5, 1, theta=theta) <= 1
