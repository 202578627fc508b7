"""Read glances from Label Studio exports: JSON, JSON_MIN, CSV and TSV.

A glance is a region of `TimelineLabels` on a `Video`. Label Studio numbers frames from 1, at the `frameRate` that the
labelling interface was given; 24 where it was given none, and the export does not record it. So each task should carry
the rate in its data (`fps`, with `frameRate="$fps"` in the interface).

One click is a range of one frame. A drag is a range of several, its end inclusive: all of it lies inside the event, so
its middle frame is the glance. Only JSON keeps skipped annotations, drafts and predictions; none of them is a glance.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from annotation.foreign import ForeignGlance, Import
from annotation.source import Source, frame_number, frames_per_second, show
from annotation.video_index import is_video_path
from pipeline.errors import DataError
from pipeline.records import NORMAL, Reason
from pipeline.taxonomy import canonical

TIMELINE = "timelinelabels"
EXPECTED = "TimelineLabels on a Video are expected, as a project for clicks saves them"
FLAT_COLUMNS = frozenset({"annotation_id", "annotator", "lead_time"})
"""Columns that Label Studio adds to every row of JSON_MIN, CSV and TSV."""

_RATE_KEYS = frozenset({"fps", "framerate"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    """What a task's data says of its video. `rate_fault` is set where it has a frame rate that is none."""

    place: str
    video: str | None
    paths: tuple[str, ...]
    frame_rate: float | None
    rate_fault: str | None


@dataclass(slots=True)
class _Reading:
    """An export while it is read: what was imported, and what else was seen."""

    found: Import
    default_rate: float | None
    region_types: Counter[str] = field(default_factory=Counter)
    counts: Counter[str] = field(default_factory=Counter)
    names_video: bool = False
    has_normal: bool = False

    def fault(self, place: str, task: _Task | None, reason: Reason, detail: object) -> None:
        self.found.fault(place, task.video if task else None, reason, detail)


def read_label_studio(source: Source, frame_rate: float | None = None) -> Import:
    """Read an export in any of its four formats.

    Args:
        source: the file.
        frame_rate: frames a second of tasks whose data records no rate; None counts their frames as the decoder's.

    Raises:
        DataError: no tasks, or the export of a project without timeline labels.
    """
    reading = _Reading(found=Import(format="label-studio"), default_rate=frame_rate)
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


def _read_task(reading: _Reading, task: Any, place: str) -> None:
    if isinstance(task, dict) and ("annotations" in task or isinstance(task.get("data"), dict)):
        _read_full(reading, task, place)
    elif isinstance(task, dict) and FLAT_COLUMNS & task.keys():
        _read_flat(reading, task, place, ".")
    else:
        reading.fault(place, None, Reason.MALFORMED_ROW, f"a task is expected, not {show(task)}")


def _read_full(reading: _Reading, raw: dict[str, Any], place: str) -> None:
    """Read a task of the JSON export, with all its annotations."""
    data = raw.get("data")
    task = _describe(reading, data if isinstance(data, dict) else {}, place)
    reading.counts["tasks"] += 1
    for kind in ("drafts", "predictions"):
        others = raw.get(kind)
        for other in others if isinstance(others, list) else []:
            reading.counts[kind] += 1
            if isinstance(other, dict):
                reading.region_types.update(kind for _, kind, _ in _regions(other.get("result")))
    annotations = raw.get("annotations")
    if not isinstance(annotations, list):
        reading.fault(place, task, Reason.MALFORMED_ROW, f"annotations is {show(annotations)}, a list is expected")
        return
    for number, annotation in enumerate(annotations):
        _read_annotation(reading, annotation, task, f"{place}.annotations[{number}]")


def _read_annotation(reading: _Reading, annotation: Any, task: _Task, place: str) -> None:
    if not isinstance(annotation, dict) or not isinstance(annotation.get("result"), list):
        reading.fault(
            place, task, Reason.MALFORMED_ROW, f"an annotation with its result is expected, not {show(annotation)}"
        )
        return
    annotator = _annotator(annotation.get("completed_by"))
    regions = list(_regions(annotation["result"]))
    reading.region_types.update(kind for _, kind, _ in regions)
    if annotation.get("was_cancelled"):
        detail = f"skipped by annotator {annotator or 'unknown'}, with {len(regions)} region(s) that do not count"
        reading.fault(place, task, Reason.SKIPPED_ANNOTATION, detail)
        return
    reading.counts["annotations"] += 1
    for number, kind, value in regions:
        if kind == TIMELINE:
            _read_region(reading, value, task, annotator, f"{place}.result[{number}]")


def _regions(result: Any) -> Iterator[tuple[int, str, Any]]:
    """Yield number, type and value of each region; the type is read from the value where the region names none."""
    for number, region in enumerate(result if isinstance(result, list) else []):
        if isinstance(region, dict):
            value = region.get("value")
            timeline = isinstance(value, dict) and TIMELINE in value
            yield number, TIMELINE if timeline else str(region.get("type", "unknown")), value
        else:
            yield number, "unknown", region


