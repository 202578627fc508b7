from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.errors import DataError
from pipeline.keys import KeySet
from pipeline.records import Caption, Rejected
from pipeline.schema import content_key, schema_of
from pipeline.tables import RowReader, Shard, Table
from pipeline.workspace import Workspace


def caption(name: str, text: str = "Two people walk.") -> Caption:
    return Caption(clip_id=name, text=text, captioner="motion", prompt_hash=None)


def rejected(name: str) -> Rejected:
    return Rejected(record_id=name, stage="caption", reason="no_caption", detail="none")


@pytest.fixture
def table(workspace: Workspace) -> Table[Caption]:
    return workspace.captions


def test_rows_come_back_as_they_were_committed(table: Table[Caption], workspace: Workspace) -> None:
    table.commit(["u1", "u2"], [("u1", caption("a")), ("u1", caption("b"))], [("u2", rejected("c"))], "f")
    again = workspace.captions
    assert list(again.records()) == [caption("a"), caption("b")]
    assert list(again.rejected()) == [rejected("c")]
    assert again.units() == KeySet(["u1", "u2"])
    assert (again.num_rows, again.num_rejected) == (2, 1)


def test_folder_reads_as_the_table_with_pandas(table: Table[Caption], workspace: Workspace) -> None:
    table.commit(["u1"], [("u1", caption("a"))], [("u1", rejected("b"))], "f")
    table.commit(["u2"], [("u2", caption("c"))], [], "f")
    frame = pd.read_parquet(workspace.storage.path("tables/caption"))
    assert frame["clip_id"].tolist() == ["a", "c"]
    assert frame["fingerprint"].tolist() == ["f", "f"]


def test_drop_takes_rows_and_rejects_of_a_unit_and_nothing_else(table: Table[Caption]) -> None:
    table.commit(["u1", "u2", "u3"], [("u1", caption("a")), ("u2", caption("b"))], [("u3", rejected("c"))], "f")
    table.commit(["u4"], [("u4", caption("d"))], [], "f")
    assert table.drop({"u1", "u3"}) == 2
    assert [row.clip_id for row in table.records()] == ["b", "d"]
    assert list(table.rejected()) == []
    assert table.units() == KeySet(["u2", "u4"])


def test_sweep_removes_what_no_manifest_names(table: Table[Caption], workspace: Workspace) -> None:
    table.commit(["u1"], [("u1", caption("a"))], [], "f")
    workspace.storage.write("tables/caption/part-000001-dead.parquet", b"half a shard")
    workspace.storage.write("tables/caption/_units/part-000001-dead.parquet", b"half a shard")
    workspace.captions.sweep()
    assert [row.clip_id for row in workspace.captions.records()] == ["a"]
    assert pd.read_parquet(workspace.storage.path("tables/caption"))["clip_id"].tolist() == ["a"]
    assert len(workspace.storage.list("tables/caption/_units")) == 1


def test_a_damaged_manifest_is_named(table: Table[Caption], workspace: Workspace) -> None:
    workspace.storage.write("tables/caption/_manifest.json", b"{}")
    with pytest.raises(DataError, match=r"_manifest\.json"):
        _ = workspace.captions


@pytest.mark.parametrize(("content", "damage"), [(b"half a shard", "is no longer readable"), (None, "is gone")])
def test_a_damaged_shard_is_named(
    table: Table[Caption], workspace: Workspace, content: bytes | None, damage: str
) -> None:
    table.commit(["u1"], [("u1", caption("a"))], [], "f")
    name = f"tables/caption/{table.shards[0].name}.parquet"
    workspace.storage.remove(name)
    if content is not None:
        workspace.storage.write(name, content)
    with pytest.raises(DataError, match=f"{name}: {damage}.*; remove the folder .*tables/caption/"):
        list(workspace.captions.records())


def test_schema_is_the_record_and_its_provenance(table: Table[Caption], workspace: Workspace) -> None:
    table.commit(["u1"], [("u1", caption("a"))], [], "f")
    name = next(n for n in workspace.storage.list("tables/caption") if n.endswith(".parquet"))
    stored = pq.read_schema(workspace.storage.path(f"tables/caption/{name}"))
    assert stored.equals(schema_of(Caption))
    assert stored.names == ["clip_id", "text", "captioner", "prompt_hash", "agreement", "unit", "fingerprint"]
    assert not stored.field("text").nullable
    assert stored.field("prompt_hash").nullable


