"""The exported dataset: what stands in it, that it loads, that it is whole, and that nothing is done twice."""

from __future__ import annotations

import dataclasses
import json
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from pipeline.config import ExportConfig
from pipeline.dataset import layout
from pipeline.errors import ConfigError, DataError
from pipeline.records import NORMAL, Caption
from pipeline.stages import export
from pipeline.stages.export import export_dataset, pending_export
from pipeline.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[4]
CONFIG = ExportConfig(validation_fraction=0.3)
COLUMNS = [
    "id", "video", "source_video", "start_s", "end_s", "label", "is_anomaly", "level", "task", "question", "answer",
    "messages", "caption", "captioner", "caption_agreement", "llm", "prompt_hash", "glance_time_s", "anomaly_score",
    "verdict", "reviewer", "reviewed_at", "original_answer", "fingerprint",
]  # fmt: skip

Fill = Callable[..., Workspace]


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_writes_the_promised_files_and_columns(fill: Fill, figures: None) -> None:
    workspace = fill()
    report = export_dataset(workspace, CONFIG, "encode")
    folder = workspace.dataset_folder
    assert report.rows == report.made == 24
    assert set(files_of(folder)) == {
        "data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet",
        "README.md", "stats.json", "rejected.parquet",
        "figures/class_balance.png", "figures/clip_lengths.png", "figures/answer_lengths.png",
    }  # fmt: skip
    file = pq.ParquetFile(folder / "data/train-00000-of-00001.parquet")
    assert file.schema_arrow.names == COLUMNS
    assert file.metadata.row_group(0).column(0).compression == "ZSTD"
    rejected = pq.read_table(folder / "rejected.parquet").to_pylist()
    assert [(row["record_id"], row["stage"], row["reason"]) for row in rejected] == [
        ("broken.mp4", "ingest", "truncated")
    ]


def test_a_row_joins_pair_clip_caption_and_verdict(fill: Fill) -> None:
    workspace = fill()
    export_dataset(workspace, CONFIG, "encode")
    pairs = {pair.pair_id: pair for pair in workspace.pairs.records()}
    clips = {clip.clip_id: clip for clip in workspace.clips.records()}
    captions = {caption.clip_id: caption for caption in workspace.captions.records()}
    rows = list(layout.read_rows(workspace.dataset_folder))
    assert {row["id"] for row in rows} == set(pairs)
    for row in rows:
        pair, clip = pairs[row["id"]], clips[pairs[row["id"]].clip_id]
        assert row["video"] == {"bytes": None, "path": f"../clips/{clip.clip_id}.mp4"}
        assert (row["source_video"], row["start_s"], row["end_s"]) == (clip.video_id, clip.start_s, clip.end_s)
        assert row["glance_time_s"] == clip.glance_time_s
        assert row["caption_agreement"] == captions[clip.clip_id].agreement
        assert row["is_anomaly"] == (row["label"] != NORMAL)
        assert (row["question"], row["answer"], row["verdict"]) == (pair.question, pair.answer, "accept")
        assert (row["reviewer"], row["reviewed_at"], row["original_answer"]) == ("rules", None, None)
        assert row["messages"] == [
            {"role": "user", "content": [{"type": "video", "text": None}, {"type": "text", "text": pair.question}]},
            {"role": "assistant", "content": [{"type": "text", "text": pair.answer}]},
        ]
        assert len(row["fingerprint"]) == 16


def test_an_edit_replaces_the_answer_everywhere(fill: Fill) -> None:
    def edit(verdict: Any) -> Any:
        said = "Yes, as a person says."
        return dataclasses.replace(
            verdict, decision="edit", edited_answer=said, reviewer="ann", reviewed_at="2026-01-02T03:04:05Z"
        )

    workspace = fill(edit=edit)
    export_dataset(workspace, CONFIG, "encode")
    row = next(layout.read_rows(workspace.dataset_folder))
    assert row["verdict"] == "edit"
    pair = next(pair for pair in workspace.pairs.records() if pair.pair_id == row["id"])
    assert (row["reviewer"], row["reviewed_at"], row["original_answer"]) == ("ann", "2026-01-02T03:04:05Z", pair.answer)
    assert row["answer"] == row["messages"][1]["content"][0]["text"] == "Yes, as a person says."


def test_pairs_without_a_verdict_stay_out(fill: Fill) -> None:
    workspace = fill()
    verdicts = workspace.verdicts
    verdicts.drop([f"filter-{number}" for number in range(4)])
    assert export_dataset(workspace, CONFIG, "encode").rows == 20


def test_load_dataset_just_works(fill: Fill, tmp_path: Path) -> None:
    from datasets import Video, load_dataset

    workspace = fill()
    export_dataset(workspace, CONFIG, "encode")
    folder = workspace.dataset_folder
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    stats = json.loads((folder / "stats.json").read_text())
    assert {split: len(rows) for split, rows in loaded.items()} == {
        split: counts["rows"] for split, counts in stats["splits"].items()
    }
    assert loaded["train"].features["video"] == Video(decode=False)
    assert loaded["train"].column_names == COLUMNS
    first = loaded["train"][0]
    assert first["video"]["path"].startswith("../clips/")
    assert first["messages"][0]["content"][0]["type"] == "video"
    streamed = load_dataset(str(folder), split="train", streaming=True)
    assert next(iter(streamed)) == first


