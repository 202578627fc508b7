"""An OpenAI-compatible chat server that knows the answers, injects faults by a seed, and keeps books.

Run as a script it is the server of the benchmarks: `python chat_server.py --latency-s 0.2`, which prints its URL.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import Any

from http_server import Call, HttpServer, Reply

WIRE = ("429", "429_ms", "500", "500_billed", "reset", "cut", "hang", "html", "no_choices")
"""Faults after which the same request may succeed."""

CONTENT = ("truncated", "prose", "wrong_schema", "empty", "refusal", "huge", "twice", "half_surrogate", "wrong_verdict")
"""Answers that are billed, and that a client has to make something of."""

COPIES = ("twice", "twice_late")
"""Copies of a response on a connection that stays open: a client that takes them for the next one mixes up answers."""


@dataclass
class Books:
    """What the server knows it did. Every figure is by the hash of the request's body."""

    lock: threading.Lock = field(default_factory=threading.Lock)
    calls: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def bill(self, usage: dict[str, int]) -> None:
        with self.lock:
            self.prompt_tokens += usage["prompt_tokens"]
            self.completion_tokens += usage["completion_tokens"]


class ChatModel:
    """Says what a good model would; a fault is drawn for each attempt from the seed, the request and its number.

    `share` of all attempts fail in one of `kinds`; a request meets at most `most_faults` faults on the wire.
    """

    def __init__(
        self,
        *,
        share: float = 0.0,
        kinds: tuple[str, ...] = WIRE + CONTENT,
        seed: int = 0,
        latency_s: float = 0.0,
        most_faults: int = 3,
        billed: bool = True,
    ) -> None:
        self.books = Books()
        self._share = share
        self._kinds = kinds
        self._seed = seed
        self._latency_s = latency_s
        self._most_faults = most_faults
        self._billed = billed

    def handle(self, call: Call) -> Reply:
        """Answer a call to /v1/chat/completions."""
        if call.path != "/v1/chat/completions":
            return error(404, "no such path")
        name = hashlib.sha256(call.body).hexdigest()[:16]
        with self.books.lock:
            self.books.calls[name] += 1
            attempt = self.books.calls[name]
        fault = self._draw(name, attempt)
        with self.books.lock:
            self.books.faults[fault] += 1
        return self._reply(json.loads(call.body), name, fault)

    def _draw(self, name: str, attempt: int) -> str:
        chance = random.Random(f"{self._seed}:{name}:{attempt}")
        if chance.random() >= self._share:
            return "none"
        kind = chance.choice(self._kinds)
        return "none" if kind in WIRE and attempt > self._most_faults else kind

    def _reply(self, body: dict[str, Any], name: str, fault: str) -> Reply:
        if fault in ("reset", "hang"):
            return Reply(wire=fault)
        if fault == "429":
            date = {"Date": formatdate(usegmt=True), "Retry-After": formatdate(usegmt=True)}
            return error(429, "slow down", date if name < "8" else {"Retry-After": "0.02"})
        if fault == "429_ms":
            return error(429, "slow down", {"retry-after-ms": "20", "Retry-After": "99"})
        if fault == "500":
            return error(500, "out of memory")
        if fault == "html":
            return Reply(body=b"<html>a router's login page</html>", delay_s=self._latency_s)
        completion = complete(body, name, fault)
        if not self._billed:
            del completion["usage"]
        if fault == "no_choices":
            completion["choices"] = []
        status = 500 if fault == "500_billed" else 200
        reply = Reply(body=json.dumps(completion).encode(), status=status, delay_s=self._latency_s)
        if fault in ("cut", *COPIES):
            reply.wire = fault

        def sent() -> None:
            if self._billed:
                self.books.bill(completion["usage"])
            if status == 200 and fault != "no_choices":
                with self.books.lock:
                    self.books.answered[name] += 1

        reply.sent = sent
        return reply


def complete(body: dict[str, Any], name: str, fault: str = "none") -> dict[str, Any]:
    """Return the chat completion of a request."""
    text: str | None = write(body, name, fault)
    message: dict[str, Any] = {"role": "assistant", "content": text}
    if fault == "refusal":
        message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
    return {
        "id": name,
        "object": "chat.completion",
        "created": 0,
        "model": body["model"],
        "choices": [
            {"index": 0, "finish_reason": "length" if fault == "truncated" else "stop", "message": message},
        ],
        "usage": {
            "prompt_tokens": sum(len(str(m["content"])) for m in body["messages"]) // 4,
            "completion_tokens": len(text or "") // 4 + 1,
        },
    }


def write(body: dict[str, Any], name: str, fault: str) -> str:
    """Return the JSON object that is asked for, spoilt by `fault`; what a caption calls calm is normal."""
    judgement = "normal" if " calm " in str(body["messages"]) else "abnormal"
    if fault == "wrong_verdict":
        judgement = "abnormal" if judgement == "normal" else "normal"
    scene = " ".join(name[i : i + 4] for i in range(0, 16, 4))
    said = {
        "judgement": judgement,
        "description": f"The video shows two people meeting at place {scene} in the street.",
        "analysis": f"This is {judgement} because of what happens at place {scene}.",
        "caption": f"Two people meet at place {scene}.",
    }
    wanted = body.get("response_format", {}).get("json_schema", {}).get("schema", {}).get("properties", said)
    reply = {field: said[field] for field in wanted}
    if fault == "wrong_schema":
        reply = {"answer": "yes"}
    text = json.dumps(reply)
    spoilt = {
        "truncated": text[: len(text) // 2],
        "prose": "Sure, here is what I think about it.",
        "empty": "",
        "refusal": "",
        "huge": "so " * 40_000,
        "half_surrogate": text.replace("street", "str\\ud83det"),
    }
    return spoilt.get(fault, text)


def error(status: int, message: str, headers: dict[str, str] | None = None) -> Reply:
    """Return an error as OpenAI words it."""
    return Reply(status=status, headers=headers or {}, body=json.dumps({"error": {"message": message}}).encode())


async def _serve(model: ChatModel, port: int) -> None:
    http = HttpServer(model.handle, port)
    server = await http.start()
    print(http.url, flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--latency-s", type=float, default=0.2)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()
    asyncio.run(_serve(ChatModel(latency_s=arguments.latency_s), arguments.port))
