"""When the frames of a DHAV file are shown, the .dav of Dahua's recorders: libavformat knows it but for a second.

Each frame has a header with its number, the date in whole seconds and the low bits of a count of milliseconds.
libavformat lets the clock begin anew with each second, and so is wrong behind a start, a pause or a loss amid one.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

_HEADER = struct.Struct("<4s4xI4xIH")
_SIGNATURE = b"DHAV"
_WRAP_MS = 1 << 16
_SLACK_MS = 2000
"""By how much the count may differ from the dates over a whole file, both ends of which are whole seconds."""

_MOST = 0.9
"""Share of the frames that follow the one before by number, where frames and nothing else are numbered."""


def read_clock(path: Path, positions: Sequence[int]) -> tuple[NDArray[np.int64], bool] | None:
    """Return the times of frames, and whether some are missing between them; None where the headers do not tell.

    Args:
        path: the file.
        positions: where in it each frame starts, ascending.

    Returns:
        Milliseconds since the first frame, ascending, int64, shape (len(positions),), and whether numbers are missing.
    """
    numbers, dates_ms, counts_ms = np.zeros((3, len(positions)), dtype=np.int64)
    with path.open("rb", buffering=0) as file:
        for place, position in enumerate(positions):
            file.seek(position)
            head = file.read(_HEADER.size)
            if len(head) < _HEADER.size or not head.startswith(_SIGNATURE):
                return None
            _, numbers[place], date, counts_ms[place] = _HEADER.unpack(head)
            try:
                dates_ms[place] = 1000 * _seconds(date)
            except ValueError:
                return None
    steps, by_date = np.diff(counts_ms) % _WRAP_MS, np.diff(dates_ms)
    steps += _WRAP_MS * np.rint((by_date - steps) / _WRAP_MS).astype(np.int64)
    if (steps <= 0).any() or abs(int(steps.sum() - by_date.sum())) > _SLACK_MS:
        return None
    follows = np.diff(numbers) == 1
    return np.append(0, np.cumsum(steps)), bool(len(follows)) and _MOST <= follows.mean() < 1


def _seconds(date: int) -> int:
    """Return a date as seconds since 1970.

    Raises:
        ValueError: where it is none.
    """
    year, month, day = 2000 + (date >> 26), date >> 22 & 15, date >> 17 & 31
    return int(datetime(year, month, day, date >> 12 & 31, date >> 6 & 63, date & 63, tzinfo=UTC).timestamp())
