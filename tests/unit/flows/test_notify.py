"""Spans posted to a receiver of this machine."""

from __future__ import annotations

import email.parser
import email.policy
import io
import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import av
import pytest
from page_stub import save_video
from PIL import Image

from flows.notify import SECRET, notifying, sign
from pipeline.errors import SetupError
from pipeline.infer.detection import DetectedSpan
from pipeline.video.live import connections
from pipeline.video.recorder import StreamRecorder

SPAN = DetectedSpan(start_s=1.0, end_s=2.5, score=0.9, answer="Yes, a fight.")


class Receiver:
    url: str

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []


@pytest.fixture
def receiver(monkeypatch: pytest.MonkeyPatch) -> Iterator[Receiver]:
    monkeypatch.setattr("flows.notify.FIRST_WAIT_S", 0.01)
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.calls.append((dict(self.headers), body))
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield found
    server.shutdown()


def post(url: str, recorder: StreamRecorder | None = None) -> None:
    with notifying(url) as tell:
        assert tell is not None
        tell("rtsp://admin:secret@cam/1", SPAN, recorder)


def parts_of(headers: dict[str, str], body: bytes) -> dict[str, tuple[str, bytes]]:
    """Read a form with the standard library, as a receiver would: type and content of each part by name."""
    form = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(
        f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode() + body
    )
    return {
        str(part.get_param("name", header="content-disposition")): (
            part.get_content_type(),
            part.get_payload(decode=True),
        )
        for part in form.iter_parts()
    }


def event_of(headers: dict[str, str], body: bytes) -> Any:
    kind, content = parts_of(headers, body)["event"]
    assert kind == "application/json"
    return json.loads(content)


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


def test_an_address_is_one_of_the_web() -> None:
    with pytest.raises(SetupError, match="http or https"), notifying("file:///etc/passwd"):
        pass
