"""Every annotation format by name: which one a file has, and how it is read."""

from __future__ import annotations

from pathlib import Path

from annotation.formats.base import Format
from annotation.formats.foreign import Import
from annotation.formats.frame_masks import read_mask_folder
from annotation.source import Source
from pipeline.errors import ConfigError, DataError
from pipeline.plugins import ANNOTATION_FORMATS, find_plugin, plugins

AUTO = "auto"
MASKS = "frame-masks"


def annotation_formats() -> dict[str, Format]:
    """Return the known formats by name, those of other packages last."""
    return {name: plugin.load() for name, plugin in plugins(ANNOTATION_FORMATS).items()}


def read_annotations(path: Path | str, format: str = AUTO, *, frame_rate: float | None = None) -> Import:  # noqa: A002
    """Read an annotation file of any format; its bad parts become faults and the rest goes on.

    Args:
        path: the file, or a folder of frame masks.
        format: the name of a format, or `auto` to tell it from the content.
        frame_rate: frames a second at which Label Studio counted, for tasks whose data does not record it. The frames
            of all other formats are the decoder's own.

    Raises:
        DataError: the file as a whole is unusable: missing, no text, truncated, of another kind, or empty.
        ConfigError: no such format.
    """
    if format in {AUTO, MASKS} and Path(path).is_dir():
        return read_mask_folder(Path(path))
    if format != AUTO:
        try:
            known: Format = find_plugin(ANNOTATION_FORMATS, format).load()
        except ConfigError as fault:
            raise ConfigError(f"annotation format {fault}") from None
        return known.read(Source(Path(path)), frame_rate)
    source = Source(Path(path))
    return annotation_formats()[_detect(source)].read(source, frame_rate)


def detect_format(path: Path | str) -> str:
    """Return the name of a file's format, told by its content.

    Raises:
        DataError: the file is unusable or has none of the formats.
    """
    return _detect(Source(Path(path)))


def _detect(source: Source) -> str:
    formats = annotation_formats()
    likeness = {name: known.likeness(source) for name, known in formats.items()}
    best = max(likeness, key=likeness.__getitem__)
    if not likeness[best] and source.is_json_lines:
        raise DataError(f"{source.path}: JSON Lines, of none of the known formats: {', '.join(formats)}")
    if not likeness[best]:
        known = "".join(f"\n  {name}: {entry.title}" for name, entry in formats.items())
        raise DataError(f"{source.path}: the content has none of the known annotation formats:{known}")
    return best
