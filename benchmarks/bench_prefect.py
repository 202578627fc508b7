"""A build as a Prefect deployment, by a process worker: wall time, calls of the server's API, size of its database.

The input is that of `bench_engine.py`, whose captioner that costs nothing is put on the worker's path as a plug-in. It
is built with `engine: local`, and where Ray is installed with `engine: ray` on a Ray of this machine's own, each
against a fresh server with SQLite. Then the deployment once more, which has nothing to do.

    python benchmarks/bench_prefect.py [--videos 5547] [--clips 51567] [--json FILE]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import re
import sys
import tempfile
import time
from pathlib import Path

from bench_engine import Sentence, make_input

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "helpers"))

from prefect_server import Prefect, running_prefect  # noqa: E402

ENDED = ("COMPLETED", "FAILED", "CRASHED", "CANCELLED")
ASKED_EVERY_S = 2.0

# A worker asks its pool for work whether there is any or not.
_CALL = re.compile(rb'"(?:GET|POST|PATCH|PUT|DELETE) /api/(?!work_pools/)')


def make_captioner(*_: object) -> Sentence:
    """Return the captioner, as the plug-in's entry point."""
    return Sentence()


def offer_captioner(folder: Path) -> str:
    """Describe this module as an installed package; return the path on which it is found, ours included."""
    described = folder / "bench_prefect-1.dist-info"
    described.mkdir(parents=True)
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: bench-prefect\nVersion: 1\n")
    (described / "entry_points.txt").write_text("[holmes.captioners]\nsentence = bench_prefect:make_captioner\n")
    return os.pathsep.join(map(str, (folder, ROOT, ROOT / "benchmarks")))


def measure(prefect: Prefect, settings: dict[str, object]) -> dict[str, float]:
    """Run the deployment to its end; return its seconds, and what that adds to calls and database of the server."""
    calls, size = _load(prefect)
    asked = 1
    started = time.monotonic()
    _, run_id = prefect.start("build-instruct/build-instruct", settings=settings)
    while (state := prefect.state(run_id))["type"] not in ENDED:
        time.sleep(ASKED_EVERY_S)
        asked += 1
    seconds = time.monotonic() - started
    if state["type"] != "COMPLETED":
        sys.exit(prefect.logs(run_id))
    calls_after, size_after = _load(prefect)
    return {
        "wall_s": round(seconds, 1),
        "api_calls": calls_after - calls - asked,
        "database_mb": round((size_after - size) / 2**20, 1),
    }


def _load(prefect: Prefect) -> tuple[int, int]:
    log = (prefect.home / "server.log").read_bytes()
    return len(_CALL.findall(log)), sum(path.stat().st_size for path in prefect.home.glob("prefect.db*"))


def main() -> None:
    """Measure each engine, and print a line a run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=5547)
    parser.add_argument("--clips", type=int, default=51567)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    engines = ["local", *(["ray"] if importlib.util.find_spec("ray") else [])]
    figures: dict[str, object] = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_input(folder, arguments.videos, arguments.clips)
        path = offer_captioner(folder / "plug-in")
        for engine in engines:
            settings = {
                "videos": [str(folder / "videos.csv")],
                "glances": [str(folder / "glances.csv")],
                "workspace": str(folder / engine),
                "engine": engine,
                "clips": {"files": "reference", "min_s": 0.2, "window_s": 6},
                "caption": {"backend": "bench-prefect:sentence"},
                "synthesize": {"tasks": ["judge_explain"]},
            }
            variables = {"PYTHONPATH": path, "PREFECT_SERVER_LOGGING_LEVEL": "INFO"}
            home = folder / f"prefect-{engine}"
            home.mkdir()
            with running_prefect(home, **variables) as prefect, prefect.worker():
                first, second = measure(prefect, settings), measure(prefect, settings)
            figures[engine] = {"first": first, "second": second}
            for run, shown in (("first", first), ("second", second)):
                print(f"{engine:<6}{run:<7}", "  ".join(f"{key} {value}" for key, value in shown.items()), flush=True)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    main()
