"""What is written of a detection: subtitles, a plot, an annotated video."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ImageDraw

from pipeline.infer.annotate import write_annotated
from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.infer.plot import draw_detection, write_plot
from pipeline.infer.subtitles import as_srt
from pipeline.video.readers import open_reader
from pipeline.video.timeline import read_timeline

LONG = "Yes, the video shows a white square that dashes about, and this is abnormal because squares keep still. " * 4


def detection(video: Path | str = "v.mp4", *spans: DetectedSpan, answer: str | None = None) -> Detection:
    return Detection(
        video=str(video), fps=16.0, duration_s=20.0, is_anomaly=bool(spans), answer=answer, spans=spans,
        times_s=np.arange(40) * 0.5 + 0.25, scores=np.linspace(0, 1, 40, dtype=np.float32),
    )  # fmt: skip


def span(start_s: float, end_s: float, answer: str | None = LONG) -> DetectedSpan:
    return DetectedSpan(start_s=start_s, end_s=end_s, score=0.9, answer=answer)


def test_subtitles_have_a_cue_for_each_span() -> None:
    found = detection("v.mp4", span(3.9996, 10.5, "Yes,\n\n--> a fight."), span(3725.25, 3726, None))
    assert as_srt(found) == (
        "1\n00:00:04,000 --> 00:00:10,500\nYes, -> a fight.\n\n2\n01:02:05,250 --> 01:02:06,000\nanomaly score 0.90\n\n"
    )


def test_subtitles_of_a_calm_video_say_so_or_nothing() -> None:
    assert as_srt(detection(answer="No, calm.")) == "1\n00:00:00,000 --> 00:00:20,000\nNo, calm.\n\n"
    assert as_srt(detection()) == ""


def test_the_plot_shows_scores_spans_and_answers(tmp_path: Path) -> None:
    found = detection("a/lobby.mp4", *(span(2.0 * i, 2.0 * i + 1) for i in range(8)))
    axes, words = draw_detection(found, 0.6).axes
    assert axes.get_title(loc="left") == "lobby.mp4"
    assert len([patch for patch in axes.patches if patch.get_alpha() == 0.2]) == 8
    told = words.texts[0].get_text()
    assert told.startswith("[0.0s~1.0s] Yes, the video")
    assert told.endswith("and 3 more")
    write_plot(found, 0.6, tmp_path / "p.png")
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_plot_without_scores_or_spans_says_what_there_is() -> None:
    bare = Detection(
        video="v.mp4", fps=16.0, duration_s=20.0, is_anomaly=False, answer="No, it is $5 calm.", spans=(),
        times_s=np.zeros(0), scores=np.zeros(0, np.float32),
    )  # fmt: skip
    axes, words = draw_detection(bare, 0.6).axes
    assert "no sampler" in axes.texts[0].get_text()
    assert words.texts[0].get_text() == "No, it is $5 calm."


@pytest.fixture(scope="module")
def annotated(event_video: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("annotated") / "a.mp4"
    write_annotated(detection(event_video, span(8.0, 12.0)), path)
    return path


def test_an_annotated_video_keeps_frames_and_times(event_video: Path, annotated: Path) -> None:
    before, after = read_timeline(event_video), read_timeline(annotated)
    np.testing.assert_allclose(after.times_s, before.times_s, atol=1e-4)
    assert after.duration_s == pytest.approx(before.duration_s, abs=1e-3)
    assert [path.name for path in annotated.parent.iterdir()] == ["a.mp4"]


def test_an_annotated_video_frames_the_span_and_prints_the_answer(annotated: Path) -> None:
    with open_reader(annotated) as reader:
        assert reader.width == 640
        calm, marked, later = reader.frames_at([60, 130, 185]).astype(int)
    picture = 480
    assert (marked[100, 1] - calm[100, 1])[0] > 60  # the frame is red
    text = np.s_[picture + 60 :, 8:]
    assert (calm[text] > 150).mean() < 0.001 < (marked[text] > 150).mean()
    # A long answer turns its page.
    assert np.abs(marked[text] - later[text]).mean() > 1
    # Nothing runs into the right edge.
    assert (marked[picture + 60 :, -6:] > 150).mean() == 0


@pytest.mark.slow
def test_an_annotated_video_tells_how_sure_the_model_is(
    event_video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: set[str] = set()
    draw = ImageDraw.ImageDraw.text

    def write(self: ImageDraw.ImageDraw, place: Any, text: str, **style: Any) -> None:
        written.add(text)
        draw(self, place, text, **style)

    monkeypatch.setattr(ImageDraw.ImageDraw, "text", write)
    write_annotated(detection(event_video, replace(span(8.0, 12.0), confidence=0.873)), tmp_path / "a.mp4")
    assert "8.0s ~ 12.0s   score 0.90   Yes 87%" in written
    write_annotated(replace(detection(event_video), confidence=0.04), tmp_path / "b.mp4")
    assert "no abnormal span   Yes 4%" in written


def test_uneven_times_stay_uneven(film: Any, tmp_path: Path) -> None:
    path = film("uneven.mp4")
    found = Detection(
        video=str(path), fps=25.0, duration_s=read_timeline(path).duration_s, is_anomaly=False, answer=None, spans=(),
        times_s=np.zeros(0), scores=np.zeros(0, np.float32),
    )  # fmt: skip
    write_annotated(found, tmp_path / "a.mp4")
    np.testing.assert_allclose(read_timeline(tmp_path / "a.mp4").times_s, read_timeline(path).times_s, atol=1e-3)
