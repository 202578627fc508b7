"""An annotation file as bytes, text, JSON or table, with errors that name the file and the place in it."""

from __future__ import annotations

import io
import json
import math
import re
import reprlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from pipeline.errors import DataError
from pipeline.spreadsheet import decode, delimiter_of, read_cells, with_point

MAX_FRAME_NUMBER = 1 << 53
"""Largest frame number that JSON carries exactly."""

_CLOCK = re.compile(r"(?:(?P<hours>\d+):)?(?P<minutes>\d+):(?P<seconds>\d+(?:[.,]\d*)?)")
_LONE_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a table: its line in the file, its cells by column name, and how many cells it has in all."""

    line: int
    cells: dict[str, str]
    width: int


class Source:
    """A file that is read once and looked at in several ways.

    Raises:
        DataError: no such file, a folder, unreadable, or empty.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._bytes = path.read_bytes()
        except FileNotFoundError:
            raise DataError(f"{path}: no such annotation file") from None
        except OSError as fault:
            raise DataError(f"{path}: cannot be read: {fault.strerror}") from None
        if not self._bytes.strip():
            raise DataError(f"{path}: the file is empty")

    @property
    def name(self) -> str:
        """The file name, which opens every place in it."""
        return self.path.name

    @property
    def is_parquet(self) -> bool:
        """Whether the content is Parquet, by its magic number."""
        return self._bytes.startswith(b"PAR1")

    @property
    def is_npy(self) -> bool:
        """Whether the content is one array of NumPy, by its magic number."""
        return self._bytes.startswith(b"\x93NUMPY")

    @property
    def is_mat(self) -> bool:
        """Whether the content is a file of MATLAB, by the text that it opens with."""
        return self._bytes.startswith(b"MATLAB ")

    @property
    def is_hdf5(self) -> bool:
        """Whether a file of MATLAB is one of version 7.3."""
        return self._bytes.startswith(b"MATLAB 7.3")

    @property
    def is_binary(self) -> bool:
        """Whether the content is no text, by a magic number."""
        return self.is_parquet or self.is_npy or self.is_mat

    @property
    def is_xml(self) -> bool:
        """Whether the content starts like XML."""
        return not self.is_binary and self.text.lstrip().startswith("<")

    @property
    def is_json(self) -> bool:
        """Whether the content starts like one JSON list or object; JSON Lines do not."""
        return not self.is_binary and self.text.lstrip()[:1] in {"[", "{"} and not self.is_json_lines

    @cached_property
    def is_json_lines(self) -> bool:
        """Whether the content is several lines, the first of them a JSON object of its own."""
        if self.is_binary or not self.text.lstrip().startswith("{"):
            return False
        first, *more = islice(self.lines(), 2)
        try:
            return bool(more) and isinstance(json.loads(first[1]), dict)
        except (ValueError, RecursionError):
            return False

    @cached_property
    def text(self) -> str:
        """The content without a byte order mark. Raises DataError, naming the byte, where it is no text."""
        return decode(self._bytes, self.path)

    @cached_property
    def json(self) -> Any:
        """The content as JSON. Raises DataError, naming line and column, where it is not valid or cut short."""
        try:
            return load_json(self.text)
        except json.JSONDecodeError as fault:
            at_end = fault.pos >= len(self.text.rstrip()) or fault.msg.startswith("Unterminated string")
            cut = "; the file ends there: is it truncated?" if at_end else ""
            where = f"{self.path}:{fault.lineno}:{fault.colno}"
            raise DataError(f"{where}: not valid JSON: {fault.msg}{cut}") from None
        except UnicodeEncodeError as fault:
            raise DataError(f"{self.path}: not usable JSON: {fault.reason}") from None
        except (ValueError, RecursionError) as fault:
            raise DataError(f"{self.path}: not usable JSON: {fault}") from None

    def lines(self) -> Iterator[tuple[int, str]]:
        """Yield the lines that hold something, with their numbers from 1."""
        # str.splitlines() would also split at characters, such as U+2028, that occur inside sentences
        for number, line in enumerate(io.StringIO(self.text, newline=None), start=1):
            if line.strip():
                yield number, line.strip()

    @cached_property
    def columns(self) -> list[str]:
        """The header of a table, in lower case with underscores for dashes; empty where the content is no table."""
        try:
            header = next(read_cells(self.text, self.path), (0, []))[1]
        except DataError:
            return []
        return [re.sub("[- ]", "_", name.strip().lower()) for name in header]

    def rows(self) -> Iterator[Row]:
        """Yield the rows of a table below its header, blank ones left out.

        Raises:
            DataError: naming the line at which the file stops being a table.
        """
        for line, cells in islice(read_cells(self.text, self.path), 1, None):
            named = dict(zip(self.columns, (cell.strip() for cell in cells), strict=False))
            # a spreadsheet fills rows up with blank cells
            width = max((place for place, cell in enumerate(cells, start=1) if cell.strip()), default=0)
            yield Row(line, named, max(width, min(len(cells), len(self.columns))))

    def with_point(self, cell: str) -> str:
        """Return a cell's number with a decimal point where the table has decimal commas."""
        return with_point(cell, self._delimiter)

    @cached_property
    def _delimiter(self) -> str:
        return delimiter_of(self.text)


def load_json(text: str) -> Any:
    """Return the value of JSON text.

    Raises:
        ValueError: no JSON, or half a surrogate pair in it: no file name, Parquet table or terminal takes that.
        RecursionError: too deep.
    """
    value = json.loads(text)
    if _LONE_SURROGATE.search(text):
        json.dumps(value, ensure_ascii=False).encode()
    return value


def show(value: object) -> str:
    """Return a short, one-line form of a value for a message."""
    return reprlib.repr(value)


def frame_number(value: object) -> int:
    """Return a whole number given as int, integral float or text.

    Raises:
        ValueError: naming the value.
    """
    number = _number(value, "frame number")
    if number != int(number) or abs(number) > MAX_FRAME_NUMBER:
        raise ValueError(f"{show(value)} is not a frame number")
    return int(number)


def seconds(value: object) -> float:
    """Return a finite number of seconds given as number or text.

    Raises:
        ValueError: naming the value.
    """
    return _number(value, "number of seconds")


def clock_seconds(value: object) -> float:
    """Return seconds given as a number, as text, or as `hh:mm:ss.s` or `mm:ss.s`, with a comma for the point too.

    Raises:
        ValueError: naming the value.
    """
    match = _CLOCK.fullmatch(value.strip()) if isinstance(value, str) else None
    if match is None:
        return seconds(value)
    if (match["hours"] and int(match["minutes"]) > 59) or float(match["seconds"].replace(",", ".")) >= 60:
        raise ValueError(f"{show(value)} is not a time: minutes and seconds end at 59")
    minutes = int(match["hours"] or 0) * 60 + int(match["minutes"])
    return minutes * 60 + float(match["seconds"].replace(",", "."))


def frames_per_second(value: object) -> float:
    """Return a frame rate given as number or text.

    Raises:
        ValueError: naming the value, where it is no number above 0.
    """
    rate = _number(value, "frame rate")
    if rate <= 0:
        raise ValueError(f"{show(value)} is not a frame rate above 0")
    return rate


def _number(value: object, meaning: str) -> float:
    # Python alone would read 1_000 as a number
    if isinstance(value, int | float | str) and not isinstance(value, bool) and "_" not in str(value):
        try:
            number = float(value)
        except (ValueError, OverflowError):
            number = math.nan
        if math.isfinite(number):
            return number
    raise ValueError(f"{show(value)} is not a {meaning}")
