"""What the receiver of webhooks answers to good and bad callers, and that it outlives them all."""

from __future__ import annotations

import http.client
import json
import logging
import random
import re
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx
import pytest

from annotation.label_studio import webhook
from annotation.label_studio.webhook import (
    ACTIONS,
    MAX_BODY_BYTES,
    SECRET_HEADER,
    SECRET_VARIABLE,
    receiving,
    webhook_secret,
)
from pipeline.errors import SetupError

SECRET = "0123456789abcdef0123456789abcdef"
KNOWN = {SECRET_HEADER: SECRET}


@dataclass
class Receiver:
    """A receiver on a free port, and the hints that it gave."""

    url: str = ""
    hints: list[str] = field(default_factory=list)

    def post(self, action: object, **headers: str) -> int:
        return httpx.post(self.url, json={"action": action}, headers=KNOWN | headers).status_code

    def raw(self, request: bytes) -> bytes:
        """Send bytes as they are and return all that is answered."""
        with socket.create_connection(self.address, timeout=5) as connection:
            connection.sendall(request)
            return b"".join(iter(lambda: connection.recv(4096), b""))

    @property
    def address(self) -> tuple[str, int]:
        parts = urlsplit(self.url)
        return str(parts.hostname), int(parts.port or 0)


@pytest.fixture(scope="module")
def one_receiver() -> Iterator[Receiver]:
    made = Receiver()
    with receiving("127.0.0.1", 0, SECRET, made.hints.append) as made.url:
        yield made


@pytest.fixture
def receiver(one_receiver: Receiver) -> Receiver:
    """The receiver of all these tests, which it has to outlive."""
    one_receiver.hints.clear()
    return one_receiver


@pytest.mark.parametrize("action", ACTIONS)
def test_what_label_studio_sends_is_a_hint(receiver: Receiver, action: str) -> None:
    body = {"action": action, "annotation": {"id": 1, "result": []}, "project": {"id": 3}}
    answer = httpx.post(receiver.url, json=body, headers=KNOWN)
    assert (answer.status_code, answer.content) == (204, b"")
    assert receiver.hints == [action]


def test_other_actions_are_answered_and_let_pass(receiver: Receiver) -> None:
    assert receiver.post("LABEL_LINK_CREATED") == 204
    assert receiver.post("SOMETHING_OF_TOMORROW") == 204
    assert receiver.hints == []


@pytest.mark.parametrize(
    "headers",
    [{}, {SECRET_HEADER: ""}, {SECRET_HEADER: SECRET[:-1]}, {SECRET_HEADER: SECRET + "0"}, {SECRET_HEADER: "ü"}],
)
def test_a_wrong_secret_is_forbidden_whatever_the_body(receiver: Receiver, headers: dict[str, str]) -> None:
    sent = {name: value.encode("latin-1") for name, value in headers.items()}
    answer = httpx.post(receiver.url, content=b"nonsense", headers=sent)
    assert answer.status_code == 403
    assert SECRET not in answer.text
    assert receiver.hints == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b"{",
        b'"ANNOTATION_CREATED"',
        b'{"action": 3}',
        b'{"action": "delete everything"}',
        b'{"action": ""}',
        b'{"event": "ANNOTATION_CREATED"}',
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"action": %s}' % (b"9" * 5_000),
    ],
)
def test_nonsense_is_a_bad_request_and_no_hint(receiver: Receiver, body: bytes) -> None:
    assert httpx.post(receiver.url, content=body, headers=KNOWN).status_code == 400
    assert receiver.hints == []
    assert receiver.post("TASKS_CREATED") == 204


def test_a_body_up_to_the_limit_is_read_and_one_above_is_too_large(receiver: Receiver) -> None:
    body = json.dumps({"action": "TASKS_CREATED"}).encode()
    assert httpx.post(receiver.url, content=body.ljust(MAX_BODY_BYTES), headers=KNOWN).status_code == 204
    answer = httpx.post(receiver.url, content=body.ljust(MAX_BODY_BYTES + 1), headers=KNOWN)
    assert (answer.status_code, answer.text) == (
        413,
        f"{MAX_BODY_BYTES + 1} bytes, at most {MAX_BODY_BYTES} are read\n",
    )
    assert receiver.hints == ["TASKS_CREATED"]


def test_a_huge_body_is_refused_before_it_is_sent(receiver: Receiver) -> None:
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\n{SECRET_HEADER}: {SECRET}\r\nContent-Length: {1 << 50}\r\n\r\n"
    connection = socket.create_connection(receiver.address, timeout=5)
    connection.sendall(head.encode())
    assert connection.recv(100).startswith(b"HTTP/1.0 413 ")
    connection.close()


