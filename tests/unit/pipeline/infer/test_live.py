"""Streams: read once from a server, scored in windows, spans told when they are over."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from infer_videos import write_video

from pipeline.errors import RecordError, SetupError
from pipeline.infer import live
from pipeline.infer.detection import DetectedSpan
from pipeline.infer.detector import Detector
from pipeline.infer.settings import DetectSettings
from pipeline.models.clip_frames import ClipFrames
from pipeline.video.live import LiveVideo


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files whole; of `slow.ts` the second half only after a while."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        if self.path.endswith("camera.ts"):
            self._film_of_the_day()
            return
        if not self.path.endswith("slow.ts"):
            super().do_GET()
            return
        content = Path(self.translate_path(self.path)).read_bytes()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.wfile.flush()
        time.sleep(0.5)
        self.wfile.write(content[len(content) // 2 :])

    def _film_of_the_day(self) -> None:
        """Serve film after film, one a connection, and break off in the middle of a packet; then nothing more."""
        films = sorted(Path(self.translate_path("/")).glob("camera-*.ts"))
        if not films:
            self.send_error(404)
            return
        content = films[0].read_bytes()
        films[0].unlink()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(content[:-50])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which its files are streams."""
    folder = tmp_path_factory.mktemp("served")
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


def detector_of(sampler: Path | None, **values: Any) -> Detector:
    return Detector(DetectSettings(sampler=None if sampler is None else str(sampler), **values))


def test_a_short_stream_has_the_scores_of_its_file(served: tuple[Path, str], sampler_folder: Path) -> None:
    folder, address = served
    path = write_video(folder / "short.ts", 9.3, ((3.0, 6.0),))
    detector = detector_of(sampler_folder)
    streamed, read = detector.detect(f"{address}/short.ts"), detector.detect(path)
    np.testing.assert_array_equal(streamed.scores, read.scores)
    np.testing.assert_allclose(streamed.times_s, read.times_s, atol=1e-3)
    assert (streamed.fps, streamed.duration_s) == pytest.approx((read.fps, read.duration_s), rel=1e-3)
    [mine], [other] = streamed.spans, read.spans
    assert (mine.start_s, mine.end_s, mine.score) == pytest.approx((other.start_s, other.end_s, other.score), abs=0.01)


