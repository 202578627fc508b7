"""A small HTTP/1.1 server on raw asyncio that can misbehave on the wire, cheap enough to stand beside a benchmark."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Self


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass(slots=True, kw_only=True)
class Reply:
    """What to do with a call: answer it `delay_s` later.

    `wire` is "whole", "reset", "cut" (half of the answer), "hang", "twice" or "twice_late" (a copy comes 10 ms later).
    """

    body: bytes = b""
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay_s: float = 0.0
    wire: str = "whole"
    sent: Callable[[], None] | None = None
    """Called once the whole answer was handed to the connection."""

    def raw(self) -> bytes:
        head = [f"HTTP/1.1 {self.status} X", f"Content-Length: {len(self.body)}", "Content-Type: application/json"]
        head += [f"{name}: {value}" for name, value in self.headers.items()]
        return "\r\n".join(head).encode() + b"\r\n\r\n" + self.body


class _Connection(asyncio.Protocol):
    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._data = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._data += data
        while (end := self._data.find(b"\r\n\r\n")) >= 0:
            first, *lines = self._data[:end].decode("latin-1").split("\r\n")
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            size = end + 4 + int(headers.get("content-length", 0))
            if len(self._data) < size:
                return
            method, path, _ = first.split(" ", 2)
            call = Call(method=method, path=path, headers=headers, body=bytes(self._data[end + 4 : size]))
            del self._data[:size]
            reply = self._server.handle(call)
            if reply.delay_s:
                asyncio.get_running_loop().call_later(reply.delay_s, self._send, reply)
            else:
                self._send(reply)

    def _send(self, reply: Reply) -> None:
        if self._transport.is_closing() or reply.wire == "hang":
            return
        if reply.wire == "reset":
            self._transport.abort()
            return
        raw = reply.raw()
        if reply.wire == "cut":
            self._transport.write(raw[: len(raw) // 2])
            self._transport.close()
            return
        self._transport.write(raw + raw if reply.wire == "twice" else raw)
        if reply.sent is not None:
            reply.sent()
        if reply.wire == "twice_late":
            asyncio.get_running_loop().call_later(0.01, self._again, raw)

    def _again(self, raw: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(raw)


class HttpServer:
    """Serves `handle` on the loopback from a thread of its own, inside a `with`."""

    def __init__(self, handle: Callable[[Call], Reply], port: int = 0) -> None:
        self.handle = handle
        self.port = port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    async def start(self) -> asyncio.Server:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port, backlog=1024)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def __enter__(self) -> Self:
        ready = threading.Event()

        async def serve() -> None:
            self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
            server = await self.start()
            ready.set()
            await self._stop.wait()
            server.close()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), name="server")
        self._thread.start()
        ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