@pytest.mark.parametrize("path", ["/", "/webhook/", "/webhooks", "/../webhook", "/webhook%00"])
def test_there_is_nothing_on_other_paths(receiver: Receiver, path: str) -> None:
    connection = http.client.HTTPConnection(*receiver.address, timeout=5)
    connection.request("POST", path, b"{}", headers=KNOWN)
    assert connection.getresponse().status == 404


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "OPTIONS", "HEAD", "BREW"])
def test_only_post_is_allowed(receiver: Receiver, method: str) -> None:
    answer = httpx.request(method, receiver.url, headers=KNOWN)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"POST /webhook HTTP/1.1\r\n%s\r\n\r\n", 411),
        (b"POST /webhook HTTP/1.1\r\n%s\r\nContent-Length: -1\r\n\r\n", 411),
        (b"POST /webhook HTTP/1.1\r\n%s\r\nContent-Length: ten\r\n\r\n", 411),
        (b"POST /webhook HTTP/1.1\r\n%s\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", 411),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"POST\r\n\r\n", 400),
        (b"POST /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n", 414),
        (b"POST /webhook HTTP/1.1\r\n" + b"a: b\r\n" * 200 + b"\r\n", 431),
    ],
)
def test_no_http_that_we_know(receiver: Receiver, request_: bytes, status: int) -> None:
    secret = f"{SECRET_HEADER}: {SECRET}".encode()
    # what names no version of HTTP is answered without a status line
    answered = receiver.raw(request_.replace(b"%s", secret)).partition(b"\r\n")[0].removeprefix(b"HTTP/1.0 ")
    assert answered.startswith(f"{status} ".encode())
    assert receiver.post("TASKS_CREATED") == 204


def test_a_body_that_breaks_off_is_no_hint(receiver: Receiver) -> None:
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\n{SECRET_HEADER}: {SECRET}\r\nContent-Length: 99\r\n\r\n"
    with socket.create_connection(receiver.address, timeout=5) as connection:
        connection.sendall(head.encode() + b'{"action": "TASKS_CREATED"}')
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100).startswith(b"HTTP/1.0 400 ")
    assert receiver.hints == []


def test_two_hundred_damaged_requests_are_outlived(receiver: Receiver) -> None:
    body = b'{"action": "TASKS_CREATED"}'
    head = f"POST /webhook HTTP/1.1\r\nHost: x\r\n{SECRET_HEADER}: {SECRET}\r\nContent-Length: {len(body)}\r\n\r\n"
    whole = head.encode() + body
    rng = random.Random(7)
    for _ in range(200):
        damaged = bytearray(whole)
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(damaged))
            damaged[at : at + rng.randint(0, 3)] = rng.randbytes(rng.randint(0, 3))
        with socket.create_connection(receiver.address, timeout=5) as connection:
            connection.sendall(damaged)
            connection.shutdown(socket.SHUT_WR)
            first = b"".join(iter(lambda: connection.recv(4096), b"")).partition(b"\r\n")[0]
        # a bare status is an answer to what names no version of HTTP; nothing at all one to an empty line
        assert re.match(rb"HTTP/1\.[01] (204|4\d\d|501|505) |[45]\d\d |$", first), (bytes(damaged), first)
    receiver.hints.clear()
    assert receiver.post("TASKS_CREATED") == 204
    assert receiver.hints == ["TASKS_CREATED"]


def test_silent_and_slow_callers_are_cut_off_and_keep_nobody_out(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotation.label_studio.webhook._Handler.timeout", 0.3)
    monkeypatch.setattr(webhook, "REQUEST_S", 0.6)
    silent = socket.create_connection(receiver.address, timeout=5)
    slow = socket.create_connection(receiver.address, timeout=5)
    began = time.monotonic()
    ended = threading.Event()

    def dribble() -> None:
        while not ended.wait(0.1):
            try:
                slow.sendall(b"P")
            except OSError:
                return

    writer = threading.Thread(target=dribble)
    writer.start()
    assert receiver.post("TASKS_CREATED") == 204
    assert silent.recv(1) == b""
    assert slow.recv(1) == b""
    assert time.monotonic() - began < 30
    ended.set()
    writer.join()


def test_no_more_than_some_connections_are_open_at_once(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    open_ones = [socket.create_connection(receiver.address, timeout=5) for _ in range(webhook.MAX_CONNECTIONS)]
    time.sleep(0.2)
    with pytest.raises(httpx.TransportError):
        receiver.post("TASKS_CREATED")
    for connection in open_ones:
        connection.close()
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        try:
            assert receiver.post("TASKS_CREATED") == 204
            break
        except httpx.TransportError:
            time.sleep(0.05)
    assert receiver.hints == ["TASKS_CREATED"]


def test_the_secret_reaches_no_log(receiver: Receiver, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        receiver.post("TASKS_CREATED")
        httpx.post(receiver.url, content=b"x", headers={SECRET_HEADER: "guess-of-somebody"})
        httpx.post(receiver.url, content=b"x", headers=KNOWN)
    assert "webhook: 400 from 127.0.0.1" in caplog.text
    assert SECRET not in caplog.text
    assert "guess-of-somebody" not in caplog.text


def test_a_port_that_is_taken_is_told(receiver: Receiver) -> None:
    host, port = receiver.address
    with pytest.raises(SetupError, match=f"127.0.0.1:{port}: cannot listen there: Address already in use"):
        receiving(host, port, SECRET, print).__enter__()


@pytest.mark.parametrize(
    ("secret", "told"),
    [
        (None, "is not set"),
        ("  ", "is not set"),
        ("short", "5 characters, at least 16"),
        ("line\nbreak-in-the-secret", "no header carries"),
        ("pässword-of-somebody", "no header carries"),
    ],
)
def test_no_secret_that_protects_is_refused(secret: str | None, told: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    if secret is not None:
        monkeypatch.setenv(SECRET_VARIABLE, secret)
    with pytest.raises(SetupError, match=told) as refused:
        webhook_secret()
    assert secret is None or not secret.strip() or secret not in str(refused.value)


def test_the_secret_is_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(SECRET_VARIABLE, f" {SECRET}\n")
    assert webhook_secret() == SECRET
