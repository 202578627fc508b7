"""The page reads and serves its own files alone; by itself Gradio fetches any public address for any visitor."""

from __future__ import annotations

import json
import re

from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from flows.page.intake import MIB

CALL_MAX_BYTES = MIB
"""Largest call of a function of the page; uploads are no calls, and have a limit of their own."""

_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_FETCH = re.compile(r"/(file[=/]|proxy=)\s*[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_UPLOAD = re.compile(r"/upload/?$")


class OwnFilesOnly:
    """ASGI middleware that refuses whatever names a file by an address elsewhere."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403 where it wants a file from elsewhere, 413 where it is too large."""
        answer: ASGIApp = self._app
        if scope["type"] == "http" and _FETCH.search(scope["path"]):
            answer = PlainTextResponse("only files of this page are served", 403)
        elif scope["type"] == "http" and scope["method"] == "POST" and not _UPLOAD.search(scope["path"]):
            body = await _read(receive)
            if body is None:
                answer = PlainTextResponse(f"a call may have {CALL_MAX_BYTES} bytes at most", 413)
            elif _names_address(body):
                answer = PlainTextResponse("only files that were uploaded here are taken", 403)
            else:
                receive = _replayed(body, receive)
        await answer(scope, receive, send)


async def _read(receive: Receive) -> bytes | None:
    """Return the body of a request, None where it is too large."""
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if len(body) > CALL_MAX_BYTES:
            return None
        if not message.get("more_body"):
            return bytes(body)


def _replayed(body: bytes, receive: Receive) -> Receive:
    pending: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def replay() -> Message:
        # After the body comes what the server says of the connection, e.g. that it is gone.
        return pending.pop() if pending else await receive()

    return replay


def _names_address(body: bytes) -> bool:
    try:
        waiting = [json.loads(body)]
    except (ValueError, RecursionError):
        return False
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            path = value.get("path")
            if isinstance(path, str) and _ADDRESS.match(path):
                return True
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return False
