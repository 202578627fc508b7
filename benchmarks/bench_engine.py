"""Overhead of the engine without models, at the size of the paper: 51,567 clips of 5,547 videos.

The videos are synthetic and cost nothing: hard links to one tiny file per length, clips by reference, a captioner that
says one sentence. Everything else is what a build does: probing in worker processes, glances resolved against
timestamps, windows, answers, rules, near-duplicates, the Parquet export. Then the same command again, which has nothing
to do. Both runs are children of this process, so that their peak memory is their own.

    python benchmarks/bench_engine.py [--videos 5547] [--clips 51567] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from fractions import Fraction
from pathlib import Path

LENGTHS_S = (20, 40, 60, 90, 120)
FPS = 5
WORDS = ("left", "right", "slow", "fast", "near", "far", "one", "two", "three", "several")
STAGES = ("ingest", "glances", "looks", "splits", "clips", "caption", "synthesize", "filter", "export")


def make_video(path: Path, seconds: int) -> None:
    """Write a tiny video: 16x16 pixels, every frame alike."""
    import av
    import numpy as np

    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast", "g": "50"})
        stream.width, stream.height, stream.pix_fmt = 16, 16, "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((16, 16, 3), np.uint8), format="rgb24")
        for index in range(seconds * FPS):
            frame.pts, frame.time_base = index, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())


def make_input(folder: Path, videos: int, clips: int) -> None:
    """Write a manifest and clicks: half the videos abnormal, as many clicks a video as give `clips` clips in all."""
    rng = random.Random(0)
    (folder / "v").mkdir()
    for seconds in LENGTHS_S:
        make_video(folder / f"{seconds}.mp4", seconds)
    # Of clicks placed at random some lie too close to others; normal videos get as many segments as clips remain.
    per_video = 1.06 * clips / videos
    manifest = ["video_id,file,label"]
    glances = ["video-id,glance"]
    for number in range(videos):
        seconds = rng.choice(LENGTHS_S)
        os.link(folder / f"{seconds}.mp4", folder / "v" / f"{number:06d}.mp4")
        abnormal = number % 2 == 0
        manifest.append(f"v{number:06d},v/{number:06d}.mp4,{'Fighting' if abnormal else 'Normal'}")
        if abnormal:
            count = int(per_video) + (rng.random() < per_video % 1)
            frames = rng.sample(range(seconds * FPS), min(count, seconds))
            glances.extend(f"v{number:06d},{frame}" for frame in sorted(frames))
    (folder / "videos.csv").write_text("\n".join(manifest) + "\n")
    (folder / "glances.csv").write_text("\n".join(glances) + "\n")


class Sentence:
    """A captioner that costs nothing and says something different of every clip."""

    name = "sentence"

    def identity(self) -> Mapping[str, object]:
        """Return nothing: there is nothing to decide."""
        return {}

    def evidence_of(self, request: object) -> None:
        """Return nothing: every sentence follows from the clip's id."""

    def all_evidence(self) -> object:
        """Return nothing that could change."""
        return ()

    def caption(self, requests: Iterable[object]) -> Iterator[object]:
        """Yield a sentence a clip."""
        from pipeline.records import Caption

        for request in requests:
            clip = request.clip  # type: ignore[attr-defined]
            rng = random.Random(clip.clip_id)
            words = " ".join(rng.sample(WORDS, 8))
            yield Caption(clip_id=clip.clip_id, text=f"Things move {words}.", captioner=self.name, prompt_hash=None)


def run_build(folder: Path) -> None:
    """Run the plan with the costless captioner and print what each stage took."""
    from flows import plan
    from pipeline.config import parse_config

    plan.make_captioner = lambda *_: Sentence()  # type: ignore[assignment,return-value]
    config = parse_config(
        {
            "videos": [str(folder / "videos.csv")],
            "glances": [str(folder / "glances.csv")],
            "workspace": str(folder / "w"),
            "clips": {"files": "reference", "min_s": 0.2, "window_s": 6},
            "synthesize": {"tasks": ["judge_explain"]},
        }
    )
    summary = plan.build(config)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    children_mb = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        json.dumps(
            {
                "stages": {s.stage: {"made": s.made, "rows": s.rows, "seconds": s.seconds} for s in summary.stages},
                "peak_mb": round(peak_mb),
                "peak_worker_mb": round(children_mb),
            }
        )
    )


def measured(folder: Path) -> dict[str, object]:
    """Run the build in a child and return its figures and its wall-clock time."""
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, __file__, "--run", str(folder)],
        stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])},
    )  # fmt: skip
    return {**json.loads(done.stdout.splitlines()[-1]), "wall_s": round(time.monotonic() - started, 1)}


def main() -> None:
    """Measure a first and a second run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=5547)
    parser.add_argument("--clips", type=int, default=51567)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.run:
        run_build(arguments.run)
        return
    figures: dict[str, object] = {"cores": os.cpu_count()}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # A tenth of the size first: memory that stays flat does not grow with it.
        for size, videos, clips in (
            ("tenth", arguments.videos // 10, arguments.clips // 10),
            ("full", arguments.videos, arguments.clips),
        ):
            (folder / size).mkdir()
            make_input(folder / size, videos, clips)
            figures[size] = {"first": measured(folder / size), "second": measured(folder / size)}
    for size in ("tenth", "full"):
        for run in ("first", "second"):
            shown = figures[size][run]  # type: ignore[index]
            print(f"{size:>6} {run:<7} {shown['wall_s']:>7.1f} s  peak {shown['peak_mb']} MB")
            print(
                "   "
                + "  ".join(
                    f"{s}: {shown['stages'][s]['rows']} rows {shown['stages'][s]['seconds']:.1f} s" for s in STAGES
                )
            )
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    main()
