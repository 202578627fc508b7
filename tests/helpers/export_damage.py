"""Ways to damage an export of Label Studio at one place, as a hand, a script or a broken disk does."""

from __future__ import annotations

import copy
import csv
import io
import random
from collections.abc import Iterator
from typing import Any

JUNK: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1.5, 10**400, 2**53, 2**63, -(10**18), float("nan"), float("inf"), 5e-324, 1e300),
    *(
        "",
        " ",
        "x",
        "1",
        "-7",
        "12",
        "1_0",
        "nan",
        "1e999",
        "24",
        "0.5",
        "\u2028",
        "a" * 5000,
        "\uff12\uff15",
        "null",
        "true",
    ),
    *([], {}, [None], [[]], [None, None], {"": None}, {"id": None}, [{"start": 1}], {"start": 2, "end": 1}, "[{", "["),
    *(
        '[{"ranges": [',
        '[{"timelinelabels"',
        "timelinelabels",
        {"ranges": [{"start": 3, "end": 3}]},
        "Ignore",
        "Normal",
    ),
    *({"ranges": [{"start": 3, "end": 3}], "timelinelabels": [None]}, "/data/local-files/?d=%ff", "Nothing abnormal"),
    *({"ranges": [{"start": 3, "end": 10**9}], "timelinelabels": ["Fighting"]}, {"choices": [None]}, {"text": [3]}),
    *("accept", "edit", "reject", "pair_0", "2026-13-45", {"rating": "many"}, [{"rating": []}], '{"choices": 3}'),
)
Path = tuple[Any, ...]


def spots(node: Any, path: Path = ()) -> Iterator[Path]:
    """Yield the path of everything inside a JSON tree."""
    keys = list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for name in keys:
        yield (*path, name)
        yield from spots(node[name], (*path, name))


def follow(tree: Any, path: Path) -> Any:
    """Return what stands at a path."""
    for name in path:
        tree = tree[name]
    return tree


def damage(tree: Any, path: Path, rng: random.Random) -> None:
    """Change what stands at a path: replace, delete, double, rename, retype, wrap, or take from a place beside it."""
    node, name = follow(tree, path[:-1]), path[-1]
    value = node[name]
    match rng.choice(("junk", "junk", "junk", "delete", "double", "rename", "retype", "wrap", "swap", "shift")):
        case "delete":
            del node[name]
        case "double" if isinstance(node, list):
            node.insert(name, copy.deepcopy(value))
        case "rename" if isinstance(node, dict):
            node[f"{name}x"] = node.pop(name)
        case "retype":
            node[name] = float(value) if type(value) is int else str(value)
        case "wrap":
            node[name] = rng.choice(([value], {"value": value}, [value, None]))
        case "swap":
            other = rng.choice(list(node) if isinstance(node, dict) else range(len(node)))
            node[name], node[other] = node[other], value
        case "shift" if isinstance(value, int | float) and not isinstance(value, bool):
            node[name] = value + rng.choice((-1000, -1, 1, 100, 100_000))
        case _:
            node[name] = copy.deepcopy(rng.choice(JUNK))


def damage_row(table: list[list[str]], number: int, rng: random.Random) -> None:
    """Change one cell of a row of a table: replace, cut, drop, add, or swap it with its neighbour."""
    row = table[number]
    cell = rng.randrange(len(row))
    match rng.choice(("junk", "cut", "drop", "extra", "swap")):
        case "junk":
            row[cell] = str(rng.choice(JUNK))
        case "cut":
            row[cell] = row[cell][: rng.randrange(len(row[cell]) + 1)]
        case "drop":
            del row[cell]
        case "swap":
            row[cell], row[cell - 1] = row[cell - 1], row[cell]
        case _:
            row.insert(cell, "x")


def damage_bytes(data: bytes, rng: random.Random) -> bytes:
    """Cut bytes short, change one, or write the text in another encoding."""
    place = rng.randrange(len(data))
    match rng.choice(("cut", "cut", "byte", "byte", "byte", "encode")):
        case "cut":
            return data[:place]
        case "byte":
            return data[:place] + bytes([rng.randrange(256)]) + data[place + 1 :]
    return data.decode().encode(rng.choice(("utf-16", "utf-8-sig", "utf-32", "cp1252", "latin-1")), "replace")


def table_text(table: list[list[str]], delimiter: str = ",") -> str:
    """Return a table as a spreadsheet writes it."""
    out = io.StringIO()
    csv.writer(out, delimiter=delimiter).writerows(table)
    return out.getvalue()
