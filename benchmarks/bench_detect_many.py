"""`holmes detect --table --on ray` over a folder of thousands of short videos, killed in the middle and gone on with.

The videos are one short one under many names; a sampler looks at each, and a model at what it marks where one is given.
Workers are those of a Ray of this machine's own. When half of the videos are done, the driver is killed, and the same
command is given again. Then a part of the videos is looked at without Ray, whose rows have to be equal. Measured are
videos a second and the memory of the driver.

    python benchmarks/bench_detect_many.py VIDEO --sampler FOLDER [--model-path ID|FOLDER] [--videos 10000]
        [--local 200] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from flows.commands.detect_table import found_in
from pipeline.infer.found import Finding
from pipeline.tables import Table
from pipeline.workspace import Workspace

LOOK_S = 1.0


def found(table: Path) -> Table[Finding]:
    """Return the table in a folder as it stands now."""
    return found_in(Workspace(str(table)).storage)


def run(arguments: Sequence[str], table: Path, *, until: int | None = None) -> dict[str, float]:
    """Run `holmes detect` into a table, or until it has so many rows; return seconds, new rows and the driver's memory.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    before, began = found(table).num_rows, time.monotonic()
    command = [sys.executable, "-m", "flows.cli", "detect", *arguments, "--table", str(table)]
    process = subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL)
    peak_kb = 0
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text(encoding="utf-8")
        peak_kb = max([peak_kb, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
        if until is not None and found(table).num_rows >= until:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            break
        time.sleep(LOOK_S)
    if process.returncode not in {0, -signal.SIGKILL}:
        raise subprocess.CalledProcessError(process.returncode, command)
    seconds = time.monotonic() - began
    made = found(table).num_rows - before
    return {"videos": made, "seconds": round(seconds, 1), "driver_mb": peak_kb // 1024}


def main() -> None:
    """Measure, compare, and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path, help="a short one")
    parser.add_argument("--sampler", required=True)
    parser.add_argument("--model-path")
    parser.add_argument("--videos", type=int, default=10_000)
    parser.add_argument("--local", type=int, default=200, help="videos that are also looked at without Ray")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    model = [] if arguments.model_path is None else ["--model-path", arguments.model_path]
    common = ["--sampler", arguments.sampler, *model, "--device", "cpu"]
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        (work / "videos").mkdir()
        for number in range(arguments.videos):
            os.link(arguments.video, work / "videos" / f"{number:06d}{arguments.video.suffix}")
        on_ray = [str(work / "videos"), *common, "--on", "ray"]
        figures = {
            "killed": run(on_ray, work / "ray", until=arguments.videos // 2),
            "gone on": run(on_ray, work / "ray"),
            "local": run([*map(str, sorted((work / "videos").iterdir())[: arguments.local]), *common], work / "local"),
        }
        there = {row.video: row for row in found(work / "ray").records()}
        here = list(found(work / "local").records())
        alike = sum(there[row.video] == row for row in here)
    for part, did in figures.items():
        print(f"{part}: {did['videos']} videos in {did['seconds']} s, "
              f"{did['videos'] / did['seconds']:.1f} a second, driver {did['driver_mb']} MB")  # fmt: skip
    print(f"rows in the table: {len(there)} of {arguments.videos}; equal to those without Ray: {alike} of {len(here)}")
    if arguments.json:
        arguments.json.write_text(json.dumps(figures | {"rows": len(there), "equal": alike}, indent=1) + "\n")


if __name__ == "__main__":
    main()
