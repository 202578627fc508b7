"""Tables of text as people save them: what Excel and LibreOffice make of a CSV file is read like the file itself."""

from __future__ import annotations

import codecs
import csv
import io
import logging
import re
from collections.abc import Iterator
from pathlib import Path

from pipeline.errors import DataError

logger = logging.getLogger(__name__)

MAX_CELL_CHARS = 1 << 24
"""Longest cell of a table: a Label Studio export puts all regions of a long video into one."""

_DELIMITERS = ",\t;"
"""What stands between cells: spreadsheets write tabs or, where the comma is the decimal sign, semicolons."""

_TABLE_SUFFIXES = frozenset({".csv", ".tsv", ".txt"})
_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f]")
_DECIMAL_COMMA = re.compile(r"[+-]?\d+,\d+")
_GROUPED = re.compile(r"[+-]?[1-9]\d{0,2},\d{3}")


def decode(content: bytes, name: Path) -> str:
    """Return the text of a file without a byte order mark: UTF-8, UTF-16 with its mark, tables also in Windows-1252.

    Raises:
        DataError: naming the file, the line and the byte that is no text.
    """
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as fault:
        line = content.count(b"\n", 0, fault.start) + 1
        unreadable = DataError(f"{name}:{line}: not UTF-8 text: byte 0x{content[fault.start]:02x}")
    # letters that are UTF-8 all the same say that the rest is damaged, and no other encoding
    is_damaged = any(char > "\x7f" and char != "\ufffd" for char in content.decode("utf-8", "replace"))
    if is_wide or is_damaged or name.suffix.lower() not in _TABLE_SUFFIXES:
        raise unreadable
    try:
        text = content.decode("cp1252")
    except UnicodeDecodeError:
        raise unreadable from None
    if _NO_TEXT.search(text):
        raise unreadable
    logger.warning("%s: not UTF-8: read as Windows-1252, as older spreadsheets save text", name)
    return text


def read_cells(text: str, name: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield the line and the cells of every row that holds something, the header's first.

    Raises:
        DataError: naming the line at which the file stops being a table.
    """
    csv.field_size_limit(MAX_CELL_CHARS)
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter_of(text))
    last_line = 0
    try:
        for cells in reader:
            line, last_line = last_line + 1, reader.line_num
            if any(cell.strip() for cell in cells) and not (line == 1 and _says_delimiter(text)):
                yield line, cells
    except csv.Error as fault:
        raise DataError(f"{name}:{last_line + 1}: not a readable table: {fault}") from None


def delimiter_of(text: str) -> str:
    """Return what stands between the cells of a table: what its first line says, or what its header has most of."""
    if said := _says_delimiter(text):
        return said
    header = next((line for line in io.StringIO(text) if line.strip()), "")
    return max(_DELIMITERS, key=header.count)


def with_point(cell: str, delimiter: str) -> str:
    """Return a number with a decimal point where it has a decimal comma.

    Between commas, `1,234` may as well mean a thousand and more: it stays, and is no number.
    """
    if _DECIMAL_COMMA.fullmatch(cell) and not (delimiter == "," and _GROUPED.fullmatch(cell)):
        return cell.replace(",", ".")
    return cell


def _says_delimiter(text: str) -> str | None:
    # Excel's own way to say it, which people write by hand
    match = re.match(r'"?sep=([,;\t])"?\r?\n', text)
    return match[1] if match else None
