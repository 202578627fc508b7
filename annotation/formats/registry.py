"""Every annotation format by name: which one a file has, and how it is read."""

from __future__ import annotations

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from annotation.formats import delimited, descriptions, temporal
from annotation.formats.foreign import Import
from annotation.formats.tables import read_holmes
from annotation.label_studio import click_export
from annotation.source import Source
from pipeline.errors import ConfigError, DataError

AUTO = "auto"
_LOOK_LINES = 200
"""Lines of a text file that are looked at to tell its format."""


@dataclass(frozen=True, slots=True)
class Format:
    """An annotation format: what it is, for a person, and its reader."""

    title: str
    read: Callable[[Source], Import]


FORMATS: dict[str, Format] = {
    "label-studio": Format("Label Studio export: JSON, JSON_MIN, CSV or TSV", click_export.read_label_studio),
    "glancevad": Format(
        "GlanceVAD CSV: video-id,glance", lambda source: delimited.read_glance_table(source, "glancevad")
    ),
    "glances": Format(
        "CSV of glances: video_id, frame_index or time_s, optional category and annotator",
        lambda source: delimited.read_glance_table(source, "glances"),
    ),
    "ucf-crime": Format("UCF-Crime temporal annotation", temporal.read_ucf_crime),
    "xd-violence": Format("XD-Violence temporal annotation", temporal.read_xd_violence),
    "hivau": Format("HIVAU-70k raw JSON", descriptions.read_hivau),
    "uca": Format("UCA sentences: JSON or text", descriptions.read_uca),
    "ground-truth": Format(
        "CSV of events: video_id,start_frame,end_frame_exclusive,category",
        lambda source: delimited.read_span_table(source, "ground-truth"),
    ),
    "captions": Format(
        "CSV of sentences: video_id,start_s,end_s,sentence",
        lambda source: delimited.read_span_table(source, "captions"),
    ),
    "holmes": Format("Parquet written by holmes import", read_holmes),
}
"""The known formats by name."""


def read_annotations(path: Path | str, format: str = AUTO, *, frame_rate: float | None = None) -> Import:  # noqa: A002
    """Read an annotation file of any format; its bad parts become faults and the rest goes on.

    Args:
        path: the file.
        format: a name of `FORMATS`, or `auto` to tell it from the content.
        frame_rate: frames a second at which Label Studio counted, for tasks whose data does not record it. The frames
            of all other formats are the decoder's own.

    Raises:
        DataError: the file as a whole is unusable: missing, no text, truncated, of another kind, or empty.
        ConfigError: no such format.
    """
    if format != AUTO and format not in FORMATS:
        nearest = difflib.get_close_matches(format, FORMATS, n=1, cutoff=0.0)[0]
        known = ", ".join(FORMATS)
        raise ConfigError(f"annotation format {format!r} is unknown; the nearest is {nearest}, known are {known}")
    source = Source(Path(path))
    name = _detect(source) if format == AUTO else format
    if name == "label-studio":
        return click_export.read_label_studio(source, frame_rate)
    return FORMATS[name].read(source)


def detect_format(path: Path | str) -> str:
    """Return the name of a file's format, told by its content.

    Raises:
        DataError: the file is unusable or has none of the formats.
    """
    return _detect(Source(Path(path)))


def _detect(source: Source) -> str:
    if source.is_parquet:
        return "holmes"
    name = _detect_json(source.json) if source.is_json else _detect_table(source) or _detect_lines(source)
    if name is None:
        known = "".join(f"\n  {name}: {entry.title}" for name, entry in FORMATS.items())
        raise DataError(f"{source.path}: the content has none of the known annotation formats:{known}")
    return name


def _detect_json(payload: Any) -> str | None:
    if isinstance(payload, dict):
        if isinstance(payload.get("annotations"), list):
            return "label-studio"
        if descriptions.is_hivau(payload):
            return "hivau"
        return "uca" if descriptions.is_uca(payload) else None
    tasks = [task for task in payload if isinstance(task, dict)]
    marks = click_export.FLAT_COLUMNS | {"annotations", "data"}
    # an empty list is what Label Studio writes for a project without tasks; its reader says so
    return "label-studio" if not payload or any(marks & task.keys() for task in tasks) else None


def _detect_table(source: Source) -> str | None:
    columns = source.columns
    if len(click_export.FLAT_COLUMNS & set(columns)) > 1:
        return "label-studio"
    if delimited.is_span_table(columns):
        return "captions" if delimited.is_caption_table(columns) else "ground-truth"
    if delimited.is_glance_table(columns):
        return "glancevad" if columns == ["video_id", "glance"] else "glances"
    return None


def _detect_lines(source: Source) -> str | None:
    lines = [line for (_, line), _ in zip(source.lines(), range(_LOOK_LINES), strict=False)]
    tests = {"uca": descriptions.is_uca_line, "ucf-crime": temporal.is_ucf_line, "xd-violence": temporal.is_xd_line}
    matching = {name: sum(map(test, lines)) for name, test in tests.items()}
    best = max(matching, key=lambda name: matching[name])
    return best if matching[best] else None
