"""A training whose frozen vision tower looks once at each clip, against one in which it works in every step.

Both train LoRA in holmes-tiny on the same clips, two rows about each, in one run, each in a workspace of its own, the
order turned round in every second repeat. Told: the median CPU seconds of a step of the first epoch and of later ones,
without the worker process that decodes, the losses of both, and the ratios.

Run: python benchmarks/bench_frozen_vision.py [--clips N] [--epochs N] [--repeats N] [--json FILE]
"""

from __future__ import annotations

import argparse
import itertools
import json
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from bench_training_data import make_dataset

from pipeline.config import LoraConfig, VideoConfig
from pipeline.train.lora import REPORT, train_lora
from pipeline.workspace import Workspace

BATCH = 4


def run(folder: Path, clips: int, epochs: int, *, keeps: bool) -> dict[str, Any]:
    """Train, and return CPU seconds of the steps of the first epoch and of later ones, and the first and last loss."""
    make_dataset(folder, clips)
    config = LoraConfig(
        batch_size=BATCH, micro_batch=BATCH, epochs=epochs, keep_features=keeps, checkpoint_every=1000, device="cpu",
        log_to="none", validation_rows=0, judged_rows=0,
    )  # fmt: skip
    times = [time.process_time()]
    train_lora(Workspace(str(folder)), config, VideoConfig(workers=1), lambda *_: times.append(time.process_time()))
    seconds = [after - before for before, after in itertools.pairwise(times)]
    of_epoch = len(seconds) // epochs
    losses = json.loads((folder / REPORT).read_text())["losses"]
    # The first step waits for the model and the first clips.
    return {"first_epoch": seconds[1:of_epoch], "later": seconds[of_epoch:], "losses": losses}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--clips", type=int, default=6)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[bool, list[dict[str, Any]]] = {False: [], True: []}
    for repeat in range(arguments.repeats):
        for keeps in (False, True) if repeat % 2 == 0 else (True, False):
            with tempfile.TemporaryDirectory() as folder:
                found[keeps].append(run(Path(folder) / "w", arguments.clips, arguments.epochs, keeps=keeps))
    seconds = {
        keeps: {part: statistics.median(s for one in runs for s in one[part]) for part in ("first_epoch", "later")}
        for keeps, runs in found.items()
    }
    result = {
        "clips": arguments.clips,
        "rows": 2 * arguments.clips,
        "epochs": arguments.epochs,
        "step_cpu_s_in_every_step": seconds[False],
        "step_cpu_s_once": seconds[True],
        "ratio_first_epoch": seconds[False]["first_epoch"] / seconds[True]["first_epoch"],
        "ratio_later": seconds[False]["later"] / seconds[True]["later"],
        "losses_in_every_step": found[False][0]["losses"],
        "losses_once": found[True][0]["losses"],
    }
    text = json.dumps(result, indent=2)
    print(text)
    if arguments.json:
        arguments.json.write_text(text + "\n")


if __name__ == "__main__":
    main()
