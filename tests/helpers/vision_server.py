"""An OpenAI-compatible vision endpoint that looks at what it is sent and says the numbers of the frames it sees."""

from __future__ import annotations

import base64
import io
import json
import threading
from collections.abc import Callable
from typing import Any

import av
import numpy as np
from http_server import Call, Reply
from numpy.typing import NDArray
from PIL import Image

Picture = NDArray[np.uint8]


class VisionModel:
    """Handles calls for an `HttpServer`; `number_of` reads the number that a picture carries.

    `replies` to requests by their first frame are used up first, one a call.
    """

    def __init__(self, number_of: Callable[[Picture], int], replies: dict[int, list[Reply]] | None = None) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.sizes: list[tuple[int, int]] = []
        self._number_of = number_of
        self._replies = replies or {}
        self._lock = threading.Lock()

    def handle(self, call: Call) -> Reply:
        """Answer a call to /v1/chat/completions."""
        body = json.loads(call.body)
        numbers = self.numbers(body)
        with self._lock:
            self.bodies.append(body)
            planned = self._replies.get(numbers[0])
            if planned:
                return planned.pop(0)
        return completion(f"Frames {' '.join(map(str, numbers))} are seen.")

    def numbers(self, body: dict[str, Any]) -> list[int]:
        """Return the numbers of the frames in a request, as sent."""
        seen = []
        for part in body["messages"][-1]["content"]:
            if part["type"] == "image_url":
                with Image.open(io.BytesIO(content(part["image_url"]["url"], "image/jpeg"))) as image:
                    assert image.format == "JPEG"
                    pictures = [np.asarray(image.convert("RGB"))]
            elif part["type"] == "video_url":
                with av.open(io.BytesIO(content(part["video_url"]["url"], "video/mp4"))) as file:
                    pictures = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
            else:
                continue
            self.sizes += [(picture.shape[1], picture.shape[0]) for picture in pictures]
            seen += [self._number_of(picture) for picture in pictures]
        return seen


def content(url: str, mime: str) -> bytes:
    """Return what a data URL holds."""
    head, _, data = url.partition(",")
    assert head == f"data:{mime};base64"
    return base64.b64decode(data, validate=True)


def completion(text: str | None, *, finish_reason: str = "stop") -> Reply:
    """Return the reply that says `text`."""
    answer = {
        "id": "answer",
        "object": "chat.completion",
        "created": 0,
        "model": "eye",
        "choices": [
            {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", "content": text}},
        ],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010},
    }
    return Reply(body=json.dumps(answer).encode())
