"""Which batches were submitted: an append-only file, so that a killed run finds them again and submits none twice."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.errors import SetupError
from pipeline.storage import describe_os_error

BATCHES = "batches.jsonl"


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchNote:
    """What is known of a batch. `name` stands in its metadata at the endpoint; `batch_id` is None until it told one."""

    name: str
    requests: int
    batch_id: str | None = None
    is_settled: bool = False


class BatchState:
    """The notes of a stage's batches; each change is on disk before the step that it announces."""

    def __init__(self, folder: Path) -> None:
        """Read the notes.

        Raises:
            SetupError: the file cannot be read.
        """
        self._path = folder / BATCHES
        self._notes: dict[str, BatchNote] = {}
        try:
            text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        except OSError as fault:
            raise SetupError(f"{self._path}: {describe_os_error(fault)}") from None
        for line in text.splitlines():
            try:
                note = BatchNote(**json.loads(line))
            except (ValueError, TypeError):
                # torn by the kill that this file is there for: the step that it announced was not taken
                continue
            self._notes[note.name] = note
        self._is_torn = bool(text) and not text.endswith("\n")

    def open(self) -> list[BatchNote]:
        """Return the batches that may have been submitted and whose answers are not in the journal yet."""
        return [note for note in self._notes.values() if not note.is_settled]

    def next_name(self, token: str) -> str:
        """Return a name for a batch that none has had."""
        return f"{token}-{len(self._notes)}"

    def note(self, note: BatchNote, **changes: Any) -> BatchNote:
        """Write down a note with `changes` and return it.

        Raises:
            SetupError: the disk is full or cannot be written.
        """
        note = replace(note, **changes)
        line = ("\n" if self._is_torn else "") + json.dumps(asdict(note)) + "\n"
        try:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(line)
                file.flush()
                os.fsync(file.fileno())
        except OSError as fault:
            raise SetupError(f"{self._path}: {describe_os_error(fault)}") from None
        self._is_torn = False
        self._notes[note.name] = note
        return note
