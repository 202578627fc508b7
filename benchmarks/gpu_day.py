"""Everything that a GPU is to prove, in one command of under nine minutes; JSON after every part, a table at the end.

    python benchmarks/gpu_day.py [--out FOLDER] [--device auto] [--size 7b|tiny] [--parts caption,lora] [--done FILE]
    python benchmarks/gpu_day.py --device cpu --size tiny        # every line of it, on two cores in some two minutes
    python benchmarks/gpu_day.py --fetch-wheels FOLDER           # what a machine without a network lacks, as wheels

Models have the shape of the real ones and random weights, made on the device: nothing is downloaded. Each part runs in
a process of its own within the seconds that `PARTS` gives it, so that one that fails or hangs costs the others nothing.
Figures are written as they come: what is measured before a part breaks is kept. `--done` takes the JSON of an earlier
call and leaves out the parts that ended well there.

A Python with PyTorch, transformers, peft, accelerate, OpenCV, pyarrow and pandas needs only `WHEELS` beside them; the
engine itself need not be installed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]

WHEELS = ("av==18.1.0", "pydantic==2.14.3", "pydantic-core==2.50.4", "annotated-types", "typing-inspection", "pebble")
"""What the engine imports and a plain PyTorch machine lacks: 39 MB, of which PyAV, with FFmpeg in it, is 36."""
MOST_WHEEL_BYTES = 40_000_000
_PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

BUDGET_S = 530
"""All parts together: what fits into a slot of ten minutes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A part: a function of `gpu_parts` or `gpu_training`, its arguments, and the seconds that it may take.

    `least` and `most` are the targets by figure. What is `open_ended` works until its time is over, and takes what the
    other parts leave.
    """

    function: str
    seconds: int
    arguments: tuple[str, ...] = ()
    least: tuple[tuple[str, float], ...] = ()
    most: tuple[tuple[str, float], ...] = ()
    open_ended: bool = False


PARTS: dict[str, Part] = {
    "device": Part(function="measure_device", seconds=40),
    "caption-qwen": Part(
        function="caption", seconds=100, arguments=("qwen2_5_vl",),
        least=(("times_the_loop", 4.0),), most=(("waiting_for_frames", 0.05),),
    ),
    "lora": Part(
        function="train_lora_step", seconds=110, arguments=("qwen2_5_vl",),
        least=(("times_plain_trainer", 1.3), ("mfu", 0.45)), most=(("padding", 0.05),),
    ),
    "detect": Part(function="detect_an_hour", seconds=110, arguments=("qwen2_5_vl",), most=(("seconds", 180.0),)),
    "explain": Part(
        function="explain", seconds=70, arguments=("qwen2_5_vl",),
        least=(("judged_times_in_full", 1.0), ("answered_times_in_full", 1.0)),
    ),
    "features": Part(function="encode_features", seconds=60, least=(("video_hours_per_hour", 100.0),)),
    "caption-llava": Part(
        function="caption", seconds=80, arguments=("video_llava",),
        least=(("times_the_loop", 4.0),), most=(("waiting_for_frames", 0.05),),
    ),
    "caption-static": Part(function="caption_static", seconds=90, arguments=("qwen2_5_vl",)),
    "sampler": Part(function="step_sampler", seconds=40),
    "tests": Part(function="run_tests", seconds=90, most=(("failed", 0.0),)),
    "lora-kept": Part(
        function="train_kept", seconds=70, arguments=("qwen2_5_vl",), least=(("times_every_step", 1.0),)
    ),
    "tiny": Part(function="train_tiny", seconds=60, open_ended=True),
}  # fmt: skip


def main() -> None:
    """Run the parts that are wanted and not done, and print the table."""
    options = _options()
    if options.fetch_wheels:
        fetch_wheels(options.fetch_wheels)
        return
    if options.part:
        _run_here(options)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    record: dict[str, Any] = {"size": options.size, "parts": {}}
    if options.done:
        record["parts"] = {n: p for n, p in json.loads(options.done.read_text())["parts"].items() if p["ok"]}
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        environment = _environment(Path(scratch))
        for name in options.parts:
            left_s = options.budget - (time.monotonic() - started)
            if name not in record["parts"]:
                record["parts"][name] = _run_apart(name, options, left_s, environment)
                (options.out / "gpu_day.json").write_text(json.dumps(record, indent=2) + "\n")
    print(_table(record["parts"]))
    print(f"{time.monotonic() - started:.0f} s in all; {options.out / 'gpu_day.json'}")
    if not all(part["ok"] for part in record["parts"].values()):
        sys.exit(1)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path(os.environ.get("OUT") or ROOT / "runs" / "gpu_day"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", choices=["7b", "tiny"], default="7b")
    parser.add_argument("--parts", type=lambda text: text.split(","), default=list(PARTS), help="names, by commas")
    parser.add_argument("--done", type=Path, help="gpu_day.json of an earlier call")
    parser.add_argument("--budget", type=float, default=BUDGET_S, help="seconds for all parts: what is left is skipped")
    parser.add_argument("--fetch-wheels", type=Path, metavar="FOLDER")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--seconds", type=float, default=0, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if unknown := [name for name in options.parts if name not in PARTS]:
        parser.error(f"--parts: {', '.join(unknown)}: known are {', '.join(PARTS)}")
    return options


def fetch_wheels(folder: Path) -> None:
    """Download the wheels for Python 3.12 on Linux, and refuse more than `MOST_WHEEL_BYTES`."""
    platforms = [word for platform in _PLATFORMS for word in ("--platform", platform)]
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", *platforms]
    versions = ["--python-version", "3.12", "--implementation", "cp"]
    subprocess.run([*command, *versions, "-d", str(folder), *WHEELS], check=True)
    size = sum(path.stat().st_size for path in folder.glob("*.whl"))
    print(f"{folder}: {size / 1e6:.1f} MB")
    if size > MOST_WHEEL_BYTES:
        sys.exit(f"{folder}: more than {MOST_WHEEL_BYTES / 1e6:.0f} MB")


def _run_apart(name: str, options: argparse.Namespace, left_s: float, environment: dict[str, str]) -> dict[str, Any]:
    """Run a part in a process of its own, and return its figures and whether it ended well."""
    part = PARTS[name]
    # A rehearsal tells whether every line runs, on whatever else the cores have to do.
    seconds = left_s if part.open_ended or options.size == "tiny" else min(part.seconds, left_s)
    if seconds < 5:
        return {"ok": False, "seconds": 0.0, "figures": {}, "fault": "no time was left"}
    figures = options.out / f"{name}.json"
    figures.unlink(missing_ok=True)
    command = [sys.executable, __file__, "--part", name, "--device", options.device, "--size", options.size]
    started, fault = time.monotonic(), ""
    with (options.out / f"{name}.log").open("w") as log:
        process = subprocess.Popen(
            [*command, "--seconds", str(seconds), "--out", str(options.out)],
            stdout=log, stderr=subprocess.STDOUT, env=environment, start_new_session=True,
        )  # fmt: skip
        try:
            if code := process.wait(seconds):
                fault = f"exit status {code}: {_last_line(options.out / f'{name}.log')}"
        except subprocess.TimeoutExpired:
            fault = "" if part.open_ended else f"took more than its {seconds:.0f} s"
        finally:
            # Its workers as well: they are of its group.
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    measured = json.loads(figures.read_text()) if figures.is_file() else {}
    figures.unlink(missing_ok=True)
    taken_s = round(time.monotonic() - started, 1)
    print(f"{name:14} {taken_s:6.1f} s  {fault or 'done'}", flush=True)
    return {"ok": not fault, "seconds": taken_s, "figures": measured, "fault": fault}


def _environment(scratch: Path) -> dict[str, str]:
    """Return what a part finds: modules of the engine, of its tests and benchmarks, and no network."""
    paths = [str(ROOT), str(ROOT / "tests" / "helpers"), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    try:
        importlib.metadata.distribution("holmes-engine")
    except importlib.metadata.PackageNotFoundError:
        _describe_engine(scratch)
        paths.insert(0, str(scratch))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "TMPDIR": str(scratch),
        "HF_HUB_OFFLINE": "1",
    }


def _describe_engine(folder: Path) -> None:
    """Write what an installation would: by its entry points the engine finds its own backends."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    info = folder / f"holmes_engine-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (info / "entry_points.txt").write_text("\n".join(lines) + "\n")


