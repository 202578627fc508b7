"""What the video benchmarks share: a surveillance-like video of any length, and fair measuring of contenders.

Every contender runs in a process of its own, so that threads, caches and memory of one do not count for another. CPU
time is that of all its threads from opening the video on, without the import of libraries; memory is the peak of
resident memory above that of the start.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

WIDTH, HEIGHT, FPS = 320, 240, 25
SEGMENT_S = 60

Measures = dict[str, float]
Contender = Callable[[Path, Path], Measures]
"""Works on a video with a folder for its output; returns what it measured beside CPU time and memory."""


@dataclass(frozen=True)
class Target:
    """A ratio that is to be reached: `measure` of one contender over that of another."""

    measure: str
    contender: str
    baseline: str
    at_most: float


def video(minutes: int) -> Path:
    """Return an H.264 video, 320x240 at 25 frames per second; made once, then kept among the temporary files."""
    folder = Path(tempfile.gettempdir()) / "holmes-benchmarks"
    folder.mkdir(exist_ok=True)
    path = folder / f"scene_{minutes}min.mp4"
    if not path.exists():
        segment = folder / "segment.mp4"
        if not segment.exists():
            _encode_segment(segment)
        loop(segment, path, minutes * 60 // SEGMENT_S)
    return path


def _encode_segment(path: Path) -> None:
    import av

    rng = np.random.default_rng(0)
    background = rng.integers(60, 180, (HEIGHT // 8, WIDTH // 8, 3)).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("libx264", rate=FPS, options={"preset": "medium", "crf": "23"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(SEGMENT_S * FPS):
            picture = background + rng.normal(0, 3, (HEIGHT, WIDTH, 1))  # sensor noise
            for walker in range(4):
                x, y = int(index * (walker + 1) * 0.7 + 80 * walker) % WIDTH, 40 + 50 * walker
                picture[y : y + 30, max(0, x - 12) : x + 12] = (200 - 40 * walker, 50 * walker, 90)
            frame = av.VideoFrame.from_ndarray(np.clip(picture, 0, 255).astype(np.uint8), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


def loop(segment: Path, path: Path, times: int) -> None:
    """Write a video that shows another so many times; nothing is encoded."""
    import av

    partial = path.with_suffix(".partial.mp4")
    with av.open(str(partial), "w") as output:
        stream, offset = None, 0
        for _ in range(times):
            with av.open(str(segment)) as source:
                given = source.streams.video[0]
                stream = stream or output.add_stream_from_template(given)
                end = 0
                for packet in given.container.demux(given):
                    if packet.dts is None:
                        continue
                    end = max(end, packet.pts + packet.duration)
                    packet.pts, packet.dts, packet.stream = packet.pts + offset, packet.dts + offset, stream
                    output.mux(packet)
                offset += end
    partial.replace(path)


def _cpu_s() -> float:
    usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def memory_mb(field: str) -> float:
    """Read VmRSS, resident memory now, or VmHWM, its peak; `ru_maxrss` would hold the peak of the parent as well."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def main(title: str, contenders: Mapping[str, tuple[Contender, Path]], targets: list[Target]) -> None:
    """Measure every contender in turn, several times over, and print medians and ratios."""
    parser = argparse.ArgumentParser(description=title)
    parser.add_argument("--repeats", type=int, default=3, help="runs of each contender; medians are reported")
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    parser.add_argument("--contender", choices=contenders, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(_measure(*contenders[options.contender])))
        return
    runs: dict[str, list[Measures]] = {name: [] for name in contenders}
    for _ in range(options.repeats):
        for name in contenders:
            command = [sys.executable, sys.argv[0], "--contender", name]
            output = subprocess.run(command, capture_output=True, check=True, text=True).stdout
            runs[name].append(json.loads(output.splitlines()[-1]))
    medians = {
        name: {measure: statistics.median(run[measure] for run in some) for measure in some[0]}
        for name, some in runs.items()
    }
    print(title)
    for name, measures in medians.items():
        print(f"  {name:42}", "  ".join(f"{measure} {value:10.3f}" for measure, value in measures.items()))
    ratios = []
    for target in targets:
        ratio = medians[target.contender][target.measure] / medians[target.baseline][target.measure]
        ratios.append({**vars(target), "ratio": ratio, "met": ratio <= target.at_most})
        print(
            f"  {target.measure} of {target.contender} / {target.baseline}: {ratio:.2f} "
            f"(target {target.at_most}: {'met' if ratio <= target.at_most else 'MISSED'})"
        )
    if options.json:
        options.json.write_text(json.dumps({"title": title, "medians": medians, "ratios": ratios}, indent=2) + "\n")


def _measure(contender: Contender, path: Path) -> Measures:
    with tempfile.TemporaryDirectory() as folder:
        start_mb, start_s = memory_mb("VmRSS"), _cpu_s()
        measured = contender(path, Path(folder))
        return {"cpu_s": _cpu_s() - start_s, "memory_mb": memory_mb("VmHWM") - start_mb, **measured}
