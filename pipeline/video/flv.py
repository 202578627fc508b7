"""How an FLV file says that it is whole (Adobe Flash Video File Format 10.1, annex E)."""

from __future__ import annotations

import struct
from pathlib import Path

_SIGNATURE = b"FLV"
_HEADER_BYTES, _TAG_BYTES, _SIZE_BYTES = 9, 11, 4
_KINDS = frozenset({8, 9, 18})
"""Sound, pictures, and what a script is told."""

_STATED_SIZE = b"\0\x08filesize\0"
"""In the script data at the start: a name after its length, and the mark of a number."""

_HEAD_BYTES = 1 << 14


def is_short(path: Path) -> bool:
    """Tell whether a file has fewer bytes than its header states; one that is written live states none."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    at = head.find(_STATED_SIZE) + len(_STATED_SIZE)
    if not head.startswith(_SIGNATURE) or at < len(_STATED_SIZE) or at + 8 > len(head):
        return False
    (stated,) = struct.unpack_from(">d", head, at)
    return bool(stated > path.stat().st_size)


def is_broken(path: Path) -> bool:
    """Tell whether the size of a tag is not repeated behind it, as it is behind those before.

    Where even that of the first tag is not, the writer knew no better.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        header = file.read(_HEADER_BYTES)
        if not header.startswith(_SIGNATURE) or len(header) < _HEADER_BYTES:
            return False
        first = at = int.from_bytes(header[5:], "big") + _SIZE_BYTES
        while at + _TAG_BYTES < size:
            file.seek(at)
            tag = file.read(_TAG_BYTES)
            end = at + _TAG_BYTES + int.from_bytes(tag[1:4], "big")
            if tag[0] & 31 not in _KINDS or end + _SIZE_BYTES > size:
                return False
            file.seek(end)
            if int.from_bytes(file.read(_SIZE_BYTES), "big") != end - at:
                return at > first
            at = end + _SIZE_BYTES
    return False
