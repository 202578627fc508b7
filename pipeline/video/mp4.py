"""The sample times of an MP4 file, read from its index: those of an hour in a hundredth of a second.

Demuxing a whole file to learn its presentation times costs more than decoding a clip of it, and libavformat's own
index holds decode times only. The tables read here are those of ISO/IEC 14496-12, 8.6.1. Files with fragments or with
edit lists that may hide frames are left to the demuxer.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

_MAX_INDEX_BYTES = 1 << 28
_UNSIGNED_ALONE = 1 << 31
"""Intervals from here on are negative ones of a broken table, which the demuxer repairs in a way of its own."""


@dataclass(frozen=True, eq=False)
class SampleTimes:
    """Times of all samples of a track in decode order, in ticks of the track.

    Attributes:
        pts: presentation times up to one constant, int64, shape (P,).
        delays: times from decoding to presentation up to one constant, int64, shape (P,).
        is_key: samples at which decoding can start, bool, shape (P,).
        last_duration: duration of the last sample in decode order.
    """

    pts: NDArray[np.int64]
    delays: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    last_duration: int


def read_sample_times(path: Path, track_id: int) -> SampleTimes | None:
    """Read the sample times of a track; None where this simple reading is not enough."""
    try:
        moov = _read_moov(path)
        return None if moov is None else _track_times(moov, track_id)
    except (struct.error, LookupError, ValueError):
        return None


def is_cut_off(path: Path) -> bool:
    """Tell whether the last box of an MP4 file reaches beyond the end of the file."""
    with path.open("rb") as file:
        size = path.stat().st_size
        return any(end > size for _, _, end in _file_boxes(file, size))


def broken_fragment(path: Path) -> int | None:
    """Return where the first fragment starts whose header is broken or cut off; None where none, or no whole one, is.

    libavformat reads nothing of a file with such a header, neither of the fragments before.
    """
    size = path.stat().st_size
    is_fragmented = False
    with path.open("rb") as file:
        for kind, start, end in _file_boxes(file, size):
            if kind == b"moof":
                file.seek(start)
                if not _is_whole(memoryview(file.read(min(end, size) - start)), end - start):
                    return start - 8 if is_fragmented else None
                is_fragmented = True
    return None


def _is_whole(content: memoryview, size: int) -> bool:
    """Tell whether the content of a box is of `size`, and of boxes alone; those for a track are so, too."""
    try:
        parts = list(_boxes(content))
    except ValueError:
        return False
    is_filled = len(content) == size == sum(8 + len(part) for _, part in parts)
    return is_filled and all(_is_whole(part, len(part)) for kind, part in parts if kind == b"traf")


def bytes_of_second_file(path: Path) -> int:
    """Return how many bytes at the end of an MP4 file are another one; 0 where there is none."""
    size = path.stat().st_size
    with path.open("rb") as file:
        starts = [start - 8 for kind, start, _ in _file_boxes(file, size) if kind == b"ftyp"]
    return size - starts[1] if len(starts) > 1 else 0


def lie_beside_media(path: Path, samples: Iterable[tuple[int, int]]) -> bool:
    """Tell whether any of `samples`, start and end in the file, lies in none of its boxes of media data."""
    with path.open("rb") as file:
        data = [(start, end) for kind, start, end in _file_boxes(file, path.stat().st_size) if kind == b"mdat"]
    return any(not any(first <= start and end <= last for first, last in data) for start, end in samples)


def lacks_fragments(path: Path) -> bool:
    """Tell whether the fragments of an MP4 file, which are numbered, lack some in between."""
    numbers = []
    with path.open("rb") as file:
        for kind, start, _ in _file_boxes(file, path.stat().st_size):
            if kind == b"moof":
                file.seek(start)
                header = file.read(16)
                if header[4:8] == b"mfhd":
                    numbers.append(int.from_bytes(header[12:], "big"))
    steps = np.diff(numbers)
    return bool(len(steps) and steps.min() == 1 < steps.max())


def _read_moov(path: Path) -> memoryview | None:
    """Return the content of the moov box, wherever it stands; None where there is none or the file has fragments."""
    moov = None
    with path.open("rb") as file:
        for kind, start, end in _file_boxes(file, path.stat().st_size):
            if kind == b"moof":
                return None
            if kind == b"moov" and moov is None and end - start <= _MAX_INDEX_BYTES:
                file.seek(start)
                moov = memoryview(file.read(end - start))
    return moov


def _file_boxes(file: BinaryIO, file_size: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield kind, start of the content and end of the boxes at the top of a file."""
    end = 0
    while end < file_size:
        file.seek(end)
        header = file.read(16)
        if len(header) < 8:
            return
        start = end + 8
        size, kind = struct.unpack_from(">I4s", header)
        if size == 1 and len(header) == 16:
            (size,) = struct.unpack_from(">Q", header, 8)
            start = end + 16
        end = end + size if size else file_size  # no size: the box reaches to the end of the file
        if end < start:
            return
        yield kind, start, end


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    start = 0
    while start + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, start)
        if size < 8:
            raise ValueError(f"box {kind!r} of {size} bytes")
        yield kind, data[start + 8 : start + size]
        start += size


