"""Streams: read once from a server, scored in windows, spans told when they are over."""

from __future__ import annotations

import functools
import http.server
import threading
import time
from collections.abc import Iterator
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


class _Handler(http.server.SimpleHTTPRequestHandler):
    """Serves files whole; of `slow.ts` the second half only after a while."""

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
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


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder and the address at which its files are streams."""
    folder = tmp_path_factory.mktemp("served")
    handler = functools.partial(_Handler, directory=str(folder))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
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
    assert [len(clip.frames) for clip in clips] == [8] * 4


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
