"""What Ray adds on one machine, and what a second worker brings.

The input is that of `bench_engine.py`: videos that cost nothing, so that what is measured is the engine. It is built
with `engine: local` and with `engine: ray` on a Ray of this machine's own, by as many decoding processes. Then the
`features` stage, which decodes, runs over longer videos by one worker and by two; that needs two free cores.

    python benchmarks/bench_ray.py [--videos 5547] [--clips 51567] [--films 60] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bench_engine import Sentence, make_input

FILM_S = 60


def run_build(folder: Path, engine: str) -> None:
    """Run the plan with a captioner that costs nothing, and print what each stage took."""
    from flows import plan
    from pipeline.config import parse_config

    plan.make_captioner = lambda *_: Sentence()  # type: ignore[assignment,return-value]
    config = parse_config(
        {
            "videos": [str(folder / "videos.csv")],
            "glances": [str(folder / "glances.csv")],
            "workspace": str(folder / engine),
            "engine": engine,
            "clips": {"files": "reference", "min_s": 0.2, "window_s": 6},
            "synthesize": {"tasks": ["judge_explain"]},
        }
    )
    summary = plan.build(config)
    print(json.dumps({stage.stage: stage.seconds for stage in summary.stages}))


def run_features(folder: Path, workers: int) -> None:
    """Run `ingest` and `features` on Ray and print what the latter took."""
    from flows import plan
    from pipeline.config import parse_config
    from pipeline.workspace import Workspace

    config = parse_config(
        {
            "videos": [str(folder / "films")],
            "workspace": str(folder / f"films-{workers}"),
            "engine": "ray",
            "ray": {"workers": workers, "shard_units": 2},
        }
    )
    workspace = Workspace(config.workspace)
    plan.run_step("ingest", workspace, config)
    report = plan.run_step("features", workspace, config)
    print(json.dumps({"features": report.seconds}))


def make_films(folder: Path, count: int) -> None:
    """Write videos of a minute of noise that moves, 320x240 at 25 fps."""
    import av
    import numpy as np

    folder.mkdir()
    rng = np.random.default_rng(0)
    scene = rng.integers(0, 255, (240, 640, 3), dtype=np.uint8)
    with av.open(str(folder / "0.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "ultrafast", "crf": "35"})
        stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
        for index in range(FILM_S * 25):
            shown = np.ascontiguousarray(scene[:, index % 320 : index % 320 + 320])
            container.mux(stream.encode(av.VideoFrame.from_ndarray(shown, format="rgb24")))
        container.mux(stream.encode())
    for number in range(1, count):
        os.link(folder / "0.mp4", folder / f"{number}.mp4")


def child(*arguments: object) -> dict[str, float]:
    """Run a part in a process of its own; return the seconds of its stages, and of the whole."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, __file__, *map(str, arguments)],
        stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )  # fmt: skip
    return {**json.loads(done.stdout.splitlines()[-1]), "whole": round(time.monotonic() - started, 1)}


def main() -> None:
    """Measure, and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=5547)
    parser.add_argument("--clips", type=int, default=51567)
    parser.add_argument("--films", type=int, default=60, help="0: leave the second worker out")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--build", nargs=2, metavar=("FOLDER", "ENGINE"), help=argparse.SUPPRESS)
    parser.add_argument("--features", nargs=2, metavar=("FOLDER", "WORKERS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.build:
        run_build(Path(arguments.build[0]), arguments.build[1])
        return
    if arguments.features:
        run_features(Path(arguments.features[0]), int(arguments.features[1]))
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_input(folder, arguments.videos, arguments.clips)
        local, ray = (child("--build", folder, engine) for engine in ("local", "ray"))
        figures: dict[str, object] = {"cores": os.cpu_count(), "local": local, "ray": ray}
        print(f"{'stage':<12}{'local':>8}{'ray':>8}{'ratio':>8}")
        for stage, seconds in local.items():
            print(f"{stage:<12}{seconds:>8.1f}{ray[stage]:>8.1f}{ray[stage] / max(seconds, 0.1):>8.2f}")
        if arguments.films:
            make_films(folder / "films", arguments.films)
            one, two = (child("--features", folder, workers) for workers in (1, 2))
            figures["features"] = {"one worker": one["features"], "two workers": two["features"]}
            print(f"features    one worker {one['features']:.1f} s, two {two['features']:.1f} s: "
                  f"{one['features'] / two['features']:.2f} times as fast")  # fmt: skip
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
