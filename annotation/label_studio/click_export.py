"""Read glances from Label Studio exports: JSON, JSON_MIN, CSV and TSV.

A glance is a region of `TimelineLabels` on a `Video`. Label Studio numbers frames from 1, at the `frameRate` that the
labelling interface was given; 24 where it was given none, and the export does not record it. So each task should carry
the rate in its data (`fps`, with `frameRate="$fps"` in the interface).

One click is a range of one frame. A drag is a range of several, its end inclusive: all of it lies inside the event, so
its middle frame is the glance. Only JSON keeps skipped annotations, drafts and predictions; none of them is a glance.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any

from annotation.formats.base import Format
from annotation.formats.delimited import CATEGORY
from annotation.formats.foreign import Import
from annotation.label_studio.click_interface import NORMAL_CONTROL
from annotation.label_studio.regions import (
    TIMELINE,
    Reading,
    Task,
    annotator_name,
    describe_task,
    is_normal,
    is_timeline,
    read_region,
    regions_of,
)
from annotation.source import Source, show
from pipeline.errors import DataError
from pipeline.records import NORMAL, Reason
from pipeline.taxonomy import canonical

EXPECTED = "TimelineLabels on a Video are expected, as a project for clicks saves them"
FLAT_COLUMNS = frozenset({"annotation_id", "annotator", "lead_time"})
"""Columns that Label Studio adds to every row of JSON_MIN, CSV and TSV."""


_RELATION = "relation"
"""Type of what links two regions, and has no value."""


def read_label_studio(source: Source, frame_rate: float | None) -> Import:
    """Read an export in any of its four formats.

    Args:
        source: the file.
        frame_rate: frames a second of tasks whose data records no rate; None counts their frames as the decoder's.

    Raises:
        DataError: no tasks, or the export of a project without timeline labels.
    """
    reading = Reading(found=Import(format="label-studio"), default_rate=frame_rate)
    if source.is_json and isinstance(source.json, dict) and {"images", "annotations"} <= source.json.keys():
        raise DataError(f"{source.path}: COCO annotations of images, and no export of Label Studio; {EXPECTED}")
    if source.is_json:
        tasks = source.json if isinstance(source.json, list) else [source.json]
        for number, task in enumerate(tasks):
            _read_task(reading, task, f"{source.name}: $[{number}]")
        size = len(tasks)
    elif not FLAT_COLUMNS & set(source.columns):
        raise DataError(
            f"{source.path}: no columns of a Label Studio export, such as {', '.join(sorted(FLAT_COLUMNS))}"
        )
    else:
        size = 0
        for size, row in enumerate(source.rows(), start=1):  # noqa: B007  (the count is wanted after the loop)
            place = f"{source.name}:{row.line}"
            if row.width == len(source.columns):
                _read_flat(reading, row.cells, place, " ")
            else:
                detail = f"{row.width} cells in a table of {len(source.columns)} columns"
                reading.fault(place, None, Reason.MALFORMED_ROW, detail)
    if not size:
        raise DataError(f"{source.path}: no tasks in the export")
    _check_project(reading, source)
    _write_notes(reading)
    return reading.found


def _read_task(reading: Reading, task: Any, place: str) -> None:
    if isinstance(task, dict) and ("annotations" in task or isinstance(task.get("data"), dict)):
        _read_full(reading, task, place)
    elif isinstance(task, dict) and FLAT_COLUMNS & task.keys():
        _read_flat(reading, task, place, ".")
    else:
        reading.fault(place, None, Reason.MALFORMED_ROW, f"a task is expected, not {show(task)}")


def _read_full(reading: Reading, raw: dict[str, Any], place: str) -> None:
    """Read a task of the JSON export, with all its annotations."""
    data = raw.get("data")
    task = describe_task(reading, data if isinstance(data, dict) else {}, place)
    reading.counts["tasks"] += 1
    for kind in ("drafts", "predictions"):
        others = raw.get(kind)
        for number, other in enumerate(others if isinstance(others, list) else []):
            if kind == "drafts":
                detail = "a draft that was not submitted"
                reading.fault(f"{place}.drafts[{number}]", task, Reason.SKIPPED_ANNOTATION, detail)
            else:
                reading.counts[kind] += 1
            if isinstance(other, dict):
                reading.region_types.update(_kinds(regions_of(other.get("result"))))
    annotations = raw.get("annotations")
    if not isinstance(annotations, list):
        reading.fault(place, task, Reason.MALFORMED_ROW, f"annotations is {show(annotations)}, a list is expected")
        return
    for number, annotation in enumerate(annotations):
        _read_annotation(reading, annotation, task, f"{place}.annotations[{number}]")


def _read_annotation(reading: Reading, annotation: Any, task: Task, place: str) -> None:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
        reading.fault(
            place, task, Reason.MALFORMED_ROW, f"an annotation with its result is expected, not {show(annotation)}"
        )
        return
    regions = list(regions_of(annotation["result"]))
    reading.region_types.update(_kinds(regions))
    try:
        annotator = annotator_name(annotation.get("completed_by"))
    except ValueError as fault:
        reading.fault(place, task, Reason.MALFORMED_ROW, f"completed_by: {fault}")
        return
    if annotation.get("was_cancelled"):
        detail = f"skipped by annotator {annotator or 'unknown'}, with {len(regions)} region(s) that do not count"
        reading.fault(place, task, Reason.SKIPPED_ANNOTATION, detail)
        return
    reading.counts["annotations"] += 1
    origins = [region.get("origin") for region in annotation["result"] if isinstance(region, dict)]
    reading.counts["confirmed"] += origins.count("prediction")
    reading.counts["amended"] += origins.count("prediction-changed")
    begun = reading.begin_annotation()
    for number, kind, value in regions:
        if kind == TIMELINE:
            read_region(reading, value, task, annotator, f"{place}.result[{number}]")
        elif kind != _RELATION and not isinstance(value, dict):
            detail = f"a region with a value is expected, not {show(annotation['result'][number])}"
            reading.fault(f"{place}.result[{number}]", task, Reason.MALFORMED_ROW, detail)
        elif kind != _RELATION and not (kind == "choices" and is_normal(value)):
            reading.others[kind] += 1
    normal = any(kind == "choices" and is_normal(value) for _, kind, value in regions)
    reading.end_annotation(task, annotator, place, begun, normal=normal)


def _kinds(regions: Iterable[tuple[int, str, Any]]) -> Iterator[str]:
    """Yield the types of the regions that tell what a project is about: what is no region tells nothing."""
    return (kind for _, kind, value in regions if kind == TIMELINE or isinstance(value, dict))


def _read_flat(reading: Reading, row: Mapping[str, Any], place: str, separator: str) -> None:
    """Read a row of JSON_MIN, CSV or TSV: one annotation, or a task without any.

    Its labels stand under the name that the interface gave the control, so they are known by their shape.
    """
    task = describe_task(reading, row, place)
    reading.counts["tasks"] += 1
    try:
        annotator = annotator_name(row.get("annotator"))
    except ValueError as fault:
        reading.fault(place, task, Reason.MALFORMED_ROW, f"annotator: {fault}")
        return
    reading.counts["annotations"] += annotator is not None
    reading.counts["flat"] += 1
    reading.counts["unowned"] += annotator is None
    begun = reading.begin_annotation()
    for key, cell in row.items():
        where = f"{place}{separator}{key}"
        try:
            regions = _parse_cell(cell)
        except (ValueError, RecursionError) as fault:
            reading.region_types[TIMELINE] += 1
            reading.fault(where, task, Reason.MALFORMED_ROW, f"the cell is not valid JSON: {fault}")
            continue
        reading.has_normal |= isinstance(cell, str) and canonical(cell) == NORMAL
        on_timeline = any(map(is_timeline, regions))
        for number, region in enumerate(regions):
            if isinstance(region, dict):
                reading.region_types.update([kind for kind in region if kind.endswith("labels")] or list(region))
            if on_timeline:
                read_region(reading, region, task, annotator, f"{where}[{number}]")
    if annotator is not None and begun.faults == len(reading.found.faults):
        normal = _says_normal(row.get(NORMAL_CONTROL))
        if begun == reading.begin_annotation():
            # a choice of another name cannot be told from the task's data, but beside no click both say the same
            normal |= any(_says_normal(cell) for name, cell in row.items() if name not in CATEGORY)
        reading.end_annotation(task, annotator, place, begun, normal=normal)


def _says_normal(cell: Any) -> bool:
    """Whether a cell holds the choice that nothing is abnormal: one text, several, or packed as JSON."""
    if isinstance(cell, str) and cell.startswith("{"):
        with suppress(ValueError, RecursionError):
            cell = json.loads(cell)
    return is_normal(cell) or is_normal({"choices": cell if isinstance(cell, list) else [cell]})


def _parse_cell(cell: Any) -> list[Any]:
    """Return the region values in a cell, and what stands among them; nothing where it holds no list or object."""
    if isinstance(cell, str) and cell[:1] in {"[", "{"}:
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            if cell.startswith("[{") or TIMELINE in cell:
                raise
            return []
    return cell if isinstance(cell, list) else [cell] if isinstance(cell, dict) else []


def _check_project(reading: Reading, source: Source) -> None:
    """Refuse the export of a project that is not about clicks, which may have no timeline label in it."""
    if not reading.counts["tasks"]:
        raise DataError(f"{source.path}: no Label Studio task in it; {EXPECTED}")
    if TIMELINE in reading.region_types:
        return
    others = sorted(set(reading.region_types) - {"choices"})
    if others:
        kinds = ", ".join(others)
        raise DataError(f"{source.path}: a Label Studio export of another project type: found {kinds}; {EXPECTED}")
    if not reading.names_video:
        raise DataError(f"{source.path}: the tasks of this Label Studio export name no video; {EXPECTED}")
    annotated_otherwise = reading.counts["annotations"] and not reading.region_types and not reading.has_normal
    if annotated_otherwise and not _has_full_task(source):
        raise DataError(f"{source.path}: a Label Studio export without timeline labels; {EXPECTED}")


def _has_full_task(source: Source) -> bool:
    tasks = source.json if source.is_json else []
    return any(isinstance(task, dict) and "annotations" in task for task in tasks)


def _write_notes(reading: Reading) -> None:
    texts = {
        "no rate": "click(s) of tasks without a frame rate: frames count at the video's own rate; "
        "Label Studio itself counts at 24 where the interface names none (set glance.frame_rate then)",
        "drags": "drag(s) over several frames: the middle frame is the glance",
        "rates": "task(s) with several frame rates: the one called fps counts, else the first by name",
        "labels": "region(s) with several labels: the first is the category",
        "nothing": "annotation(s) say that nothing abnormal happens: no glance",
        "normal": "region(s) labelled Normal: no glance",
        "predictions": "prediction(s): made by a model, no glance",
        "confirmed": "region(s) that a model suggested and an annotator submitted as they were",
        "amended": "region(s) that a model suggested and an annotator changed",
    }
    if not reading.found.glances and not reading.found.faults:
        reading.found.notes.append("no click in any of the tasks")
    if reading.counts["flat"]:
        reading.found.notes.append(
            "JSON_MIN, CSV and TSV are not the full export: skipped annotations and predictions are missing, and "
            f"{reading.counts['unowned']} row(s) without annotator are drafts or tasks that nobody did; JSON has all"
        )
    reading.found.notes.extend(f"{reading.counts[key]} {text}" for key, text in texts.items() if reading.counts[key])
    if reading.others:
        kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(reading.others.items()))
        reading.found.notes.append(f"regions of other tools were not read: {kinds}")


def _likeness(source: Source) -> float:
    if source.is_binary or source.is_xml or source.is_json_lines:
        return 0.0
    if not source.is_json:
        return float(len(FLAT_COLUMNS & set(source.columns)) > 1)
    payload = source.json
    if isinstance(payload, dict):
        return float(isinstance(payload.get("annotations"), list))
    marks = FLAT_COLUMNS | {"annotations", "data"}
    # an empty list is what Label Studio writes for a project without tasks; its reader says so
    return float(not payload or any(marks & task.keys() for task in payload if isinstance(task, dict)))


LABEL_STUDIO = Format(
    title="Label Studio export: JSON, JSON_MIN, CSV or TSV", likeness=_likeness, read=read_label_studio
)
