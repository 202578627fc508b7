"""10,000 annotated tasks: import of the export, and pulls of clicks and of reviews, with the peak memory of each.

Each runs in a process of its own. The server that is pulled from is the tests' stand-in, in another process, so that
the figures are those of the client: it hands out pages of tasks and exports as Label Studio does, and nothing else.

    PYTHONPATH=.:tests/helpers python benchmarks/bench_label_studio_import.py [--tasks 10000] [--json FILE]
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

TARGET_S, TARGET_MB = 10.0, 500.0


def glance_task(number: int) -> dict[str, Any]:
    """Return the data and the annotation of a video with two clicks."""
    clicks = [
        {
            "value": {"ranges": [{"start": frame, "end": frame}], "timelinelabels": ["Fighting"]},
            "type": "timelinelabels",
        }
        for frame in (number % 900 + 1, number % 900 + 400)
    ]
    data = {"video": f"/data/local-files/?d=a/v{number}.mp4", "video_id": f"v{number}", "fps": "29.97"}
    return {"data": data, "annotation": {"completed_by": number % 3, "was_cancelled": False, "result": clicks}}


def review_task(number: int) -> dict[str, Any]:
    """Return the data and the annotation of a pair that somebody accepted."""
    from review_space import pair_of

    from pipeline.records import digest

    pair = pair_of(number)
    data = {
        "clip": f"/data/local-files/?d=a/c{number}.mp4", "pair_id": pair.pair_id, "answer": pair.answer,
        "answer_hash": digest(pair.answer), "reviews_wanted": 1,
    }  # fmt: skip
    result = [
        {"value": {"choices": ["accept"]}, "from_name": "decision", "to_name": "clip", "type": "choices"},
        {"value": {"text": [pair.answer]}, "from_name": "edited_answer", "to_name": "clip", "type": "textarea"},
        {"value": {"rating": 4}, "from_name": "rating", "to_name": "clip", "type": "rating"},
    ]
    annotation = {
        "completed_by": number % 3, "was_cancelled": False, "result": result, "lead_time": 4.0,
        "updated_at": "2026-01-02T03:04:05.000000Z",
    }  # fmt: skip
    return {"data": data, "annotation": annotation}


def serve(tasks: int, ready: Connection) -> None:
    """Serve a project of clicks and one of reviews until the process is ended; tell the port."""
    from studio_double import StudioDouble

    from annotation.label_studio.click_interface import glance_config
    from annotation.label_studio.review_interface import review_config

    double = StudioDouble()
    for config, task_of in ((glance_config(["Fighting"]), glance_task), (review_config(), review_task)):
        project = double.add_project(config)
        for number in range(tasks):
            task = task_of(number)
            double.add_task(project, task["data"], {"id": number + 1, **task["annotation"]})
    with double.serve() as server:
        ready.send(server.port)
        time.sleep(3600)


def import_export(folder: Path) -> int:
    """Read a JSON export; return its clicks."""
    from annotation.formats.registry import read_annotations

    return len(read_annotations(folder / "export.json").glances)


def pull_clicks(folder: Path, port: int) -> int:
    """Pull the project of clicks; return how many came."""
    from studio_double import TOKEN

    from annotation.label_studio.click_pull import pull_glances
    from annotation.label_studio.client import StudioClient
    from pipeline.workspace import Workspace

    client = StudioClient(f"http://127.0.0.1:{port}", TOKEN)
    return pull_glances(Workspace(str(folder / "clicks")), client, project_id=1).clicks


def pull_decisions(folder: Path, port: int) -> int:
    """Pull the project of reviews into a workspace with as many pairs; return how many came."""
    from studio_double import TOKEN

    from annotation.label_studio.client import StudioClient
    from annotation.label_studio.review_pull import pull_reviews
    from pipeline.workspace import Workspace

    client = StudioClient(f"http://127.0.0.1:{port}", TOKEN)
    return pull_reviews(Workspace(str(folder / "reviews")), client, project_id=2).imported.added


def fill_reviews(tasks: int, folder: Path) -> None:
    """Make the workspace whose pairs are reviewed, in a process that is not measured."""
    from review_space import fill_review_space

    from pipeline.workspace import Workspace

    fill_review_space(Workspace(str(folder / "reviews")), items=tasks)


def measured(act: Callable[..., int], *arguments: Any) -> dict[str, float]:
    """Run an act; return what came, the seconds, and the peak of this process in MB."""
    started = time.perf_counter()
    count = act(*arguments)
    seconds = time.perf_counter() - started
    return {"count": count, "s": seconds, "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def main() -> None:
    """Measure all three and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", type=int, default=10_000)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    server = spawn.Process(target=serve, args=(args.tasks, theirs), daemon=True)
    server.start()

    def alone(act: Callable[..., Any], *arguments: Any) -> Any:
        with ProcessPoolExecutor(1, mp_context=spawn) as pool:
            return pool.submit(act, *arguments).result()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tasks = [
            {"id": number, "data": task["data"], "annotations": [{"id": number, **task["annotation"]}]}
            for number, task in enumerate(map(glance_task, range(args.tasks)))
        ]
        (folder / "export.json").write_text(json.dumps(tasks), encoding="utf-8")
        alone(fill_reviews, args.tasks, folder)
        port = ours.recv()
        acts = {
            "import of an export": functools.partial(measured, import_export, folder),
            "pull of clicks": functools.partial(measured, pull_clicks, folder, port),
            "pull of reviews": functools.partial(measured, pull_decisions, folder, port),
        }
        figures = {title: alone(act) for title, act in acts.items()}
    server.terminate()
    print(f"{args.tasks} tasks{'':<16}{'came':>8}{'s':>8}{'peak MB':>10}")
    for title, took in figures.items():
        print(f"{title:<27}{took['count']:>8}{took['s']:>8.2f}{took['peak_mb']:>10.0f}")
    first = figures["import of an export"]
    met = first["s"] < TARGET_S and first["peak_mb"] < TARGET_MB
    print(f"import: target {TARGET_S:g} s and {TARGET_MB:g} MB: {'met' if met else 'MISSED'}")
    if args.json:
        args.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
