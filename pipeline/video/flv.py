"""How an FLV file says that it is whole (Adobe Flash Video File Format 10.1, annex E)."""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator
from pathlib import Path

_SIGNATURE = b"FLV"
_HEADER_BYTES, _TAG_BYTES, _SIZE_BYTES = 9, 11, 4
_KINDS = frozenset({8, 9, 18})
"""Sound, pictures, and what a script is told."""

_PICTURE, _END_BYTES = 9, 5
"""Kind of a tag with a picture, and the length of that which ends a stream of H.264."""

_HEAD_BYTES = 1 << 14


def is_short(path: Path) -> bool:
    """Tell whether a file has fewer bytes than its header states; one that is written live states none."""
    stated = _stated(path, b"filesize")
    return stated is not None and stated > path.stat().st_size


def duration_s(path: Path) -> float | None:
    """Return the seconds that the header of a file states; None where it states none, as one that is written live."""
    return _stated(path, b"duration") or None


def _stated(path: Path, name: bytes) -> float | None:
    """Return a number of the script data at the start, where it follows its name and the mark of a number."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    mark = struct.pack(">H", len(name)) + name + b"\0"
    at = head.find(mark) + len(mark)
    if not head.startswith(_SIGNATURE) or at < len(mark) or at + 8 > len(head):
        return None
    (number,) = struct.unpack_from(">d", head, at)
    return float(number)


def is_broken(path: Path) -> bool:
    """Tell whether the size of a tag is not repeated behind it, as it is behind those before.

    Where even that of the first tag is not, the writer knew no better.
    """
    return any(place and is_repeated is False for place, (_, is_repeated) in enumerate(_tags(path)))


def ends_in_picture(path: Path) -> bool:
    """Tell whether a file ends within a tag with a picture."""
    last = deque(_tags(path), maxlen=1)
    if not last or last[0][1] is not None:
        return False
    head = last[0][0]
    is_whole, length = len(head) == _TAG_BYTES, int.from_bytes(head[1:4], "big")
    return head[0] & 31 == _PICTURE and not (is_whole and length <= _END_BYTES)


def _tags(path: Path) -> Iterator[tuple[bytes, bool | None]]:
    """Yield the header of each tag, and whether its size is repeated behind it: None where the file ends before.

    The first for which it is not is the last.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        header = file.read(_HEADER_BYTES)
        if not header.startswith(_SIGNATURE) or len(header) < _HEADER_BYTES:
            return
        at = int.from_bytes(header[5:], "big") + _SIZE_BYTES
        is_repeated: bool | None = True
        while is_repeated and at < size:
            file.seek(at)
            head = file.read(_TAG_BYTES)
            if head[0] & 31 not in _KINDS:
                if any(head):  # zeros are space set aside
                    yield head, False
                return
            end = at + _TAG_BYTES + int.from_bytes(head[1:4], "big")
            file.seek(end)
            repeated = file.read(_SIZE_BYTES)
            is_repeated = int.from_bytes(repeated, "big") == end - at if len(repeated) == _SIZE_BYTES else None
            yield head, is_repeated
            at = end + _SIZE_BYTES
