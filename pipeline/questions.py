"""The questions: one pool of differently worded ones per task, in `datasets/questions/<task>.yaml`."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, field_validator

from pipeline.errors import SetupError
from pipeline.records import Task, digest
from pipeline.resources import DATASETS

QUESTIONS = DATASETS / "questions"
LEVEL_QUESTIONS = DATASETS / "level_questions"
"""The pools for events and whole videos."""

LEVEL_TASKS = frozenset({Task.JUDGE_EXPLAIN, Task.DESCRIPTION, Task.ANALYSIS})
"""What is asked of events and whole videos: what is seen in passing is asked of clips alone."""

_Question = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Pool(BaseModel):
    model_config = ConfigDict(extra="forbid")

    task: Task
    questions: tuple[_Question, ...] = Field(min_length=1)

    @field_validator("questions")
    @classmethod
    def _differ(cls, questions: tuple[str, ...]) -> tuple[str, ...]:
        if len({question.casefold() for question in questions}) < len(questions):
            raise ValueError("a question stands there twice")
        return questions


@functools.cache
def load_questions(task: Task, folder: Path = QUESTIONS) -> tuple[str, ...]:
    """Return the pool of a task, in the order of its file.

    Raises:
        SetupError: the file is absent, malformed, of another task, or repeats a question.
    """
    path = folder / f"{task}.yaml"
    try:
        pool = _Pool.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
        raise SetupError(f"{path}: not a pool of questions: {fault}") from None
    if pool.task is not task:
        raise SetupError(f"{path}: the pool is of task {pool.task}, not of {task}")
    return pool.questions


def choose_question(task: Task, key: str, seed: int, folder: Path = QUESTIONS) -> str:
    """Draw one question uniformly by the hash of `key`, so that neither order nor number of the clips matters."""
    pool = load_questions(task, folder)
    return pool[int(digest("question", task, key, seed), 16) % len(pool)]


def questions_hash(tasks: Iterable[Task], folder: Path = QUESTIONS) -> str:
    """Hash the pools of `tasks`, in any order: a changed pool changes what is synthesized."""
    return digest("questions", {task: load_questions(task, folder) for task in tasks})
