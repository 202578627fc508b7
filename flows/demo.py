"""The demo: a generated sample world through the whole build, with nothing downloaded and no GPU."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow.parquet as pq

from flows.plan import BuildSummary, build
from pipeline.config import load_config
from pipeline.errors import DataError
from pipeline.records import NORMAL, Task
from pipeline.sample import make_sample
from pipeline.stages.run import Progress
from pipeline.stages.validate import validate_dataset

Say = Callable[[str], None]

CONFIG = """\
# The smallest config: everything else has a default, shown by `holmes config`.
videos: [{folder}/sample/videos.csv]
glances: [{folder}/sample/label_studio.json]
workspace: {folder}/workspace
"""


def run_demo(folder: Path, *, videos: int, seed: int, on_progress: Progress, say: Say) -> BuildSummary:
    """Make a sample world below `folder`, build and validate its dataset, and say what came out.

    Raises:
        DataError: if the dataset breaks an invariant.
    """
    started = time.monotonic()
    say(f"1/3 sample world: {videos} CCTV-like videos with one click per event -> {folder}/sample")
    config_file = make_demo_world(folder, videos=videos, seed=seed, on_progress=on_progress)
    say(f"2/3 build: holmes build -c {config_file}")
    summary = build(load_config(config_file), on_progress)
    say(f"3/3 validate: holmes validate {summary.dataset}")
    findings = validate_dataset(summary.dataset)
    if findings:
        raise DataError("\n".join(map(str, findings)))
    say("\nThree conversations of the dataset:\n")
    for conversation in sample_conversations(summary.dataset, 3):
        say(conversation + "\n")
    say(_next_steps(config_file, summary, time.monotonic() - started))
    return summary


def make_demo_world(folder: Path, *, videos: int, seed: int, on_progress: Progress) -> Path:
    """Make a sample world in `folder`/sample and return the config file that builds its dataset."""
    make_sample(
        folder / "sample", videos=videos, seed=seed, on_progress=lambda done, total: on_progress("sample", done, total)
    )
    config_file = folder / "config.yaml"
    config_file.write_text(CONFIG.format(folder=folder.as_posix()), encoding="utf-8")
    return config_file


def sample_conversations(dataset: Path, count: int) -> list[str]:
    """Return `count` items as text: different classes, one of them normal, all judgements with their reasons."""
    columns = ["source_video", "start_s", "end_s", "label", "task", "question", "answer"]
    rows = [
        row
        for file in sorted(dataset.glob("data/*.parquet"))
        for row in pq.read_table(file, columns=columns).to_pylist()
        if row["task"] == Task.JUDGE_EXPLAIN
    ]
    by_label = {row["label"]: row for row in reversed(rows)}
    abnormal = [row for label, row in sorted(by_label.items()) if label != NORMAL]
    normal = [by_label[NORMAL]] if NORMAL in by_label else []
    chosen = abnormal[: count - len(normal)] + normal
    return [_conversation(row) for row in chosen]


def _conversation(row: dict[str, object]) -> str:
    head = f"{row['source_video']} [{row['start_s']:.1f}s~{row['end_s']:.1f}s] ({row['label']})"
    turns = (("user:      ", row["question"]), ("assistant: ", row["answer"]))
    lines = [
        textwrap.fill(str(text), 110, initial_indent=f"  {who}", subsequent_indent=" " * 13) for who, text in turns
    ]
    return "\n".join([head, *lines])


def _next_steps(config_file: Path, summary: BuildSummary, seconds: float) -> str:
    return "\n".join(
        [
            f"The dataset lies in {summary.dataset} (made and validated in {seconds:.0f} s).",
            "Next:",
            f"  look at it     {summary.report} in a browser",
            f"  load it        datasets.load_dataset({str(summary.dataset)!r})",
            f"  run it again   holmes build -c {config_file}   (does nothing: all rows are made)",
            f"  change it      holmes build -c {config_file} --set clips.window_s=6",
            "  your footage   a CSV of video_id,file,label and an export of your clicks: see README",
        ]
    )
