"""Spans of a stream posted to a webhook, in a thread of their own: a slow receiver never holds up the stream."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import queue
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from pipeline.errors import SetupError

if TYPE_CHECKING:
    import httpx2

    from pipeline.infer.detection import DetectedSpan

logger = logging.getLogger(__name__)

SECRET = "HOLMES_NOTIFY_SECRET"  # noqa: S105 - the name of a variable
TRIES, FIRST_WAIT_S, TIMEOUT_S = 6, 1.0, 10.0
WAITING_MAX = 1000
"""Spans that may wait for a receiver that is away; later ones are dropped, and the log says so."""

Tell = Callable[[str, "DetectedSpan"], None]


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of X-Holmes-Signature: HMAC-SHA256 of `timestamp.body`, so that no old call can be replayed."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


@contextmanager
def notifying(url: str | None) -> Iterator[Tell | None]:
    """Yield a function that posts a span of a stream to `url`, None without one; at the end what waits is posted.

    Raises:
        SetupError: the address is none of http or https.
    """
    if url is None:
        yield None
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SetupError(f"--notify {url}: an address of http or https is expected")
    waiting: queue.Queue[bytes | None] = queue.Queue(WAITING_MAX)

    def tell(stream: str, span: DetectedSpan) -> None:
        # Streams may carry a password, which is nobody's business.
        source = urlsplit(stream)
        named = source._replace(netloc=source.netloc.rpartition("@")[2]).geturl()
        content = {"id": uuid.uuid4().hex, "stream": named, "span": span.as_json()}
        try:
            waiting.put_nowait(json.dumps(content, ensure_ascii=False).encode())
        except queue.Full:
            logger.error("%s: %d spans wait already, %s is not posted", url, WAITING_MAX, span)

    sender = threading.Thread(target=_send_all, args=(url, waiting), name="notify", daemon=True)
    sender.start()
    try:
        yield tell
    finally:
        waiting.put(None)
        sender.join()


def _send_all(url: str, waiting: queue.Queue[bytes | None]) -> None:
    import httpx2

    with httpx2.Client(timeout=TIMEOUT_S) as client:
        while (body := waiting.get()) is not None:
            _send(client, url, body)


def _send(client: httpx2.Client, url: str, body: bytes) -> None:
    """Post a body until it is taken, waiting twice as long each time; a refusal (4xx) is final."""
    import httpx2

    fault = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
        timestamp = str(int(time.time()))
        headers = {"Content-Type": "application/json", "X-Holmes-Timestamp": timestamp}
        if secret := os.environ.get(SECRET):
            headers["X-Holmes-Signature"] = sign(secret, timestamp, body)
        try:
            answer = client.post(url, content=body, headers=headers)
        except httpx2.HTTPError as error:
            fault = str(error)
            continue
        if answer.is_success:
            return
        fault = f"it answers {answer.status_code}"
        if 400 <= answer.status_code < 500 and answer.status_code not in (408, 425, 429):
            break
    logger.error("%s: a span could not be posted (%s): %s", url, fault, body.decode())
