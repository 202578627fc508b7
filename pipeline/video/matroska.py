"""How long a Matroska file says that it is (RFC 9559, 4 and 5.1; RFC 8794, 4)."""

from __future__ import annotations

from pathlib import Path

_HEADER, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_HEAD_BYTES = 1 << 12


def is_short(path: Path) -> bool:
    """Tell whether a file has fewer bytes than its header states; one that was written in one go states nothing."""
    with path.open("rb") as file:
        head = file.read(_HEAD_BYTES)
    if not head.startswith(_HEADER):
        return False
    start, size = _size(head, len(_HEADER))
    at = start + (size or 0)
    if size is None or head[at : at + len(_SEGMENT)] != _SEGMENT:
        return False
    start, size = _size(head, at + len(_SEGMENT))
    return size is not None and start + size > path.stat().st_size


def _size(head: bytes, at: int) -> tuple[int, int | None]:
    """Return where the content of an element starts, and its length; None where that is not stated."""
    first = head[at] if at < len(head) else 0
    count = 9 - first.bit_length()
    if not first or at + count > len(head):
        return at, None
    value, most = int.from_bytes(head[at : at + count], "big") - (1 << 7 * count), (1 << 7 * count) - 1
    return at + count, None if value == most else value
