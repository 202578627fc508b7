"""Every invariant: a sound dataset has no finding, and each way to break one is found and named."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import ExportConfig
from pipeline.dataset import layout
from pipeline.dataset.findings import NAMED_PER_RULE
from pipeline.dataset.validate import validate_dataset
from pipeline.errors import DataError
from pipeline.stages.export import export_dataset
from pipeline.workspace import Workspace

Fill = Callable[..., Workspace]
CONFIG = ExportConfig(validation_fraction=0.3)
TRAIN = "data/train-00000-of-00001.parquet"


@pytest.fixture
def folder(fill: Fill) -> Path:
    """A sound dataset with its clip files."""
    workspace = fill(files=True)
    export_dataset(workspace, CONFIG, "encode")
    return workspace.dataset_folder


def rewrite(folder: Path, change: Callable[[list[dict[str, Any]]], object], name: str = TRAIN) -> None:
    """Change the rows of a shard behind the engine's back."""
    rows = pq.read_table(folder / name).to_pylist()
    change(rows)
    pq.write_table(pa.Table.from_pylist(rows, schema=layout.schema()), folder / name)


def rules(folder: Path, probe_files: int | None = 0) -> set[str]:
    """Return the rules that are broken, but for the one that the workspace's tables say otherwise, as of any change."""
    return {finding.rule for finding in validate_dataset(folder, probe_files=probe_files)} - {"tables"}


def test_a_sound_dataset_has_no_finding(folder: Path) -> None:
    assert validate_dataset(folder) == []
    assert validate_dataset(folder.parent, probe_files=None) == []


def test_a_sound_dataset_away_from_its_workspace(fill: Fill, tmp_path: Path) -> None:
    workspace = fill(files=True)
    export_dataset(workspace, ExportConfig(embed_videos=True), "encode")
    alone = tmp_path / "elsewhere"
    workspace.dataset_folder.rename(alone)
    assert validate_dataset(alone) == []


def test_no_dataset_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a dataset"):
        validate_dataset(tmp_path)


CHANGES: dict[str, Callable[[dict[str, Any]], object]] = {
    "span": lambda row: row.update(start_s=5.0, end_s=5.0, glance_time_s=None),
    "glance_in_clip": lambda row: row.update(glance_time_s=row["end_s"] + 0.5),
    "is_anomaly": lambda row: row.update(is_anomaly=not row["is_anomaly"]),
    "no_empty_text": lambda row: row.update(caption="  "),
    "no_null": lambda row: row.update(prompt_hash=None),
    "task": lambda row: row.update(task="poem"),
    "verdict": lambda row: row.update(verdict="reject"),
    "original_answer": lambda row: row.update(original_answer="An answer of before."),
    "score": lambda row: row.update(anomaly_score=1.5),
    "video": lambda row: row.update(video={"bytes": None, "path": ""}),
    "messages": lambda row: row["messages"][0]["content"].reverse(),
}


@pytest.mark.parametrize("rule", CHANGES)
def test_a_broken_row_is_named(folder: Path, rule: str) -> None:
    rewrite(folder, lambda rows: CHANGES[rule](rows[3]))
    found = [finding for finding in validate_dataset(folder, probe_files=0) if finding.rule == rule]
    assert len(found) == 1
    row_id = pq.read_table(folder / TRAIN, columns=["id"]).column("id")[3].as_py()
    assert str(found[0]).startswith(f"{TRAIN}: row 3 (id {row_id!r}): ")


def test_an_answer_against_the_label_is_found(folder: Path) -> None:
    def contradict(rows: list[dict[str, Any]]) -> None:
        row = next(row for row in rows if row["task"] == "judge_explain" and row["is_anomaly"])
        row["answer"] = row["messages"][1]["content"][0]["text"] = "No, all is well here."

    rewrite(folder, contradict)
    assert rules(folder) == {"polarity"}


def test_a_description_against_the_label_is_found(folder: Path) -> None:
    changed = []

    def contradict(rows: list[dict[str, Any]]) -> None:
        row = next(row for row in rows if row["task"] == "description" and row["is_anomaly"])
        row["answer"] = row["messages"][1]["content"][0]["text"] = "People walk by, and the scene is normal."
        changed.append(row["id"])

    rewrite(folder, contradict)
    findings = validate_dataset(folder, probe_files=0)
    assert [finding.rule for finding in findings] == ["polarity", "tables"]
    assert repr(changed[0]) in str(findings[0])


def test_ids_must_be_unique(folder: Path) -> None:
    rewrite(folder, lambda rows: rows[1].update(id=rows[0]["id"]))
    assert rules(folder) == {"unique_id"}


