"""Detection in video files: the scores of a workspace, spans, answers, and what they say of the video."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flows.plan import run_step
from pipeline.config import parse_config
from pipeline.errors import RecordError, SetupError
from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.infer.detector import Detector
from pipeline.infer.frames import choose_frames, open_footage
from pipeline.infer.judgement import NOTHING_VISIBLE, judgement_of, leading_span
from pipeline.infer.scoring import VideoScorer
from pipeline.infer.settings import DetectSettings
from pipeline.records import Reason
from pipeline.sampler.curve import ScoreCurve, read_curve
from pipeline.video.timeline import Timeline
from pipeline.workspace import Workspace


def settings(sampler: Path | None = None, **values: Any) -> DetectSettings:
    return DetectSettings(sampler=None if sampler is None else str(sampler), **values)


def overlap(span: DetectedSpan, start_s: float, end_s: float) -> float:
    shared = min(span.end_s, end_s) - max(span.start_s, start_s)
    return shared / (max(span.end_s, end_s) - min(span.start_s, start_s))


def test_scores_are_those_of_the_score_stage(event_video: Path, sampler_folder: Path, tmp_path: Path) -> None:
    config = parse_config(
        {
            "videos": [str(event_video)],
            "workspace": str(tmp_path / "w"),
            "video": {"workers": 1},
            "features": {"stride_frames": 8},
            "sampler": {"weights": str(sampler_folder)},
            "clips": {"method": "sampler"},
        }
    )
    workspace = Workspace(config.workspace)
    for step in ("ingest", "features", "score"):
        run_step(step, workspace, config)
    [video], [row] = workspace.videos.records(), workspace.scores.records()
    stored = read_curve(workspace.storage, video, row).scores
    found = Detector(settings(sampler_folder)).detect(event_video)
    assert len(found.scores) == 40
    np.testing.assert_array_equal(found.scores, stored)


def test_a_sampler_alone_finds_spans_without_words(event_video: Path, calm_video: Path, sampler_folder: Path) -> None:
    detector = Detector(settings(sampler_folder))
    seen: list[tuple[str, int, int]] = []
    found = detector.detect(event_video, lambda *progress: seen.append(progress))
    [span] = found.spans
    assert overlap(span, 8.0, 12.0) > 0.7
    assert span.score == pytest.approx(found.scores.max())
    assert (found.is_anomaly, found.answer, span.answer) == (True, None, None)
    assert seen[-1] == ("score", 40, 40)
    np.testing.assert_allclose(np.diff(found.times_s), 0.5)
    calm = detector.detect(calm_video)
    assert (calm.is_anomaly, calm.answer, calm.spans) == (False, None, ())
    with pytest.raises(SetupError, match="video model"):
        detector.ask(found, "What moves?")


def test_the_answer_of_the_strongest_span_speaks_for_the_video(
    event_video: Path, calm_video: Path, sampler_folder: Path, scripted: Any
) -> None:
    detector = Detector(settings(sampler_folder, model_path="model"))
    found = detector.detect(event_video)
    assert (found.is_anomaly, found.answer) == (True, "Yes, a square dashes about.")
    assert [span.answer for span in found.spans] == [found.answer]
    calm = detector.detect(calm_video)
    assert (calm.is_anomaly, calm.answer, calm.spans) == (False, "No, nothing moves.", ())
    # of the event, then of the highest scores of the calm video and of all of it
    assert [len(clip.frames) for clip, _, _ in scripted.asked] == [16, 16, 16]


def test_a_span_that_the_model_denies_is_listed_and_does_not_count(
    event_video: Path, sampler_folder: Path, scripted: Any
) -> None:
    scripted.say = staticmethod(lambda clip, question: "No, this is a game.")
    found = Detector(settings(sampler_folder, model_path="model")).detect(event_video)
    assert (found.is_anomaly, found.answer) == (False, "No, this is a game.")
    assert len(found.spans) == 1


def test_what_lies_below_theta_is_a_span_where_the_model_says_yes_to_it(
    event_video: Path, sampler_folder: Path, scripted: Any
) -> None:
    found = Detector(settings(sampler_folder, model_path="model", theta=1.0)).detect(event_video)
    [span] = found.spans
    assert overlap(span, 8.0, 12.0) > 0.7
    assert (found.is_anomaly, len(scripted.asked)) == (True, 1)
    scripted.say = staticmethod(lambda clip, question: "No, nothing moves.")
    denied = Detector(settings(sampler_folder, model_path="model", theta=1.0)).detect(event_video)
    # then the whole video is looked at, and what is said of that counts
    assert (denied.is_anomaly, denied.spans, len(scripted.asked)) == (False, (), 3)
    assert scripted.asked[-1][0].duration_s == pytest.approx(20)


def test_a_span_is_trimmed_to_what_the_model_says_yes_to(
    event_video: Path, sampler_folder: Path, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    wide = np.repeat([0.0, 0.9, 0.9, 0.9, 0.0], 8)
    monkeypatch.setattr(VideoScorer, "score", lambda self, path, timeline, *_: curve_of(wide, timeline))
    [trimmed] = Detector(settings(sampler_folder, model_path="model", theta=0.4)).detect(event_video).spans
    [whole] = Detector(settings(sampler_folder, model_path="model", theta=0.4, refine=False)).detect(event_video).spans
    assert overlap(whole, 8.0, 12.0) < 0.5 < overlap(trimmed, 8.0, 12.0)
    assert trimmed.answer == whole.answer


def test_what_the_model_finds_in_a_video_without_a_span_is_one(
    event_video: Path, sampler_folder: Path, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(VideoScorer, "score", lambda self, path, timeline, *_: curve_of(np.full(40, 0.1), timeline))
    found = Detector(settings(sampler_folder, model_path="model", theta=0.9)).detect(event_video)
    [span] = found.spans
    assert overlap(span, 8.0, 12.0) > 0.5
    assert (found.is_anomaly, found.answer) == (True, span.answer)
    left = Detector(settings(sampler_folder, model_path="model", theta=0.9, refine=False)).detect(event_video)
    assert (left.is_anomaly, left.answer, left.spans) == (True, found.answer, ())


def test_two_events_in_one_hill_of_scores_are_two_spans(
    event_video: Path, sampler_folder: Path, scripted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    hill = np.repeat([0.0, 0.9, 0.5, 0.9, 0.0], 8)
    monkeypatch.setattr(VideoScorer, "score", lambda self, path, timeline, *_: curve_of(hill, timeline))
    told = iter(["Yes, a man punches another man.", "Yes, a bin is set on fire."])
    answers: dict[bytes, str] = {}
    scripted.say = staticmethod(lambda clip, question: answers.setdefault(clip.frames.tobytes(), next(told, "")))
    found = Detector(settings(sampler_folder, model_path="model", theta=0.4)).detect(event_video)
    assert [span.answer for span in found.spans] == list(answers.values())[:2]
    first, second = found.spans
    assert first.end_s <= second.start_s
    scripted.say = staticmethod(lambda clip, question: "Yes, a man punches another man.")
    [whole] = Detector(settings(sampler_folder, model_path="model", theta=0.4)).detect(event_video).spans
    assert (whole.start_s, whole.end_s) == (first.start_s, second.end_s)


def curve_of(scores: np.ndarray, timeline: Timeline) -> ScoreCurve:
    return ScoreCurve(scores, 8, timeline.num_frames, timeline.fps)


def test_a_model_that_says_nothing_leaves_the_spans_to_the_scores(
    event_video: Path, sampler_folder: Path, scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    scripted.say = staticmethod(lambda clip, question: RecordError(Reason.EMPTY_TEXT, "model generated no text"))
    found = Detector(settings(sampler_folder, model_path="model")).detect(event_video)
    assert (found.is_anomaly, found.answer, found.spans[0].answer) == (True, None, None)
    assert "no text" in caplog.text


def test_without_a_sampler_parts_are_judged_one_by_one(
    event_video: Path, calm_video: Path, scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    detector = Detector(settings(model_path="model", window_s=5))
    found = detector.detect(event_video)
    assert [(span.start_s, span.end_s) for span in found.spans] == [(5, 10), (10, 15)]
    assert (found.is_anomaly, found.answer, len(found.scores)) == (True, "Yes, a square dashes about.", 0)
    assert "uniformly" in caplog.text
    calm = detector.detect(calm_video)
    assert (calm.is_anomaly, calm.answer, calm.spans) == (False, "No, nothing moves.", ())


def test_questions_are_asked_about_what_the_answer_was_about(
    event_video: Path, sampler_folder: Path, scripted: Any
) -> None:
    detector = Detector(settings(sampler_folder, model_path="model", question="Anything odd?"))
    found = detector.detect(event_video)
    history = [{"role": "user", "content": "Anything odd?"}, {"role": "assistant", "content": str(found.answer)}]
    detector.ask(found, "What colour is it?", history)
    detector.ask(found, "And here?", span=(0.0, 4.0))
    detector.ask(event_video, "What is this?")
    judged, same, other, whole = [clip for clip, _, _ in scripted.asked]
    np.testing.assert_array_equal(judged.frames, same.frames)
    assert other.indices[-1] < 4 * 16 <= other.clip_frames
    assert whole.clip_frames == 320
    assert [(question, len(history)) for _, question, history in scripted.asked] == [
        ("Anything odd?", 0), ("What colour is it?", 2), ("And here?", 0), ("What is this?", 0),
    ]  # fmt: skip


def test_a_real_model_answers_and_is_asked_on(event_video: Path, video_model: Any) -> None:
    path = video_model("llava_onevision")
    detector = Detector(settings(model_path=path, max_new_tokens=6, num_frames=2, device="cpu"))
    found = detector.detect(event_video)
    assert found.answer
    turns = [{"role": "user", "content": detector.question}, {"role": "assistant", "content": found.answer}]
    first = detector.ask(found, "What is that?", turns)
    assert first == detector.ask(found, "What is that?", turns)
    assert first != detector.ask(found, "What is that?")


def test_the_samplers_own_theta_holds_where_none_is_given(sampler_folder: Path, tmp_path: Path) -> None:
    from pipeline.sampler.model_io import load_sampler

    assert Detector(settings(sampler_folder)).theta == 0.8
    trained = load_sampler(sampler_folder)
    object.__setattr__(trained, "validation", {"theta": 0.35})
    trained.save(tmp_path)
    assert Detector(settings(tmp_path)).theta == 0.35
    assert Detector(settings(tmp_path, theta=0.5)).theta == 0.5


def test_one_dark_frame_is_a_video_in_which_nothing_is_seen(film: Any, sampler_folder: Path, scripted: Any) -> None:
    found = Detector(settings(sampler_folder, model_path="model")).detect(film("one_frame.mp4"))
    assert (found.is_anomaly, len(found.scores), found.answer) == (False, 1, NOTHING_VISIBLE)
    assert not scripted.asked


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({}, "neither a sampler nor a video model"),
        ({"model_base": "b", "sampler": "s"}, "without model_path"),
        ({"model_path": "m", "theta": 1.5}, r"theta=1.5 lies outside"),
        ({"model_path": "m", "num_frames": 0}, "num_frames=0 is below 1"),
    ],
)
def test_settings_that_cannot_be_are_named(values: dict[str, Any], told: str) -> None:
    with pytest.raises(SetupError, match=told):
        DetectSettings(**values)


def test_a_missing_sampler_and_a_broken_video_are_named(sampler_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match="no trained sampler"):
        Detector(settings(tmp_path))
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    with pytest.raises(RecordError, match=r"broken\.mp4"):
        Detector(settings(sampler_folder)).detect(tmp_path / "broken.mp4")


def test_judgements_are_read_as_evaluation_reads_them() -> None:
    answers = ("Yes, a fight.", "**No**: calm", "The scene is normal.", "Nobody moves.", "", None)
    assert [judgement_of(answer) for answer in answers] == [True, False, False, None, None, None]


def test_a_yes_speaks_before_a_higher_score() -> None:
    def span(score: float, answer: str | None) -> DetectedSpan:
        return DetectedSpan(start_s=0, end_s=1, score=score, answer=answer)

    no, yes, mute = span(0.95, "No, calm."), span(0.85, "Yes, a fight."), span(0.9, None)
    assert leading_span([no, yes, mute]) is yes
    assert leading_span([no, mute]) is mute
    assert leading_span([]) is None


def test_frames_of_a_span_follow_its_scores(event_video: Path) -> None:
    timeline = open_footage(event_video, "auto").timeline
    scores = np.full(40, 0.1, np.float32)
    scores[30:32] = 1.0
    curve = ScoreCurve(scores, 8, 320, 16.0)

    def chosen(method: Any, span: tuple[int, int] = (100, 300)) -> list[int]:
        return choose_frames(timeline, span, 6, curve=curve, method=method, theta=0.8)

    assert chosen("uniform") == [116, 150, 183, 216, 250, 283]
    assert chosen("threshold") == [244, 252]
    assert [sum(240 <= frame < 256 for frame in chosen(method)) for method in ("uniform", "density")] == [1, 2]
    assert {244, 252} <= set(chosen("top-k"))
    assert chosen("threshold", (0, 60)) == [5, 15, 25, 35, 45, 55]


def test_json_is_plain() -> None:
    span = DetectedSpan(
        start_s=1.23456, end_s=2.0, score=0.987654, answer="Yes, é.", confidence=0.912345, consistent=False
    )
    found = Detection(
        video="v.mp4", fps=29.97003, duration_s=10.0, is_anomaly=True, answer="Yes, é.", spans=(span,),
        times_s=np.array([0.25]), scores=np.array([0.5], np.float32),
    )  # fmt: skip
    assert found.as_json()["spans"] == [
        {
            "start_s": 1.235, "end_s": 2.0, "score": 0.9877, "answer": "Yes, é.", "confidence": 0.9123,
            "consistent": False,
        }
    ]  # fmt: skip
    assert (found.as_json()["confidence"], found.as_json()["consistent"]) == (None, True)
    assert found.as_json()["scores"] == {"times_s": [0.25], "values": [0.5]}
