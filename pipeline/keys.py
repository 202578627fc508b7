"""Sets of keys and places by key in sorted arrays: some bytes a key where Python's sets and dicts take hundreds."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

_BYTES = 16


class KeySet:
    """A set of keys, 16 bytes each: of the hex digits that `records.digest` gives, of other text a hash."""

    __slots__ = ("_sorted",)

    def __init__(self, keys: Iterable[str] = ()) -> None:
        # In place, for numpy's `unique` would hold three copies at once.
        packed = pack(keys)
        packed.sort()
        first = np.append(True, packed[1:] != packed[:-1])[: len(packed)]
        self._sorted: NDArray[np.bytes_] = packed if first.all() else packed[first]

    @classmethod
    def _of_sorted(cls, packed: NDArray[np.bytes_]) -> KeySet:
        made = cls()
        made._sorted = packed
        return made

    def __len__(self) -> int:
        return len(self._sorted)

    def __contains__(self, key: str) -> bool:
        return self.place(key) >= 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, KeySet) and np.array_equal(self._sorted, other._sorted)

    __hash__ = None  # type: ignore[assignment]

    def __sub__(self, other: KeySet) -> KeySet:
        # Sets never change, and most often nothing is taken away.
        return KeySet._of_sorted(self._sorted[~other.holds(self._sorted)]) if len(other) else self

    def __or__(self, other: KeySet) -> KeySet:
        return KeySet._of_sorted(np.union1d(self._sorted, other._sorted)) if len(other) else self

    def place(self, key: str) -> int:
        """Return where in the set a key stands, in [0, len), -1 where it does not."""
        packed = pack([key])
        at = int(np.searchsorted(self._sorted, packed)[0])
        return at if at < len(self._sorted) and self._sorted[at] == packed[0] else -1

    def holds(self, packed: NDArray[np.bytes_]) -> NDArray[np.bool_]:
        """Tell of each of some packed keys whether it is in the set."""
        if not len(self._sorted):
            return np.zeros(len(packed), bool)
        at = np.minimum(np.searchsorted(self._sorted, packed), len(self._sorted) - 1)
        return np.asarray(self._sorted[at] == packed, bool)


def pack(keys: Iterable[str]) -> NDArray[np.bytes_]:
    """Return keys as 16 bytes each, in their order."""
    return np.fromiter(map(_packed, keys), dtype=f"S{_BYTES}")


def _packed(key: str) -> bytes:
    try:
        packed = bytes.fromhex(key)
    except ValueError:
        packed = b""
    return packed if len(packed) == _BYTES else blake2b(key.encode(), digest_size=_BYTES).digest()


class Places:
    """Where among many rows those of a key stand: twelve bytes a row.

    Rows are found by a hash of this process, so who asks compares the key of a row that is found.
    """

    def __init__(self, keys: Iterable[str]) -> None:
        hashes = hash_keys(keys)
        rows = np.argsort(hashes, kind="stable")
        self._hashes = hashes[rows]
        self._rows = rows.astype(np.int32)

    def of(self, key: str) -> Iterator[int]:
        """Yield the rows that may have this key, the last one first."""
        wanted = hash(key)
        at = int(np.searchsorted(self._hashes, wanted, side="right")) - 1
        while at >= 0 and self._hashes[at] == wanted:
            yield int(self._rows[at])
            at -= 1

    def last(self, hashes: NDArray[np.int64]) -> NDArray[np.int32]:
        """Return of each hash of a key the last row with it, -1 where there is none."""
        if not len(self._hashes):
            return np.full(len(hashes), -1, np.int32)
        at = np.searchsorted(self._hashes, hashes, side="right") - 1
        return np.where((at >= 0) & (self._hashes[at] == hashes), self._rows[at], np.int32(-1))


def hash_keys(keys: Iterable[str]) -> NDArray[np.int64]:
    """Return 64 bits of each key, the same as long as the process lives."""
    return np.fromiter(map(hash, keys), dtype=np.int64)
