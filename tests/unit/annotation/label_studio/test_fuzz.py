"""Real exports, damaged in two thousand ways: the good part comes whole and unmoved, the rest is named, nothing raises.

A mutation touches one place. So every click outside the task, or the row, that holds the place has to arrive exactly
as it does from the whole file. A click inside has to be the one that now stands in the file at the place that it names,
and whatever looks like a click there has to come or to be named: both are read anew here, from the damaged file itself.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from export_damage import damage, damage_bytes, damage_row, follow, spots, table_text

from annotation.formats.foreign import ForeignGlance, Import
from annotation.formats.registry import read_annotations
from annotation.resolve import resolve_glances
from annotation.video_index import VideoIndex
from pipeline.config import GlancesConfig
from pipeline.errors import DataError
from pipeline.records import Glance, Video
from pipeline.spreadsheet import decode
from pipeline.taxonomy import canonical

EXPORTS = Path(__file__).resolve().parents[5] / "shared/data/labelstudio"
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
FRAMES, FPS = 500, 25.0
Key = tuple[Any, ...]


def key(glance: ForeignGlance) -> Key:
    """Return all that a click says, without its place, which moves when a row goes."""
    return (glance.video, glance.frame_index, glance.frame_rate, glance.time_s, glance.category, glance.annotator)


def parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def read_anew(path: Path) -> dict[Any, Any]:
    """Return the tasks of a damaged file by number, or the rows of a table by line, cells of JSON unpacked."""
    text = decode(path.read_bytes(), path)
    if path.suffix == ".json":
        tree = json.loads(text)
        return dict(enumerate(tree if isinstance(tree, list) else [tree]))
    reader = csv.reader(io.StringIO(text, newline=""))
    names, rows, line = next(reader), {}, 1 + reader.line_num
    for cells in reader:
        rows[line] = dict(zip(names, map(str.strip, cells), strict=False))
        line = 1 + reader.line_num
    return {
        line: {
            name: parsed(cell) if name != "annotator" and cell[:1] in {"[", "{"} else cell for name, cell in row.items()
        }
        for line, row in rows.items()
    }


def path_of(place: str) -> tuple[Any, ...]:
    """Return the path of a place: `x.json: $[3].annotations[0].result[1]` or `x.csv:5 anomaly[0]`."""
    spot = re.sub(r"^[^:]*: \$", "", place)
    spot = re.sub(r"^[^:]*:(\d+)", r"[\1]", spot).replace(" ", ".")
    return tuple(int(number) if number else name for number, name in re.findall(r"\[(\d+)\]|\.?([^.\[\]]+)", spot))


def suspects(tasks: dict[Any, Any]) -> Iterator[tuple[Any, ...]]:
    """Yield the path of every region that is, or was, a click of a submitted annotation."""
    for number, task in tasks.items():
        if not isinstance(task, dict):
            yield (number,)
        elif "data" in task or "annotations" in task:
            annotations = task.get("annotations")
            for place, annotation in enumerate(annotations if isinstance(annotations, list) else []):
                result = annotation.get("result") if isinstance(annotation, dict) else None
                if isinstance(annotation, dict) and annotation.get("was_cancelled"):
                    continue
                for region, value in enumerate(result if isinstance(result, list) else []):
                    if not is_other(value.get("value") if isinstance(value, dict) else value):
                        yield (number, "annotations", place, "result", region)
        else:
            for name, cell in task.items():
                looks_so = isinstance(cell, list) and any(isinstance(one, dict) and "ranges" in one for one in cell)
                yield from ((number, name, region) for region in range(len(cell) if looks_so else 0))


def is_other(value: Any) -> bool:
    return isinstance(value, dict) and "ranges" not in value and "timelinelabels" not in value


def expected(glance: ForeignGlance, tasks: dict[Any, Any]) -> Key:
    """Return what a click has to say by what stands in the file at its place; `...` for what is not checked."""
    path = path_of(glance.place)
    task, whole = tasks[path[0]], path[1] == "annotations"
    region = follow(tasks, path[: 5 if whole else 2])
    if isinstance(region, str):
        region = json.loads(region)
    if isinstance(region, list):
        region = region[path[2]]
    data, value = (task["data"], region["value"]) if whole else (task, region)
    by = task["annotations"][path[2]].get("completed_by") if whole else task.get("annotator")
    if isinstance(by, dict):
        by = by.get("email") or by.get("id")
    span = value["ranges"][path[-1] if path[-2] == "ranges" else 0]
    start, end = int(float(span["start"])), int(float(span["end"]))
    assert 1 <= start <= end
    labels = value.get("timelinelabels") or [None]
    label = labels if isinstance(labels, str) else "Ignore" if "Ignore" in labels else labels[0]
    fps = data.get("fps")
    rate = None if fps in (None, "") else float(fps)
    rate = 1 / rate if rate and rate < 1 else rate
    name = data.get("video_id")
    video = str(name) if type(name) in (str, int) and str(name).strip() else glance.video
    assert video in map(str, data.values()) or parsed(video) in data.values()
    frame = (start + end) // 2 - 1
    return (video, frame, rate, frame / rate if rate else None, label or None, None if by in (None, "") else str(by))


def check(found: Import, path: Path) -> None:
    """Check all that came against the damaged file, and that what did not come is named."""
    tasks = read_anew(path)
    for glance in found.glances:
        assert key(glance) == expected(glance, tasks), glance
    named = [path_of(place) for place in [*(g.place for g in found.glances), *(f.place for f in found.faults)]]
    for suspect in suspects(tasks):
        said = any(suspect[: len(place)] == place or place[: len(suspect)] == suspect for place in named)
        region = follow(tasks, suspect)
        assert said or "Normal" in labels_of(region), f"{suspect}: {region} is neither a click nor named"


def labels_of(region: Any) -> set[str | None]:
    value = region.get("value", region) if isinstance(region, dict) else None
    labels = value.get("timelinelabels") if isinstance(value, dict) else None
    return {canonical(str(label)) for label in (labels if isinstance(labels, list) else [labels])}


def check_frames(found: Import) -> None:
    """Resolve what came against videos of one rate: every frame is the one that the player showed, or is refused."""
    names = sorted({glance.video for glance in found.glances if len(glance.video) < 100})
    videos = [
        Video(
            video_id=name, path=f"/v/{number}.mp4", sha256="", fps=FPS, num_frames=FRAMES, duration_s=FRAMES / FPS,
            width=64, height=48, codec="h264", label="Fighting", split=None, source="",
        )
        for number, name in enumerate(names)
    ]  # fmt: skip
    settled = resolve_glances(found.glances, VideoIndex(videos), config=GlancesConfig(tolerance_s=0.001))
    for foreign, glance in zip(found.glances, settled, strict=True):
        if isinstance(glance, Glance):
            assert foreign.frame_index is not None
            time_s = foreign.frame_index / (foreign.frame_rate or FPS)
            shown = math.floor((round(time_s / 0.002) * 0.002 + 0.002) * FPS + 1e-6)
            assert glance.frame_index == (shown if foreign.frame_rate else foreign.frame_index)
            assert 0 <= glance.frame_index < FRAMES


def survives(path: Path, untouched: Counter[Key]) -> bool:
    """Read a damaged file; return whether there was anything to read. Checks what came."""
    try:
        found = read_annotations(path, "label-studio")
    except DataError as fault:
        if str(path) not in str(fault):
            raise AssertionError(f"the refusal names no place: {fault}") from None
        return False
    assert all(fault.place.startswith(path.name) and fault.detail for fault in found.faults)
    lost = untouched - Counter(map(key, found.glances))
    assert not lost, f"clicks of untouched tasks moved or vanished: {lost}"
    check(found, path)
    check_frames(found)
    return True


def by_task(path: Path, number_of: Callable[[str], int]) -> dict[int, Counter[Key]]:
    """Return the clicks of a whole file by the number of the task or row that holds them."""
    clicks: dict[int, Counter[Key]] = {}
    for glance in read_annotations(path).glances:
        clicks.setdefault(number_of(glance.place), Counter())[key(glance)] += 1
    return clicks


def without(clicks: dict[int, Counter[Key]], touched: set[int]) -> Counter[Key]:
    return sum((counts for number, counts in clicks.items() if number not in touched), Counter())


@pytest.mark.parametrize("path", sorted(EXPORTS.glob("*glance*")) + sorted(EXPORTS.glob("ui_*")), ids=lambda p: p.name)
def test_whole_exports_pass_the_very_checks(path: Path) -> None:
    found = read_annotations(path)
    assert found.glances
    if path.suffix != ".tsv":
        check(found, path)
    check_frames(found)


@pytest.mark.parametrize("name", JSON_FILES)
def test_damaged_json(tmp_path: Path, name: str) -> None:
    rng = random.Random(f"{name}:fuzz")
    text = (EXPORTS / name).read_text(encoding="utf-8")
    clicks = by_task(EXPORTS / name, lambda place: int(place.split("$[")[1].split("]")[0]))
    paths = list(spots(json.loads(text)))
    target = tmp_path / name
    for _ in range(MUTATIONS * 7 // 10 // len(JSON_FILES)):
        tree = json.loads(text)
        path = rng.choice(paths)
        damage(tree, path, rng)
        target.write_text(json.dumps(tree), encoding="utf-8")
        untouched = without(clicks, {path[0]})
        assert survives(target, untouched) or not untouched, f"{path}: the good part is refused with the bad one"


@pytest.mark.parametrize("name", CSV_FILES)
def test_damaged_tables(tmp_path: Path, name: str) -> None:
    rng = random.Random(f"{name}:fuzz")
    text = (EXPORTS / name).read_text(encoding="utf-8")
    clicks = by_task(EXPORTS / name, lambda place: int(place.split(":")[1].split()[0]) - 1)
    target = tmp_path / name
    for _ in range(MUTATIONS * 2 // 10 // len(CSV_FILES)):
        table = list(csv.reader(io.StringIO(text, newline="")))
        number = rng.randrange(1, len(table))
        damage_row(table, number, rng)
        target.write_text(table_text(table), encoding="utf-8", newline="")
        assert survives(target, without(clicks, {number}))


@pytest.mark.parametrize("name", [JSON_FILES[0], CSV_FILES[0]])
def test_damaged_bytes(tmp_path: Path, name: str) -> None:
    """Cut short, in another encoding or with a byte changed anywhere: an import, or a refusal that names the file."""
    rng = random.Random(f"{name}:bytes")
    data = (EXPORTS / name).read_bytes()
    target = tmp_path / name
    for _ in range(MUTATIONS // 10 // 2):
        target.write_bytes(damage_bytes(data, rng))
        survives(target, Counter())
