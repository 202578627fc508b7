"""The answers of a model on disk: `predictions.jsonl`, a line each, written once and never again.

    {"id": "...", "prediction": "Yes, ...", "model": "lora", "made_by": "<hash>"}

`made_by` hashes the model, its settings and the question: a run that was killed goes on where it ended, and answers of
another model or to another question are never taken for these.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.errors import RecordError, SetupError
from pipeline.models.answering import Answerer, VideoQuestion
from pipeline.records import digest
from pipeline.storage import describe_os_error

_SYNC_EVERY = 64
"""Answers that a loss of power may cost."""


class PredictionFile:
    """Answers by the id of their question; open inside a `with` alone, by one process at a time.

    Attributes:
        answers: all that is in the file, by id.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, str] = {}
        self._made_by: dict[str, str] = {}
        self._file = -1
        self._end = 0

    def __enter__(self) -> Self:
        """Open the file, and take away half a line that a killed run left at its end.

        Raises:
            SetupError: another process writes to it, it cannot be read or written, or a line is no answer of a model.
        """
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            try:
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                self._scan()
            except BlockingIOError:
                os.close(self._file)
                raise SetupError(f"{self.path}: in use by another process") from None
            except BaseException:
                os.close(self._file)
                raise
        except OSError as fault:
            raise SetupError(f"{self.path}: {describe_os_error(fault)}") from None
        return self

    def __exit__(
        self, kind: type[BaseException] | None, fault: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.fsync(self._file)
        os.close(self._file)
        self._file = -1

    def check(self, made_by: Mapping[str, str]) -> None:
        """Find out whether every answer in the file is one to these questions.

        Raises:
            SetupError: an answer is of another model, another setting or to another question.
        """
        for name, hashed in self._made_by.items():
            if made_by.get(name) != hashed:
                raise SetupError(
                    f"{self.path}: the answer to {name!r} is of another model, setting or question; name another "
                    "folder, or remove the file"
                )

    def append(self, name: str, answer: str, model: str, made_by: str) -> None:
        """Write an answer down.

        Raises:
            SetupError: the disk is full or cannot be written; what was finished is kept.
        """
        entry = {"id": name, "prediction": answer, "model": model, "made_by": made_by}
        line = (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "replace")
        try:
            written = os.write(self._file, line)
            if written < len(line):
                os.ftruncate(self._file, self._end)
                raise SetupError(f"{self.path}: no space left; what was finished is kept, run again once there is room")
            self._end += written
            self.answers[name], self._made_by[name] = answer, made_by
            if len(self.answers) % _SYNC_EVERY == 0:
                os.fsync(self._file)
        except OSError as fault:
            raise SetupError(f"{self.path}: {describe_os_error(fault)}") from None

    def _scan(self) -> None:
        content = self.path.read_bytes()
        self._end = content.rfind(b"\n") + 1
        os.ftruncate(self._file, self._end)
        for number, line in enumerate(content[: self._end].splitlines(), start=1):
            try:
                entry = json.loads(line)
                self.answers[entry["id"]] = entry["prediction"]
                self._made_by[entry["id"]] = entry["made_by"]
            except (ValueError, KeyError, TypeError):
                raise SetupError(f"{self.path}:{number}: no answer of a model; name another folder") from None


def answer_questions(
    answerer: Answerer, questions: Sequence[VideoQuestion], path: Path
) -> Iterator[tuple[VideoQuestion, str | RecordError]]:
    """Yield an answer or a fault for every question, those already in the file at `path` first; write the new ones.

    A question that failed is asked again by the next run.

    Raises:
        SetupError: the file holds other answers or cannot be written, or the model cannot answer.
    """
    identity = answerer.identity()
    made_by = {one.id: digest(identity, one.question, one.path.name, one.span_s)[:16] for one in questions}
    with PredictionFile(path) as file:
        file.check(made_by)
        todo = [one for one in questions if one.id not in file.answers]
        yield from ((one, file.answers[one.id]) for one in questions if one.id in file.answers)
        for one, answer in answerer.answer(todo):
            if isinstance(answer, str):
                file.append(one.id, answer, answerer.name, made_by[one.id])
            yield one, answer
