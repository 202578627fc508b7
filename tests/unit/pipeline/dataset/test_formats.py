"""The dataset in other trainers' forms."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.config import ExportConfig
from pipeline.dataset import formats, layout
from pipeline.dataset.formats import export_format
from pipeline.errors import ConfigError, DataError
from pipeline.stages.export import export_dataset
from pipeline.workspace import Workspace

Fill = Callable[..., Workspace]


@pytest.fixture
def built(fill: Fill) -> Workspace:
    """A workspace with clip files and a dataset of two splits."""
    workspace = fill(files=True)
    export_dataset(workspace, ExportConfig(validation_fraction=0.3), "encode")
    return workspace


def test_llava_has_one_file_a_split(built: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "llava"
    assert export_format(built.dataset_folder, "llava", out) == 24
    items = {split: json.loads((out / f"{split}.json").read_text()) for split in ("train", "validation")}
    assert not (out / "test.json").exists()
    rows = list(layout.read_rows(built.dataset_folder, "train"))
    assert [item["id"] for item in items["train"]] == [row["id"] for row in rows]
    assert items["train"][0] == {
        "id": rows[0]["id"],
        "video": str((built.dataset_folder / rows[0]["video"]["path"]).resolve()),
        "conversations": [
            {"from": "human", "value": f"<video>\n{rows[0]['question']}"},
            {"from": "gpt", "value": rows[0]["answer"]},
        ],
    }
    assert all(Path(item["video"]).is_file() for item in items["validation"])


def test_sharegpt_lists_its_videos(built: Workspace, tmp_path: Path) -> None:
    export_format(built.dataset_folder.parent, "sharegpt", tmp_path / "out")
    item = json.loads((tmp_path / "out" / "train.json").read_text())[0]
    assert set(item) == {"id", "conversations", "videos"}
    assert item["conversations"][0]["value"].startswith("<video>\n")
    assert Path(item["videos"][0]).is_file()


def test_messages_put_the_video_first(built: Workspace, tmp_path: Path) -> None:
    export_format(built.dataset_folder, "messages", tmp_path / "out")
    lines = (tmp_path / "out" / "validation.jsonl").read_text().splitlines()
    user, assistant = json.loads(lines[0])["messages"]
    assert [part["type"] for part in user["content"]] == ["video", "text"]
    assert Path(user["content"][0]["video"]).is_file()
    assert assistant["role"] == "assistant"


def test_one_file_holds_all_splits_and_says_which(built: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "all.json"
    assert export_format(built.dataset_folder, "llava", out) == 24
    items = json.loads(out.read_text())
    assert {item["split"] for item in items} == {"train", "validation"}
    assert len(items) == 24


def test_webdataset_pairs_clip_and_text(built: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(formats, "TAR_ITEMS", 10)
    out = tmp_path / "tars"
    assert export_format(built.dataset_folder, "webdataset", out) == 24
    rows = list(layout.read_rows(built.dataset_folder, "train"))
    with tarfile.open(out / "train-000000.tar") as tar:
        names = tar.getnames()
        assert len(names) == 20
        video, text = (tar.extractfile(name).read() for name in names[:2])  # type: ignore[union-attr]
    assert names[0].removesuffix(".mp4") == names[1].removesuffix(".json") == rows[0]["id"]
    assert video == (built.dataset_folder / rows[0]["video"]["path"]).read_bytes()
    assert json.loads(text)["answer"] == rows[0]["answer"]
    again = tmp_path / "again"
    export_format(built.dataset_folder, "webdataset", again)
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in again.iterdir()}


def test_webdataset_loads_in_hugging_face(built: Workspace, tmp_path: Path) -> None:
    from datasets import load_dataset

    export_format(built.dataset_folder, "webdataset", tmp_path / "tars")
    files = {"train": str(tmp_path / "tars" / "train-*.tar")}
    loaded = load_dataset("webdataset", data_files=files, split="train", cache_dir=str(tmp_path / "cache"))
    assert {"mp4", "json"} <= set(loaded.column_names)


def test_shards_of_an_earlier_export_go(built: Workspace, tmp_path: Path) -> None:
    stale = tmp_path / "tars" / "train-000009.tar"
    stale.parent.mkdir()
    stale.write_bytes(b"old")
    export_format(built.dataset_folder, "webdataset", stale.parent)
    assert not stale.exists()


def test_embedded_clips_are_written_out(fill: Fill, tmp_path: Path) -> None:
    workspace = fill(files=True)
    export_dataset(workspace, ExportConfig(embed_videos=True), "encode")
    export_format(workspace.dataset_folder, "llava", tmp_path / "out")
    item = json.loads((tmp_path / "out" / "train.json").read_text())[0]
    assert Path(item["video"]).parent == tmp_path / "out" / "videos"
    assert Path(item["video"]).read_bytes()[4:8] == b"ftyp"


def test_what_cannot_be_written_is_said(built: Workspace, fill: Fill, tmp_path: Path) -> None:
    folder = built.dataset_folder
    with pytest.raises(
        ConfigError, match="known are hivau, llamafactory, llava, messages, sharegpt, swift, webdataset"
    ):
        export_format(folder, "coco", tmp_path / "out")
    with pytest.raises(ConfigError, match=r"\.jsonl"):
        export_format(folder, "messages", tmp_path / "out.json")
    with pytest.raises(ConfigError, match="a folder"):
        export_format(folder, "webdataset", tmp_path / "out.tar")
    export_dataset(built, ExportConfig(), "reference")
    with pytest.raises(DataError, match=r"clips\.files=encode"):
        export_format(folder, "webdataset", tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())