def _read_flat(reading: _Reading, row: Mapping[str, Any], place: str, separator: str) -> None:
    """Read a row of JSON_MIN, CSV or TSV: one annotation, or a task without any.

    Its labels stand under the name that the interface gave the control, so they are known by their shape.
    """
    task = _describe(reading, row, place)
    reading.counts["tasks"] += 1
    annotator = _annotator(row.get("annotator"))
    reading.counts["annotations"] += annotator is not None
    for key, cell in row.items():
        where = f"{place}{separator}{key}"
        try:
            regions = _parse_cell(cell)
        except (ValueError, RecursionError) as fault:
            reading.region_types[TIMELINE] += 1
            reading.fault(where, task, Reason.MALFORMED_ROW, f"the cell is not valid JSON: {fault}")
            continue
        reading.has_normal |= isinstance(cell, str) and canonical(cell) == NORMAL
        for number, region in enumerate(regions):
            reading.region_types.update([kind for kind in region if kind.endswith("labels")] or list(region))
            if TIMELINE in region:
                _read_region(reading, region, task, annotator, f"{where}[{number}]")


def _parse_cell(cell: Any) -> list[dict[str, Any]]:
    """Return the region values in a cell, none where it holds something else."""
    if isinstance(cell, str) and cell[:1] in {"[", "{"}:
        try:
            cell = json.loads(cell)
        except (ValueError, RecursionError):
            if TIMELINE in cell:
                raise
            return []
    values = cell if isinstance(cell, list) else [cell]
    return [value for value in values if isinstance(value, dict)]


def _read_region(reading: _Reading, value: Any, task: _Task, annotator: str | None, place: str) -> None:
    """Make a glance of each range of a timeline region."""
    ranges = value.get("ranges") if isinstance(value, dict) else None
    if not isinstance(ranges, list) or not ranges:
        reading.fault(place, task, Reason.MALFORMED_ROW, f"a region with ranges is expected, not {show(value)}")
        return
    if task.video is None:
        reading.fault(place, task, Reason.MALFORMED_ROW, "the task's data names no video")
        return
    if task.rate_fault:
        reading.fault(place, task, Reason.FRAME_RATE_CONFLICT, task.rate_fault)
        return
    labels = value.get(TIMELINE)
    names = [str(label) for label in labels] if isinstance(labels, list) else []
    if names and canonical(names[0]) == NORMAL:
        reading.counts["normal"] += 1
        return
    reading.counts["labels"] += len(names) > 1
    for number, span in enumerate(ranges):
        spot = f"{place}.ranges[{number}]" if len(ranges) > 1 else place
        try:
            index = _middle(span)
        except ValueError as fault:
            reading.fault(spot, task, Reason.MALFORMED_ROW, fault)
            continue
        if index < 0:
            detail = f"frame {show(span['start'])}: Label Studio counts frames from 1"
            reading.fault(spot, task, Reason.FRAME_OUT_OF_RANGE, detail)
            continue
        reading.counts["drags"] += span["start"] != span["end"]
        reading.counts["no rate"] += task.frame_rate is None
        reading.found.glances.append(
            ForeignGlance(
                video=task.video,
                paths=task.paths,
                frame_index=index,
                time_s=index / task.frame_rate if task.frame_rate else None,
                frame_rate=task.frame_rate,
                category=names[0] if names else None,
                annotator=annotator,
                place=spot,
            )
        )


def _middle(span: Any) -> int:
    """Return the 0-based index of the middle frame of a range; -1 or less where the range starts before frame 1."""
    if not isinstance(span, dict) or not {"start", "end"} <= span.keys():
        raise ValueError(f"a range with start and end is expected, not {show(span)}")
    start, end = frame_number(span["start"]), frame_number(span["end"])
    if end < start:
        raise ValueError(f"the range ends at frame {end}, before its start at {start}")
    return start - 1 if start < 1 else (start + end) // 2 - 1


def _describe(reading: _Reading, data: Mapping[str, Any], place: str) -> _Task:
    """Find the video's names and the frame rate in a task's data, or in the flat row that holds them."""
    named = {key.lower().replace("-", "_"): value for key, value in data.items()}
    paths = [value for value in named.values() if isinstance(value, str) and is_video_path(value)]
    media = named.get("video")
    if isinstance(media, str) and media:
        paths = list(dict.fromkeys([media, *paths]))
    given = named.get("video_id")
    video = str(given) if isinstance(given, str | int) and str(given).strip() else next(iter(paths), None)
    reading.names_video |= video is not None
    rates = [value for key, value in named.items() if key.replace("_", "") in _RATE_KEYS and value not in (None, "")]
    frame_rate, rate_fault = reading.default_rate, None
    if rates:
        try:
            frame_rate = frames_per_second(rates[0])
        except ValueError as fault:
            rate_fault = f"the task's fps {fault}"
    return _Task(
        place=place,
        video=video,
        paths=tuple(path for path in paths if path != video),
        frame_rate=frame_rate,
        rate_fault=rate_fault,
    )


def _annotator(completed_by: Any) -> str | None:
    if isinstance(completed_by, dict):
        completed_by = completed_by.get("email") or completed_by.get("id")
    return None if completed_by in (None, "") else str(completed_by)


def _check_project(reading: _Reading, source: Source) -> None:
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


def _write_notes(reading: _Reading) -> None:
    texts = {
        "no rate": "click(s) of tasks without a frame rate: frames count at the video's own rate; "
        "Label Studio itself counts at 24 where the interface names none (set glance.frame_rate then)",
        "drags": "drag(s) over several frames: the middle frame is the glance",
        "labels": "region(s) with several labels: the first is the category",
        "normal": "region(s) labelled Normal: no glance",
        "drafts": "draft(s): not submitted, no glance",
        "predictions": "prediction(s): made by a model, no glance",
    }
    if not reading.found.glances and not reading.found.faults:
        reading.found.notes.append("no click in any of the tasks")
    reading.found.notes.extend(f"{reading.counts[key]} {text}" for key, text in texts.items() if reading.counts[key])
