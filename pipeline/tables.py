"""Tables of rows that remember how they were made.

A table is a folder of Parquet shards:

    tables/clips/part-000000-<hash>.parquet            rows
    tables/clips/_rejected/part-000000-<hash>.parquet  what was left out, and why
    tables/clips/_units/part-000000-<hash>.parquet     the keys of the units of work done, whether or not they gave rows
    tables/clips/_manifest.json                        the committed shards, in order

A shard exists once the manifest names it. Files that it does not name are remains of a killed run; they are removed
when the table is next opened for writing. Names that start with an underscore are skipped by `pyarrow.dataset` and
`pandas.read_parquet`, so that the folder itself reads as the table.
"""

from __future__ import annotations

import bisect
import io
import itertools
import json
from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Generic, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.errors import DataError
from pipeline.keys import KeySet, Places, hash_keys, pack
from pipeline.records import Record, Rejected, digest
from pipeline.schema import field_names, from_arrow, schema_of, to_arrow, with_new_columns
from pipeline.storage import TEMPORARY, Storage

R = TypeVar("R", bound=Record)

MANIFEST = "_manifest.json"
_COMPLETE = "_complete.json"
_UNIT_SCHEMA = pa.schema([pa.field("unit", pa.string(), nullable=False)])
_PARTS = ("", "_rejected/", "_units/")
# Who asks for a row mostly asks for the next one too; sixteen cost as much as two alone.
_PAGE_ROWS = 16
_HELD_BYTES = 16 * 2**20
"""Shards that a lookup keeps in memory for the next row: a hundred of five hundred rows. A join has four lookups."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A committed shard: its name, how many units, rows and rejects it holds, and how long they took to make.

    `seconds` is None where that is not known: of shards that were rewritten, or made before it was noted.
    """

    name: str
    units: int
    rows: int
    rejected: int
    seconds: float | None = None


