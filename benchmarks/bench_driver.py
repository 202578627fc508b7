"""What the driver of a Ray cluster holds and says while millions of clips go past it.

Two workers of a Ray of this machine's own answer shards of synthetic clips with a caption each, at `--rate` shards a
second together. Measured is the process that hands them out: its memory after a twentieth and at the end, calls a
second, and the most shards that are handed out and not yet passed on.

    python benchmarks/bench_driver.py [--clips 5230000] [--shard 256] [--rate 20] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from flows.cluster import executor
from flows.cluster.executor import RayExecutor
from pipeline.config import RayConfig
from pipeline.records import Caption
from pipeline.stages.base import Outcome, Travelling, Unit
from pipeline.workspace import Workspace

WORKERS = 2


class CaptionStage(Travelling[str, Caption]):
    """Says one sentence of each clip, and takes its time over each shard."""

    name = "caption"

    def __init__(self, shard_s: float) -> None:
        self._shard_s = shard_s

    def work(self, units: Iterable[Unit[str]], brief: Any) -> Iterator[Outcome[Caption]]:  # noqa: ARG002
        """Yield a caption a unit, the last one when the time is over."""
        end = time.monotonic() + self._shard_s
        for unit in units:
            text = f"{unit.payload} is seen at the gate, and nobody else comes along."
            yield Outcome(rows=[Caption(clip_id=unit.payload, text=text, captioner="none", prompt_hash=None)])
        time.sleep(max(0.0, end - time.monotonic()))


def units(count: int) -> Iterator[Unit[str]]:
    """Yield units of work that are made as they are asked for."""
    for number in range(count):
        yield Unit(key=f"{number:032x}", record_id=f"clip-{number:08d}", payload=f"clip-{number:08d}")


def peak_mb() -> float:
    """Return the highest memory of this process so far, in MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    """Hand out all clips, and print what the driver took."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clips", type=int, default=5_230_000)
    parser.add_argument("--shard", type=int, default=256)
    parser.add_argument("--rate", type=float, default=20, help="shards a second")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    # Workers know the stage by the name of this module, which is not that of the process.
    sys.path[:0] = path = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    make = partial(importlib.import_module("bench_driver").CaptionStage, WORKERS / arguments.rate)

    given = 0
    give = executor._Hand.give

    def counted(*called: Any) -> None:
        nonlocal given
        given += 1
        give(*called)

    executor._Hand.give = counted  # type: ignore[method-assign]
    told = most_out = 0
    early_mb = early_s = 0.0
    with tempfile.TemporaryDirectory() as folder:
        config = RayConfig(workers=WORKERS, shard_units=arguments.shard)
        ray = RayExecutor(make, Workspace(folder), config, folder=Path.cwd(), decoders=1)
        processor = time.process_time()
        for _ in ray.run(make(), units(arguments.clips), arguments.clips):
            if not told:
                started, processor = time.monotonic(), time.process_time()
            told += 1
            most_out = max(most_out, given - told // arguments.shard)
            if told == arguments.clips // 20:
                early_mb, early_s = peak_mb(), time.monotonic() - started
        seconds, processor = time.monotonic() - started, time.process_time() - processor
    figures = {
        "clips": told,
        "shards": given,
        "calls_per_s": round(given / seconds, 1),
        "seconds": round(seconds, 1),
        "processor_s": round(processor, 1),
        "seconds_of_a_twentieth": round(early_s, 1),
        "peak_mb_after_a_twentieth": round(early_mb),
        "peak_mb": round(peak_mb()),
        "most_shards_out": most_out,
    }
    for name, value in figures.items():
        print(f"{name:<26}{value:>12,}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
