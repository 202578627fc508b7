"""Exports of a real project for reviews, as a server made them of what its front end saved: whole, flat and damaged."""

from __future__ import annotations

import copy
import csv
import io
import json
import random
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from export_damage import damage, damage_bytes, damage_row, spots, table_text
from review_space import fill_review_space
from typer.testing import CliRunner

from annotation.label_studio.review_export import ReviewExport, is_studio_export, read_review_export
from annotation.label_studio.review_pull import import_review_files
from flows.cli import app
from pipeline.errors import DataError, RecordError
from pipeline.review.items import ReviewItems, Selection, export_items
from pipeline.review.rows import read_decision
from pipeline.review.store import stored_reviews
from pipeline.workspace import Workspace

EXPORT = Path(__file__).parent / "data" / "review_export.json"
FLAT = [EXPORT.with_suffix(suffix) for suffix in (".min.json", ".csv", ".tsv")]
DECIDED = {
    ("pair_0", "1", "accept", 5), ("pair_0", "2", "reject", 2), ("pair_1", "1", "edit", 3),
    ("pair_2", "1", "reject", 1), ("pair_2", "2", "reject", None), ("pair_4", "1", "edit", None),
    ("pair_5", "1", "accept", None),
}  # fmt: skip
MUTATIONS = 2_000


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


Kept = dict[str, tuple[Any, ...]]


def kept_of(items: ReviewItems, path: Path) -> Kept | None:
    """Read a file as an import does, None where it is refused as a whole; whatever is wrong has to be a typed fault.

    Returns what is decided, by its place in the file.
    """
    found = ReviewExport()
    try:
        read_review_export(path, found)
    except DataError as fault:
        if str(path) not in str(fault):
            raise AssertionError(f"the refusal names no place: {fault}") from None
        return None
    kept = {}
    for place, row in found.rows:
        assert place.startswith(path.name)
        try:
            item = read_decision(place, row, items.get)
        except RecordError as fault:
            if place not in fault.detail:
                raise AssertionError(f"{place}: the fault names no place: {fault.detail}") from None
            continue
        assert item is not None
        assert place not in kept
        kept[place] = (item.pair_id, item.reviewer, item.decision, item.edited_answer, item.rating)
    return kept


def said_at(task: dict[str, Any], number: int) -> tuple[Any, ...]:
    """Return what a decision at a place of the full export has to be, by what stands there."""
    annotation = task["annotations"][number]
    assert not annotation.get("was_cancelled")
    values: dict[str, list[Any]] = {}
    for region in annotation["result"]:
        values.setdefault(str(region.get("from_name")), []).append(region["value"])
    choices = {one if isinstance(one, str) else one[0] for one in (value["choices"] for value in values["decision"])}
    assert len(choices) == 1
    shown, texts = task["data"]["answer"].split(), [value["text"] for value in values.get("edited_answer", [])]
    text = "\n".join(line for one in texts for line in ([one] if isinstance(one, str) else one))
    changed = bool(text.strip()) and text.split() != shown
    chosen = choices.pop().strip().lower()
    decision = "reject" if chosen == "reject" else "edit" if changed else "accept"
    assert chosen in {"accept", "edit", "reject"}
    rating = values["rating"][-1].get("rating") if "rating" in values else None
    by = annotation.get("completed_by")
    by = by.get("email") or by.get("id") if isinstance(by, dict) else by
    return (
        task["data"]["pair_id"], "unknown" if by in (None, "") else str(by), decision,
        text if decision == "edit" else None, int(float(rating)) if rating not in (None, "") else None,
    )  # fmt: skip


def by_pair(kept: Kept) -> Counter[tuple[Any, ...]]:
    return Counter(kept.values())


def test_a_damaged_export_gives_all_that_is_sound_and_names_the_rest(space: Workspace, tmp_path: Path) -> None:
    items, rng = ReviewItems(space), random.Random("reviews:json")
    text = EXPORT.read_text()
    whole = json.loads(text)
    sound = kept_of(items, EXPORT)
    assert sound is not None
    paths = list(spots(whole))
    target = tmp_path / "damaged.json"
    for _ in range(MUTATIONS * 7 // 10):
        tree = json.loads(text)
        path = rng.choice(paths)
        touched = whole[path[0]]["data"]["pair_id"]
        damage(tree, path, rng)
        target.write_text(json.dumps(tree))
        kept = kept_of(items, target)
        assert kept is not None, f"{path}: the good part is refused with the bad one"
        untouched = Counter({said: count for said, count in by_pair(sound).items() if said[0] != touched})
        assert not untouched - by_pair(kept), f"{path}: lost {untouched - by_pair(kept)}"
        for place, said in kept.items():
            task, number = map(int, re.findall(r"\[(\d+)\]", place)[:2])
            assert said == said_at(tree[task], number), f"{path}: {place}"


@pytest.mark.parametrize("path", FLAT[1:], ids=lambda path: path.suffix)
def test_damaged_tables(space: Workspace, tmp_path: Path, path: Path) -> None:
    items, rng = ReviewItems(space), random.Random(f"reviews:{path.suffix}")
    delimiter = "\t" if path.suffix == ".tsv" else ","
    rows = list(csv.reader(io.StringIO(path.read_text()), delimiter=delimiter))
    pair, target = rows[0].index("pair_id"), tmp_path / f"damaged{path.suffix}"
    sound = kept_of(items, path)
    assert sound is not None
    for _ in range(MUTATIONS // 10):
        table = copy.deepcopy(rows)
        number = rng.randrange(1, len(table))
        damage_row(table, number, rng)
        target.write_text(table_text(table, delimiter), newline="")
        kept = kept_of(items, target)
        assert kept is not None
        untouched = Counter({said: n for said, n in by_pair(sound).items() if said[0] != rows[number][pair]})
        assert not untouched - by_pair(kept)
        changed = by_pair(kept) - by_pair(sound)
        # what is decided otherwise than before is written so in the row that was changed
        for pair_id, reviewer, decision, edited, _ in changed:
            words = [" ".join(cell.split()) for cell in table[number]]
            assert pair_id in words
            assert reviewer in {*words, "unknown"}
            assert edited is None or " ".join(edited.split()) in words
            assert decision in words or decision in {"accept", "edit"}


def test_damaged_bytes(space: Workspace, tmp_path: Path) -> None:
    items, rng = ReviewItems(space), random.Random("reviews:bytes")
    data = EXPORT.read_bytes()
    target = tmp_path / "damaged.json"
    for _ in range(MUTATIONS // 10):
        target.write_bytes(damage_bytes(data, rng))
        kept_of(items, target)
