"""Spans posted to a receiver of this machine."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest

from flows.notify import SECRET, notifying, sign
from pipeline.errors import SetupError
from pipeline.infer.detection import DetectedSpan

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


def post(url: str) -> None:
    with notifying(url) as tell:
        assert tell is not None
        tell("rtsp://admin:secret@cam/1", SPAN)


def test_a_span_is_posted_signed_and_without_the_password(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET, "key")
    post(receiver.url)
    [(headers, body)] = receiver.calls
    sent = json.loads(body)
    assert sent["stream"] == "rtsp://cam/1"
    assert sent["span"] == SPAN.as_json()
    assert headers["X-Holmes-Signature"] == sign("key", headers["X-Holmes-Timestamp"], body)


def test_a_receiver_that_is_busy_is_asked_again(receiver: Receiver) -> None:
    receiver.answers = [503, 429]
    post(receiver.url)
    assert [json.loads(body)["id"] for _, body in receiver.calls] == [json.loads(receiver.calls[0][1])["id"]] * 3
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
