"""Read ELAN: its documents (.eaf) and its export as tab-delimited text with column headers.

Every time-aligned annotation of every tier is an event, its value the class; an empty value says only that something
happens. Times are milliseconds of the first video file, from which its TIME_ORIGIN is counted. The tab-delimited export
names its video in a column of the file's name, or else is called as the video is.

Source: https://www.mpi.nl/tools/elan/EAF_Annotation_Format_3.0_and_ELAN.pdf (EAF 2.7 to 3.0, ELAN 5 to 6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element

from annotation.formats.base import Format, by_columns
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.formats.xml_file import opens_with, read_root
from annotation.source import Source, clock_seconds, seconds
from pipeline.errors import DataError
from pipeline.records import Reason

# column headers in lower case, with underscores for blanks and dashes, and how many make a second
_UNITS = {"___ss.msec": 1.0, "___hh:mm:ss.ms": 1.0, "___msec": 1000.0}
_FILES = ("file_name", "file_path", "file")
_TIMES = ("begin_time", "end_time", "duration")


def read_elan(source: Source) -> Import:
    """Read the aligned annotations of a document; one without times is a fault and the rest goes on.

    Raises:
        DataError: no ELAN document, or it names no media file.
    """
    root = read_root(source, "ANNOTATION_DOCUMENT", "ELAN")
    video, paths, origin_s = _media(root, source)
    slots = {slot.get("TIME_SLOT_ID"): slot.get("TIME_VALUE") for slot in root.iter("TIME_SLOT")}
    found = Import(format="elan")
    for tier in root.iter("TIER"):
        for mark in tier.iter("ALIGNABLE_ANNOTATION"):
            place = f"{source.name}: {tier.get('TIER_ID')}: {mark.get('ANNOTATION_ID')}"
            values = [slots.get(mark.get(f"TIME_SLOT_REF{end}")) for end in (1, 2)]
            try:
                start_s, end_s = (seconds(value) / 1000 + origin_s for value in values)
            except ValueError:
                found.fault(place, video, Reason.MALFORMED_ROW, f"not aligned with the time: {values}")
                continue
            _take(found, (video, *paths), (start_s, end_s), mark.findtext("ANNOTATION_VALUE"), place)
    return found


def read_elan_table(source: Source) -> Import:
    """Read the rows of a tab-delimited export; a bad row is a fault and the rest goes on.

    Raises:
        DataError: no columns of begin and end.
    """
    columns = source.columns
    begin, end = _time_column(columns, "begin_time"), _time_column(columns, "end_time")
    if begin is None or end is None:
        raise DataError(f"{source.path}: no tab-delimited export of ELAN with column headers: no begin and end time")
    found = Import(format="elan-table")
    of_text = [
        name for name in columns if not name.startswith(_TIMES) and name not in {*_FILES, "", "tier", "participant"}
    ]
    for row in source.rows():
        place = f"{source.name}:{row.line}"
        video = next((row.cells[name] for name in _FILES if row.cells.get(name)), source.path.stem)
        try:
            bounds = tuple(
                clock_seconds(source.with_point(row.cells.get(name, ""))) / per_s for name, per_s in (begin, end)
            )
        except ValueError as fault:
            found.fault(place, video, Reason.MALFORMED_ROW, fault)
            continue
        video = video.removesuffix(".eaf")
        _take(found, (video,), (bounds[0], bounds[1]), _first(row.cells, of_text), place)
    return found


def _first(cells: Mapping[str, str], names: Sequence[str]) -> str | None:
    return next((cells[name] for name in names if cells.get(name)), None)


def _take(found: Import, names: tuple[str, ...], bounds_s: tuple[float, float], text: str | None, place: str) -> None:
    (video, *paths), (start_s, end_s) = names, bounds_s
    said = (text or "").strip() or None
    found.take(
        ForeignSpan(
            video=video,
            paths=tuple(paths),
            start_s=start_s,
            end_s=end_s,
            category=said,
            kind=SpanKind.EVENT,
            by_player=True,
            place=place,
        )
    )


def _media(root: Element, source: Source) -> tuple[str, tuple[str, ...], float]:
    """Return name, further address, and the second of the file at which the annotation's time begins."""
    files = list(root.iter("MEDIA_DESCRIPTOR"))
    films = [file for file in files if (file.get("MIME_TYPE") or "").startswith("video")] or files
    if not films or not (films[0].get("MEDIA_URL") or films[0].get("RELATIVE_MEDIA_URL")):
        raise DataError(f"{source.path}: the document names no media file")
    address, relative = films[0].get("MEDIA_URL"), films[0].get("RELATIVE_MEDIA_URL")
    try:
        origin_s = seconds(films[0].get("TIME_ORIGIN", "0")) / 1000
    except ValueError as fault:
        raise DataError(f"{source.path}: TIME_ORIGIN: {fault}") from None
    return address or relative or "", (relative,) if relative and address else (), origin_s


def _time_column(columns: Sequence[str], name: str) -> tuple[str, float] | None:
    return next(((name + unit, per_s) for unit, per_s in _UNITS.items() if name + unit in columns), None)


ELAN = Format(
    title="ELAN document (.eaf)",
    likeness=lambda source: float(opens_with(source, "ANNOTATION_DOCUMENT")),
    read=lambda source, _: read_elan(source),
)
ELAN_TABLE = Format(
    title="ELAN's tab-delimited export with column headers",
    likeness=by_columns(
        lambda columns: bool(_time_column(columns, "begin_time") and _time_column(columns, "end_time"))
    ),
    read=lambda source, _: read_elan_table(source),
)
