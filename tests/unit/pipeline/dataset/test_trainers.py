"""What LLaMA-Factory and ms-swift make of their exports, and what no export hands to any trainer.

Both pin older releases of our dependencies, so each runs in a Python of its own, which LLAMAFACTORY_PYTHON and
SWIFT_PYTHON name; the tests of one that is not there are left out.
"""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pipeline.config import ExportConfig, FilterConfig
from pipeline.dataset import layout
from pipeline.dataset.formats import export_format
from pipeline.errors import ConfigError, DataError
from pipeline.records import InstructionPair, Reason
from pipeline.stages.export import export_dataset
from pipeline.stages.filter import FilterStage
from pipeline.stages.run import run_stage
from pipeline.workspace import Workspace

Fill = Callable[..., Workspace]
TRAINER_FORMATS = ("llava", "sharegpt", "llamafactory", "swift", "messages", "webdataset")

READ_BY_LLAMAFACTORY = """
import json, sys
from llamafactory.data.loader import _load_single_dataset
from llamafactory.data.parser import get_dataset_list
from llamafactory.hparams import DataArguments, ModelArguments
from transformers import Seq2SeqTrainingArguments
folder, name = sys.argv[1:]
args = DataArguments(dataset=name, dataset_dir=folder, template="qwen2_vl", preprocessing_num_workers=1)
[attr] = get_dataset_list([name], folder)
model = ModelArguments(model_name_or_path="none")
rows = _load_single_dataset(attr, model, args, Seq2SeqTrainingArguments(output_dir=folder + "/out"))
print("ROWS " + json.dumps(rows.to_list()))
"""

READ_BY_SWIFT = """
import json, sys
from swift.dataset import load_dataset
rows, _ = load_dataset([sys.argv[1]], num_proc=1, strict=True)
rows = rows.to_list()
for row in rows:  # swift keeps each turn as JSON
    row["messages"] = [json.loads(turn) if isinstance(turn, str) else turn for turn in row["messages"]]
print("ROWS " + json.dumps(rows))
"""


@pytest.fixture
def built(fill: Fill) -> Workspace:
    workspace = fill(files=True)
    export_dataset(workspace, ExportConfig(validation_fraction=0.3), "encode")
    return workspace


def read_with(python: str, program: str, *arguments: str, cwd: Path) -> list[dict[str, Any]]:
    """Return the rows that a program of another Python prints."""
    if python not in os.environ:
        pytest.skip(f"{python} names no Python in which it is installed")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"HF_HOME": str(cwd / "hf"), "HF_HUB_OFFLINE": "1", "MODELSCOPE_CACHE": str(cwd / "ms")}
    done = subprocess.run(
        [os.environ[python], "-c", program, *arguments],
        capture_output=True, text=True, check=False, cwd=cwd, env=environment, timeout=280,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    [line] = [line for line in done.stdout.splitlines() if line.startswith("ROWS ")]
    rows: list[dict[str, Any]] = json.loads(line.removeprefix("ROWS "))
    return rows


def test_llamafactory_finds_every_split_by_its_description(built: Workspace, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert export_format(built.dataset_folder, "llamafactory", out) == 24
    described = json.loads((out / "dataset_info.json").read_text())
    assert set(described) == {"holmes_train", "holmes_validation"}
    for name, dataset in described.items():
        items = json.loads((out / dataset["file_name"]).read_text())
        assert len(items) == len(list(layout.read_rows(built.dataset_folder, name.removeprefix("holmes_"))))
        assert set(dataset["columns"].values()) <= set(items[0])


def test_llamafactory_reads_its_export(built: Workspace, tmp_path: Path) -> None:
    export_format(built.dataset_folder, "llamafactory", tmp_path / "out")
    rows = read_with("LLAMAFACTORY_PYTHON", READ_BY_LLAMAFACTORY, str(tmp_path / "out"), "holmes_train", cwd=tmp_path)
    ours = list(layout.read_rows(built.dataset_folder, "train"))
    assert len(rows) == len(ours)
    assert rows[0]["_prompt"] == [{"role": "user", "content": f"<video>\n{ours[0]['question']}"}]
    assert rows[0]["_response"] == [{"role": "assistant", "content": ours[0]["answer"]}]
    assert all(Path(video).is_file() for row in rows for video in row["_videos"])


def test_swift_lines_hold_a_chat_and_its_video(built: Workspace, tmp_path: Path) -> None:
    assert export_format(built.dataset_folder, "swift", tmp_path / "out") == 24
    [first, *_] = map(json.loads, (tmp_path / "out" / "train.jsonl").read_text().splitlines())
    row = next(layout.read_rows(built.dataset_folder, "train"))
    user, assistant = first["messages"]
    assert user == {"role": "user", "content": f"<video>{row['question']}"}
    assert assistant == {"role": "assistant", "content": row["answer"]}
    assert [Path(video).is_file() for video in first["videos"]] == [True]


def test_swift_reads_its_export(built: Workspace, tmp_path: Path) -> None:
    export_format(built.dataset_folder, "swift", tmp_path / "out")
    rows = read_with("SWIFT_PYTHON", READ_BY_SWIFT, str(tmp_path / "out" / "train.jsonl"), cwd=tmp_path)
    ours = list(layout.read_rows(built.dataset_folder, "train"))
    assert [row["messages"][1]["content"] for row in rows] == [row["answer"] for row in ours]
    assert all("<video>" in row["messages"][0]["content"] and len(row["videos"]) == 1 for row in rows)


@pytest.mark.parametrize("name", ["llamafactory", "swift"])
def test_a_span_of_a_video_is_no_clip(fill: Fill, tmp_path: Path, name: str) -> None:
    workspace = fill()
    export_dataset(workspace, ExportConfig(), "reference")
    with pytest.raises(DataError, match=r"clips\.files=encode"):
        export_format(workspace.dataset_folder, name, tmp_path / "out")


def test_llamafactory_is_a_folder(built: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="dataset_dir"):
        export_format(built.dataset_folder, "llamafactory", tmp_path / "out.json")


@pytest.mark.parametrize("name", TRAINER_FORMATS)
def test_tokens_of_trainers_reach_no_export(fill: Fill, tmp_path: Path, name: str) -> None:
    tokens = ["<image>", "<audio>", "<video>", "<|im_start|>", "</s>", "[INST]"]

    def reword(pair: InstructionPair) -> InstructionPair:
        answer = pair.answer.replace("happens here", "happens before two men in the street")
        if tokens and pair.task == "judge_explain":
            answer = answer.replace("street", f"street {tokens.pop()}!UNFIT")
        return dataclasses.replace(pair, answer=answer)

    workspace = fill(files=True, reword=reword)
    run_stage(FilterStage(workspace, FilterConfig(near_duplicate=1.0)), workspace.verdicts)
    assert not tokens
    assert [row.reason for row in workspace.verdicts.rejected()].count(Reason.CONTROL_TOKEN) == 6
    export_dataset(workspace, ExportConfig(validation_fraction=0.3), "encode")
    count = export_format(workspace.dataset_folder, name, tmp_path / "out")
    assert count > 0
    for path in (tmp_path / "out").iterdir():
        if path.suffix == ".tar":
            with tarfile.open(path) as tar:
                written = b"".join(tar.extractfile(m).read() for m in tar if m.name.endswith(".json"))  # type: ignore[union-attr]
        else:
            written = path.read_bytes()
        assert b"UNFIT" not in written
