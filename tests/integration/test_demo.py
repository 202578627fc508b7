"""`holmes demo` as a newcomer runs it, on a smaller world, whose dataset is row for row what it was."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from flows.plan import build
from pipeline.config import parse_config

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ROWS = Path(__file__).parent / "data" / "demo_world_rows.json"
"""Rows of seed 0 and eight videos. A change that is meant to change them writes this file anew, and says so."""


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder of a demo with eight videos, and what it said."""
    folder = tmp_path_factory.mktemp("demo") / "demo"
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo", "--out", str(folder), "--videos", "8"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_demo_makes_a_dataset_and_says_what_to_do_next(demo: tuple[Path, str]) -> None:
    folder, said = demo
    assert said.count("  user: ") == 3
    assert said.count("  assistant: ") == 3
    assert re.search(r"verdicts right \d+ of [1-9]\d*, explanations true \d+ of \d+, mean tIoU 0\.\d\d", said)
    assert "Next:" in said
    dataset = load_dataset(str(folder / "workspace/dataset"))
    assert {"train", "test"} <= dataset.keys()
    assert (folder / "workspace/reports/build.html").is_file()
    assert [path.name for path in (folder / "sample").glob("*.json")] == ["label_studio.json"]


def test_the_rows_of_a_seed_are_always_the_same(demo: tuple[Path, str], tmp_path: Path) -> None:
    """A seed and a configuration decide them: here the one that takes clips around the clicks, and measures them."""
    world = demo[0] / "sample"
    inputs = {"videos": [str(world / "videos.csv")], "glances": [str(world / "label_studio.json")]}
    rest = {"workspace": str(tmp_path / "w"), "video": {"workers": 1}}
    dataset = build(parse_config({**inputs, **rest})).dataset
    expected = json.loads(ROWS.read_text())
    columns = [name for name in expected[0] if name != "split"]
    rows = [
        {**row, "split": file.name.split("-")[0]}
        for file in sorted(dataset.glob("data/*.parquet"))
        for row in pq.read_table(file, columns=columns).to_pylist()
    ]
    assert rows == expected
