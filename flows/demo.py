"""The demo: a generated sample world through the whole loop, with nothing downloaded and no GPU."""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from flows.held_out import HeldOut, hold_against, measure, tell, tested_videos
from flows.plan import build
from pipeline.config import load_config
from pipeline.dataset.validate import validate_dataset
from pipeline.errors import DataError
from pipeline.evaluate.detector import TrueEvent
from pipeline.records import NORMAL, Task, Video
from pipeline.sample import DURATION_S, make_sample
from pipeline.stages.run import Progress
from pipeline.workspace import Workspace

Say = Callable[[str], None]
VIDEOS = 90
"""Videos of the loop, a third of which nothing is trained on."""

_LOOP_DURATION_S = (14.0, 22.0)
_GOOD = 0.9
"""Share of true explanations below which the demo warns of its own sentences."""

CONFIG = """\
# The smallest config: everything else has a default, shown by `holmes config`.
videos: [{folder}/sample/videos.csv]
glances: [{folder}/sample/label_studio.json]
workspace: {folder}/workspace
"""

LOOP_CONFIG = (
    CONFIG
    + """\
# Clips from the scores of a sampler that is trained on the clicks, put into words by the video model that comes along.
clips: {{method: sampler}}
caption: {{backend: hf, model: holmes-tiny, batch_size: 8}}
# The same model learns to judge: what is not set for LoRA is its recipe's.
"""
)


def run_demo(folder: Path, *, videos: int, seed: int, on_progress: Progress, say: Say) -> None:
    """Make a sample world below `folder`, take it through the whole loop, and say what comes out at every step.

    Raises:
        DataError: if the dataset breaks an invariant.
    """
    started = time.monotonic()
    say(f"1/5 sample world: {videos} CCTV-like videos with one click per event -> {folder}/sample")
    config_file = make_demo_world(
        folder, videos=videos, seed=seed, on_progress=on_progress, config=LOOP_CONFIG, duration_s=_LOOP_DURATION_S
    )
    say(f"2/5 sampler and dataset: holmes build -c {config_file}")
    config = load_config(config_file)
    summary = build(config, on_progress)
    say(f"3/5 validate: holmes validate {summary.dataset}")
    findings = validate_dataset(summary.dataset)
    if findings:
        raise DataError("\n".join(map(str, findings)))
    say("\nThree conversations of the dataset:\n")
    for conversation in sample_conversations(summary.dataset, 3):
        say(conversation + "\n")
    say(f"4/5 LoRA: holmes train lora -c {config_file}")
    workspace = Workspace(config.workspace)
    adapter = _train(workspace, config, on_progress)
    sampler = workspace.storage.local_path("models/sampler")
    say(f"5/5 scenes that nothing was trained on: holmes detect VIDEO --model-path {adapter} --sampler {sampler}\n")
    tested = tested_videos(workspace, folder / "sample" / "ground_truth.csv")
    held_out = list(_detect(tested, adapter, sampler, folder / "detected", on_progress))
    for line in tell(held_out):
        say(line)
    truth = measure(held_out)
    say(f"\nOf videos that nothing was trained on: {truth}.")
    if truth.explanations.share < _GOOD:
        say("So do not trust its sentences: few videos taught it to judge. More of them help (--videos).")
    say(f"\nThe whole loop took {time.monotonic() - started:.0f} s. Next:")
    say(f"  look at it     {summary.report} in a browser, and the plots in {folder}/detected")
    for line in _next_steps(folder, config_file, f"--model-path {adapter} --sampler {sampler}"):
        say(f"  {line}")


def make_demo_world(
    folder: Path, *, videos: int, seed: int, on_progress: Progress, config: str = CONFIG,
    duration_s: tuple[float, float] = DURATION_S,
) -> Path:  # fmt: skip
    """Make a sample world in `folder`/sample and return the config file that builds its dataset."""
    make_sample(
        folder / "sample", videos=videos, seed=seed, duration_s=duration_s,
        on_progress=lambda done, total: on_progress("sample", done, total),
    )  # fmt: skip
    config_file = folder / "config.yaml"
    config_file.write_text(config.format(folder=folder.as_posix()), encoding="utf-8")
    return config_file


def _train(workspace: Workspace, config: Any, on_progress: Progress) -> Path:
    from pipeline.train.lora import train_lora

    return train_lora(workspace, config.lora, config.video, on_progress).folder


def _detect(
    videos: Sequence[tuple[Video, tuple[TrueEvent, ...]]], adapter: Path, sampler: Path, plots: Path,
    on_progress: Progress,
) -> Iterator[HeldOut]:  # fmt: skip
    """Detect in each video, plot it, and hold what is found against what happens there."""
    from pipeline.infer.detector import Detector
    from pipeline.infer.plot import write_plot
    from pipeline.infer.settings import DetectSettings

    detector = Detector(DetectSettings(sampler=str(sampler), model_path=str(adapter)))
    plots.mkdir(parents=True, exist_ok=True)
    for video, events in videos:
        found = detector.detect(video.path, on_progress)
        write_plot(found, detector.theta, plots / f"{video.video_id}.png")
        yield hold_against(video, events, found)


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


def _next_steps(folder: Path, config_file: Path, models: str) -> list[str]:
    truth = f"{folder}/sample/ground_truth.csv"
    return [
        f"a web page     holmes serve {models} --videos {folder}/sample/videos",
        f"measure it     holmes eval detector --workspace {folder}/workspace --ground-truth {truth}",
        f"run it again   holmes build -c {config_file}   (does nothing: all rows are made)",
        "your footage   a CSV of video_id,file,label and an export of your clicks: see README",
    ]
