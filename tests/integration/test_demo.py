"""`holmes demo` as a newcomer runs it, on a smaller world."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from datasets import load_dataset

pytestmark = pytest.mark.integration


def test_demo_makes_a_dataset_and_says_what_to_do_next(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "demo", "--out", str(tmp_path / "demo"), "--videos", "8"],
        capture_output=True, text=True, check=False, cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("  user: ") == 3
    assert done.stdout.count("  assistant: ") == 3
    assert re.search(r"verdicts right \d+ of [1-9]\d*, explanations true \d+ of \d+, mean tIoU 0\.\d\d", done.stdout)
    assert "Next:" in done.stdout
    dataset = load_dataset(str(tmp_path / "demo/workspace/dataset"))
    assert {"train", "test"} <= dataset.keys()
    assert (tmp_path / "demo/workspace/reports/build.html").is_file()
    assert [path.name for path in (tmp_path / "demo/sample").glob("*.json")] == ["label_studio.json"]