def test_spans_are_told_when_they_are_over(
    served: tuple[Path, str],
    sampler_folder: Path,
    scripted: Any,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    folder, address = served
    write_video(folder / "slow.ts", 60.0, ((8.0, 12.0), (33.0, 38.0), (57.0, 60.0)))
    monkeypatch.setattr(live, "CONTEXT_S", 20.0)
    detector = detector_of(sampler_folder, model_path="model")
    told: list[tuple[DetectedSpan, int]] = []
    scored: list[int] = []
    score = detector._scorer.sampler.score  # type: ignore[union-attr]
    object.__setattr__(detector._scorer.sampler, "score", lambda f, s: scored.append(f.shape[1]) or score(f, s))  # type: ignore[union-attr]
    found = detector.watch(f"{address}/slow.ts", lambda span: told.append((span, len(scored))))
    assert [(round(s.start_s), round(s.end_s)) for s, _ in told] == [(8, 12), (33, 38), (57, 60)]
    assert tuple(span for span, _ in told) == found.spans
    # Of six windows the first span is told after the second one, the last one at the end.
    assert [when for _, when in told] == [2, 5, 6]
    assert max(scored) <= 2 * 20 + 2 * 10
    assert len(found.scores) == len(found.times_s) == 120
    assert (found.is_anomaly, found.answer) == (True, "Yes, a square dashes about.")
    assert all(span.answer == found.answer for span in found.spans)
    # The server closes the connection without having said how much would come.
    assert "broke off" in caplog.text


def test_a_long_event_is_told_in_parts(
    served: tuple[Path, str], sampler_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, address = served
    write_video(folder / "long.ts", 35.0, ((5.0, 35.0),))
    settings = DetectSettings(sampler=str(sampler_folder))
    short = settings.proposal.model_copy(update={"max_s": 8.0})
    detector = Detector(DetectSettings(sampler=str(sampler_folder), proposal=short))
    spans = detector.detect(f"{address}/long.ts").spans
    assert len(spans) > 1
    assert (spans[0].start_s, spans[-1].end_s) == pytest.approx((5, 35), abs=0.7)
    assert [a.end_s for a in spans[:-1]] == [b.start_s for b in spans[1:]]


@pytest.mark.slow
def test_a_stream_that_breaks_off_is_taken_up_again(
    served: tuple[Path, str], sampler_folder: Path, scripted: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """An event that is open when it breaks ends there; what comes later has its own time, and nothing is told twice."""
    folder, address = served
    write_video(folder / "camera-1.ts", 14.0, ((3.0, 5.0), (9.0, 14.0)))
    write_video(folder / "camera-2.ts", 3.0, ())
    write_video(folder / "camera-3.ts", 12.0, ((4.0, 7.0),))
    detector = detector_of(sampler_folder, model_path="model", reconnect_s=2.5)
    told: list[DetectedSpan] = []
    started = time.monotonic()
    found = detector.watch(f"{address}/camera.ts", told.append)
    lasted_s = time.monotonic() - started
    assert tuple(told) == found.spans
    before, opened, after = told
    assert (before.start_s, before.end_s) == pytest.approx((3, 5), abs=0.9)
    assert (opened.start_s, opened.end_s) == pytest.approx((9, 14), abs=0.9)
    assert opened.end_s <= 14.0
    # At least a second passes before each new connection.
    assert 14 + 1 + 3 + 1 + 4 - 0.9 < after.start_s < 14 + 3 + 4 + lasted_s
    assert after.end_s - after.start_s == pytest.approx(3, abs=0.9)
    assert found.duration_s == pytest.approx(after.start_s - 4 + 12, abs=0.9)
    assert len(found.scores) == len(found.times_s)
    assert (np.diff(found.times_s) > 0).all()
    assert sum(np.diff(found.times_s) > 0.9) == 2
    assert {span.answer for span in told} == {"Yes, a square dashes about."}
    assert caplog.text.count("broke off") == 3


def test_an_event_ends_where_a_connection_fell_silent(
    served: tuple[Path, str], sampler_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a minute without a frame, in the middle of an event and of a snippet, on one connection."""
    folder, address = served
    write_video(folder / "silent.ts", 24.0, ((8.0, 18.0),))
    frames = LiveVideo.frames

    def interrupted(self: LiveVideo) -> Iterator[tuple[int, float, Any]]:
        for index, time_s, frame in frames(self):
            yield index, time_s + (30 if time_s >= 13.1 else 0), frame

    monkeypatch.setattr(LiveVideo, "frames", interrupted)
    found = detector_of(sampler_folder).detect(f"{address}/silent.ts")
    assert [(span.start_s, span.end_s) for span in found.spans] == [
        pytest.approx((8, 13.1), abs=0.5),
        pytest.approx((43.1, 48), abs=0.5),
    ]
    assert found.spans[0].end_s <= 13.2
    assert found.lost == (pytest.approx((13.1, 43.1), abs=0.2),)
    assert found.duration_s == pytest.approx(54, abs=0.2)
    assert (np.diff(found.times_s) > 0).all()
    assert found.fps == pytest.approx(len(found.scores) * 8 / 24, rel=0.1)


def test_a_calm_stream_is_judged_as_a_whole_and_asked_about(
    served: tuple[Path, str], sampler_folder: Path, scripted: Any
) -> None:
    folder, address = served
    write_video(folder / "calm.mkv", 12.0, ())
    detector = detector_of(sampler_folder, model_path="model")
    found = detector.detect(f"{address}/calm.mkv")
    assert (found.is_anomaly, found.answer, found.spans) == (False, "No, nothing moves.", ())
    assert detector.ask(found, "Really?") == "No, nothing moves."
    with pytest.raises(RecordError, match="read once"):
        detector.ask(found, "And then?", span=(1.0, 2.0))


def test_without_a_sampler_windows_are_judged(served: tuple[Path, str], scripted: Any) -> None:
    folder, address = served
    write_video(folder / "event.ts", 20.0, ((8.0, 9.5),))
    found = detector_of(None, model_path="model", window_s=5.0).detect(f"{address}/event.ts")
    assert [(span.start_s, span.end_s) for span in found.spans] == [(5.0, 10.0)]
    assert found.is_anomaly
    clips: list[ClipFrames] = [clip for clip, _, _ in scripted.asked]
    assert [len(clip.frames) for clip in clips] == [16] * 4


def test_what_cannot_be_streamed_is_named(served: tuple[Path, str], sampler_folder: Path) -> None:
    folder, address = served
    (folder / "words.ts").write_text("no video at all " * 1000)
    detector = detector_of(sampler_folder)
    for name, told in (("words.ts", "no video"), ("gone.ts", "404")):
        with pytest.raises(RecordError, match=told) as failed:
            detector.detect(f"{address}/{name}")
        assert f"{address}/{name}" in failed.value.detail
    with pytest.raises(RecordError, match="refused"):
        detector.detect("rtsp://127.0.0.1:9/camera")


def test_a_stream_cannot_be_annotated() -> None:
    from flows.commands.detect import detect

    with pytest.raises(SetupError, match="--annotate"):
        detect(videos=["http://127.0.0.1:9/v.ts"], sampler="s", annotate="a.mp4")


def test_what_is_smoothed_widely_settles_later(sampler_folder: Path) -> None:
    detector = Detector(DetectSettings(sampler=str(sampler_folder)))
    scorer = detector._scorer
    assert scorer is not None
    assert live.settled_s(scorer) == live.settled_s(None) == live.SETTLED_S, "it smooths by 0 s"
    [recipe] = scorer.sampler.recipes
    scorer.sampler = replace(scorer.sampler, recipes=[recipe, replace(recipe, smoothing_s=8.0)])
    assert live.settled_s(scorer) == 16.0
    assert detector.recorder()._keep_s == Detector(DetectSettings(sampler=str(sampler_folder))).recorder()._keep_s + 10
