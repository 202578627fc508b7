"""What an annotation format is: how a file of it is told, and how it is read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from annotation.formats.foreign import Import
from annotation.source import Source

_LOOK_LINES = 200
"""Lines of a text file that are looked at to tell its format."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """An annotation format.

    Attributes:
        title: what it is, for a person.
        likeness: how much a file's content looks like it, in [0, 1]; the format of the highest reads the file.
        read: makes an `Import` of the file. The second argument is the frame rate at which Label Studio counted, for
            tasks whose data does not record it; the frames of other formats are the decoder's own.
    """

    title: str
    likeness: Callable[[Source], float]
    read: Callable[[Source, float | None], Import]


def _has_structure(source: Source) -> bool:
    return source.is_binary or source.is_json or source.is_json_lines or source.is_xml


def by_columns(test: Callable[[list[str]], bool]) -> Callable[[Source], float]:
    """Return a likeness that asks for the columns of a table."""

    def likeness(source: Source) -> float:
        return float(not _has_structure(source) and test(source.columns))

    return likeness


def by_lines(test: Callable[[str], bool]) -> Callable[[Source], float]:
    """Return a likeness that asks for lines of text: below that of a table, whose columns say more."""

    def likeness(source: Source) -> float:
        if _has_structure(source):
            return 0.0
        lines = [line for (_, line), _ in zip(source.lines(), range(_LOOK_LINES), strict=False)]
        return 0.9 * sum(map(test, lines)) / max(1, len(lines))

    return likeness
