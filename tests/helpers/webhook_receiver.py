"""A receiver of `--notify` on this machine: it keeps what came, and reads forms with the standard library alone."""

from __future__ import annotations

import email.parser
import email.policy
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any


class Receiver:
    """Attributes: url, where to post; calls, headers and body of each; answers, the statuses of the next ones."""

    url: str

    def __init__(self) -> None:
        self.calls: list[tuple[dict[str, str], bytes]] = []
        self.answers: list[int] = []


@contextmanager
def receiving() -> Iterator[Receiver]:
    found = Receiver()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.calls.append((dict(self.headers), body))
            self.send_response(found.answers.pop(0) if found.answers else 204)
            self.end_headers()

        def log_message(self, *_: Any) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    found.url = f"http://127.0.0.1:{server.server_port}/hook"
    yield found
    server.shutdown()


def parts_of(headers: dict[str, str], body: bytes) -> dict[str, tuple[str, bytes]]:
    """Return type and content of each part of a form by name."""
    head = f"Content-Type: {headers['Content-Type']}\r\n\r\n".encode()
    form: Any = email.parser.BytesParser(policy=email.policy.HTTP).parsebytes(head + body)
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
