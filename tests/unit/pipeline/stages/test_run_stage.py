from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import pytest

from pipeline.errors import RecordError, SetupError
from pipeline.records import Caption, Reason, digest
from pipeline.stages.base import Outcome, TableOnly, Unit
from pipeline.stages.run import pending_units, run_stage
from pipeline.workspace import Workspace


class Shout(TableOnly):
    """Upper-case words; a word with a digit is a bad record, the word STOP ends the run."""

    name = "caption"
    record_type = Caption

    def __init__(self, words: Iterable[str], version: int = 1) -> None:
        self.words = list(words)
        self.version = version
        self.worked_on: list[str] = []

    def identity(self) -> Mapping[str, object]:
        return {"version": self.version}

    def units(self) -> Iterator[Unit[str]]:
        for word in self.words:
            yield Unit(key=digest(word), record_id=word, payload=word)

    def run(self, units: Iterable[Unit[str]]) -> Iterator[Outcome[Caption]]:
        for unit in units:
            self.worked_on.append(unit.payload)
            if unit.payload == "STOP":
                raise SetupError("no more")
            if unit.payload.isalpha():
                text = unit.payload.upper() * self.version
                row = Caption(clip_id=unit.payload, text=text, captioner="shout", prompt_hash=None)
                yield Outcome(rows=[row])
            else:
                yield Outcome(rejected=[(unit.record_id, RecordError(Reason.EMPTY_TEXT, f"{unit.payload} is no word"))])


def texts(workspace: Workspace) -> list[str]:
    return [row.text for row in workspace.captions.records()]


def run(workspace: Workspace, stage: Shout, **settings: int) -> None:
    run_stage(stage, workspace.captions, **settings)


def test_rows_stand_in_the_order_of_the_units_and_faults_beside_them(workspace: Workspace) -> None:
    report = run_stage(Shout(["b", "a", "1", "c"]), workspace.captions, shard_rows=2)
    assert texts(workspace) == ["B", "A", "C"]
    assert [(r.record_id, r.stage, r.reason, r.detail) for r in workspace.captions.rejected()] == [
        ("1", "caption", "empty_text", "1 is no word")
    ]
    assert (report.made, report.kept, report.rows, report.rejected) == (4, 0, 3, {"empty_text": 1})


def test_second_run_does_nothing(workspace: Workspace) -> None:
    run(workspace, Shout(["a", "1"]))
    before = workspace.captions.digest()
    again = Shout(["a", "1"])
    assert pending_units(again, workspace.captions) == (2, 0)
    report = run_stage(again, workspace.captions)
    assert again.worked_on == []
    assert (report.made, report.kept) == (0, 2)
    assert workspace.captions.digest() == before


def test_new_input_makes_only_its_own_rows(workspace: Workspace) -> None:
    run(workspace, Shout(["a", "c"]))
    more = Shout(["a", "b", "c"])
    run(workspace, more)
    assert more.worked_on == ["b"]
    assert sorted(texts(workspace)) == ["A", "B", "C"]


def test_changed_identity_remakes_every_row(workspace: Workspace) -> None:
    run(workspace, Shout(["a", "b"]))
    run(workspace, Shout(["a", "b"], version=2))
    assert texts(workspace) == ["AA", "BB"]


def test_rows_of_removed_input_go(workspace: Workspace) -> None:
    run(workspace, Shout(["a", "b", "1"]))
    report = run_stage(Shout(["b"]), workspace.captions)
    assert texts(workspace) == ["B"]
    assert list(workspace.captions.rejected()) == []
    assert report.dropped == 2


def test_equal_units_are_made_once(workspace: Workspace) -> None:
    run(workspace, Shout(["a", "a"]))
    assert texts(workspace) == ["A"]


def test_what_was_finished_before_a_failure_is_kept(workspace: Workspace) -> None:
    with pytest.raises(SetupError):
        run(workspace, Shout(["a", "b", "STOP", "c"]))
    assert texts(workspace) == ["A", "B"]
    rest = Shout(["a", "b", "c"])
    run(workspace, rest)
    assert rest.worked_on == ["c"]


def test_damaged_rows_are_made_again_and_stand_once(workspace: Workspace) -> None:
    class WithFiles(Shout):
        missing = "b"

        def is_intact(self, row: Caption) -> bool:
            return row.clip_id != self.missing

    # A stage with files of its own is none of the table-only ones.
    with_files = type("WithFiles", (), {**vars(TableOnly), **vars(Shout), **vars(WithFiles)})
    run(workspace, with_files(["a", "b", "c"]))
    again = with_files(["a", "b", "c"])
    run(workspace, again)
    assert again.worked_on == ["b"]
    assert sorted(texts(workspace)) == ["A", "B", "C"]