def test_card_header_names_files_splits_and_license(fill: Fill) -> None:
    workspace = fill()
    export_dataset(workspace, CONFIG.model_copy(update={"name": "Yard: night | day", "license": "cc-by-4.0"}), "encode")
    _, header, body = (workspace.dataset_folder / "README.md").read_text().split("---\n", 2)
    card = yaml.safe_load(header)
    assert (card["pretty_name"], card["license"]) == ("Yard: night | day", "cc-by-4.0")
    assert card["size_categories"] == ["n<1K"]
    assert card["configs"][0]["data_files"][0] == {"split": "train", "path": "data/train-*.parquet"}
    assert [feature["name"] for feature in card["dataset_info"]["features"]] == COLUMNS
    assert "| ingest | truncated | 1 |" in body


def test_reference_clips_point_at_the_source(fill: Fill) -> None:
    workspace = fill()
    export_dataset(workspace, CONFIG, "reference")
    row = next(layout.read_rows(workspace.dataset_folder))
    assert row["video"]["path"] == f"/footage/{row['source_video']}.mp4"


def test_embedded_clips_carry_their_bytes(fill: Fill) -> None:
    workspace = fill(files=True)
    config = CONFIG.model_copy(update={"embed_videos": True})
    export_dataset(workspace, config, "encode")
    for row in layout.read_rows(workspace.dataset_folder):
        assert row["video"]["bytes"] == workspace.storage.read(f"clips/{row['video']['path']}")
    with pytest.raises(ConfigError, match=r"clips\.files=encode"):
        export_dataset(workspace, config, "reference")


def test_shards_and_row_groups_are_as_long_as_asked(fill: Fill) -> None:
    workspace = fill(validation_fraction=0)
    config = ExportConfig(rows_per_shard=10, row_group_rows=4)
    export_dataset(workspace, config, "encode")
    shards, strangers = layout.list_shards(workspace.dataset_folder)
    assert [shard.path.name for shard in shards] == [f"train-0000{number}-of-00003.parquet" for number in range(3)]
    assert not strangers
    metadata = [pq.read_metadata(shard.path) for shard in shards]
    groups = [[one.row_group(i).num_rows for i in range(one.num_row_groups)] for one in metadata]
    assert groups == [[4, 4, 2], [4, 4, 2], [4]]


def test_equal_tables_give_equal_bytes_however_they_were_filled(
    fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, figures: None
) -> None:
    # Small buckets, so that rows really pass through several of them.
    monkeypatch.setattr("pipeline.dataset.rows.BUCKET_ROWS", 7)
    straight = fill(Workspace(str(tmp_path / "a" / "build")))
    broken_up = fill(Workspace(str(tmp_path / "b" / "build")), shard=5, reverse=True)
    for workspace in (straight, broken_up):
        export_dataset(workspace, CONFIG, "encode")
    assert files_of(straight.dataset_folder) == files_of(broken_up.dataset_folder)


