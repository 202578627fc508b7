"""Receive the webhooks of Label Studio: something was changed there, so it is time to look.

Nothing is taken from what they say: whoever knows the secret can cause a look, and no more. Label Studio waits a second
for an answer and never repeats a call, so that the receiver answers at once and whoever is hinted at polls as well.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import logging
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from pipeline.errors import SetupError

logger = logging.getLogger(__name__)

PATH = "/webhook"
SECRET_HEADER = "X-Holmes-Secret"  # noqa: S105 - the name of a header
SECRET_VARIABLE = "HOLMES_WEBHOOK_SECRET"  # noqa: S105 - the name of a variable
SECRET_LENGTH = 16
"""Characters that a secret has at least."""

ACTIONS = (
    "ANNOTATION_CREATED",
    "ANNOTATIONS_CREATED",
    "ANNOTATION_UPDATED",
    "ANNOTATIONS_DELETED",
    "TASKS_CREATED",
    "TASKS_DELETED",
    "PROJECT_UPDATED",
)
"""What is worth a look. Other actions of Label Studio are answered and let pass."""

MAX_BODY_BYTES = 1 << 20
MAX_CONNECTIONS = 32
SILENCE_S = 5.0
"""Longest silence of a caller within a request."""

REQUEST_S = 15.0
"""Longest time from a connection to its end."""

_REST_BYTES = 16 << 20
_REST_S = 2.0
"""How much, and for how long, is read of what a refused caller goes on sending: cut off at once, it would miss why."""

_ACTION = re.compile(r"[A-Z][A-Z_]{0,63}")


def webhook_secret() -> str:
    """Return the secret that Label Studio has to send.

    Raises:
        SetupError: there is none in the environment, or it is too short, or no header can carry it.
    """
    secret = os.environ.get(SECRET_VARIABLE, "").strip()
    if not secret:
        raise SetupError(
            f"{SECRET_VARIABLE} is not set: what Label Studio has to send, such as of openssl rand -hex 20"
        )
    if len(secret) < SECRET_LENGTH:
        raise SetupError(f"{SECRET_VARIABLE}: {len(secret)} characters, at least {SECRET_LENGTH} are expected")
    if not secret.isascii() or not secret.isprintable():
        raise SetupError(f"{SECRET_VARIABLE}: holds characters that no header carries")
    return secret


@contextmanager
def receiving(host: str, port: int, secret: str, on_hint: Callable[[str], None]) -> Iterator[str]:
    """Receive webhooks while inside; yield the address, of the port that was found free where `port` is 0.

    Args:
        host: address to listen at.
        port: port to listen at.
        secret: what the header `SECRET_HEADER` has to say.
        on_hint: called with the action, in a thread of its own; it has to return at once.

    Raises:
        SetupError: nobody can listen there.
    """
    try:
        server = _Server(host, port, secret, on_hint)
    except (OSError, OverflowError) as fault:
        raise SetupError(f"{host}:{port}: cannot listen there: {getattr(fault, 'strerror', None) or fault}") from None
    thread = threading.Thread(target=server.serve_forever, name="webhook", daemon=True)
    thread.start()
    try:
        shown = f"[{host}]" if ":" in host else host
        yield f"http://{shown}:{server.server_address[1]}{PATH}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, host: str, port: int, secret: str, on_hint: Callable[[str], None]) -> None:
        self.secret = secret.encode()
        self.on_hint = on_hint
        self._free = threading.BoundedSemaphore(MAX_CONNECTIONS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            logger.warning("webhook: %d connections are open, one more is closed", MAX_CONNECTIONS)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        cut = threading.Timer(REQUEST_S, _shut, [request])
        cut.daemon = True
        cut.start()
        try:
            super().process_request_thread(request, client_address)
        finally:
            cut.cancel()
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the signature is given
        with_trace = logger.isEnabledFor(logging.DEBUG)
        logger.info("webhook: the connection to %s broke", client_address[0], exc_info=with_trace)


class _Refused(Exception):  # noqa: N818 - an answer, no fault of ours
    def __init__(self, status: HTTPStatus, why: str) -> None:
        super().__init__(why)
        self.status = status


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SILENCE_S
    server_version = "holmes"
    sys_version = ""
    error_content_type = "text/plain"
    error_message_format = "%(code)d %(message)s\n"

    def __getattr__(self, name: str) -> Callable[[], None]:
        # every method of HTTP, known or not, is answered in one place
        if name.startswith("do_"):
            return self._answer
        raise AttributeError(name)

    def _answer(self) -> None:
        # one request a connection: Label Studio opens a new one for every call
        self.close_connection = True
        try:
            action = self._read_action()
        except _Refused as refused:
            logger.warning("webhook: %s from %s: %s", refused.status.value, self.client_address[0], refused)
            self._say(refused.status, f"{refused}\n")
            self._read_rest()
            return
        if action in ACTIONS:
            self.server.on_hint(action)
        self._say(HTTPStatus.NO_CONTENT)

    def _read_action(self) -> str:
        """Return what happened, once everything about the request is as it has to be."""
        if self.path.partition("?")[0] != PATH:
            raise _Refused(HTTPStatus.NOT_FOUND, f"nothing here but {PATH}")
        if self.command != "POST":
            raise _Refused(HTTPStatus.METHOD_NOT_ALLOWED, "only POST")
        given = self.headers.get(SECRET_HEADER, "")
        if not hmac.compare_digest(given.encode("utf-8", "surrogateescape"), self.server.secret):
            raise _Refused(HTTPStatus.FORBIDDEN, f"the header {SECRET_HEADER} is missing or wrong")
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,18}", length, re.ASCII) or "Transfer-Encoding" in self.headers:
            raise _Refused(HTTPStatus.LENGTH_REQUIRED, "no Content-Length")
        if int(length) > MAX_BODY_BYTES:
            raise _Refused(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"{length} bytes, at most {MAX_BODY_BYTES} are read")
        return _action_of(self.rfile.read(int(length)), int(length))

    def _say(self, status: HTTPStatus, text: str = "") -> None:
        body = text.encode()
        self.send_response(status)
        if status == HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "POST")
        if status != HTTPStatus.NO_CONTENT:
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _read_rest(self) -> None:
        end, rest = time.monotonic() + _REST_S, _REST_BYTES
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(_REST_S)
            while rest > 0 and time.monotonic() < end and (part := self.connection.recv(1 << 16)):
                rest -= len(part)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name of the overridden method
        logger.debug("webhook: %s", format % args)


def _shut(connection: socket.socket) -> None:
    with contextlib.suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _action_of(body: bytes, length: int) -> str:
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        said = None
    action = said.get("action") if isinstance(said, dict) else None
    if len(body) < length or not isinstance(action, str) or not _ACTION.fullmatch(action):
        raise _Refused(HTTPStatus.BAD_REQUEST, 'a JSON object with an "action" of Label Studio is expected')
    return action
