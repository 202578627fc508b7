"""How much of what comes out at the end is true, on the path that a newcomer takes.

For each seed a generated world of as many training videos as asked, half as many again held out: the shortest config,
`holmes build`, `holmes train sampler`, `holmes build` with its clips and the captions of the model that comes along,
`holmes train lora`, all with their defaults; then detection in held-out videos, each span and each sentence held
against what happens there. Seeds that are looked at once measure; seeds that anything was chosen by do not.

    python benchmarks/bench_truth.py FOLDER [--training 40] [--unseen 20] [--seeds 901 902 903]
        [--set lora.epochs=12 ...] [--quote 10] [--json FILE]

A seed whose folder holds a finished training is not trained again. Some minutes a seed on two cores.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from random import Random

from flows.demo import CONFIG
from flows.held_out import HeldOut, hold_against, measure, tell, tested_videos
from pipeline.evaluate.explanations import claimed_columns, measure_explanations
from pipeline.infer.detector import Detector
from pipeline.infer.settings import DetectSettings
from pipeline.workspace import Workspace

ROOT = Path(__file__).resolve().parents[1]
CLIPS = ("clips.method=sampler", "caption.backend=hf", "caption.model=holmes-tiny")
TARGETS = {40: (0.90, 0.85), 120: (0.97, 0.93)}
TARGET_TIOU = 0.6


def holmes(*arguments: object) -> None:
    """Run a command of the engine, as a user would."""
    subprocess.run([sys.executable, "-m", "flows.cli", *map(str, arguments)], check=True, cwd=ROOT)


def trained(folder: Path, seed: int, training: int, settings: Sequence[str]) -> Workspace:
    """Return the workspace of a seed with its sampler and adapter, made unless they are there."""
    config, workspace = folder / "config.yaml", Workspace(str(folder / "workspace"))
    if not workspace.storage.exists("models/lora/adapter_config.json"):
        holmes("sample", folder / "sample", "--videos", training * 3 // 2, "--seed", seed)
        config.write_text(CONFIG.format(folder=folder.as_posix()), encoding="utf-8")
        overrides = [part for setting in (*CLIPS, *settings) for part in ("--set", setting)]
        holmes("build", "-c", config)
        holmes("train", "sampler", "-c", config)
        holmes("build", "-c", config, *overrides)
        holmes("train", "lora", "-c", config, *overrides)
    return workspace


def detected(workspace: Workspace, ground_truth: Path, unseen: int) -> list[HeldOut]:
    """Detect in the first held-out videos and hold what is found against what happens there."""
    sampler, adapter = (workspace.storage.local_path(f"models/{name}") for name in ("sampler", "lora"))
    detector = Detector(DetectSettings(sampler=str(sampler), model_path=str(adapter)))
    tested = tested_videos(workspace, ground_truth)[:unseen]
    return [hold_against(video, events, detector.detect(video.path, lambda *_: None)) for video, events in tested]


def main() -> None:
    """Train and measure on each seed, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--training", type=int, default=40, help="training videos of each world")
    parser.add_argument("--unseen", type=int, default=20, help="held-out videos of each world that are looked at")
    parser.add_argument("--seeds", type=int, nargs="+", default=[901, 902, 903])
    parser.add_argument("--set", action="append", default=[], metavar="SETTING=VALUE")
    parser.add_argument("--quote", type=int, default=10, help="videos drawn by chance of which all is told")
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    found: list[HeldOut] = []
    for seed in args.seeds:
        folder = args.folder.absolute() / f"{args.training}-{seed}"
        workspace = trained(folder, seed, args.training, args.set)
        of_seed = detected(workspace, folder / "sample" / "ground_truth.csv", args.unseen)
        print(f"seed {seed}: {measure(of_seed)}", flush=True)
        found += of_seed
    truth = measure(found)
    print(f"all: {truth}")
    if args.training in TARGETS:
        verdicts, explanations = TARGETS[args.training]
        print(f"targets: verdicts {verdicts}, explanations {explanations}, mean tIoU {TARGET_TIOU}")
    answers = measure_explanations([one for video in found for one in video.explanations])
    if answers is not None:
        columns = claimed_columns(answers.confusion)
        print(f"\n{'what happens / what is told':<30}" + "".join(f"{column[:14]:>16}" for column in columns))
        for label, row in answers.confusion.items():
            print(f"{label:<30}" + "".join(f"{row.get(column, 0):>16}" for column in columns))
    print()
    for one in Random(0).sample(found, min(args.quote, len(found))):
        print("\n".join(tell([one])))
    if args.json:
        rows = [
            {"video": one.video.video_id, "is_true": one.is_true, "says": [e.answer for e in one.explanations]}
            for one in found
        ]
        args.json.write_text(json.dumps({"truth": asdict(truth), "videos": rows}, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
