"""The page reads and serves its own files alone; by itself Gradio fetches any public address for any visitor."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from flows.page.intake import MIB

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

CALL_MAX_BYTES = MIB
"""Largest call of a function of the page; uploads are no calls, and have a limit of their own."""

_ADDRESS = re.compile(r"\s*[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_FETCH = re.compile(r"/(file[=/]|proxy=)\s*[a-z][a-z0-9+.-]*:/", re.IGNORECASE)
_UPLOAD = re.compile(r"/upload/?$")


class OwnFilesOnly:
    """ASGI middleware that refuses whatever names a file by an address elsewhere."""

    def __init__(self, app: App) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, or answer 403 where it wants a file from elsewhere, 413 where it is too large."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _FETCH.search(scope["path"]):
            await _refuse(send, 403, "only files of this page are served")
            return
        if scope["method"] != "POST" or _UPLOAD.search(scope["path"]):
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        if body is None:
            await _refuse(send, 413, f"a call may have {CALL_MAX_BYTES} bytes at most")
        elif _names_address(body):
            await _refuse(send, 403, "only files that were uploaded here are taken")
        else:
            await self._app(scope, _replayed(body, receive), send)


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
    pending = [{"type": "http.request", "body": body, "more_body": False}]

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


async def _refuse(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})
