"""Detection in recordings of which a part is lost: the rest is looked at, and what is lost is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from detection_fixtures import ScriptedChat, event_video, sampler_folder, scripted
from infer_videos import RATE
from odd_copies import copy_odd, zeros_at

from pipeline.infer.annotate import write_annotated
from pipeline.infer.detection import Detection
from pipeline.infer.detector import Detector
from pipeline.infer.plot import draw_detection
from pipeline.infer.settings import DetectSettings

__all__ = ["event_video", "sampler_folder", "scripted"]


def detected(path: Path, sampler: Path) -> Detection:
    return Detector(DetectSettings(sampler=str(sampler))).detect(path)


def lost_in_event(event_video: Path, tmp_path: Path) -> Path:
    """Two seconds of zeros in the middle of the event in [8 s, 12 s)."""
    return copy_odd(event_video, tmp_path / "lost.mp4", change=zeros_at(range(9 * RATE, 11 * RATE)))


def test_a_span_ends_where_the_picture_does_and_none_begins_before_it_is_back(
    event_video: Path, sampler_folder: Path, tmp_path: Path
) -> None:
    found = detected(lost_in_event(event_video, tmp_path), sampler_folder)
    [(lost_s, back_s)] = found.lost
    assert (lost_s, back_s) == (9.0, pytest.approx(11.0))
    assert [(span.start_s, span.end_s) for span in found.spans] == [
        (pytest.approx(8.0, abs=1.0), lost_s),
        (back_s, pytest.approx(12.0, abs=1.0)),
    ]
    assert not ((found.times_s >= lost_s) & (found.times_s < back_s)).any()
    assert found.as_json()["lost"] == [[9.0, 11.0]]


def test_a_lost_frame_parts_no_span(event_video: Path, sampler_folder: Path, tmp_path: Path) -> None:
    at = 11 * RATE - 1  # on which no other frame depends
    path = copy_odd(event_video, tmp_path / "lost.mp4", change=zeros_at(range(at, at + 1)))
    found, intact = detected(path, sampler_folder), detected(event_video, sampler_folder)
    assert found.lost == ((at / RATE, 11.0),)
    assert [(span.start_s, span.end_s) for span in found.spans] == [(s.start_s, s.end_s) for s in intact.spans]
    assert intact.lost == ()
    assert intact.as_json()["lost"] == []


def test_a_pause_parts_a_span_and_has_no_scores(event_video: Path, sampler_folder: Path, tmp_path: Path) -> None:
    at, hour_s = 10 * RATE + 3, 3600.0
    path = copy_odd(event_video, tmp_path / "gap.mp4", later_s=lambda place: hour_s if place >= at else 0.0)
    found = detected(path, sampler_folder)
    assert found.fps == pytest.approx(RATE, rel=0.01)
    [(start_s, end_s)] = found.lost
    assert (start_s, end_s) == (pytest.approx(at / RATE), pytest.approx(hour_s + at / RATE))
    assert [(span.start_s, span.end_s) for span in found.spans] == [
        (pytest.approx(8.0, abs=1.0), pytest.approx(start_s)),
        (pytest.approx(end_s), pytest.approx(hour_s + 12.0, abs=1.0)),
    ]
    assert ((found.times_s < start_s) | (found.times_s >= end_s)).all()
    assert (np.diff(found.times_s) > 0).all()


def test_the_plot_is_hatched_and_its_curve_broken_over_what_is_lost(
    event_video: Path, sampler_folder: Path, tmp_path: Path
) -> None:
    found = detected(lost_in_event(event_video, tmp_path), sampler_folder)
    axes, words = draw_detection(found, 0.8).axes
    assert [patch.get_hatch() for patch in axes.patches if patch.get_hatch()] == ["////"]
    assert [(part.edges_s[0], part.edges_s[-1]) for part in found.curve_parts()] == [
        (0.0, 9.0), (pytest.approx(11.0), pytest.approx(20.0))
    ]  # fmt: skip
    assert "No picture: 9.00 s to 11.00 s" in words.texts[0].get_text()
    write_annotated(found, tmp_path / "annotated.mp4")
    assert (tmp_path / "annotated.mp4").stat().st_size


def test_parts_without_a_picture_are_passed_over(
    event_video: Path, tmp_path: Path, scripted: type[ScriptedChat], caplog: pytest.LogCaptureFixture
) -> None:
    path = copy_odd(event_video, tmp_path / "lost.mp4", change=zeros_at(range(12 * RATE, 16 * RATE)))
    found = Detector(DetectSettings(model_path="scripted", window_s=4.0)).detect(path)
    assert [(span.start_s, span.end_s) for span in found.spans] == [(8.0, pytest.approx(12.0))]
    assert found.lost == ((12.0, pytest.approx(16.0)),)
    assert len(scripted.asked) == 4
    assert "not judged between 12.0 s and 16.0 s" in caplog.text


def test_a_video_lost_but_for_its_beginning_is_judged_by_that(
    event_video: Path, sampler_folder: Path, tmp_path: Path
) -> None:
    path = copy_odd(event_video, tmp_path / "lost.mp4", change=zeros_at(range(4 * RATE, 20 * RATE)))
    found = detected(path, sampler_folder)
    assert found.is_anomaly is False
    assert found.lost == ((4.0, pytest.approx(20.0)),)
    assert (found.times_s < 4.0).all()
