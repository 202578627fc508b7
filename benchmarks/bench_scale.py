"""Time and memory of the stages that grow with clips, over four sizes, on synthetic rows; no video is read.

A workspace is filled with the rows that a build leaves after `clips`: videos, glances, splits, clips by reference. Then
caption, synthesize, filter and export run, with a captioner that says one sentence, and all of them again, with nothing
to do. Of a hundred clips, `--copies` say what other clips say, so that there is something to find. Each size runs in a
process of its own, whose peak memory it is; seconds are those of the processor, which other work on the machine
does not change.

    python benchmarks/bench_scale.py [--sizes 13051 52303 209212 523030] [--copies 10] [--figure FILE] [--json FILE]
    python benchmarks/bench_scale.py --sizes 5230000 --only-export

`--only-export` fills the tables of captions, pairs and verdicts too, one row a clip, a tenth of the pairs rejected.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bench_engine import Sentence

STAGES = ("caption", "synthesize", "filter", "export")
CLIPS_PER_VIDEO = 9.43
"""As in the paper: 52,303 clips of 5,547 videos."""

SHARD_ROWS = 512
WORDS = (
    "left", "right", "slow", "fast", "near", "far", "car", "bus", "man", "dog", "child", "guard", "door", "wall",
    "road", "shop", "gate", "lamp", "bench", "rain",
)  # fmt: skip


class Described(Sentence):
    """Says something of its own of most clips, of some what is said of others too."""

    def __init__(self, copies_percent: int) -> None:
        self._copies_percent = copies_percent

    def caption(self, requests: Any) -> Iterator[Any]:
        """Yield a caption a clip."""
        from pipeline.records import Caption

        for request in requests:
            rng = random.Random(request.clip.clip_id)
            if rng.randrange(100) < self._copies_percent:
                # Each of these texts stands thirty times in a hundred thousand clips.
                rng = random.Random(rng.randrange(self._copies_percent * 33))
            text = sentence(rng)
            yield Caption(clip_id=request.clip.clip_id, text=text, captioner=self.name, prompt_hash=None)


def sentence(rng: random.Random) -> str:
    """Say something of 24 words."""
    return f"Seen: {' '.join(rng.choices(WORDS, k=24))}."


def fill(folder: Path, clips: int, *, to_verdicts: bool) -> None:
    """Write the tables of a workspace up to its clips, or up to the verdicts on their pairs."""
    from pipeline.records import (
        NORMAL,
        Caption,
        EventClip,
        Glance,
        InstructionPair,
        Rejected,
        Verdict,
        Video,
        VideoSplit,
        digest,
    )
    from pipeline.workspace import Workspace

    workspace = Workspace(str(folder))
    names = ["videos", "glances", "splits", "clips", *(["captions", "pairs", "verdicts"] if to_verdicts else [])]
    rows: dict[str, list[Any]] = {name: [] for name in names}

    def commit(least: int) -> None:
        for name, made in rows.items():
            if len(made) >= least:
                table = tables[name]
                before = table.num_units()
                units = [digest(name, before + place) for place in range(len(made))]
                parts: tuple[list[Any], list[Any]] = ([], [])
                for unit, row in zip(units, made, strict=True):
                    parts[isinstance(row, Rejected)].append((unit, row))
                table.commit(units, *parts, "f")
                made.clear()

    def answer_one(clip: EventClip, number: int) -> None:
        text = sentence(random.Random(number))
        pair_id = f"{clip.clip_id}_judge_explain"
        rows["captions"].append(Caption(clip_id=clip.clip_id, text=text, captioner="none", prompt_hash=None))
        rows["pairs"].append(
            InstructionPair(
                pair_id=pair_id, clip_id=clip.clip_id, task="judge_explain", question="Is anything abnormal here?",
                answer=f"{'No' if clip.label == NORMAL else 'Yes'}. {text}", label=clip.label, llm="none",
                prompt_hash="p", raw_response="",
            )
        )  # fmt: skip
        rows["verdicts"].append(
            Verdict(
                pair_id=pair_id, decision="keep", edited_answer=None, original_answer=None, reviewer="rules",
                reviewed_at=None,
            )
            if number % 10
            else Rejected(record_id=pair_id, stage="filter", reason="near_duplicate", detail=f"says what {number} says")
        )  # fmt: skip

    tables = {name: getattr(workspace, name) for name in rows}
    done = 0
    number = 0
    while done < clips:
        video_id, label = f"camera{number % 50:02d}/v{number:07d}", "Fighting" if number % 2 else NORMAL
        sha256 = digest(video_id) * 2
        split = "train" if number % 10 else "test"
        source = f"videos.csv:{number + 2}"
        rows["videos"].append(
            Video(
                video_id=video_id, path="", sha256=sha256, fps=25.0, num_frames=3000, duration_s=120.0, width=320,
                height=240, codec="h264", label=label, split=split, source=source,
            )
        )  # fmt: skip
        rows["splits"].append(
            VideoSplit(video_id=video_id, sha256=sha256, copies=sha256, split=split, decided_by="manifest", note=None)
        )
        count = min(int(CLIPS_PER_VIDEO * (number + 1)) - int(CLIPS_PER_VIDEO * number), clips - done)
        for place in range(count):
            start = place * 250
            glance_s = None if label == NORMAL else start / 25 + 4
            rows["clips"].append(
                EventClip(
                    clip_id=f"{video_id.replace('/', '_')}_{start}_{start + 200}_{digest(video_id, start)[:8]}",
                    video_id=video_id, start_s=start / 25, end_s=start / 25 + 8, start_frame=start,
                    end_frame=start + 200, glance_time_s=glance_s, label=label, anomaly_score=None, method="window",
                )
            )  # fmt: skip
            if glance_s is not None:
                rows["glances"].append(
                    Glance(
                        video_id=video_id, time_s=glance_s, frame_index=start + 100, category=label, annotator="a",
                        origin=f"glances.csv:{done + place}",
                    )
                )  # fmt: skip
            if to_verdicts:
                answer_one(rows["clips"][-1], done + place)
        done += count
        number += 1
        commit(SHARD_ROWS)
    commit(1)


def run_stages(folder: Path, stages: Sequence[str], copies_percent: int) -> None:
    """Run stages and print what each took."""
    from flows.plan import PLAN, run_step
    from pipeline.config import parse_config
    from pipeline.stages.caption import CaptionStage
    from pipeline.stages.run import run_stage
    from pipeline.workspace import Workspace

    workspace = Workspace(str(folder))
    given = {"videos": ["none"], "clips": {"files": "reference"}, "synthesize": {"tasks": ["judge_explain"]}}
    config = parse_config({**given, "workspace": str(folder)})
    seconds, peaks = {}, {}
    for name in stages:
        began = time.process_time()
        if name == "caption":
            table = next(step for step in PLAN if step.name == name).table(workspace)
            run_stage(CaptionStage(workspace, Described(copies_percent)), table, shard_rows=SHARD_ROWS)
        else:
            run_step(name, workspace, config)
        seconds[name] = round(time.process_time() - began, 2)
        peaks[name] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    dropped = workspace.verdicts.num_rejected
    print(json.dumps({"seconds": seconds, "peak_mb": peaks, "total_s": sum(seconds.values()), "dropped": dropped}))


def measured(*arguments: str) -> dict[str, Any]:
    """Run this program in a child and return the last line that it printed."""
    paths = [str(Path(__file__).resolve().parents[1]), os.environ.get("PYTHONPATH", "")]
    done = subprocess.run(
        [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True, check=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, reversed(paths)))},
    )  # fmt: skip
    lines = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return found


def exponent(sizes: list[int], values: list[float]) -> float:
    """Return the slope of a line through the logarithms: 1 where twice the rows take twice as long."""
    x, y = [math.log(size) for size in sizes], [math.log(value) for value in values]
    mx, my = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / sum((a - mx) ** 2 for a in x)


def draw(figures: list[dict[str, Any]], path: Path) -> None:
    """Draw time and memory over size."""
    import matplotlib as mpl

    mpl.use("svg")
    import matplotlib.pyplot as plt

    sizes = [found["clips"] for found in figures]
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    for run in ("first", "second"):
        left.loglog(sizes, [found[run]["total_s"] for found in figures], "o-", label=f"{run} run")
        right.semilogx(sizes, [max(found[run]["peak_mb"].values()) for found in figures], "o-", label=f"{run} run")
    for axes, label in ((left, "processor seconds"), (right, "peak memory, MB")):
        axes.set(xlabel="clips", ylabel=label)
        axes.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axes.minorticks_off()
        axes.set_ylim(bottom=0 if axes is right else None)
        axes.grid(visible=True, alpha=0.3)
        axes.legend()
    figure.savefig(path)


def main() -> None:
    """Measure a first and a second run at each size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[13051, 52303, 209212, 523030])
    parser.add_argument("--copies", type=int, default=10, help="percent of the clips that say what others say")
    parser.add_argument("--folder", type=Path, help="where to work; a temporary folder by default")
    parser.add_argument("--figure", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--only-export", action="store_true")
    parser.add_argument("--fill", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--run", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.fill:
        fill(Path(arguments.fill[0]), int(arguments.fill[1]), to_verdicts=arguments.only_export)
        return
    if arguments.run:
        run_stages(arguments.run, ["export"] if arguments.only_export else STAGES, arguments.copies)
        return
    common = ["--copies", str(arguments.copies), *(["--only-export"] if arguments.only_export else [])]
    figures: list[dict[str, Any]] = []
    for size in arguments.sizes:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
            measured("--fill", name, str(size), *common)
            found: dict[str, Any] = {"clips": size}
            for run in ("first", "second"):
                found[run] = measured("--run", name, *common)
                print(size, run, json.dumps(found[run]), flush=True)
            figures.append(found)
    if len(figures) > 1:
        for run in ("first", "second"):
            slope = exponent(arguments.sizes, [found[run]["total_s"] for found in figures])
            print(f"{run} run: seconds grow with clips to the power of {slope:.2f}")
    if arguments.figure:
        draw(figures, arguments.figure)
    if arguments.json:
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
