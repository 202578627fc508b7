"""`holmes detect` on an hour of video with an event of 30 seconds, against asking the video model about every clip.

The other side is the ablation of Holmes-VAD: the video is cut into uniform clips, the model is asked about each, and
its yes or no is the score. Both sides have the same model, number of frames, question and token limit. The video is
one of the generated sample world, a calm minute of it repeated without re-encoding, and one event in the middle. The
model is asked about `--clips` clips, spread over the video; since each costs the same, the hour is reckoned from them
(`--clips 0` asks about all of them). Time is that of the processor, which other work on the machine disturbs least.

    python benchmarks/bench_detect.py --sampler FOLDER [--model holmes-tiny|ID|FOLDER] [--minutes 60] [--clip-s 2]
        [--clips 40] [--new-tokens 64] [--device auto] [--json FILE]

Without a model it builds one with random weights whose language model is as large as SmolLM2-135M's, a fiftieth of
what the papers use. PYTHONPATH=.:tests/helpers is needed for that.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any
from unittest.mock import patch

TARGET = 8.0
EVENT_S = 30.0


def save_model(folder: Path) -> str:
    """Save a LLaVA-OneVision of 135M parameters in its language model, with random weights."""
    import video_models

    text = video_models._TEXT | {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3,
    }  # fmt: skip
    tower = {"hidden_size": 384, "intermediate_size": 1536, "num_hidden_layers": 12, "num_attention_heads": 6}
    with patch.multiple(video_models, _SIDE=224, _PATCH=16, _TEXT=text, _TOWER=tower):
        return str(video_models.save_video_model("llava_onevision", folder))


def make_footage(folder: Path, minutes: float) -> Path:
    """Write the video: a calm scene over and over, and in the middle a busy one."""
    from pipeline.sample import make_sample

    make_sample(folder / "world", videos=4, seed=5)
    listed = [line.split(",") for line in (folder / "world" / "videos.csv").read_text().splitlines()[1:]]
    calm = next(folder / "world" / row[1] for row in listed if row[4] == "Normal")
    busy = next(folder / "world" / row[1] for row in listed if row[4] != "Normal")
    path = folder / "hour.mp4"
    join(calm, busy, path, minutes * 60)
    return path


def join(calm: Path, busy: Path, path: Path, seconds: float) -> None:
    """Copy the packets of one video over and over, and in the middle, for the time of the event, those of the other."""
    import av

    half_s = (seconds - EVENT_S) / 2
    with av.open(str(calm)) as given, av.open(str(path), "w", options={"use_editlist": "0"}) as output:
        stream = output.add_stream_from_template(given.streams.video[0])
        end_s = start_s = Fraction(0)
        for source, length_s in ((calm, half_s), (busy, EVENT_S), (calm, half_s)):
            end_s += Fraction(length_s)
            while start_s < end_s:
                with av.open(str(source)) as container:
                    video = container.streams.video[0]
                    frames = min(video.frames, round((end_s - start_s) * video.average_rate))
                    for packet in islice(container.demux(video), frames):
                        packet.pts += round(start_s / packet.time_base)
                        packet.dts += round(start_s / packet.time_base)
                        packet.stream = stream
                        output.mux(packet)
                start_s += max(frames, 1) / video.average_rate


def run_detect(arguments: list[str]) -> tuple[dict[str, Any], dict[str, float]]:
    """Run the command in a process of its own; return its result, and what it took."""
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "flows.cli", "detect", *arguments, "--json"],
        check=True, stdout=subprocess.PIPE, env=os.environ, text=True,
    )  # fmt: skip
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak_mb = after.ru_maxrss / 1024
    return json.loads(done.stdout), {"cpu_s": cpu_s, "wall_s": time.perf_counter() - started, "peak_mb": peak_mb}


def ask_clips(video: Path, args: argparse.Namespace) -> dict[str, float]:
    """Ask the model about clips of the video; runs in a process of its own, for its peak memory."""
    from pipeline.infer.detector import Detector
    from pipeline.infer.frames import choose_frames, open_footage
    from pipeline.infer.settings import DetectSettings
    from pipeline.models.clip_frames import read_clip

    detector = Detector(DetectSettings(model_path=args.model, max_new_tokens=args.new_tokens, device=args.device))
    footage = open_footage(video, "auto")
    spans = list(footage.parts(args.clip_s))
    asked = spans if not args.clips else [spans[i * len(spans) // args.clips] for i in range(args.clips)]
    chat = detector._chat
    assert chat is not None
    cpu_s = wall_s = 0.0
    with footage.opened(448) as reader:
        for number, span in enumerate(asked):
            cpu, wall = time.process_time(), time.perf_counter()
            indices = choose_frames(footage.timeline, span, 8, curve=None, method="uniform", theta=1.0)
            detector._judgement(chat, str(video), read_clip(reader, indices, span), *footage.seconds_of(span))
            if number:  # the first one warms everything up
                cpu_s += time.process_time() - cpu
                wall_s += time.perf_counter() - wall
    share = len(spans) / (len(asked) - 1)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"clips": len(spans), "cpu_s": cpu_s * share, "wall_s": wall_s * share, "peak_mb": peak_mb}


def main() -> None:
    """Run both sides and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sampler", required=True)
    parser.add_argument("--model")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clip-s", type=float, default=2.0)
    parser.add_argument("--clips", type=int, default=40)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--ask-clips", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.ask_clips:
        print(json.dumps(ask_clips(args.ask_clips, args)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if args.model is None:
            args.model = save_model(folder / "model")
        video = make_footage(folder, args.minutes)
        common = ["--device", args.device, "--max-new-tokens", str(args.new_tokens), "--model-path", args.model]
        found, ours = run_detect([str(video), "--sampler", args.sampler, *common])
        clips = [
            sys.executable, __file__, "--sampler", args.sampler, "--model", args.model, "--clip-s", str(args.clip_s),
            "--clips", str(args.clips), "--new-tokens", str(args.new_tokens), "--device", args.device,
            "--ask-clips", str(video),
        ]  # fmt: skip
        theirs = json.loads(subprocess.run(clips, check=True, stdout=subprocess.PIPE, text=True).stdout)
    spans = [(span["start_s"], span["end_s"]) for span in found["spans"]]
    middle = found["duration_s"] / 2
    report = {
        "minutes": args.minutes, "model": args.model, "clip_s": args.clip_s, "clips": theirs["clips"],
        "event": [middle - EVENT_S / 2, middle + EVENT_S / 2], "spans": spans, "detect": ours, "clips_asked": theirs,
        "times_faster": theirs["cpu_s"] / ours["cpu_s"], "target": TARGET,
    }  # fmt: skip
    print(f"{args.minutes:g} minutes, {len(spans)} spans found: {spans}")
    print(f"{'':<34}{'CPU s':>10}{'wall s':>10}{'peak MiB':>10}")
    for name, took in (("holmes detect", ours), (f"{theirs['clips']} clips of {args.clip_s:g} s asked", theirs)):
        print(f"{name:<34}{took['cpu_s']:>10.1f}{took['wall_s']:>10.1f}{took['peak_mb']:>10.0f}")
    print(f"{report['times_faster']:.1f} times faster (target {TARGET:g})")
    if args.json:
        args.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
