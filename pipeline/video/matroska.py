"""How long a Matroska file says that it is (RFC 9559, 4 and 5.1; RFC 8794, 4)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

_HEADER, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"
_HEAD_BYTES = 1 << 12
_ELEMENT_BYTES = 12
"""Longest name and length of an element."""

_CLUSTER = b"\x1f\x43\xb6\x75"
_PARTS = {
    _CLUSTER,
    *(bytes.fromhex(name) for name in ("114d9b74", "1549a966", "1654ae6b", "1c53bb6b", "1941a469", "1043a770")),
    bytes.fromhex("1254c367"),
}
_PARTS_OF_CLUSTER = {bytes.fromhex(name) for name in ("e7", "a3", "a0", "a7", "ab", "af", "5854")}
_HOLD_PICTURES = {_CLUSTER, b"\xa3", b"\xa0"}
_FILLERS = {b"\xec", b"\xbf"}  # space and checksums, in any part


def is_short(path: Path) -> bool:
    """Tell whether a file has fewer bytes than its header states; one that was written in one go states nothing."""
    with path.open("rb") as file:
        segment = _segment(file.read(_HEAD_BYTES))
    return segment is not None and segment[1] is not None and segment[0] + segment[1] > path.stat().st_size


def is_broken(path: Path) -> bool:
    """Tell whether something else stands where a part of a file has to begin: bytes in the part before are gone."""
    return not all(is_known for _, _, is_known in _elements(path))


def ends_in_pictures(path: Path) -> bool:
    """Tell whether the last cluster or block of a file is longer than what is there of it."""
    size = path.stat().st_size
    return any(end > size for name, end, _ in _elements(path) if name in _HOLD_PICTURES)


def _elements(path: Path) -> Iterator[tuple[bytes, int, bool]]:
    """Yield the name of each part of a file, where it ends, and whether it is one that may stand there.

    Of clusters without a length, as they are written live, this goes from block to block.
    """
    size = path.stat().st_size
    with path.open("rb", buffering=0) as file:
        segment = _segment(file.read(_HEAD_BYTES))
        if segment is None:
            return
        at, end = segment[0], size if segment[1] is None else min(size, segment[0] + segment[1])
        is_in_cluster = False
        while at < end:
            file.seek(at)
            head = file.read(_ELEMENT_BYTES)
            name = head[: 9 - head[0].bit_length()]
            if not head[0] or (len(head) < _ELEMENT_BYTES and name not in _HOLD_PICTURES):
                return  # space set aside, or a file that is cut short
            start, length = _size(head, len(name))
            is_cut = length is None and len(head) < _ELEMENT_BYTES
            if name == _CLUSTER:
                is_in_cluster = length is None
            elif name in _PARTS:
                is_in_cluster = False
            is_known = name in _PARTS | _FILLERS or (is_in_cluster and name in _PARTS_OF_CLUSTER)
            at += start + (size if is_cut else length or 0)
            yield name, at, is_known
            if not is_known:
                return


def _segment(head: bytes) -> tuple[int, int | None] | None:
    """Return where the parts of a file start, and their length; None where that cannot be told."""
    if not head.startswith(_HEADER):
        return None
    start, size = _size(head, len(_HEADER))
    at = start + (size or 0)
    if size is None or head[at : at + len(_SEGMENT)] != _SEGMENT:
        return None
    return _size(head, at + len(_SEGMENT))


def _size(head: bytes, at: int) -> tuple[int, int | None]:
    """Return where the content of an element starts, and its length; None where that is not stated."""
    first = head[at] if at < len(head) else 0
    count = 9 - first.bit_length()
    if not first or at + count > len(head):
        return at, None
    value, most = int.from_bytes(head[at : at + count], "big") - (1 << 7 * count), (1 << 7 * count) - 1
    return at + count, None if value == most else value
