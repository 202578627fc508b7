"""The script that measures a GPU, rehearsed on a CPU as a GPU machine would run it: with few packages."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
MISSING = ("decord", "datasets", "openai", "prefect", "label_studio_sdk", "gradio", "fastapi", "datasketch", "nltk")
"""What that machine has not, neither of its own nor by wheels."""

_HIDING = f"""
from importlib.machinery import PathFinder
real = PathFinder.find_spec.__func__
def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in {MISSING!r} else real(cls, name, path, target)
PathFinder.find_spec = classmethod(find_spec)
"""


@pytest.mark.integration
@pytest.mark.timeout(900)
def test_every_part_runs_on_a_cpu(tmp_path: Path) -> None:
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "sitecustomize.py").write_text(_HIDING)
    command = [
        sys.executable,
        "benchmarks/gpu_day.py",
        "--device",
        "cpu",
        "--size",
        "tiny",
        "--out",
        str(tmp_path / "out"),
    ]
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "hidden"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--budget", "800"], cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False
    )
    logs = {path.name: path.read_text()[-2000:] for path in (tmp_path / "out").glob("*.log")}
    assert done.returncode == 0, (done.stdout, done.stderr, logs)
    parts = json.loads((tmp_path / "out" / "gpu_day.json").read_text())["parts"]
    assert all(part["ok"] for part in parts.values()), parts
    assert parts["caption-qwen"]["figures"]["times_the_loop"] > 0
    assert parts["lora"]["figures"].keys() >= {"mfu", "padding", "times_plain_trainer", "waiting_for_data"}
    assert parts["explain"]["figures"].keys() >= {"judged_times_in_full", "answered_times_in_full"}
    assert parts["lora-kept"]["figures"]["times_every_step"] > 0
    assert parts["detect"]["figures"]["spans"] == parts["detect"]["figures"]["events"] == 1
    assert parts["features"]["figures"]["video_hours_per_hour"] > 0
    assert "at least 1.3: " in done.stdout
    again = subprocess.run(
        [*command, "--done", str(tmp_path / "out" / "gpu_day.json")],
        cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=True, timeout=60,
    )  # fmt: skip
    assert "done\n" not in again.stdout, "what ended well is not run again"