class Table(Generic[R]):
    """The table of one stage.

    Reading needs no lock; writing is for the one process that holds the workspace's lock.
    """

    def __init__(self, storage: Storage, name: str, record_type: type[R]) -> None:
        self.name = name
        self.record_type = record_type
        self._storage = storage
        self._folder = f"tables/{name}/"
        self.shards: list[Shard] = self._read_manifest()
        self._next_number = 1 + max((int(shard.name.split("-")[1]) for shard in self.shards), default=-1)
        # What a manifest says of a shard never changes, and a table may have ten thousand of them.
        self._written: dict[str, str] = {}

    @property
    def num_rows(self) -> int:
        """Number of rows in all shards."""
        return sum(shard.rows for shard in self.shards)

    @property
    def num_rejected(self) -> int:
        """Number of rejects in all shards."""
        return sum(shard.rejected for shard in self.shards)

    def num_units(self, fingerprint: str | None = None) -> int:
        """Return how many units are done, of those in shards of one fingerprint where one is given.

        What gave neither rows nor rejects bears none and counts.
        """
        wanted = self.shards
        if fingerprint is not None:
            wanted = [shard for shard in wanted if self._fingerprint_of(shard) in (None, fingerprint)]
        return sum(shard.units for shard in wanted)

    def _fingerprint_of(self, shard: Shard) -> str | None:
        part = "" if shard.rows else "_rejected/"
        if not shard.rows and not shard.rejected:
            return None
        found: str = self._read(part, shard, ["fingerprint"]).column("fingerprint")[0].as_py()
        return found

    def measured(self) -> tuple[int, float]:
        """Return how many units have a known time to make, and that time in seconds together."""
        timed = [(shard.units, shard.seconds) for shard in self.shards if shard.seconds is not None]
        return sum(units for units, _ in timed), sum(seconds for _, seconds in timed)

    def is_complete(self, mark: str) -> bool:
        """Tell whether the table was marked so and has not changed since."""
        return self._storage.read(self._folder + _COMPLETE) == json.dumps(digest(mark, self.digest())).encode()

    def mark_complete(self, mark: str) -> None:
        """Note under what the table was completed."""
        self._storage.write(self._folder + _COMPLETE, json.dumps(digest(mark, self.digest())).encode())

    def digest(self) -> str:
        """Hash the content of the table: shard names carry the hash of their bytes."""
        return digest([shard.name for shard in self.shards])

    def shards_with_rows(self) -> list[Shard]:
        """Return the shards that hold rows, in order."""
        return [shard for shard in self.shards if shard.rows]

    def read_shard(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of one shard, provenance included."""
        wanted = list(columns) if columns is not None else schema_of(self.record_type).names
        # A stage whose rows a new column changes makes them anew.
        return with_new_columns(self.record_type, self._read("", shard, columns), wanted).select(wanted)

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows shard by shard, provenance included."""
        for shard in self.shards_with_rows():
            yield from self.read_shard(shard, columns).to_batches()

    def values(self, column: str) -> Iterator[Any]:
        """Yield the values of one column."""
        for batch in self.batches([column]):
            yield from batch.column(0).to_pylist()

    def records(self) -> Iterator[R]:
        """Yield the rows as records, in the order in which they were committed."""
        return from_arrow(self.record_type, self.batches())

    def rejected(self) -> Iterator[Rejected]:
        """Yield the rejects of the stage."""
        for shard in self.shards:
            if shard.rejected:
                yield from from_arrow(Rejected, self._read("_rejected/", shard).to_batches())

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows as one Arrow table."""
        schema = schema_of(self.record_type)
        if columns is not None:
            schema = pa.schema([schema.field(name) for name in columns])
        return pa.Table.from_batches(self.batches(columns), schema=schema)

    def lookup(self, key: str) -> Lookup[R]:
        """Prepare to read single rows by the value of the column `key`."""
        return Lookup(self, key)

    def units(self) -> KeySet:
        """Return the keys of the units of work that are done."""
        return KeySet(unit for shard in self.shards for unit in self._read("_units/", shard).column("unit").to_pylist())

    def rejected_rows(self) -> pa.Table:
        """Return the rejects of the stage as one Arrow table."""
        parts = [self._read("_rejected/", shard, field_names(Rejected)) for shard in self.shards if shard.rejected]
        schema = schema_of(Rejected)
        empty = pa.schema([schema.field(name) for name in field_names(Rejected)]).empty_table()
        return pa.concat_tables([empty, *parts])

    def reasons(self) -> Iterator[str]:
        """Yield the reason of each reject."""
        for shard in self.shards:
            if shard.rejected:
                yield from self._read("_rejected/", shard, ["reason"]).column("reason").to_pylist()

    def units_rejected_for(self, reasons: Collection[str]) -> dict[str, str]:
        """Return the keys of units that were rejected for one of `reasons`, each with the id of the rejected record."""
        return {
            row["unit"]: row["record_id"]
            for shard in self.shards
            if shard.rejected
            for row in self._read("_rejected/", shard, ["unit", "record_id", "reason"]).to_pylist()
            if row["reason"] in reasons
        }

    def publish(self, *folders: str) -> None:
        """Publish files that rows refer to; see `Storage.publish`."""
        self._storage.publish(*folders)

    def commit(
        self,
        units: Sequence[str],
        rows: Sequence[tuple[str, R]],
        rejected: Sequence[tuple[str, Rejected]],
        fingerprint: str,
        seconds: float | None = None,
    ) -> None:
        """Add one shard, made in so many seconds: all of it becomes visible at once, or none of it."""
        if not units:
            return
        shard = self._write_shard(
            pa.table({"unit": list(units)}, schema=_UNIT_SCHEMA),
            to_arrow(self.record_type, rows, fingerprint),
            to_arrow(Rejected, rejected, fingerprint),
            seconds,
        )
        self._publish([*self.shards, shard])

    def drop(self, stale: KeySet | Iterable[str]) -> int:
        """Remove units whose inputs or settings are gone, with their rows and rejects; return how many there were.

        All of it becomes visible at once.
        """
        keys = stale if isinstance(stale, KeySet) else KeySet(stale)
        if not len(keys):
            return 0
        dropped = 0
        shards: list[Shard] = []
        replaced: list[Shard] = []
        for shard in self.shards:
            units = self._read("_units/", shard)
            kept = _without(units, keys)
            if kept.num_rows == units.num_rows:
                shards.append(shard)
                continue
            dropped += units.num_rows - kept.num_rows
            replaced.append(shard)
            if kept.num_rows:
                rows = _without(self._read("", shard), keys)
                rejected = _without(self._read("_rejected/", shard), keys)
                shards.append(self._write_shard(kept, rows, rejected))
        if replaced:
            self._publish(shards)
        for shard in replaced:
            for folder in _PARTS:
                self._storage.remove(f"{self._folder}{folder}{shard.name}.parquet")
        return dropped

    def sweep(self) -> None:
        """Remove files that no manifest names: what a killed run left behind."""
        named = {f"{shard.name}.parquet" for shard in self.shards}
        for part in _PARTS:
            for name in self._storage.list(self._folder + part):
                # Stages may keep small JSON files of their own beside the shards.
                kept = name in named or (name.endswith(".json") and not name.startswith(TEMPORARY))
                if not kept:
                    self._storage.remove(self._folder + part + name)

    def _write_shard(self, units: pa.Table, rows: pa.Table, rejected: pa.Table, seconds: float | None = None) -> Shard:
        """Write the files of a shard that no manifest names yet."""
        parts = [to_parquet(table) for table in (rows, rejected, units)]
        content = blake2b(digest_size=8)
        for part in parts:
            content.update(part)
        name = f"part-{self._next_number:06d}-{content.hexdigest()}"
        self._next_number += 1
        for folder, part in zip(_PARTS, parts, strict=True):
            self._storage.write(f"{self._folder}{folder}{name}.parquet", part)
        counts = {"units": units.num_rows, "rows": rows.num_rows, "rejected": rejected.num_rows}
        return Shard(name=name, **counts, seconds=seconds)

    def _publish(self, shards: list[Shard]) -> None:
        self._write_manifest(shards)
        self.shards = shards

    def _read(self, part: str, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
        name = f"{self._folder}{part}{shard.name}.parquet"
        try:
            with self._storage.open(name) as file:
                stored = pq.ParquetFile(file)
                # What was written before a column came has none of it.
                there = None if columns is None else [one for one in columns if one in stored.schema_arrow.names]
                # Threads of Arrow that hold a Python file now and then abort the process as it ends.
                return stored.read(columns=there, use_threads=False)
        except (FileNotFoundError, pa.ArrowException) as fault:
            # A commit never leaves such a file: somebody or something else has changed it.
            damage = "is gone" if isinstance(fault, FileNotFoundError) else f"is no longer readable: {fault}"
            raise DataError(
                f"{self._storage.path(name)}: {damage}; remove the folder {self._storage.path(self._folder)} to build "
                "that table anew"
            ) from None

    def _read_manifest(self) -> list[Shard]:
        data = self._storage.read(self._folder + MANIFEST)
        if data is None:
            return []
        try:
            return [Shard(**entry) for entry in json.loads(data)["shards"]]
        except (ValueError, KeyError, TypeError) as fault:
            path = self._storage.path(self._folder + MANIFEST)
            raise DataError(
                f"{path}: not a manifest of this engine ({fault}); remove the folder to build it anew"
            ) from None

    def _write_manifest(self, shards: Sequence[Shard]) -> None:
        for shard in shards:
            if shard.name not in self._written:
                self._written[shard.name] = json.dumps(asdict(shard))
        entries = ",\n  ".join(self._written[shard.name] for shard in shards)
        text = f'{{\n "table": {json.dumps(self.name)},\n "shards": [\n  {entries}\n ]\n}}'
        self._storage.write(self._folder + MANIFEST, text.encode())


class Joined(Generic[R]):
    """Tables of one record, read as if they were one."""

    def __init__(self, *tables: Table[R]) -> None:
        self.record_type = tables[0].record_type
        self._tables = tables
        # A name carries the hash of the bytes: two shards of one name hold the same.
        self._holders = {shard.name: table for table in tables for shard in table.shards}

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows as one Arrow table."""
        return pa.concat_tables(table.arrow(columns) for table in self._tables)

    def values(self, column: str) -> Iterator[Any]:
        """Yield the values of one column."""
        return itertools.chain.from_iterable(table.values(column) for table in self._tables)

    def shards_with_rows(self) -> list[Shard]:
        """Return the shards that hold rows, table by table in order."""
        return [shard for table in self._tables for shard in table.shards_with_rows()]

    def read_shard(self, shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the rows of one shard, provenance included."""
        return self._holders[shard.name].read_shard(shard, columns)

    def lookup(self, key: str) -> Lookup[R]:
        """Prepare to read single rows by the value of the column `key`."""
        return Lookup(self, key)


class RowReader:
    """Reads rows of a table by their number; the shards used last stay in memory.

    Who asks in about the order of the table reads every shard once.
    """

    def __init__(self, table: Table[Any] | Joined[Any], columns: Sequence[str]) -> None:
        self._table = table
        self._columns = list(columns)
        self._shards = table.shards_with_rows()
        self._starts = np.array([0, *itertools.accumulate(shard.rows for shard in self._shards)])
        self._held: OrderedDict[int, pa.Table] = OrderedDict()
        self._held_bytes = 0
        self._page: list[dict[str, Any]] = []
        self._page_place: tuple[int, int] | None = None

    def take(self, rows: NDArray[np.integer[Any]]) -> pa.Table:
        """Return rows in the order of their numbers given."""
        if not len(rows):
            schema = schema_of(self._table.record_type)
            return pa.schema([schema.field(name) for name in self._columns]).empty_table()
        shards = np.searchsorted(self._starts, rows, side="right") - 1
        order = np.argsort(shards, kind="stable")
        numbers, firsts = np.unique(shards[order], return_index=True)
        parts = [
            self._shard(int(number)).take(pa.array(rows[here] - self._starts[number]))
            for number, here in zip(numbers, np.split(order, firsts[1:]), strict=True)
        ]
        back = np.empty(len(rows), np.int64)
        back[order] = np.arange(len(rows))
        return pa.concat_tables(parts).take(pa.array(back))

    def at(self, row: int) -> dict[str, Any]:
        """Return the values of one row."""
        number = bisect.bisect_right(self._starts, row) - 1
        at = int(row - self._starts[number])
        first = at - at % _PAGE_ROWS
        if self._page_place != (number, first):
            self._page_place = (number, first)
            self._page = self._shard(number).select(self._columns).slice(first, _PAGE_ROWS).to_pylist()
        return self._page[at - first]

    def _shard(self, number: int) -> pa.Table:
        held = self._held.get(number)
        if held is not None:
            self._held.move_to_end(number)
            return held
        # One chunk a column: Arrow finds a value of a chunked column by search.
        rows = self._table.read_shard(self._shards[number], self._columns).combine_chunks()
        self._held[number] = rows
        self._held_bytes += rows.nbytes
        while self._held_bytes > _HELD_BYTES and len(self._held) > 1:
            self._held_bytes -= self._held.popitem(last=False)[1].nbytes
        return rows


class Lookup(Generic[R]):
    """Rows by key, read as they are asked for: twelve bytes a row stay in memory."""

    def __init__(self, table: Table[R] | Joined[R], key: str) -> None:
        self._record_type = table.record_type
        self._key = key
        self._rows = RowReader(table, field_names(table.record_type))
        self._ahead: dict[str, R] = {}
        self.places = Places(table.values(key))

    def expect(self, keys: Sequence[str]) -> None:
        """Read the rows of keys that will be asked for next, together in a tenth of the time of one after the other."""
        places = self.places.last(hash_keys(keys))
        rows = from_arrow(self._record_type, self._rows.take(places[places >= 0]).to_batches())
        # Under the key that it has: a hash may have found another one's.
        self._ahead = {getattr(row, self._key): row for row in rows}

    def get(self, key: str) -> R | None:
        """Return the row, None where there is none; of several the last."""
        return self._ahead.get(key) or next(self.all(key), None)

    def all(self, key: str) -> Iterator[R]:
        """Yield all rows with a key, the last one first."""
        for place in self.places.of(key):
            record = self._record_type(**self._rows.at(place))
            if getattr(record, self._key) == key:
                yield record


def _without(table: pa.Table, keys: KeySet) -> pa.Table:
    return table.filter(pa.array(~keys.holds(pack(table.column("unit").to_pylist()))))


def to_parquet(table: pa.Table) -> bytes:
    """Return a table as the bytes of a Parquet file."""
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
