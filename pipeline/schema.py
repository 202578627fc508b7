"""One Arrow schema per record, and the way from records to Arrow and back.

Every stored row also carries its provenance: `unit`, the key of the unit of work that made it, and `fingerprint`,
the hash of everything else that decided it (code version, settings, prompts, model, seed).
"""

from __future__ import annotations

import dataclasses
import functools
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar, cast

import pyarrow as pa

from pipeline.records import Record, digest

R = TypeVar("R", bound=Record)
T = TypeVar("T")

PROVENANCE = (pa.field("unit", pa.string(), nullable=False), pa.field("fingerprint", pa.string(), nullable=False))
LOCATION_FIELDS = frozenset({"path", "source", "origin"})
"""Fields that tell where a record was found. They change when files move and are no part of its content."""

_NO_CONTENT = LOCATION_FIELDS | {"agreement", "lost_frames"}
# How sure a text is does not change what it says, and so remakes nothing that is made of it. Lost frames follow
# from the lost stretches.

_ARROW_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}


def _remembered(of: Callable[[type[Record]], T]) -> Callable[[type[Record]], T]:
    """Ask once for each kind of record; mypy takes a class with slots for one that cannot be hashed."""
    return cast("Callable[[type[Record]], T]", functools.cache(of))


@_remembered
def schema_of(record_type: type[Record]) -> pa.Schema:
    """Return the Arrow schema of a record type, provenance last."""
    hints = typing.get_type_hints(record_type)
    fields = []
    for field in dataclasses.fields(record_type):
        hint = hints[field.name]
        nullable = isinstance(hint, types.UnionType)
        scalar = next(t for t in typing.get_args(hint) if t is not types.NoneType) if nullable else hint
        fields.append(pa.field(field.name, _ARROW_TYPES[scalar], nullable=nullable))
    return pa.schema([*fields, *PROVENANCE])


def to_arrow(record_type: type[Record], rows: Sequence[tuple[str, Record]], fingerprint: str) -> pa.Table:
    """Build a table from (unit key, record) pairs made under one fingerprint."""
    schema = schema_of(record_type)
    columns: dict[str, list[object]] = {
        name: [getattr(record, name) for _, record in rows] for name in field_names(record_type)
    }
    columns["unit"] = [unit for unit, _ in rows]
    columns["fingerprint"] = [fingerprint] * len(rows)
    return pa.table(columns, schema=schema)


def from_arrow(record_type: type[R], batches: Iterable[pa.RecordBatch]) -> Iterator[R]:
    """Yield the records of Arrow batches, provenance left out."""
    names = field_names(record_type)
    for batch in batches:
        columns = [batch.column(name).to_pylist() for name in names]
        for values in zip(*columns, strict=True):
            yield record_type(**dict(zip(names, values, strict=True)))


def with_new_columns(record_type: type[Record], rows: pa.Table, names: Iterable[str]) -> pa.Table:
    """Return rows with those of the named columns that came after they were written, empty; nullable ones alone."""
    for field in map(schema_of(record_type).field, names):
        if field.nullable and field.name not in rows.column_names:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    return rows


def content_key(record: Record) -> str:
    """Hash what a record says, not where it was found: moving a file changes no key."""
    kind = type(record)
    return digest(kind.__name__, [getattr(record, name) for name in _content_names(kind)])


@_remembered
def _content_names(record_type: type[Record]) -> tuple[str, ...]:
    return tuple(name for name in field_names(record_type) if name not in _NO_CONTENT)


@_remembered
def field_names(record_type: type[Record]) -> tuple[str, ...]:
    """Return the names of a record's own fields, in order."""
    return tuple(field.name for field in dataclasses.fields(record_type))
