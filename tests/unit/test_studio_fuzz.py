"""Real exports, damaged in two thousand ways: the good part comes whole and unmoved, the rest is named, nothing raises.

A mutation touches one place. So every click outside the task, or the row, that holds the place has to arrive exactly as
it does from the whole file.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from annotation.foreign import ForeignGlance, Import
from annotation.registry import read_annotations
from annotation.resolve import VideoIndex, resolve_glances
from pipeline.errors import DataError

EXPORTS = Path(__file__).resolve().parents[3] / "shared/data/labelstudio"
pytestmark = pytest.mark.skipif(not EXPORTS.is_dir(), reason=f"no real exports at {EXPORTS}")

JSON_FILES = (
    "ui_json_all.json",
    "ui_json_min_all.json",
    "glance_json.json",
    "ped2_glance_json.json",
    "ui_sdk_snapshot.json",
)
CSV_FILES = ("ui_csv_all.csv", "ped2_glance_csv.csv")
MUTATIONS = 2_000
JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**400, float("nan"), float("inf"), "", " ", "x", "1", "nan", "1e999", "24"),
    *([], {}, [None], [[]], {"": None}, [{"start": 1}], "[{", '[{"ranges": [', "\u2028", "a" * 5000, "timelinelabels"),
    *({"ranges": [{"start": 3, "end": 3}], "timelinelabels": [None]}, "/data/local-files/?d=%ff", "Ignore", "Normal"),
)


def key(glance: ForeignGlance) -> tuple[Any, ...]:
    """Return all that a click says, without its place, which moves when a row goes."""
    return (glance.video, glance.frame_index, glance.frame_rate, glance.time_s, glance.category, glance.annotator)


def spots(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for name in keys:
        yield (*path, name)
        yield from spots(node[name], (*path, name))


def mutate(tree: Any, path: tuple[Any, ...], rng: random.Random) -> None:
    """Replace, delete, double or rename what stands at a path."""
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


def survives(path: Path, untouched: Counter[tuple[Any, ...]]) -> bool:
    """Read a damaged file; return whether there was anything to read. Checks what came."""
    try:
        found = read_annotations(path, "label-studio")
    except DataError as fault:
        if str(path) not in str(fault):
            raise AssertionError(f"the refusal names no place: {fault}") from None
        return False
    assert isinstance(found, Import)
    assert all(fault.place.startswith(path.name) and fault.detail for fault in found.faults)
    lost = untouched - Counter(map(key, found.glances))
    assert not lost, f"clicks of untouched tasks moved or vanished: {lost}"
    resolve_glances(found.glances, VideoIndex([]))
    return True


def by_task(path: Path, number_of: Callable[[str], int]) -> dict[int, Counter[tuple[Any, ...]]]:
    """Return the clicks of a whole file by the number of the task or row that holds them."""
    clicks: dict[int, Counter[tuple[Any, ...]]] = {}
    for glance in read_annotations(path).glances:
        clicks.setdefault(number_of(glance.place), Counter())[key(glance)] += 1
    return clicks


def without(clicks: dict[int, Counter[tuple[Any, ...]]], touched: int) -> Counter[tuple[Any, ...]]:
    return sum((counts for number, counts in clicks.items() if number != touched), Counter())


@pytest.mark.parametrize("name", JSON_FILES)
def test_damaged_json(tmp_path: Path, name: str) -> None:
    rng = random.Random(f"{name}:fuzz")
    text = (EXPORTS / name).read_text(encoding="utf-8")
    clicks = by_task(EXPORTS / name, lambda place: int(place.split("$[")[1].split("]")[0]))
    paths = list(spots(json.loads(text)))
    target = tmp_path / name
    read = 0
    for _ in range(MUTATIONS * 7 // 10 // len(JSON_FILES)):
        tree = json.loads(text)
        path = rng.choice(paths)
        mutate(tree, path, rng)
        target.write_text(json.dumps(tree), encoding="utf-8")
        read += survives(target, without(clicks, path[0]))
    assert read > 0


@pytest.mark.parametrize("name", CSV_FILES)
def test_damaged_tables(tmp_path: Path, name: str) -> None:
    rng = random.Random(f"{name}:fuzz")
    with (EXPORTS / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    clicks = by_task(EXPORTS / name, lambda place: int(place.split(":")[1].split()[0]) - 1)
    target = tmp_path / name
    for _ in range(MUTATIONS * 2 // 10 // len(CSV_FILES)):
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
        csv.writer(out).writerows(table)
        target.write_text(out.getvalue(), encoding="utf-8", newline="")
        assert survives(target, without(clicks, number))


@pytest.mark.parametrize("name", [JSON_FILES[0], CSV_FILES[0]])
def test_damaged_bytes(tmp_path: Path, name: str) -> None:
    """Cut short or with a byte changed anywhere, a file gives an import or a refusal that names it."""
    rng = random.Random(f"{name}:bytes")
    data = (EXPORTS / name).read_bytes()
    target = tmp_path / name
    for _ in range(MUTATIONS // 10 // 2):
        place = rng.randrange(len(data))
        damaged = data[:place] if rng.random() < 0.5 else data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
        target.write_bytes(damaged)
        survives(target, Counter())
