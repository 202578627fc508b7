"""What training adds to a video model's judgement, and how well the spans lie that `holmes detect` marks with it.

On a workspace whose dataset has a test split, the table of Holmes-VAD: the base as it is, with its projector trained,
and with projector and LoRA trained; each answers the questions about the test clips. Then the last one goes with the
workspace's sampler, if it has one, through every test video, and its spans are compared with the ground truth.

    holmes sample world --videos 240 --seed 4242
    holmes build -c CONFIG && holmes train sampler -c CONFIG
    python benchmarks/bench_explaining.py WORKSPACE --ground-truth world/ground_truth.csv --out FOLDER
        [--config datasets/training/holmes-tiny.yaml] [--set lora.epochs=12 ...] [--only-lora] [--json FILE]

Everything runs as a user would run it; FOLDER keeps adapters, answers and detections. Minutes to hours on two cores.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from annotation.ground_truth import read_ground_truth
from annotation.video_index import VideoIndex
from pipeline.config import load_config
from pipeline.evaluate.answers_verdict import read_verdict
from pipeline.records import NORMAL, Video
from pipeline.sampler.intervals import temporal_iou
from pipeline.workspace import Workspace

HOLMES = (sys.executable, "-m", "flows.cli")
ROOT = Path(__file__).resolve().parents[1]
TARGET_ACCURACY, TARGET_GAIN, TARGET_TIOU = 0.90, 0.20, 0.5
BASE, PROJECTOR, LORA = "training-free", "projector only", "projector + LoRA"


def holmes(*arguments: object) -> str:
    """Run the command and return what it prints."""
    command = [*HOLMES, *map(str, arguments)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, cwd=ROOT).stdout


def train(args: argparse.Namespace, overrides: Sequence[str], adapter: Path) -> float:
    """Train an adapter, copy it to `adapter` and return the seconds that it took."""
    started = time.monotonic()
    settings = [part for override in (*args.set, *overrides) for part in ("--set", override)]
    holmes("train", "lora", "-c", args.config, "--workspace", args.workspace, *settings)
    shutil.rmtree(adapter, ignore_errors=True)
    shutil.copytree(args.workspace / "models" / "lora", adapter)
    return time.monotonic() - started


def answers_folder(args: argparse.Namespace, name: str) -> Path:
    """Return where the answers of a model lie."""
    folder: Path = args.out / name.replace(" ", "-")
    return folder


def answer(args: argparse.Namespace, name: str, model: object) -> dict[str, Any]:
    """Have a model answer the test questions and return what `holmes eval answers` measures."""
    options = ("--dataset", args.workspace, "--split", "test", "--out", answers_folder(args, name), "--json")
    metrics: dict[str, Any] = json.loads(holmes("eval", "answers", "--model-path", model, *options))
    return metrics


def detect(args: argparse.Namespace, adapter: Path) -> list[dict[str, Any]]:
    """Return what `holmes detect` finds in every test video, each with its Video under `record`."""
    workspace = Workspace(str(args.workspace))
    decided = workspace.decided_splits()
    videos = {str(video.path): video for video in workspace.videos.records() if decided[video.video_id].split == "test"}
    models = ("--model-path", adapter, "--sampler", args.workspace / "models" / "sampler")
    lines = holmes("detect", *videos, *models, "--json").splitlines()
    (args.out / "detections.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return [found | {"record": video} for found, video in zip(map(json.loads, lines), videos.values(), strict=True)]


def measure_spans(found: Sequence[dict[str, Any]], ground_truth: Path) -> dict[str, Any]:
    """Compare the spans that the model does not deny with the true events.

    Returns:
        The mean over the events of the best temporal IoU, 0 where no span touches, and how many videos are judged
        rightly.
    """
    truth = read_ground_truth(ground_truth, VideoIndex([one["record"] for one in found]))
    overlaps: list[float] = []
    right = 0
    for one in found:
        video: Video = one["record"]
        right += one["is_anomaly"] == (video.label != NORMAL)
        events = np.array([(event.start_frame, event.end_frame) for event in truth.events_of(video) or ()]).reshape(
            -1, 2
        )
        kept = [span for span in one["spans"] if read_verdict(span["answer"] or "") is not False]
        spans = np.array([(span["start_s"] * video.fps, span["end_s"] * video.fps) for span in kept]).reshape(-1, 2)
        if len(events):
            overlaps += (temporal_iou(events, spans).max(axis=1) if len(spans) else np.zeros(len(events))).tolist()
    return {"events": len(overlaps), "mean_tiou": float(np.mean(overlaps)), "videos": len(found), "right": right}


def main() -> None:
    """Train, ask, detect, and print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workspace", type=Path)
    parser.add_argument("--ground-truth", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--config", type=Path, default=ROOT / "datasets/training/holmes-tiny.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--only-lora", action="store_true", help="leave out the two that are compared with it")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    for name in ("workspace", "ground_truth", "out", "config"):
        setattr(args, name, getattr(args, name).resolve())
    args.out.mkdir(parents=True, exist_ok=True)
    base = load_config(args.config, args.set, needs_videos=False).lora.base
    trained = {PROJECTOR: args.out / "adapter-projector", LORA: args.out / "adapter"}
    seconds: dict[str, float] = {}
    if not args.only_lora:
        seconds[PROJECTOR] = train(args, ["lora.lr=0"], trained[PROJECTOR])
    seconds[LORA] = train(args, [], trained[LORA])
    models = {BASE: base} | {name: str(adapter) for name, adapter in trained.items() if name in seconds}
    metrics = {name: answer(args, name, model) for name, model in models.items() if name == LORA or not args.only_lora}
    has_sampler = (args.workspace / "models" / "sampler").is_dir()
    spans = measure_spans(detect(args, trained[LORA]), args.ground_truth) if has_sampler else None
    runs = [f"{name}={answers_folder(args, name)}" for name in metrics]
    print(holmes("eval", "answers", "--compare", *runs))
    accuracy = {name: found["judgement"]["overall"]["accuracy"] for name, found in metrics.items()}
    met = "met" if accuracy[LORA] >= TARGET_ACCURACY else "MISSED"
    print(f"judgement accuracy {accuracy[LORA]:.3f} (target {TARGET_ACCURACY}: {met})")
    if BASE in accuracy:
        gain = accuracy[LORA] - accuracy[BASE]
        print(f"gain over the base {gain:.3f} (target {TARGET_GAIN}: {'met' if gain >= TARGET_GAIN else 'MISSED'})")
    print(f"seconds of training: {', '.join(f'{name} {taken:.0f}' for name, taken in seconds.items())}")
    if spans is None:
        print(f"{args.workspace}: no sampler in it, so nothing is detected: holmes train sampler makes one")
    else:
        met = "met" if spans["mean_tiou"] >= TARGET_TIOU else "MISSED"
        print(
            f"holmes detect: mean tIoU {spans['mean_tiou']:.3f} over {spans['events']} events (target {TARGET_TIOU}: "
            f"{met}), {spans['right']} of {spans['videos']} videos judged rightly"
        )
    if args.json:
        record = {"answers": metrics, "detect": spans, "training_s": seconds, "settings": args.set}
        args.json.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