def _track_times(moov: memoryview, track_id: int) -> SampleTimes | None:
    for kind, track in _boxes(moov):
        if kind == b"mvex":
            return None
        if kind == b"trak":
            boxes = dict(_boxes(track))
            version = boxes[b"tkhd"][0]
            (found_id,) = struct.unpack_from(">I", boxes[b"tkhd"], 20 if version == 1 else 12)
            if found_id == track_id:
                return None if _may_hide_frames(boxes) else _stbl_times(boxes)
    return None


def _may_hide_frames(boxes: dict[bytes, memoryview]) -> bool:
    """Tell whether an edit list does more than set the start: it then takes the demuxer to know what is shown."""
    if b"edts" not in boxes:
        return False
    edit_list = dict(_boxes(boxes[b"edts"])).get(b"elst")
    return edit_list is not None and struct.unpack_from(">I", edit_list, 4)[0] != 1


def _stbl_times(boxes: dict[bytes, memoryview]) -> SampleTimes | None:
    media = dict(_boxes(boxes[b"mdia"]))
    tables = dict(_boxes(dict(_boxes(media[b"minf"]))[b"stbl"]))
    counts, deltas = _runs(tables[b"stts"], signed=False)
    intervals = np.repeat(deltas, counts)
    if len(intervals) == 0 or not 0 < intervals.max() < _UNSIGNED_ALONE:
        return None
    pts = np.cumsum(intervals) - intervals
    delays = np.zeros_like(pts)
    if b"ctts" in tables:
        # Version 0 says unsigned, but files with negative offsets under version 0 exist and are read as signed.
        counts, offsets = _runs(tables[b"ctts"], signed=True)
        delays = np.repeat(offsets, counts)
    return SampleTimes(pts + delays, delays, _sync_samples(tables, len(pts)), int(intervals[-1]))


def _sync_samples(tables: dict[bytes, memoryview], num_samples: int) -> NDArray[np.bool_]:
    if b"stss" not in tables:
        return np.ones(num_samples, dtype=bool)
    (entries,) = struct.unpack_from(">I", tables[b"stss"], 4)
    is_key = np.zeros(num_samples, dtype=bool)
    is_key[np.frombuffer(tables[b"stss"], dtype=">u4", count=entries, offset=8).astype(np.int64) - 1] = True
    return is_key


def _runs(table: memoryview, *, signed: bool) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the run lengths and values of a run-length coded table, int64, shape (runs,) each."""
    (entries,) = struct.unpack_from(">I", table, 4)
    pairs = np.frombuffer(table, dtype=">i4" if signed else ">u4", count=2 * entries, offset=8).reshape(-1, 2)
    return pairs[:, 0].astype(np.int64), pairs[:, 1].astype(np.int64)