def _run_here(options: argparse.Namespace) -> None:
    import gpu_parts
    import gpu_training

    from pipeline.models.hf.torchvision_mend import mend_torchvision

    mend_torchvision()

    part = PARTS[options.part]
    run = gpu_parts.Run(
        device=options.device, size=options.size, seconds=options.seconds, file=options.out / f"{options.part}.json"
    )
    function = getattr(gpu_training, part.function, None) or getattr(gpu_parts, part.function)
    function(run, *part.arguments)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else "said nothing"


def _table(parts: dict[str, Any]) -> str:
    lines = []
    for name, done in parts.items():
        aimed = {**{n: (v, True) for n, v in PARTS[name].least}, **{n: (v, False) for n, v in PARTS[name].most}}
        lines.append(f"{name} ({done['seconds']:.0f} s){': ' + done['fault'] if done['fault'] else ''}")
        for figure, value in done["figures"].items():
            shown = f"{value:,.3f}" if isinstance(value, float) else str(value)
            judged = ""
            if figure in aimed and isinstance(value, int | float):
                target, is_least = aimed[figure]
                met = value >= target if is_least else value <= target
                judged = f"  {'at least' if is_least else 'at most'} {target:g}: {'met' if met else 'MISSED'}"
            lines.append(f"    {figure:28} {shown:>16}{judged}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
