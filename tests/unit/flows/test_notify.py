"""Spans posted to a receiver of this machine."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import pytest
from page_stub import save_video
from PIL import Image
from webhook_receiver import Receiver, event_of, parts_of, receiving

from flows.notify import SECRET, notifying, sign
from pipeline.errors import SetupError
from pipeline.infer.detection import DetectedSpan
from pipeline.video.live import connections
from pipeline.video.recorder import StreamRecorder

SPAN = DetectedSpan(start_s=1.0, end_s=2.5, score=0.9, answer="Yes, a fight.")


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr("flows.notify.FIRST_WAIT_S", 0.01)
    with receiving() as found:
        yield found


def post(url: str, recorder: StreamRecorder | None = None) -> None:
    with notifying(url) as tell:
        assert tell is not None
        tell("rtsp://admin:secret@cam/1", SPAN, recorder)


def test_a_span_is_posted_signed_and_without_the_password(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "key")
    post(receiver.url)
    [(headers, body)] = receiver.calls
    sent = event_of(headers, body)
    assert sent["clip"] is None
    assert set(parts_of(headers, body)) == {"event"}
    assert sent["stream"] == "rtsp://cam/1"
    assert sent["span"] == SPAN.as_json()
    assert headers["X-Holmes-Signature"] == sign("key", headers["X-Holmes-Timestamp"], body)


def test_clip_and_picture_go_with_the_span(receiver: Receiver, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(SECRET, "key")
    recorder = StreamRecorder(60)
    for _, frames in connections(str(save_video(tmp_path / "cam.mp4", 3.0)), 0.0, recorder):
        for _ in frames:
            pass
    receiver.answers = [503]
    post(receiver.url, recorder)
    first, (headers, body) = receiver.calls
    assert first[1] == body
    assert headers["X-Holmes-Signature"] == sign("key", headers["X-Holmes-Timestamp"], body)
    parts = parts_of(headers, body)
    assert event_of(headers, body)["clip"] == {"start_s": 1.0, "end_s": 2.5}
    kind, clip = parts["clip"]
    with av.open(io.BytesIO(clip)) as container:
        assert container.duration == 1_500_000
        assert sum(1 for _ in container.decode(video=0)) in (37, 38)
    assert kind == "video/mp4"
    kind, picture = parts["thumbnail"]
    with Image.open(io.BytesIO(picture)) as shown:
        assert (kind, shown.format, shown.size) == ("image/jpeg", "JPEG", (320, 240))


def test_a_span_whose_frames_are_gone_is_posted_without_a_clip(
    receiver: Receiver, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    recorder = StreamRecorder(60, max_bytes=1)
    for _, frames in connections(str(save_video(tmp_path / "cam.mp4", 3.0)), 0.0, recorder):
        for _ in frames:
            pass
    post(receiver.url, recorder)
    [(headers, body)] = receiver.calls
    assert event_of(headers, body)["clip"] is None
    assert "no clip: frame_out_of_range" in caplog.text


def test_a_receiver_that_is_busy_is_asked_again(receiver: Receiver) -> None:
    receiver.answers = [503, 429]
    post(receiver.url)
    assert len({body for _, body in receiver.calls}) == 1
    assert len(receiver.calls) == 3
    assert "X-Holmes-Signature" not in receiver.calls[0][0]


def test_a_refusal_is_final_and_said(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.answers = [401]
    with caplog.at_level(logging.ERROR):
        post(receiver.url)
    assert len(receiver.calls) == 1
    assert "it answers 401" in caplog.text


def test_the_receiver_of_the_guide_takes_what_is_signed_and_nothing_else(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    guide = Path(__file__).parents[3] / "docs" / "guides" / "detect.md"
    [source] = re.findall(r"```python\n(.*?)```", guide.read_text(encoding="utf-8"), re.DOTALL)
    example: dict[str, Any] = {"__name__": "receiver"}
    exec(source, example)  # noqa: S102 - our own guide
    monkeypatch.setenv(SECRET, "key")
    post(receiver.url)
    [(headers, body)] = receiver.calls
    assert example["is_ours"](headers, body)
    assert not example["is_ours"](headers, body + b" ")
    assert not example["is_ours"](headers | {"X-Holmes-Timestamp": "1"}, body)
    assert example["parts"](headers, body)["event"].get_payload(decode=True) == parts_of(headers, body)["event"][1]


def test_an_address_is_one_of_the_web() -> None:
    with pytest.raises(SetupError, match="http or https"), notifying("file:///etc/passwd"):
        pass
