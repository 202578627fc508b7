"""How long an ASF file (.wmv) says that it is, and whether its packets are there (Advanced Systems Format, 3 and 5)."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

_HEADER = bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c")
_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")
_MAX_HEADER_BYTES = 1 << 20
_DATA_HEADER_BYTES = 50

_FACTS = struct.Struct("<QQ8xQII")
"""In the properties: number of packets, duration in 100 ns, how much of it comes before, in ms, flags, packet size."""

_FACTS_AT, _IS_LIVE = 56, 1

_MARK = 0x80
"""Of data against errors, which begins a packet."""


@dataclass(frozen=True, slots=True)
class _Properties:
    num_packets: int
    duration_s: float
    packet_bytes: int
    data_start: int


def duration_s(path: Path) -> float | None:
    """Return the seconds that the header of a file states; None where it states none, as one that is written live."""
    properties = _properties(path)
    return properties.duration_s if properties is not None and properties.duration_s > 0 else None


def is_short(path: Path) -> bool:
    """Tell whether a file has fewer packets than its header states."""
    found = _properties(path)
    return found is not None and found.data_start + found.num_packets * found.packet_bytes > path.stat().st_size


def is_broken(path: Path) -> bool:
    """Tell whether some packet lacks the mark with which the first begins, as one that is overwritten does."""
    found = _properties(path)
    if found is None or not found.packet_bytes:
        return False
    end = min(path.stat().st_size, found.data_start + found.num_packets * found.packet_bytes)
    marks = set()
    with path.open("rb", buffering=0) as file:
        for start in range(found.data_start, end, found.packet_bytes):
            file.seek(start)
            marks.add(file.read(1)[0] & _MARK)
    return len(marks) > 1


def _properties(path: Path) -> _Properties | None:
    """Return what the header of a file states of its packets; None where it is no ASF file, or is written live."""
    with path.open("rb") as file:
        start = file.read(24)
        if len(start) < 24 or not start.startswith(_HEADER):
            return None
        header_bytes = int.from_bytes(start[16:], "little")
        header = file.read(min(header_bytes, _MAX_HEADER_BYTES))
    at = header.find(_PROPERTIES) + _FACTS_AT
    if at < _FACTS_AT or at + _FACTS.size > len(header):
        return None
    num_packets, ticks, before_ms, flags, packet_bytes = _FACTS.unpack_from(header, at)
    if flags & _IS_LIVE:
        return None
    return _Properties(num_packets, ticks / 1e7 - before_ms / 1e3, packet_bytes, header_bytes + _DATA_HEADER_BYTES)