def test_a_column_that_came_later_is_empty_in_older_rows(table: Table[Caption], workspace: Workspace) -> None:
    table.commit(["u1"], [("u1", caption("a"))], [], "f")
    [path] = Path(workspace.storage.path("tables/caption")).glob("part-*.parquet")
    pq.write_table(pq.read_table(path, partitioning=None).drop_columns(["agreement"]), path)
    again = workspace.captions
    assert again.arrow(["clip_id", "agreement"]).to_pylist() == [{"clip_id": "a", "agreement": None}]
    assert again.arrow(["agreement"]).to_pylist() == [{"agreement": None}]
    assert list(again.records()) == [caption("a")]


def test_lookup_finds_single_rows(table: Table[Caption], workspace: Workspace) -> None:
    table.commit(["u1"], [("u1", caption("a", "one"))], [], "f")
    table.commit(["u2"], [("u2", caption("b", "two"))], [], "f")
    lookup = workspace.captions.lookup("clip_id")
    assert lookup.get("b") == caption("b", "two")
    assert lookup.get("c") is None


def test_rows_that_are_expected_are_read_together_and_are_those_of_a_lookup(
    table: Table[Caption], workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.commit(["u1"], [("u1", caption("a", "one")), ("u1", caption("b", "two"))], [], "f")
    table.commit(["u2"], [("u2", caption("b", "three"))], [], "f")
    lookup = workspace.captions.lookup("clip_id")
    lookup.expect(["b", "none"])
    assert lookup.get("a") == caption("a", "one")
    assert lookup.get("none") is None
    monkeypatch.setattr(lookup.places, "of", None)
    # Of several the last, without another search.
    assert lookup.get("b") == caption("b", "three")


def test_rows_are_read_in_any_order_and_few_shards_are_held(
    table: Table[Caption], monkeypatch: pytest.MonkeyPatch
) -> None:
    for n in range(6):
        rows = [(f"u{n}{k}", caption(f"c{n}{k}", f"text {n}{k}")) for k in range(3)]
        table.commit([unit for unit, _ in rows], rows, [], "f")
    read: list[str] = []
    read_shard = Table.read_shard

    def count(self: Table[Caption], shard: Shard, columns: Sequence[str] | None = None) -> pa.Table:
        read.append(shard.name)
        return read_shard(self, shard, columns)

    monkeypatch.setattr(Table, "read_shard", count)
    monkeypatch.setattr("pipeline.tables._HELD_BYTES", 1)
    reader = RowReader(table, ["text"])
    assert reader.take(np.array([16, 0, 1, 17, 0])).column("text").to_pylist() == [
        "text 51", "text 00", "text 01", "text 52", "text 00",
    ]  # fmt: skip
    assert len(read) == 2
    assert reader.take(np.empty(0, np.int64)).num_rows == 0
    lookup = table.lookup("clip_id")
    read.clear()
    assert [lookup.get(f"c{n}{k}") for n in range(6) for k in range(3)] == list(table.records())
    # each once for the look-ups, in the order of the table, and once for the comparison
    assert len(read) == 12


def test_what_a_drop_removes_goes_at_once(table: Table[Caption], workspace: Workspace) -> None:
    for n in range(4):
        table.commit([f"u{n}", f"v{n}"], [(f"u{n}", caption(f"a{n}")), (f"v{n}", caption(f"b{n}"))], [], "f")
    names = [shard.name for shard in table.shards]
    written: list[str] = []
    write = workspace.storage.write
    table._storage.write = lambda name, data: written.append(name) or write(name, data)  # type: ignore[method-assign]
    assert table.drop(["u0", "v0", "u1", "u3"]) == 4
    assert [row.clip_id for row in table.records()] == ["b1", "a2", "b2", "b3"]
    assert [shard.name for shard in table.shards][1] == names[2]
    assert sum(name.endswith("_manifest.json") for name in written) == 1
    assert list(workspace.captions.records()) == list(table.records())
    assert len(workspace.storage.list("tables/caption/_units")) == 3
    assert table.drop(["none"]) == 0


def test_content_key_sees_content_only() -> None:
    assert content_key(caption("a")) == content_key(caption("a"))
    assert content_key(caption("a")) != content_key(caption("a", "other"))


def test_tables_work_on_a_remote_file_system() -> None:
    remote = Workspace("memory://holmes/remote")
    remote.captions.commit(["u1"], [("u1", caption("a"))], [], "f")
    assert list(remote.captions.records()) == [caption("a")]
    assert remote.captions.drop({"u1"}) == 1
    assert list(remote.captions.records()) == []


def test_what_shards_took_to_make_is_known_of_those_that_told(table: Table[Caption], workspace: Workspace) -> None:
    table.commit(["u1", "u2"], [("u1", caption("a"))], [], "f", seconds=4.0)
    table.commit(["u3"], [("u3", caption("c"))], [], "f")
    assert workspace.captions.measured() == (2, 4.0)
    # what is left of a shard took another time
    table.drop({"u1"})
    assert workspace.captions.measured() == (0, 0)
