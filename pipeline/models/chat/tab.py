"""What a run with a budget has set aside and spent, kept for the case that it is killed."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import SetupError
from pipeline.models.chat.messages import Usage
from pipeline.storage import describe_os_error

logger = logging.getLogger(__name__)

UNFINISHED = "unfinished.jsonl"


@dataclass(frozen=True, slots=True)
class Reserve:
    """The most that a request can cost, in tokens; `media_tokens` is the size of its pictures and videos."""

    key: str
    prompt_tokens: int
    completion_tokens: int
    media_tokens: int


class Tab:
    """What a run has sent, on disk until it ends: the run that goes on after a kill goes on with the same budget.

    A line is `{"key", "most"}` before a request is sent, and `{"key", "paid"}` once it is known what it has cost.
    """

    def __init__(self, folder: Path, *, is_kept: bool) -> None:
        """Read what a killed run has left; where there is no budget, nothing `is_kept`.

        Raises:
            SetupError: it cannot be read.
        """
        self._path = folder / UNFINISHED
        self._is_kept = is_kept
        self.open: dict[str, Reserve] = {}
        """Requests by their key of which nobody knows whether they were answered."""
        self.requests = self.prompt_tokens = self.completion_tokens = 0
        try:
            lines = self._path.read_text(encoding="utf-8").splitlines() if is_kept and self._path.exists() else []
        except OSError as fault:
            raise SetupError(f"{self._path}: {describe_os_error(fault)}") from None
        for line in lines:
            self._read(line)
        if lines:
            logger.info("%s: a run was killed, and the budget goes on: %d requests", self._path, self.requests)

    def send(self, reserve: Reserve) -> None:
        """Note what a request can cost at most, before it is sent."""
        self._write({"key": reserve.key, "most": [reserve.prompt_tokens, reserve.completion_tokens]})

    def settle(self, key: str, usage: Usage | None) -> None:
        """Note what a request has cost: nothing where there is no usage."""
        self._write({"key": key, "paid": [usage.prompt_tokens, usage.completion_tokens] if usage else [0, 0]})

    def tear_up(self) -> None:
        """Forget everything."""
        self._path.unlink(missing_ok=True)

    def _read(self, line: str) -> None:
        try:
            entry = json.loads(line)
            key, (prompt, completion) = entry["key"], entry.get("most") or entry["paid"]
        except (ValueError, KeyError, TypeError):
            # torn by the kill: it stands before the request, which was not sent
            return
        if "most" in entry:
            self.requests += 1
            self.open[key] = Reserve(key, prompt, completion, 0)
        else:
            settled = self.open.pop(key, Reserve(key, 0, 0, 0))
            self.prompt_tokens -= settled.prompt_tokens
            self.completion_tokens -= settled.completion_tokens
        self.prompt_tokens += prompt
        self.completion_tokens += completion

    def _write(self, entry: Mapping[str, object]) -> None:
        if not self._is_kept:
            return
        try:
            with self._path.open("a", encoding="utf-8") as file:
                # a line that a kill has torn ends here
                file.write("\n" + json.dumps(entry))
        except OSError as fault:
            raise SetupError(f"{self._path}: {describe_os_error(fault)}") from None