def test_a_second_export_does_nothing(fill: Fill, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace = fill()
    assert pending_export(workspace, CONFIG, "encode")
    export_dataset(workspace, CONFIG, "encode")
    before = {path: path.stat().st_mtime_ns for path in workspace.dataset_folder.rglob("*")}
    # nor does it read a row to find that out
    monkeypatch.setattr(export, "_content", None)
    assert not pending_export(workspace, CONFIG, "encode")
    report = export_dataset(workspace, CONFIG, "encode")
    assert (report.made, report.kept, report.rows) == (0, 24, 24)
    assert {path: path.stat().st_mtime_ns for path in workspace.dataset_folder.rglob("*")} == before


@pytest.mark.parametrize("change", ["setting", "clips", "missing file", "short file", "input"])
def test_any_change_is_noticed(fill: Fill, change: str) -> None:
    workspace, config, clips_files = fill(), CONFIG, "encode"
    export_dataset(workspace, config, "encode")
    shard = workspace.dataset_folder / "data/train-00000-of-00001.parquet"
    match change:
        case "setting":
            config = CONFIG.model_copy(update={"license": "mit"})
        case "clips":
            clips_files = "reference"
        case "missing file":
            shard.unlink()
        case "short file":
            shard.write_bytes(shard.read_bytes()[:100])
        case "input":
            extra = Caption(clip_id="other", text="Nothing moves.", captioner="motion", prompt_hash=None)
            workspace.captions.commit(["new"], [("new", extra)], [], "f" * 16)
    assert pending_export(workspace, config, clips_files)  # type: ignore[arg-type]
    assert export_dataset(workspace, config, clips_files).made == 24  # type: ignore[arg-type]


def test_nothing_to_export_says_where_the_rows_were_lost(fill: Fill, workspace: Workspace) -> None:
    fill()
    workspace.verdicts.drop([f"filter-{number}" for number in range(24)])
    with pytest.raises(DataError, match=r"(?s)synthesize 24, filter 0.*ingest left out 1 as truncated.*broken\.mp4"):
        export_dataset(workspace, CONFIG, "encode")
    assert not workspace.dataset_folder.exists()


def test_a_video_of_which_no_split_was_decided_is_named(fill: Fill) -> None:
    workspace = fill()
    table = workspace.splits
    first = table.arrow(["unit", "video_id"]).slice(0, 1).to_pylist()[0]
    table.drop([first["unit"]])
    with pytest.raises(DataError, match=f"{first['video_id']}: nobody has decided its split"):
        export_dataset(workspace, CONFIG, "encode")


def test_tables_out_of_step_are_named(fill: Fill, workspace: Workspace) -> None:
    fill()
    workspace.captions.drop(["caption-0"])
    with pytest.raises(DataError, match=r"pair cam00_.*1 more"):
        export_dataset(workspace, CONFIG, "encode")


_KILLED = """
import os, signal, sys
from pipeline.config import ExportConfig
from pipeline.dataset import card
from pipeline.stages.export import export_dataset
from pipeline.workspace import Workspace

card.draw_figures = lambda folder, stats: None
renamed = 0
def kill(event, args):
    global renamed
    if event == "os.rename":
        renamed += 1
        if renamed == int(sys.argv[2]):
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(kill)
export_dataset(Workspace(sys.argv[1]), ExportConfig(validation_fraction=0.3, license="mit"), "encode")
"""


@pytest.mark.parametrize(
    ("rename", "left"),
    [(2, "old"), (4, "none"), (5, "new")],
    ids=["while writing", "between the renames of the swap", "before the stamp"],
)
def test_kill_9_leaves_the_old_dataset_or_the_new_one(fill: Fill, tmp_path: Path, rename: int, left: str) -> None:
    config = CONFIG.model_copy(update={"license": "mit"})
    undisturbed = fill(Workspace(str(tmp_path / "undisturbed" / "build")))
    export_dataset(undisturbed, config, "encode")
    workspace = fill(Workspace(str(tmp_path / "killed" / "build")))
    export_dataset(workspace, CONFIG, "encode")
    old, new = files_of(workspace.dataset_folder), files_of(undisturbed.dataset_folder)
    # Renames: two shards get their names, the old dataset goes aside, the new one comes in, then the stamp.
    command = [sys.executable, "-c", _KILLED, workspace.url, str(rename)]
    assert subprocess.run(command, cwd=REPOSITORY, check=False).returncode == -signal.SIGKILL
    assert files_of(workspace.dataset_folder) == {"old": old, "none": {}, "new": new}[left]
    export._repair(workspace)
    assert files_of(workspace.dataset_folder) == {"old": old, "none": old, "new": new}[left]
    assert export_dataset(workspace, config, "encode").rows == 24
    assert files_of(workspace.dataset_folder) == new
    assert not [path.name for path in Path(workspace.storage.root).iterdir() if path.name.startswith("_")]


@pytest.fixture(params=[False, True], ids=["files", "embedded"])
def run_card(
    request: pytest.FixtureRequest, fill: Fill, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[bool, dict[str, Any]]:
    """Whether the clips are embedded, and what the card's own lines leave, run in another folder."""
    workspace = fill(files=True)
    export_dataset(workspace, ExportConfig(embed_videos=request.param), "encode")
    folder = workspace.dataset_folder
    lines = (folder / "README.md").read_text().split("```python\n")[1].split("```")[0]
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    names: dict[str, Any] = {}
    exec(lines.replace("path/to/this/folder", str(folder)), names)  # noqa: S102 - the card's own lines
    return request.param, names


def test_the_lines_of_the_card_load_clips_from_any_folder(run_card: tuple[bool, dict[str, Any]]) -> None:
    import io

    import av

    embed, names = run_card
    with av.open(io.BytesIO(names["clip"]) if embed else names["clip"]) as clip:
        assert sum(1 for _ in clip.decode(video=0)) == 20
    assert names["decoding"]["train"].features["video"].decode is True
    undecoded = names["decoding"]["train"].with_format("arrow")[0]["video"][0].as_py()
    assert undecoded["bytes"] if embed else Path(undecoded["path"]).is_file()


def test_hugging_face_decodes_the_clips_from_any_folder(run_card: tuple[bool, dict[str, Any]]) -> None:
    if (reason := _why_not_decoded()) is not None:
        pytest.skip(reason)
    _, names = run_card
    for row in names["decoding"]["train"].select([0, 5]):
        assert len(row["video"]) == 20
        assert len(row["video"][19]) == 3, "red, green and blue"


def _why_not_decoded() -> str | None:
    """Return why torchcodec decodes nothing here: it is not installed, or FFmpeg's libraries are not."""
    try:
        import torchcodec.decoders  # noqa: F401
    except (ImportError, OSError, RuntimeError) as fault:
        return str(fault).strip().splitlines()[0]
    return None
