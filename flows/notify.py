"""Spans of a stream posted to a webhook with clip and picture, in threads of their own: receivers never hold it up.

A call is a form: `event`, the JSON of the span, and where they could be cut `clip`, an MP4, and `thumbnail`, a JPEG.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import os
import queue
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pipeline.errors import RecordError, SetupError
from pipeline.video.live import without_password

if TYPE_CHECKING:
    import httpx2

    from pipeline.infer.detection import DetectedSpan
    from pipeline.video.recorder import Recording, StreamRecorder

logger = logging.getLogger(__name__)

SECRET = "HOLMES_NOTIFY_SECRET"  # noqa: S105 - the name of a variable
TRIES, FIRST_WAIT_S, TIMEOUT_S = 6, 1.0, 10.0
WAITING_MAX = 1000
"""Spans that may wait for a receiver that is away; later ones are dropped, and the log says so."""

UNCUT_MAX = 8
"""Spans whose clips may wait to be cut, their part of the stream in memory; later ones are posted without."""

Tell = Callable[[str, "DetectedSpan", "StreamRecorder | None"], None]


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """Return the value of X-Holmes-Signature: HMAC-SHA256 of `timestamp.body`, so that no old call can be replayed."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


@contextmanager
def notifying(url: str | None) -> Iterator[Tell | None]:
    """Yield a function that posts a span of a stream to `url`, None without one; at the end what waits is posted.

    With a recorder of the stream, the span's clip and a picture of its middle go with it.

    Raises:
        SetupError: the address is none of http or https.
    """
    if url is None:
        yield None
        return
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise SetupError(f"--notify {url}: an address of http or https is expected")
    with tempfile.TemporaryDirectory(prefix="holmes-notify-", ignore_cleanup_errors=True) as folder:
        notifier = _Notifier(url, Path(folder))
        try:
            yield notifier.tell
        finally:
            notifier.finish()


@dataclass(slots=True, kw_only=True)
class _Event:
    """A span on its way: its JSON, what its clip is cut from, and the file of the clip."""

    content: dict[str, Any]
    recording: Recording | None = None
    clip: Path | None = None


class _Notifier:
    """Cuts clips in one thread and posts from another: while a receiver is away, clips lie on disk, not in memory."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = folder
        self._uncut: queue.Queue[_Event | None] = queue.Queue()
        self._waiting: queue.Queue[_Event | None] = queue.Queue(WAITING_MAX)
        self._threads = [
            threading.Thread(target=work, name=f"notify-{work.__name__}", daemon=True)
            for work in (self._cut_all, self._send_all)
        ]
        for thread in self._threads:
            thread.start()

    def tell(self, stream: str, span: DetectedSpan, recorder: StreamRecorder | None = None) -> None:
        """Have a span posted."""
        # Streams may carry a password, which is nobody's business.
        source = without_password(stream)
        event = _Event(content={"id": uuid.uuid4().hex, "stream": source, "span": span.as_json(), "clip": None})
        if recorder is not None and self._uncut.qsize() < UNCUT_MAX:
            event.recording = recorder.cut(span.start_s, span.end_s)
        elif recorder is not None:
            logger.warning("%s: %d clips wait to be cut, %s is posted without", self._url, UNCUT_MAX, span)
        self._uncut.put(event)

    def finish(self) -> None:
        """Post what waits."""
        self._uncut.put(None)
        for thread in self._threads:
            thread.join()

    def _cut_all(self) -> None:
        while (event := self._uncut.get()) is not None:
            try:
                self._cut(event)
            except Exception:
                logger.exception("%s: a clip could not be cut", self._url)
            event.recording = None
            try:
                self._waiting.put_nowait(event)
            except queue.Full:
                logger.error("%s: %d spans wait already, one is not posted: %s", self._url, WAITING_MAX, event.content)
                _forget(event)
        self._waiting.put(None)

    def _cut(self, event: _Event) -> None:
        from pipeline.video.still import middle_still

        if event.recording is None:
            return
        path = self._folder / f"{event.content['id']}.mp4"
        try:
            start_s, end_s = event.recording.write(path)
            path.with_suffix(".jpg").write_bytes(middle_still(path))
        except RecordError as fault:
            logger.warning("%s: no clip: %s", self._url, fault)
            return
        event.clip = path
        event.content["clip"] = {"start_s": round(start_s, 3), "end_s": round(end_s, 3)}

    def _send_all(self) -> None:
        import httpx2

        with httpx2.Client(timeout=TIMEOUT_S) as client:
            while (event := self._waiting.get()) is not None:
                try:
                    _send(client, self._url, event)
                except Exception:
                    logger.exception("%s: a span could not be posted: %s", self._url, event.content)
                _forget(event)


def _forget(event: _Event) -> None:
    if event.clip is not None:
        event.clip.unlink(missing_ok=True)
        event.clip.with_suffix(".jpg").unlink(missing_ok=True)


def _send(client: httpx2.Client, url: str, event: _Event) -> None:
    """Post an event until it is taken, waiting twice as long each time; a refusal (4xx) is final."""
    import httpx2

    said = json.dumps(event.content, ensure_ascii=False)
    parts: dict[str, tuple[str | None, bytes, str]] = {"event": (None, said.encode(), "application/json")}
    if event.clip is not None:
        still = event.clip.with_suffix(".jpg")
        parts["clip"] = (event.clip.name, event.clip.read_bytes(), "video/mp4")
        parts["thumbnail"] = (still.name, still.read_bytes(), "image/jpeg")
    form = httpx2.Request("POST", url, files=parts)
    body = form.read()
    fault = ""
    for attempt in range(TRIES):
        if attempt:
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1))
        timestamp = str(int(time.time()))
        headers = {"Content-Type": form.headers["Content-Type"], "X-Holmes-Timestamp": timestamp}
        if secret := os.environ.get(SECRET):
            headers["X-Holmes-Signature"] = sign(secret, timestamp, body)
        try:
            answer = client.post(url, content=body, headers=headers)
        except httpx2.HTTPError as error:
            fault = str(error) or type(error).__name__
            continue
        if answer.is_success:
            return
        fault = f"it answers {answer.status_code}"
        if 400 <= answer.status_code < 500 and answer.status_code not in (408, 425, 429):
            break
    logger.error("%s: a span could not be posted (%s): %s", url, fault, said)
