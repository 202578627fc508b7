"""The page of `holmes serve` below the browser: what it takes, what it draws, and what happens behind it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from page_stub import SPANS, StubDetector

from flows.page import drawing
from flows.page.gallery import list_offered
from flows.page.intake import Intake, Limits
from flows.page.visits import Visit, Visits
from flows.page.working import AbandonedError, Step, Worker
from pipeline.errors import DataError, RecordError, SetupError
from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.records import Reason

Film = Callable[[str], Path]
EVIL = "<img src=x onerror=\"document.title='pwned'\">"


def detection(
    video: str = "video.mp4", *, spans: Sequence[DetectedSpan] = (), scores: Sequence[float] = (), **changes: Any
) -> Detection:
    values: dict[str, Any] = {
        "video": video, "fps": 25.0, "duration_s": 4.0, "is_anomaly": bool(spans), "answer": "Yes, a collision.",
        "spans": tuple(spans), "times_s": (np.arange(len(scores)) + 0.5) * 4 / max(len(scores), 1),
        "scores": np.array(scores, np.float32),
    }  # fmt: skip
    return Detection(**(values | changes))


def span(start_s: float, end_s: float, answer: str | None = "Yes, a car hits a cyclist.") -> DetectedSpan:
    return DetectedSpan(start_s=start_s, end_s=end_s, score=0.9, answer=answer)


@pytest.fixture
def intake(tmp_path: Path) -> Intake:
    folder = tmp_path / "kept"
    folder.mkdir()
    return Intake(folder, Limits(max_mb=1, max_minutes=1.0))


def uploaded(tmp_path: Path, content: bytes, name: str = "upload.mp4") -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def kept(intake: Intake) -> list[Path]:
    return [path for path in intake._folder.rglob("*") if path.is_file()]


def finished(visits: Visits, visit: Visit) -> tuple[list[Step], Detection]:
    steps, running = [], visits.detect("visit", visit)
    while True:
        try:
            steps.append(next(running))
        except StopIteration as end:
            return steps, end.value


def test_an_upload_is_kept_for_its_visit_alone(tmp_path: Path, intake: Intake, film: Film) -> None:
    content = film("h264.mp4").read_bytes()
    first = intake.take_upload("visit", uploaded(tmp_path, content), "cam 1.mp4")
    assert (first.name, first.facts.num_frames, first.shown) == ("cam 1.mp4", 100, first.path)
    assert not (tmp_path / "upload.mp4").exists()
    second = intake.take_upload("visit", uploaded(tmp_path, content), "../../etc/cam.mp4")
    assert second.path.is_relative_to(intake._folder)
    assert kept(intake) == [second.path]
    intake.release("visit")
    assert kept(intake) == []


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("notes.txt", b"words", "not a video file"),
        ("empty.mp4", b"", "empty.mp4: "),
        ("broken.mp4", b"\0" * 5000, "broken.mp4: "),
        ("large.mp4", b"\0" * (2 << 20), "2\\.0 MB are more than the 1 MB"),
    ],
)
def test_what_is_no_video_or_too_large_is_refused_in_words(
    tmp_path: Path, intake: Intake, name: str, content: bytes, told: str
) -> None:
    with pytest.raises(DataError, match=told) as fault:
        intake.take_upload("visit", uploaded(tmp_path, content), name)
    assert str(tmp_path) not in str(fault.value)
    assert kept(intake) == []


def test_a_video_that_is_too_long_is_refused(tmp_path: Path, film: Film) -> None:
    intake = Intake(tmp_path, Limits(max_mb=10, max_minutes=0.05))
    with pytest.raises(DataError, match=r"0\.1 minutes are more than the 0\.05"):
        intake.take_upload("visit", uploaded(tmp_path, film("h264.mp4").read_bytes()), "long.mp4")


def test_what_browsers_cannot_play_is_shown_as_a_copy(tmp_path: Path, intake: Intake, film: Film) -> None:
    source = film("mpeg4.avi")
    taken = intake.take_upload("visit", uploaded(tmp_path, source.read_bytes(), "up.avi"), f"old{source.suffix}")
    assert taken.shown != taken.path
    from pipeline.video.probe import probe

    shown = probe(taken.shown)
    assert (shown.codec, shown.num_frames) == ("h264", taken.facts.num_frames)
    assert shown.duration_s == pytest.approx(taken.facts.duration_s, abs=0.05)


def test_a_gallery_offers_the_readable_videos_inside_its_folder(tmp_path: Path, film: Film) -> None:
    content = film("h264.mp4").read_bytes()
    folder = tmp_path / "videos"
    (folder / "cam").mkdir(parents=True)
    uploaded(folder / "cam", content, "a.mp4")
    uploaded(folder, b"broken", "b.mp4")
    (folder / "c.mp4").symlink_to(uploaded(tmp_path, content, "outside.mp4"))
    [offered] = list_offered(folder, max_minutes=1)
    assert (offered.name, offered.duration_s) == ("cam/a.mp4", 4.0)
    assert offered.picture.startswith("data:image/webp;base64,")
    assert list_offered(folder, max_minutes=0.01) == []
    with pytest.raises(SetupError, match="no such folder"):
        list_offered(tmp_path / "none", max_minutes=1)


@pytest.mark.parametrize("index", [-1, 1, "0", "../../etc/passwd", None, 0.0, True])
def test_only_offered_videos_can_be_chosen(tmp_path: Path, intake: Intake, film: Film, index: Any) -> None:
    uploaded(tmp_path / "kept", film("h264.mp4").read_bytes(), "a.mp4")
    visits = Visits(StubDetector(), intake, list_offered(tmp_path / "kept", max_minutes=1))
    assert visits.take_example("visit", 0).video.name == "a.mp4"
    with pytest.raises(DataError, match="no such video"):
        visits.take_example("visit", index)


def test_a_visit_detects_asks_and_writes_json(tmp_path: Path, intake: Intake, film: Film) -> None:
    detector = StubDetector()
    visits = Visits(detector, intake, [])
    visit = visits.take_upload("visit", uploaded(tmp_path, film("h264.mp4").read_bytes()), "cam.mp4")
    steps, found = finished(visits, visit)
    assert steps[-1] == Step("score", 2, 2)
    written = visits.write_json("visit", visit.video, found)
    assert written is not None
    assert json.loads(written.read_text()) == found.as_json() | {"video": "cam.mp4"}
    visits.ask(visit, found, "What colour?")
    visit.selected = 0
    visits.ask(visit, found, "Why?")
    visits.ask(visit, found, "Where?")
    first = [{"role": "user", "content": detector.question}, {"role": "assistant", "content": detector.answer}]
    about_span = [first[0], {"role": "assistant", "content": SPANS[0].answer}]
    told = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": f"{detector.answer} (2)"}]
    assert detector.asked == [
        ("What colour?", first, None), ("Why?", about_span, found.spans[0]),
        ("Where?", about_span + told, found.spans[0]),
    ]  # fmt: skip
    visits.release("visit")
    assert visits.write_json("visit", visit.video, found) is None


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (RecordError(Reason.DECODE_FAILED, "frame 7 cannot be decoded"), "frame 7 cannot be decoded"),
        (SetupError("the model wants 3 channels"), "the model wants 3 channels"),
        (RuntimeError("CUDA error at /secret/path"), "RuntimeError"),
    ],
)
def test_a_failing_model_is_told_in_words(
    tmp_path: Path, intake: Intake, film: Film, fault: Exception, told: str
) -> None:
    visits = Visits(StubDetector(fault), intake, [])
    visit = visits.take_upload("visit", uploaded(tmp_path, film("h264.mp4").read_bytes()), "cam.mp4")
    with pytest.raises(DataError, match=told) as raised:
        finished(visits, visit)
    assert "/secret/path" not in str(raised.value)
    visits.ask(visit, detection(), "Why?")
    assert [turn.role for turn in visit.turns] == ["user", "fault"]
    assert told in visit.turns[1].text
    assert "/secret/path" not in visit.turns[1].text


def test_work_that_nobody_watches_ends_and_makes_room() -> None:
    worker, ended = Worker(), threading.Event()

    def endless(report: Callable[[str, int, int], None]) -> None:
        try:
            while True:
                report("score", 1, 2)
                threading.Event().wait(0.01)
        finally:
            ended.set()

    running = worker.watch(endless, threading.Event())
    assert next(running) == Step("score", 1, 2)
    running.close()
    assert ended.wait(5)
    assert worker.do(lambda: "free") == "free"


def test_a_visit_that_ends_gives_up_its_work(tmp_path: Path, intake: Intake, film: Film) -> None:
    detector = StubDetector()
    visits = Visits(detector, intake, [])
    visit = visits.take_upload("visit", uploaded(tmp_path, film("h264.mp4").read_bytes()), "cam.mp4")
    detector.going.clear()
    running = visits.detect("visit", visit)
    next(running)
    visits.release("visit")
    detector.going.set()
    with pytest.raises(AbandonedError):
        next(running)
    assert visit.detection is None


def test_one_piece_of_work_at_a_time() -> None:
    worker, free, order = Worker(), threading.Event(), []

    def slow(report: Callable[[str, int, int], None]) -> None:
        report("score", 0, 1)
        free.wait(5)
        order.append("first")

    running = worker.watch(slow, threading.Event())
    next(running)
    second = threading.Thread(target=lambda: worker.do(lambda: order.append("second")))
    second.start()
    free.set()
    assert list(running) == []
    second.join(5)
    assert order == ["first", "second"]


def test_text_from_outside_is_escaped_everywhere() -> None:
    found = detection(EVIL, spans=[span(1, 2, f"Yes, {EVIL}")], scores=[0.1, 0.9], answer=EVIL)
    drawn = [
        drawing.draw_header(EVIL, EVIL), drawing.draw_notice(EVIL), drawing.draw_player(f"file={EVIL}", EVIL, (4, 3)),
        drawing.draw_progress(Step(EVIL, 1, 2)), drawing.draw_verdict(found), drawing.draw_results(found),
        drawing.draw_conversation([drawing.Turn("user", EVIL, 0), drawing.Turn("assistant", EVIL, None)]),
    ]  # fmt: skip
    for html in drawn:
        assert "<img" not in html
        assert "&lt;img src=x onerror=" in html or "file=&lt;img" in html


def test_spans_stand_where_they_are_in_time() -> None:
    html = drawing.draw_results(detection(spans=[span(1, 2), span(3, 3.5, "No, they only wave.")], scores=[0.1, 0.9]))
    assert 'style="left: 25.00%; width: 25.00%"' in html
    assert 'data-span="1" data-seek="3.000" data-end="3.500"' in html
    assert html.count("denied") == 2
    assert html.count("0:01.0 to 0:02.0") == 3


def test_a_span_tells_score_and_confidence() -> None:
    sure = DetectedSpan(start_s=1, end_s=2, score=0.9, answer="Yes, a fight.", confidence=0.914)
    assert "score 0.90 · Yes 91%" in drawing.draw_results(detection(spans=[sure], scores=[0.1, 0.9]))
    assert '<span class="h-score">Yes 91%</span>' in drawing.draw_results(detection(spans=[sure]))


def test_long_curves_keep_their_peaks() -> None:
    scores = [0.0] * 20_000
    scores[12_345] = 1.0
    html = drawing.draw_results(detection(scores=scores))
    assert "highest 1.00" in html
    assert " 0.0L" in html
    assert len(html) < 30_000


@pytest.mark.parametrize(("is_anomaly", "title"), [(True, "Anomaly"), (False, "Normal"), (None, "Not judged")])
def test_the_verdict_is_a_word_and_not_a_colour_alone(is_anomaly: bool | None, title: str) -> None:
    html = drawing.draw_verdict(detection(is_anomaly=is_anomaly, answer=None, confidence=0.914))
    assert title in html
    assert "Yes 91%" in html
    assert "Yes 9" not in drawing.draw_verdict(detection(is_anomaly=is_anomaly, answer=None))
    assert "no video model" in html
