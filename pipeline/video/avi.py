"""The index of an AVI file, which tells of each picture when it is decoded, whatever is lost before it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from pipeline.video.packet_times import Row

if TYPE_CHECKING:
    from av.video.stream import VideoStream

_HEADER_BYTES = 8
"""Of a chunk, before its content: the index leads to the first, a packet to the second."""


def index_times(stream: VideoStream) -> dict[int, int]:
    """Return by the place of its content in the file when each picture is decoded, in ticks.

    To be asked for before any packet is read: reading fills an index that is missing with what it counts.
    """
    return {entry.pos + _HEADER_BYTES: entry.timestamp for entry in stream.index_entries}


def rows_by_index(rows: Sequence[Row], positions: Sequence[int], times: Mapping[int, int]) -> list[Row] | None:
    """Return the packets at the times of the index where it says otherwise than they do; None where they agree.

    A chunk has no time of its own. libavformat counts those that it comes by, and so has all that follow chunks which
    are overwritten too early.

    Args:
        rows: the packets in decode order.
        positions: where in the file the content of each begins.
        times: as `index_times` gives them.
    """
    decoded_at = [times.get(position) for position in positions]
    shifts = [0 if at is None or row[1] is None else at - row[1] for at, row in zip(decoded_at, rows, strict=True)]
    are_all_there = None not in decoded_at and len(set(positions)) == len(positions)
    if not are_all_there or not any(shifts) or shifts != sorted(shifts):
        return None
    return [
        (None if row[0] is None else row[0] + shift, None if row[1] is None else row[1] + shift, *row[2:])
        for row, shift in zip(rows, shifts, strict=True)
    ]
