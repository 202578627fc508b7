"""Exports of a real project for reviews, as a server made them of what its front end saved: whole, flat and damaged."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from review_space import fill_review_space
from typer.testing import CliRunner

from annotation.studio_review_export import ReviewExport, is_studio_export, read_review_export
from annotation.studio_review_pull import import_review_files
from flows.cli import app
from pipeline.errors import DataError, RecordError
from pipeline.stages.review_items import ReviewItems, Selection, export_items
from pipeline.stages.review_rows import read_decision
from pipeline.stages.reviews import stored_reviews
from pipeline.workspace import Workspace

EXPORT = Path(__file__).parent / "data" / "review_export.json"
FLAT = [EXPORT.with_suffix(suffix) for suffix in (".min.json", ".csv", ".tsv")]
DECIDED = {
    ("pair_0", "1", "accept", 5), ("pair_0", "2", "reject", 2), ("pair_1", "1", "edit", 3),
    ("pair_2", "1", "reject", 1), ("pair_2", "2", "reject", None), ("pair_4", "1", "edit", None),
    ("pair_5", "1", "accept", None),
}  # fmt: skip
MUTATIONS = 1_200
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", " ", "x", "1", "nan", "1e999", "\u2028"),
    *([], {}, [None], [[]], {"": None}, "[{", '{"choices": 3}', "a" * 5000, {"choices": [None]}, {"text": [3]}),
    *("accept", "edit", "reject", "pair_0", "2026-13-45", {"rating": "many"}, [{"rating": []}]),
)


@pytest.fixture
def space(workspace: Workspace) -> Workspace:
    return fill_review_space(workspace)


def decided(space: Workspace) -> set[tuple[Any, ...]]:
    return {(one.pair_id, one.reviewer, one.decision, one.rating) for _, one in stored_reviews(space)}


def test_the_full_export(space: Workspace) -> None:
    done = import_review_files(space, [EXPORT])
    assert (done.imported.added, done.imported.faults, done.waiting, done.export.skipped) == (7, (), 1, 1)
    assert decided(space) == DECIDED
    stored = {(one.pair_id, one.reviewer): one for _, one in stored_reviews(space)}
    assert stored["pair_1", "1"].edited_answer == "Yes, two men fight.\nOne falls; 监控."
    assert stored["pair_4", "1"].edited_answer == "Yes, a changed text."
    assert stored["pair_0", "2"].reason == "too vague, wrong class"
    assert stored["pair_2", "1"].reason == "too vague: says nothing"
    assert [line.split(": ")[-1] for line in done.export.corrected] == [
        "counted as an edit", "counted as accepted",
    ]  # fmt: skip
    assert [fault.detail.split(": ")[-1] for fault in done.export.left_out] == [
        "submitted empty by reviewer 2", "skipped by reviewer 2",
    ]  # fmt: skip


@pytest.mark.parametrize("path", FLAT, ids=lambda path: path.name)
def test_flat_exports_say_the_same_with_a_warning(space: Workspace, path: Path) -> None:
    done = import_review_files(space, [path])
    assert decided(space) == DECIDED
    assert (done.imported.faults, len(done.export.corrected)) == ((), 2)
    assert any("not the full export" in note for note in done.export.notes)
    # the very same decisions, so that nothing is doubled when the full export follows
    again = import_review_files(space, [EXPORT])
    assert (again.imported.added, again.imported.known) == (0, 7)


def test_the_command_knows_an_export_by_itself_and_takes_it_beside_other_files(
    space: Workspace, tmp_path: Path
) -> None:
    own = tmp_path / "own.csv"
    export_items(space, Selection(), own)
    assert not is_studio_export(own)
    done = CliRunner().invoke(app, ["review", "import", space.url, str(EXPORT), str(own)])
    assert done.exit_code == 0, done.output
    assert "7 decisions added" in done.stdout
    assert "7 undecided" in done.stdout
    assert "pair 'pair_4': reviewer 1 accepted it and changed its text: counted as an edit" in done.stderr
    as_json = CliRunner().invoke(app, ["review", "import", space.url, str(EXPORT), "--json"])
    figures = json.loads(as_json.stdout)["reviews"]
    assert (figures["known"], figures["statistics"]["several"]) == (7, 2)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('[{"id": 1, "data": {"video": "a.mp4", "fps": "25"}, "annotations": []}]', "not the export of a project for"),
        ("annotation_id,annotator,video\n1,2,a.mp4\n", "not the export of a project for reviews"),
        ("[]", "no tasks in the export"),
        ('[{"id": 1', "not valid JSON"),
        ("7", "verdicts are read from .parquet, .csv or .jsonl, not .json"),
    ],
)
def test_a_file_that_is_no_export_of_reviews_is_one_fault(
    space: Workspace, tmp_path: Path, text: str, message: str
) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    done = CliRunner().invoke(app, ["review", "import", space.url, str(path), str(EXPORT)])
    assert done.exit_code == 1
    assert message in done.stderr
    assert decided(space) == DECIDED


def spots(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for name in keys:
        yield (*path, name)
        yield from spots(node[name], (*path, name))


def damage(tree: Any, path: tuple[Any, ...], rng: random.Random) -> None:
    node = tree
    for name in path[:-1]:
        node = node[name]
    name = path[-1]
    match rng.choice(("junk", "junk", "delete", "double", "rename")):
        case "delete":
            del node[name]
        case "double" if isinstance(node, list):
            node.insert(name, copy.deepcopy(node[name]))
        case "rename" if isinstance(node, dict):
            node[f"{name}x"] = node.pop(name)
        case _:
            node[name] = rng.choice(JUNK)


def kept_of(items: ReviewItems, path: Path) -> set[tuple[Any, ...]] | None:
    """Read a file as an import does, None where it is refused as a whole; whatever is wrong has to be a typed fault."""
    found = ReviewExport()
    try:
        read_review_export(path, found)
    except DataError as fault:
        if str(path) not in str(fault):
            raise AssertionError(f"the refusal names no place: {fault}") from None
        return None
    kept = set()
    for place, row in found.rows:
        assert place.startswith(path.name)
        try:
            item = read_decision(place, row, items.get)
        except RecordError as fault:
            if place not in fault.detail:
                raise AssertionError(f"{place}: the fault names no place: {fault.detail}") from None
            continue
        assert item is not None
        kept.add((item.pair_id, item.reviewer, item.decision, item.edited_answer, item.rating))
    return kept


def test_a_damaged_export_gives_all_that_is_sound_and_names_the_rest(space: Workspace, tmp_path: Path) -> None:
    items, rng = ReviewItems(space), random.Random("reviews:json")
    text = EXPORT.read_text()
    whole = json.loads(text)
    sound = kept_of(items, EXPORT)
    assert sound is not None
    paths = list(spots(whole))
    target = tmp_path / "damaged.json"
    read = 0
    for _ in range(MUTATIONS):
        tree = json.loads(text)
        path = rng.choice(paths)
        touched = whole[path[0]]["data"]["pair_id"]
        damage(tree, path, rng)
        target.write_text(json.dumps(tree))
        kept = kept_of(items, target)
        if kept is not None:
            read += 1
            untouched = {one for one in sound if one[0] != touched}
            assert untouched <= kept, f"{path}: lost {untouched - kept}"
            assert {one[0] for one in kept - sound} <= {touched, "pair_0"}, f"{path}: {kept - sound}"
    assert read > MUTATIONS // 2


@pytest.mark.parametrize("path", FLAT[1:], ids=lambda path: path.suffix)
def test_damaged_tables(space: Workspace, tmp_path: Path, path: Path) -> None:
    items, rng = ReviewItems(space), random.Random(f"reviews:{path.suffix}")
    delimiter = "\t" if path.suffix == ".tsv" else ","
    rows = list(csv.reader(io.StringIO(path.read_text()), delimiter=delimiter))
    pair, target = rows[0].index("pair_id"), tmp_path / f"damaged{path.suffix}"
    sound = kept_of(items, path)
    assert sound is not None
    for _ in range(MUTATIONS // 4):
        table = copy.deepcopy(rows)
        number = rng.randrange(1, len(table))
        cell = rng.randrange(len(table[number]))
        match rng.choice(("junk", "cut", "drop", "extra")):
            case "junk":
                table[number][cell] = rng.choice([str(junk) for junk in JUNK])
            case "cut":
                table[number][cell] = table[number][cell][: rng.randrange(len(table[number][cell]) + 1)]
            case "drop":
                del table[number][cell]
            case _:
                table[number].insert(cell, "x")
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter).writerows(table)
        target.write_text(out.getvalue(), newline="")
        kept = kept_of(items, target)
        assert kept is not None
        assert {one for one in sound if one[0] != rows[number][pair]} <= kept


def test_damaged_bytes(space: Workspace, tmp_path: Path) -> None:
    items, rng = ReviewItems(space), random.Random("reviews:bytes")
    data = EXPORT.read_bytes()
    target = tmp_path / "damaged.json"
    for _ in range(MUTATIONS // 4):
        place = rng.randrange(len(data))
        cut = data[:place] if rng.random() < 0.5 else data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
        target.write_bytes(cut)
        kept_of(items, target)
