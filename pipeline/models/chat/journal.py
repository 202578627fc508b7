"""The journal: every response of an endpoint, on disk before anything reads it.

A line is one response: `{"key", "model", "at", "usage", "status", "body"}` with the body as it came. A killed process
loses none of them; a machine that loses power loses at most what came since the last `sync`. A line that was torn is
no JSON and counts as not there. In memory stand only keys and offsets, some 150 bytes an answer.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from pipeline.errors import SetupError
from pipeline.models.chat.messages import Completion, Usage, read_completion
from pipeline.storage import describe_os_error

logger = logging.getLogger(__name__)

ANSWERS = "answers.jsonl"


def read_usage(folder: Path) -> dict[str, tuple[int, Usage]]:
    """Return how many responses of each model a journal holds that told their tokens, and these tokens.

    Another process may be writing to it: nothing is locked, and a torn line does not count.
    """
    found: dict[str, tuple[int, Usage]] = {}
    path = folder / ANSWERS
    if not path.is_file():
        return found
    with path.open("rb") as file:
        for line in file:
            try:
                entry = json.loads(line)
                model, (prompt, completion) = entry["model"], entry["usage"]
            except (ValueError, KeyError, TypeError):
                continue
            count, usage = found.get(model, (0, Usage(prompt_tokens=0, completion_tokens=0)))
            found[model] = (
                count + 1,
                Usage(
                    prompt_tokens=usage.prompt_tokens + prompt, completion_tokens=usage.completion_tokens + completion
                ),
            )
    return found


class Journal:
    """The responses of a stage's endpoint by the key of the request; the file is open inside a `with` alone."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / ANSWERS
        self.paid: dict[str, Usage] = {}
        """Tokens of all lines, by model: what the workspace has cost in every run so far."""
        self._offsets: dict[bytes, int] = {}
        self._file = -1
        self._end = 0
        self._is_dirty = False

    def __enter__(self) -> Self:
        """Open the file and find what it holds.

        Raises:
            SetupError: another process writes to it, or it cannot be read or written.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(self._file)
                raise SetupError(f"{self.path}: in use by another process") from None
            self._scan()
        except OSError as fault:
            raise SetupError(f"{self.path}: {describe_os_error(fault)}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.sync()
        os.close(self._file)
        self._file = -1

    def __len__(self) -> int:
        return len(self._offsets)

    def find(self, key: str) -> str | None:
        """Return the body of the latest response to a request, None where there was none."""
        offset = self._offsets.get(bytes.fromhex(key))
        if offset is None:
            return None
        with self.path.open("rb") as file:
            file.seek(offset)
            entry = json.loads(file.readline())
        return str(entry["body"])

    def recall(self, key: str) -> Completion | None:
        """Return the latest answer to a request, None where there was none or it was no completion."""
        body = self.find(key)
        try:
            return None if body is None else read_completion(key, body)
        except ValueError:
            return None

    def append(self, key: str, model: str, body: str, usage: Usage | None, status: int = 200) -> None:
        """Write a response down; those that are no success are kept for their usage and never found again.

        Raises:
            SetupError: the disk is full or cannot be written.
        """
        tokens = None if usage is None else [usage.prompt_tokens, usage.completion_tokens]
        at = datetime.now(UTC).isoformat(timespec="milliseconds")
        entry = {"key": key, "model": model, "at": at, "status": status, "usage": tokens, "body": body}
        line = json.dumps(entry).encode() + b"\n"
        try:
            written = os.write(self._file, line)
            if written < len(line):
                # the disk is full: what follows must not grow onto half a line
                os.ftruncate(self._file, self._end)
                raise SetupError(f"{self.path}: no space left; what was finished is kept, run again once there is room")
        except OSError as fault:
            raise SetupError(f"{self.path}: {describe_os_error(fault)}") from None
        self._note(entry, self._end)
        self._end += written
        self._is_dirty = True

    def sync(self) -> None:
        """Make what was written so far outlast a loss of power.

        Raises:
            SetupError: the disk cannot be written.
        """
        if self._is_dirty:
            self._is_dirty = False
            try:
                os.fsync(self._file)
            except OSError as fault:
                raise SetupError(f"{self.path}: {describe_os_error(fault)}") from None

    def _scan(self) -> None:
        self._offsets.clear()
        self.paid.clear()
        offset = torn = 0
        line = b"\n"
        with self.path.open("rb") as file:
            for line in file:
                try:
                    self._note(json.loads(line), offset)
                except (ValueError, KeyError, TypeError):
                    torn += 1
                offset += len(line)
        if not line.endswith(b"\n"):
            # closes the torn line, so that the next one stands on its own
            offset += os.write(self._file, b"\n")
        if torn:
            logger.warning("%s: %d torn lines are left aside", self.path, torn)
        self._end = offset

    def _note(self, entry: dict[str, Any], offset: int) -> None:
        if entry["status"] == 200:
            self._offsets[bytes.fromhex(entry["key"])] = offset
        if entry["usage"] is not None:
            prompt, completion = entry["usage"]
            paid = self.paid.get(entry["model"], Usage(prompt_tokens=0, completion_tokens=0))
            self.paid[entry["model"]] = Usage(
                prompt_tokens=paid.prompt_tokens + prompt, completion_tokens=paid.completion_tokens + completion
            )
