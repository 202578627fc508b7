"""Import an export of 10,000 annotated tasks: seconds, and memory of the process at its peak.

python benchmarks/bench_label_studio_import.py
"""

from __future__ import annotations

import json
import resource
import tempfile
import time
from pathlib import Path

from annotation.registry import read_annotations

TASKS = 10_000


def main() -> None:
    """Write the export, read it, and print what that took."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "export.json"
        path.write_text(json.dumps([_task(number) for number in range(TASKS)]))
        started = time.perf_counter()
        found = read_annotations(path)
        seconds = time.perf_counter() - started
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        size_mb = path.stat().st_size / 1e6
        print(f"{TASKS} tasks, {size_mb:.1f} MB, {len(found.glances)} clicks: {seconds:.2f} s, peak {peak_mb:.0f} MB")


def _task(number: int) -> dict[str, object]:
    clicks = [
        {
            "value": {"ranges": [{"start": frame, "end": frame}], "timelinelabels": ["Fighting"]},
            "type": "timelinelabels",
        }
        for frame in (number % 900 + 1, number % 900 + 400)
    ]
    data = {"video": f"/data/local-files/?d=a/v{number}.mp4", "video_id": f"v{number}", "fps": "29.97"}
    annotations = [{"id": number, "completed_by": number % 3, "was_cancelled": False, "result": clicks}]
    return {"id": number, "data": data, "annotations": annotations, "drafts": [], "predictions": []}


if __name__ == "__main__":
    main()