def test_rows_that_pass_through_many_buckets_are_found_all_the_same(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def change(rows: list[dict[str, Any]]) -> None:
        rows[1].update(id=rows[0]["id"])
        rows[2].update(caption="Another one.")
        rows[-1].update(video={"bytes": None, "path": rows[2]["video"]["path"]})
        rows[4].update(video={"bytes": None, "path": "../clips/none.mp4"})

    rewrite(folder, change)
    at_once = sorted(map(str, validate_dataset(folder)))
    monkeypatch.setattr("pipeline.dataset.validate.BUCKET_ROWS", 2)
    assert sorted(map(str, validate_dataset(folder))) == at_once
    found = {finding.rule for finding in validate_dataset(folder)}
    assert found >= {"unique_id", "tables", "clip_rows", "clip_file"}


def test_a_video_in_two_splits_is_found(folder: Path) -> None:
    other = pq.read_table(folder / TRAIN, columns=["source_video"]).column(0)[0].as_py()
    rewrite(folder, lambda rows: rows[0].update(source_video=other), "data/validation-00000-of-00001.parquet")
    assert "split_by_video" in rules(folder)


def test_equal_content_in_two_splits_is_found(folder: Path, fill: Fill) -> None:
    workspace = Workspace(str(folder.parent))
    same = [(str(i), v) for i, v in enumerate(workspace.videos.records())]
    workspace.videos.drop([f"ingest-{i}" for i in range(6)])
    workspace.videos.commit(
        [unit for unit, _ in same], [(unit, dataclasses.replace(v, sha256="0" * 64)) for unit, v in same], [], "f" * 16
    )
    assert rules(folder) == {"split_by_content"}


def test_many_breaches_of_one_rule_are_counted(fill: Fill) -> None:
    workspace = fill(clips_per_video=10, validation_fraction=0)
    export_dataset(workspace, ExportConfig(), "encode")
    findings = validate_dataset(workspace.dataset_folder, probe_files=0)
    assert len(findings) == NAMED_PER_RULE + 1
    assert findings[-1].value == "40 more of this kind"


@pytest.mark.parametrize("fault", ["gone", "empty", "cut short", "other length"])
def test_a_faulty_clip_file_is_found(folder: Path, fault: str, fill: Fill) -> None:
    path = sorted((folder.parent / "clips").iterdir())[0]
    match fault:
        case "gone":
            path.unlink()
        case "empty":
            path.write_bytes(b"")
        case "cut short":
            path.write_bytes(path.read_bytes()[:200])
        case "other length":
            path.write_bytes(_mp4(path.parent, 12))
    expected = {
        "gone": {"clip_file"}, "empty": {"clip_file"}, "cut short": {"clip_readable"},
        "other length": {"clip_frames", "clip_duration"},
    }  # fmt: skip
    assert rules(folder, probe_files=None) == expected[fault]


def _mp4(folder: Path, num_frames: int) -> bytes:
    import av
    import numpy as np

    path = folder / "_short.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(num_frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), format="rgb24")))
        container.mux(stream.encode())
    content = path.read_bytes()
    path.unlink()
    return content


@pytest.mark.parametrize(
    ("damage", "expected"),
    [
        (lambda f: (f / TRAIN).rename(f / "data/train-00000-of-00002.parquet"), {"shard_numbers", "stats"}),
        (lambda f: (f / "data/notes.txt").write_text("x"), {"shard_name"}),
        (lambda f: (f / TRAIN).write_bytes(b"PAR1 no more"), {"readable", "stats", "card"}),
        (lambda f: (f / "stats.json").unlink(), {"stats"}),
        (lambda f: (f / "README.md").write_text("# no header"), {"card"}),
        (lambda f: (f / "rejected.parquet").unlink(), {"rejected"}),
        (lambda f: pq.write_table(pq.read_table(f / TRAIN).drop_columns(["llm"]), f / TRAIN), {"schema"}),
        (lambda f: pq.write_table(pq.read_table(f / TRAIN).replace_schema_metadata(None), f / TRAIN), {"schema"}),
        (lambda f: rewrite(f, lambda rows: rows.pop()), {"stats", "card"}),
    ],
    ids=["numbering", "stranger", "garbage", "no stats", "no header", "no rejects", "no column", "no features", "row"],
)  # fmt: skip
def test_damaged_files_are_found(folder: Path, damage: Callable[[Path], object], expected: set[str]) -> None:
    damage(folder)
    assert rules(folder) == expected


def test_stats_that_lie_are_found(folder: Path) -> None:
    stats = json.loads((folder / "stats.json").read_text())
    (folder / "stats.json").write_text(json.dumps(stats | {"rows": 7}))
    finding = validate_dataset(folder, probe_files=0)[0]
    assert str(finding) == "stats.json: rows=7; the shards hold 24 (stats)"


def change_row(**changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    """Return a change of the first row, with the chat that belongs to it."""

    def change(rows: list[dict[str, Any]]) -> None:
        row = rows[0]
        row.update(changes)
        row["messages"][0]["content"][1]["text"] = row["question"]
        row["messages"][1]["content"][0]["text"] = row["answer"]

    return change


def swap_columns(one: str, other: str) -> Callable[[list[dict[str, Any]]], None]:
    def change(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            change_row(**{one: row[other], other: row[one]})([row])

    return change


def take_clip_of_another_video(rows: list[dict[str, Any]]) -> None:
    other = next(row for row in rows if row["source_video"] != rows[0]["source_video"])
    rows[0]["video"] = other["video"]


@pytest.mark.parametrize(
    ("change", "alone", "told"),
    [
        (swap_columns("captioner", "llm"), {"stats"}, "captioner, llm: not what the tables of the workspace hold"),
        (swap_columns("caption", "question"), set(), "question, caption: not what"),
        (swap_columns("prompt_hash", "fingerprint"), {"hash"}, "fingerprint must be 16 hexadecimal digits"),
        (take_clip_of_another_video, {"clip_rows"}, "which another row calls"),
        (change_row(label="Arson"), {"clip_rows"}, "label: not what the tables of the workspace hold"),
        (change_row(source_video="cam99"), {"clip_rows"}, "source_video: not what the tables of the workspace hold"),
        (change_row(answer="Yes, another crime is seen here."), {"stats"}, "answer: not what the tables of the works"),
    ],
)
def test_a_row_that_is_sound_in_itself_but_not_its_own_is_found(
    folder: Path, tmp_path: Path, change: Callable[[list[dict[str, Any]]], None], alone: set[str], told: str
) -> None:
    rewrite(folder, change)
    findings = validate_dataset(folder, probe_files=0)
    assert told in "\n".join(map(str, findings))
    if told.endswith(("workspace hold", "not what")):
        assert "tables" in {finding.rule for finding in findings}
    # without the tables of its workspace, what the rows say of one another remains
    apart = tmp_path / "apart"
    shutil.copytree(folder.parent / "clips", apart / "clips")
    shutil.copytree(folder, apart / "dataset")
    assert rules(apart / "dataset") == alone


def test_tables_that_have_gone_on_are_no_fault_of_the_dataset(folder: Path) -> None:
    workspace = Workspace(str(folder.parent))
    pairs = list(workspace.pairs.records())
    workspace.pairs.drop(workspace.pairs.units())
    reworded = [(pair.pair_id, dataclasses.replace(pair, answer=f"{pair.answer} Again.")) for pair in pairs]
    workspace.pairs.commit([unit for unit, _ in reworded], reworded, [], "e" * 16)
    assert validate_dataset(folder, probe_files=0) == []
    workspace.captions.drop(workspace.captions.units())
    assert validate_dataset(folder, probe_files=0) == []


def test_a_copy_in_another_split_is_found_under_another_name(folder: Path) -> None:
    def copy_in(rows: list[dict[str, Any]]) -> None:
        source = pq.read_table(folder / TRAIN).to_pylist()[0]
        path = Path(source["video"]["path"]).with_name("copied.mp4")
        shutil.copy(folder / source["video"]["path"], folder / path)
        rows[:1] = [source | {"id": "copied", "source_video": "cam99", "video": {"bytes": None, "path": str(path)}}]

    rewrite(folder, copy_in, "data/validation-00000-of-00001.parquet")
    assert "split_by_content" in rules(folder)


def test_a_figure_that_lies_is_named_with_what_the_rows_give(folder: Path) -> None:
    stats = json.loads((folder / "stats.json").read_text())
    stats["labels"]["Fighting"]["clips"] += 1
    stats["answer_words"]["normal"]["mean"] = 3.0
    (folder / "stats.json").write_text(json.dumps(stats))
    found = [str(finding) for finding in validate_dataset(folder, probe_files=0)]
    assert found == [
        "stats.json: answer_words.normal.mean=3.0; the rows give 7.0 (stats)",
        "stats.json: labels.Fighting.clips=5; the rows give 4 (stats)",
    ]
