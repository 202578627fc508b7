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
from io import FileIO
from pathlib import Path

from pipeline.errors import RecordError, SetupError
from pipeline.models.answering import Answerer, VideoQuestion
from pipeline.records import digest
from pipeline.storage import describe_os_error

_SYNC_EVERY = 64
"""Answers that a loss of power may cost."""


def answer_questions(
    answerer: Answerer, questions: Sequence[VideoQuestion], path: Path
) -> Iterator[tuple[VideoQuestion, str | RecordError]]:
    """Yield an answer or a fault for every question, those already in the file at `path` first; write the new ones.

    A question that failed is asked again by the next run.

    Raises:
        SetupError: another process writes to the file, it holds other answers or cannot be written, or the model cannot
            answer; what was finished is kept.
    """
    identity = answerer.identity()
    made_by = {one.id: digest(identity, one.question, one.path.name, one.span_s)[:16] for one in questions}
    with _open_alone(path) as file:
        answers = _read_answers(file, path, made_by)
        yield from ((one, answers[one.id]) for one in questions if one.id in answers)
        todo = [one for one in questions if one.id not in answers]
        for number, (one, answer) in enumerate(answerer.answer(todo), start=1):
            if isinstance(answer, str):
                entry = {"id": one.id, "prediction": answer, "model": answerer.name, "made_by": made_by[one.id]}
                _append(file, path, entry, is_synced=number % _SYNC_EVERY == 0 or number == len(todo))
            yield one, answer


def _open_alone(path: Path) -> FileIO:
    """Open the file for one process at a time, unbuffered and at its end."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("ab", buffering=0)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise SetupError(f"{path}: in use by another process") from None
    except OSError as fault:
        raise SetupError(f"{path}: {describe_os_error(fault)}") from None
    return file


def _read_answers(file: FileIO, path: Path, made_by: Mapping[str, str]) -> dict[str, str]:
    """Return the answers by id, and take away half a line that a killed run left at its end."""
    content = path.read_bytes()
    file.truncate(content.rfind(b"\n") + 1)
    answers: dict[str, str] = {}
    for number, line in enumerate(content[: content.rfind(b"\n") + 1].splitlines(), start=1):
        try:
            entry = json.loads(line)
            name, answers[name], hashed = entry["id"], entry["prediction"], entry["made_by"]
        except (ValueError, KeyError, TypeError):
            raise SetupError(f"{path}:{number}: no answer of a model; name another folder") from None
        if made_by.get(name) != hashed:
            raise SetupError(
                f"{path}: the answer to {name!r} is of another model, setting or question; name another folder, or "
                "remove the file"
            )
    return answers


def _append(file: FileIO, path: Path, entry: Mapping[str, str], *, is_synced: bool) -> None:
    line = (json.dumps(entry, ensure_ascii=False) + "\n").encode("utf-8", "replace")
    try:
        written = os.write(file.fileno(), line)
        if written < len(line):
            file.truncate(file.tell() - written)
            raise SetupError(f"{path}: no space left; what was finished is kept, run again once there is room")
        if is_synced:
            os.fsync(file)
    except OSError as fault:
        raise SetupError(f"{path}: {describe_os_error(fault)}") from None
