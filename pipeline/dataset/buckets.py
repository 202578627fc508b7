"""Rows on disk in buckets: those of one key stand in one bucket, which fits in memory where all of them do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from pipeline.keys import hash_keys

BUCKET_ROWS = 65_536
"""Rows that are meant to stand in one bucket: some tens of megabytes."""


class Buckets:
    """Buckets in a folder of their own, filled first and read then, as often as one likes.

    Args:
        folder: is made.
        count: of the buckets. Sets of one count part equal keys in the same way, as long as the process lives.
    """

    def __init__(self, folder: Path, count: int) -> None:
        folder.mkdir()
        self._paths = [folder / f"{number}.arrow" for number in range(count)]
        self._writers: dict[int, Any] = {}

    def __len__(self) -> int:
        return len(self._paths)

    def add(self, rows: pa.Table, key: str) -> None:
        """Put rows, all of one schema, into the buckets of their values of the column `key`."""
        numbers = hash_keys(rows.column(key).to_pylist()) % len(self._paths)
        for number in np.unique(numbers).tolist():
            if number not in self._writers:
                self._writers[number] = pa.ipc.new_stream(str(self._paths[number]), rows.schema)
            self._writers[number].write_table(rows.filter(pa.array(numbers == number)))

    def close(self) -> None:
        """End the filling."""
        for writer in self._writers.values():
            writer.close()

    def read(self, number: int) -> pa.Table | None:
        """Return the rows of a bucket in the order in which they came, None where it has none."""
        if number not in self._writers:
            return None
        with pa.memory_map(str(self._paths[number])) as source:
            return pa.ipc.open_stream(source).read_all()

    def tables(self) -> Iterator[pa.Table]:
        """Yield the rows of one bucket after the other, empty ones left out."""
        for number in sorted(self._writers):
            yield self.read(number)
