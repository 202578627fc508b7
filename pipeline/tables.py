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

import io
import json
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Generic, TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.errors import DataError
from pipeline.records import Record, Rejected, digest
from pipeline.schema import field_names, from_arrow, schema_of, to_arrow, with_new_columns
from pipeline.storage import TEMPORARY, Storage

R = TypeVar("R", bound=Record)

MANIFEST = "_manifest.json"
_UNIT_SCHEMA = pa.schema([pa.field("unit", pa.string(), nullable=False)])
_PARTS = ("", "_rejected/", "_units/")


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

    def digest(self) -> str:
        """Hash the content of the table: shard names carry the hash of their bytes."""
        return digest([shard.name for shard in self.shards])

    def batches(self, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """Yield the rows shard by shard, provenance included."""
        for shard in self.shards:
            if shard.rows:
                wanted = list(columns) if columns is not None else schema_of(self.record_type).names
                # A stage whose rows a new column changes makes them anew.
                rows = with_new_columns(self.record_type, self._read("", shard, columns), wanted)
                yield from rows.select(wanted).to_batches()

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
        """Load the table for reading single rows by the value of the column `key`."""
        return Lookup(self.record_type, self.arrow(), key)

    def units(self) -> set[str]:
        """Return the keys of the units of work that are done."""
        return {unit for shard in self.shards for unit in self._read("_units/", shard).column("unit").to_pylist()}

    def units_rejected_for(self, reasons: Collection[str]) -> dict[str, str]:
        """Return the keys of units that were rejected for one of `reasons`, each with the id of the rejected record."""
        return {
            row["unit"]: row["record_id"]
            for shard in self.shards
            if shard.rejected
            for row in self._read("_rejected/", shard, ["unit", "record_id", "reason"]).to_pylist()
            if row["reason"] in reasons
        }

    def commit(
        self,
        units: Sequence[str],
        rows: Sequence[tuple[str, R]],
        rejected: Sequence[tuple[str, Rejected]],
        fingerprint: str,
        seconds: float | None = None,
    ) -> None:
        """Add one shard, made in so many seconds: all of it becomes visible at once, or none of it."""
        self._write_shard(
            pa.table({"unit": list(units)}, schema=_UNIT_SCHEMA),
            to_arrow(self.record_type, rows, fingerprint),
            to_arrow(Rejected, rejected, fingerprint),
            replaced=(),
            seconds=seconds,
        )

    def drop(self, stale: Iterable[str]) -> int:
        """Remove units whose inputs or settings are gone, with their rows and rejects; return how many there were."""
        keys = pa.array(sorted(stale), pa.string())
        if not len(keys):
            return 0
        dropped = 0
        for shard in list(self.shards):
            units = self._read("_units/", shard)
            kept = _without(units, keys)
            if kept.num_rows == units.num_rows:
                continue
            dropped += units.num_rows - kept.num_rows
            rows = _without(self._read("", shard), keys)
            rejected = _without(self._read("_rejected/", shard), keys)
            self._write_shard(kept, rows, rejected, replaced=(shard,))
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

    def _write_shard(
        self,
        units: pa.Table,
        rows: pa.Table,
        rejected: pa.Table,
        *,
        replaced: Sequence[Shard],
        seconds: float | None = None,
    ) -> None:
        shards = list(self.shards)
        position = shards.index(replaced[0]) if replaced else len(shards)
        added: list[Shard] = []
        if units.num_rows:
            parts = [_to_parquet(table) for table in (rows, rejected, units)]
            content = blake2b(digest_size=8)
            for part in parts:
                content.update(part)
            number = 1 + max((int(shard.name.split("-")[1]) for shard in shards), default=-1)
            name = f"part-{number:06d}-{content.hexdigest()}"
            for folder, part in zip(_PARTS, parts, strict=True):
                self._storage.write(f"{self._folder}{folder}{name}.parquet", part)
            counts = {"units": units.num_rows, "rows": rows.num_rows, "rejected": rejected.num_rows}
            added = [Shard(name=name, **counts, seconds=seconds)]
        shards[position : position + len(replaced)] = added
        self._write_manifest(shards)
        self.shards = shards
        for shard in replaced:
            for folder in _PARTS:
                self._storage.remove(f"{self._folder}{folder}{shard.name}.parquet")

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
        text = json.dumps({"table": self.name, "shards": [asdict(shard) for shard in shards]}, indent=1)
        self._storage.write(self._folder + MANIFEST, text.encode())


class Joined(Generic[R]):
    """Tables of one record, read as if they were one."""

    def __init__(self, *tables: Table[R]) -> None:
        self._tables = tables

    def arrow(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows as one Arrow table."""
        return pa.concat_tables(table.arrow(columns) for table in self._tables)

    def lookup(self, key: str) -> Lookup[R]:
        """Load the tables for reading single rows by the value of the column `key`."""
        return Lookup(self._tables[0].record_type, self.arrow(), key)


class Lookup(Generic[R]):
    """Rows by key. They stay in Arrow, a fraction of the memory of as many Python objects."""

    def __init__(self, record_type: type[R], table: pa.Table, key: str) -> None:
        self._record_type = record_type
        # One chunk a column: Arrow finds a value of a chunked column by search.
        self._columns = {name: table.column(name).combine_chunks() for name in field_names(record_type)}
        self._position = {value: i for i, value in enumerate(table.column(key).to_pylist())}

    def get(self, key: str) -> R | None:
        """Return the row, None where there is none."""
        position = self._position.get(key)
        if position is None:
            return None
        return self._record_type(**{name: column[position].as_py() for name, column in self._columns.items()})


def _without(table: pa.Table, keys: pa.Array) -> pa.Table:
    return table.filter(pc.invert(pc.is_in(table.column("unit"), value_set=keys)))


def _to_parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd")
    return buffer.getvalue()
