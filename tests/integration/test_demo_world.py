"""The dataset of the generated world is row for row what it was: a seed and a configuration decide it."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from flows.plan import build
from pipeline.config import parse_config
from pipeline.sample import make_sample

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

ROWS = Path(__file__).parent / "data" / "demo_world_rows.json"
"""Rows of seed 0 and eight videos. A change that is meant to change them writes this file anew, and says so."""


def test_the_rows_of_a_seed_are_always_the_same(tmp_path: Path) -> None:
    world = tmp_path / "world"
    make_sample(world, videos=8, seed=0)
    inputs = {"videos": [str(world / "videos.csv")], "glances": [str(world / "label_studio.json")]}
    dataset = build(parse_config({**inputs, "workspace": str(tmp_path / "w")})).dataset
    expected = json.loads(ROWS.read_text())
    columns = [name for name in expected[0] if name != "split"]
    rows = [
        {**row, "split": file.name.split("-")[0]}
        for file in sorted(dataset.glob("data/*.parquet"))
        for row in pq.read_table(file, columns=columns).to_pylist()
    ]
    assert rows == expected
