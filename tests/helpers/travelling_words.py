"""A stage that travels: words become louder; some of them end the worker that has them."""

from __future__ import annotations

import errno
import logging
import os
import signal
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from fake_ray import Died

from pipeline.errors import RecordError, SetupError
from pipeline.needs import Needs
from pipeline.records import Caption, Reason, digest
from pipeline.stages.base import Outcome, TableOnly, Travelling, Unit
from pipeline.workspace import Workspace

logger = logging.getLogger("pipeline.words")


class Words(Travelling[str, Caption], TableOnly):
    """Upper-cases words. `die*` and `kill` end the worker, `lost` its machine `losses` times, `stop` the stage.

    `full` finds no room on the disk.
    """

    name = "caption"
    record_type = Caption
    losses = 0

    def __init__(self, words: Sequence[str], needs: Needs | None, file: str = "") -> None:
        self._words = words
        self._needs = needs
        self._file = file
        self.briefs = 0

    def identity(self) -> Mapping[str, object]:
        return {"words": 1}

    def needs(self) -> Needs | None:
        return self._needs

    def brief(self) -> str:
        self.briefs += 1
        return "!"

    def reads(self, payload: str) -> str:
        return self._file

    def units(self) -> Iterator[Unit[str]]:
        for word in self._words:
            yield Unit(key=digest(word), record_id=word, payload=word)

    def work(self, units: Iterable[Unit[str]], brief: str) -> Iterator[Outcome[Caption]]:
        for unit in units:
            word = unit.payload
            if word.startswith("die"):
                raise Died("worker process has died")
            if word == "kill":
                os.kill(os.getpid(), signal.SIGKILL)
            if word.startswith("nap"):
                time.sleep(0.2)
            if word == "sleep":
                time.sleep(600)
            if word == "lost" and Words.losses:
                Words.losses -= 1
                raise Died("The actor died because its node has died. Node Id: 1")
            if word == "full":
                raise OSError(errno.ENOSPC, "No space left on device", "/scratch/clip.mp4")
            if word == "stop":
                raise SetupError("no more")
            if word.isdigit():
                yield Outcome(rejected=[(word, RecordError(Reason.EMPTY_TEXT, f"{word} is no word"))])
                continue
            logger.warning("heard %s", word)
            row = Caption(clip_id=word, text=word.upper() + brief, captioner="words", prompt_hash=None)
            yield Outcome(rows=[row])

    def settle(self, outcomes: Iterable[Outcome[Caption]]) -> Iterator[Outcome[Caption]]:
        seen: set[str] = set()
        for outcome in outcomes:
            texts = [row.text.replace("_", "") for row in outcome.rows]
            if seen.intersection(texts):
                yield Outcome(rejected=[(row.clip_id, RecordError(Reason.EMPTY_TEXT, "again")) for row in outcome.rows])
            else:
                yield outcome
            seen.update(texts)


def make_words(words: Sequence[str], needs: Needs | None, file: str = "") -> Any:
    """Make the stage, here or in a worker."""
    return Words(words, needs, file)


class Files(Words):
    """Writes each word to a file of a workspace."""

    def __init__(self, url: str, words: Sequence[str]) -> None:
        super().__init__(words, Needs())
        self._workspace = Workspace(url)

    def work(self, units: Iterable[Unit[str]], brief: str) -> Iterator[Outcome[Caption]]:
        folder = self._workspace.storage.local_path("clips")
        folder.mkdir(exist_ok=True)
        for unit in units:
            (folder / f"{unit.payload}.mp4").write_text(unit.payload + brief)
            row = Caption(clip_id=unit.payload, text=unit.payload, captioner="words", prompt_hash=None)
            yield Outcome(rows=[row])


def make_files(url: str, words: Sequence[str]) -> Any:
    """Make the stage, here or in a worker."""
    return Files(url, words)
