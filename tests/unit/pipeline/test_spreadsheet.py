"""Tables as Excel and LibreOffice leave them: every encoding and dialect gives the cells of the original."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.errors import DataError
from pipeline.spreadsheet import decode, read_cells, with_point

ROWS = [["video_id", "time_s", "sentence"], ["Überfall", "1.5", 'A man says "no", and runs.'], ["b", "2", ""]]
PLAIN = 'video_id,time_s,sentence\nÜberfall,1.5,"A man says ""no"", and runs."\nb,2,\n'


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (PLAIN, "utf-8"),
        (PLAIN, "utf-8-sig"),
        (PLAIN, "utf-16"),
        (PLAIN, "cp1252"),
        (PLAIN.replace("\n", "\r\n"), "utf-8-sig"),
        (PLAIN.replace("\n", "\r"), "utf-8"),
        ("\n" + PLAIN + "\n,,\n", "utf-8"),
        ('video_id\ttime_s\tsentence\nÜberfall\t1.5\t"A man says ""no"", and runs."\nb\t2\t\n', "utf-16"),
        ('video_id;time_s;sentence\r\nÜberfall;1.5;"A man says ""no"", and runs."\r\nb;2;\r\n', "cp1252"),
        ('sep=;\r\nvideo_id;time_s;sentence\r\nÜberfall;1.5;"A man says ""no"", and runs."\r\nb;2;\r\n', "utf-8-sig"),
    ],
)
def test_the_same_cells_come_out_of_every_form(text: str, encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    decoded = decode(text.encode(encoding), path)
    assert [cells for _, cells in read_cells(decoded, path)] == ROWS


def test_rows_know_their_line() -> None:
    lines = [line for line, _ in read_cells('a,b\n"1\n2",3\n\n4,5\n', Path("t.csv"))]
    assert lines == [1, 2, 5]


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("ä,Überfall\n".encode() + b"\xfc\n", "t.csv"),  # UTF-8, damaged
        (b'{"a": "\xfc"}', "t.json"),
        (b"\x00\x01\xff\xfe\x81", "t.csv"),
        (b"a,\x81\n", "t.csv"),
        (b"\xff\xfea", "t.csv"),  # UTF-16, cut short
    ],
)
def test_what_is_no_text_names_the_byte(content: bytes, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}:\d+: not UTF-8 text: byte 0x"):
        decode(content, Path(name))


@pytest.mark.parametrize(
    ("cell", "delimiter", "number"),
    [
        ("1,5", ";", "1.5"),
        ("1,234", ";", "1.234"),
        ("1,5", ",", "1.5"),
        ("1,234", ",", "1,234"),
        ("0,234", ",", "0.234"),
        ("1.234,5", ";", "1.234,5"),
        ("-2,25", "\t", "-2.25"),
        ("12", ";", "12"),
        ("a,b", ";", "a,b"),
    ],
)
def test_decimal_commas(cell: str, delimiter: str, number: str) -> None:
    assert with_point(cell, delimiter) == number