@pytest.mark.parametrize(("reason", "tried_again"), [(Reason.CRASHED, True), (Reason.EMPTY_TEXT, False)])
def test_faults_of_the_moment_are_tried_again_and_faults_of_the_data_are_not(
    workspace: Workspace, reason: Reason, tried_again: bool
) -> None:
    class Failing(Shout):
        def run(self, units: Iterable[Unit[str]]) -> Iterator[Outcome[Caption]]:
            for unit in units:
                yield Outcome(rejected=[(unit.record_id, RecordError(reason, "fails"))])

    run(workspace, Failing(["a"]))
    run(workspace, Shout(["a"]))
    assert texts(workspace) == (["A"] if tried_again else [])
    assert len(list(workspace.captions.rejected())) == (0 if tried_again else 1)


def test_an_outcome_that_never_comes_is_a_defect_not_a_loss(workspace: Workspace) -> None:
    class Forgetful(Shout):
        def run(self, units: Iterable[Unit[str]]) -> Iterator[Outcome[Caption]]:
            list(units)
            return iter(())

    with pytest.raises(RuntimeError, match="gave no outcome"):
        run(workspace, Forgetful(["a"]))
    assert pending_units(Shout(["a"]), workspace.captions) == (0, 1)


@pytest.mark.parametrize("writes", [0, 1, 2, 3, 4, 5, 6, 7, 9, 11, 14])
def test_kill_9_at_any_write_then_rerun_gives_the_undisturbed_table(tmp_path: Path, writes: int) -> None:
    """A child process kills itself with SIGKILL in place of its n-th durable write."""
    words = [f"w{'x' * i}" for i in range(12)]
    undisturbed = Workspace(str(tmp_path / "undisturbed"))
    run(undisturbed, Shout(words), shard_rows=3)
    script = f"""
import os, signal, sys
import pipeline.storage as storage
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_run_stage import Shout
from pipeline.stages.run import run_stage
from pipeline.workspace import Workspace
original, left = storage.write_atomically, [{writes}]
def write(path, data):
    if left[0] == 0:
        path.with_name("_tmp-" + path.name).write_bytes(data[: len(data) // 2])
        os.kill(os.getpid(), signal.SIGKILL)
    left[0] -= 1
    original(path, data)
storage.write_atomically = write
run_stage(Shout({words!r}), Workspace({str(tmp_path / "killed")!r}).captions, shard_rows=3)
"""
    child = subprocess.run([sys.executable, "-c", script], check=False)
    assert child.returncode == -signal.SIGKILL
    killed = Workspace(str(tmp_path / "killed"))
    run(killed, Shout(words), shard_rows=3)
    assert list(killed.captions.records()) == list(undisturbed.captions.records())
    assert killed.captions.units() == undisturbed.captions.units()
    assert list(Path(killed.storage.path("tables/caption")).rglob("_tmp*")) == []


def test_only_one_build_holds_a_workspace(workspace: Workspace) -> None:
    with (
        workspace.locked(),
        pytest.raises(SetupError, match=f"process {os.getpid()}"),
        Workspace(workspace.url).locked(),
    ):
        pass
    with workspace.locked():
        pass


class Dated(Shout):
    """Words of which a number tells whether they have changed."""

    def __init__(self, words: Iterable[str], sources: str | None, version: int = 1) -> None:
        super().__init__(words, version)
        self.told = sources
        self.asked = 0

    def sources(self) -> str | None:
        return self.told

    def units(self) -> Iterator[Unit[str]]:
        self.asked += 1
        return super().units()


def test_a_stage_whose_sources_are_those_of_its_last_run_is_not_gone_through(workspace: Workspace) -> None:
    first = run_stage(Dated(["a", "1", "b"], "s"), workspace.captions, shard_rows=2)
    assert (first.made, first.kept) == (3, 0)
    same = Dated(["a", "1", "b"], "s")
    again = run_stage(same, workspace.captions)
    assert same.asked == 0
    assert (again.made, again.kept, again.rows, again.rejected) == (0, 3, 2, first.rejected)
    assert pending_units(same, workspace.captions) == (3, 0)
    assert same.asked == 0
    for other in (Dated(["a", "c"], "t"), Dated(["a", "c"], "t", version=2), Dated(["a", "c"], None)):
        run_stage(other, workspace.captions)
        assert other.asked > 0
    assert texts(workspace) == ["A", "C"]


def test_a_table_that_changed_or_has_to_be_tried_again_is_gone_through(workspace: Workspace) -> None:
    run_stage(Dated(["a", "b"], "s"), workspace.captions)
    workspace.captions.drop([next(iter(workspace.captions.arrow(["unit"]).column("unit").to_pylist()))])
    stage = Dated(["a", "b"], "s")
    assert run_stage(stage, workspace.captions).made == 1

    class Slow(Dated):
        def run(self, units: Iterable[Unit[str]]) -> Iterator[Outcome[Caption]]:
            for unit in units:
                yield Outcome(rejected=[(unit.record_id, RecordError(Reason.TIMED_OUT, "later"))])

    run_stage(Slow(["x"], "u"), workspace.captions)
    assert run_stage(Slow(["x"], "u"), workspace.captions).made == 1
    with pytest.raises(SetupError):
        run_stage(Dated(["y", "STOP", "z"], "v"), workspace.captions, shard_rows=1)
    assert run_stage(Dated(["y", "z"], "v"), workspace.captions).made == 1
