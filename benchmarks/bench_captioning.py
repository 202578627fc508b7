"""Clips captioned per second by the `hf` captioner, against a loop that takes one clip after the other.

The loop is what Holmes-VAD's command line does for a clip: open the video with decord, fetch the frames, one
`model.generate`. Both sides have the same model in memory, the same frame numbers, the same prompt and token limit;
starting workers and loading weights come before the clock.

Run: python benchmarks/bench_captioning.py [--clips N] [--new-tokens N] [--json FILE]
     [--model ID|FOLDER] [--device cuda] [--random-7b video_llava|qwen2_5_vl]

Without a model it builds a tiny one with random weights. `--random-7b` builds one of 7B size on the device.
"""

from __future__ import annotations

import argparse
import json
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from random_7b import random_weights, save_processor
from video_bench import FPS, HEIGHT, SEGMENT_S, WIDTH, video
from video_models import save_video_model

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.devices import pick_device, pick_dtype
from pipeline.models.base import CaptionRequest
from pipeline.models.clip_frames import ClipFrames, evenly_spaced
from pipeline.models.hf import model as hf_model
from pipeline.models.hf.captioner import HfCaptioner
from pipeline.models.hf.model import ModelSource, VideoModel
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt
from pipeline.records import EventClip, Video
from pipeline.video.timeline import read_timeline

CLIP_S = 10
TARGET_CPU, TARGET_GPU = 1.3, 3.0
WARM_UP = 2


def requests(path: Path, count: int) -> list[CaptionRequest]:
    """Clips of ten seconds, each starting a little later than the one before, round and round the video."""
    footage = Video(
        video_id="scene", path=str(path), sha256="", fps=FPS, num_frames=SEGMENT_S * FPS, duration_s=SEGMENT_S,
        width=WIDTH, height=HEIGHT, codec="h264", label=None, split=None, source="benchmark",
    )  # fmt: skip
    starts = [(number * 37) % ((SEGMENT_S - CLIP_S) * FPS) for number in range(count)]
    return [
        CaptionRequest(
            video=footage,
            clip=EventClip(
                clip_id=f"clip{number}", video_id="scene", start_s=start / FPS, end_s=start / FPS + CLIP_S,
                start_frame=start, end_frame=start + CLIP_S * FPS, glance_time_s=None, label="Normal",
                anomaly_score=None, method="window",
            ),
        )
        for number, start in enumerate(starts)
    ]  # fmt: skip


def read_by_decord(path: str, indices: list[int]) -> Any:
    """Return frames of a video as Holmes-VAD's command line reads them."""
    import decord

    return decord.VideoReader(path, num_threads=1).get_batch(indices).asnumpy()


def one_by_one(
    model: VideoModel, wanted: list[CaptionRequest], num_frames: int, read: Callable[[str, list[int]], Any]
) -> tuple[dict[str, float], list[Any]]:
    """Describe clip after clip, decoding in line."""
    timeline = read_timeline(wanted[0].video.path)
    texts, decoding_s, tokens, started = [], 0.0, model.new_tokens, time.perf_counter()
    for request in wanted:
        opened = time.perf_counter()
        clip = request.clip
        indices = evenly_spaced(timeline, clip.start_frame, clip.end_frame, num_frames)
        frames = read(request.video.path, indices)
        decoding_s += time.perf_counter() - opened
        shown = ClipFrames(
            frames=frames,
            indices=tuple(index - clip.start_frame for index in indices),
            clip_frames=clip.end_frame - clip.start_frame,
            fps=timeline.fps,
            duration_s=clip.end_s - clip.start_s,
        )
        texts += model.answer([shown])
    return figures(len(wanted), model.new_tokens - tokens, time.perf_counter() - started, decoding_s), texts


def batched(config: CaptionConfig, wanted: list[CaptionRequest]) -> tuple[dict[str, float], list[Any]]:
    """Describe the clips as the caption stage does."""
    captioner = HfCaptioner(config, VideoConfig())
    started = time.perf_counter()
    texts = [getattr(outcome, "text", outcome) for outcome in captioner.caption(wanted)]
    elapsed_s = time.perf_counter() - started
    use = captioner.use
    # Before its first batch the model waits as well.
    return figures(use.clips, use.new_tokens, elapsed_s, elapsed_s - use.working_s), texts


def figures(clips: int, tokens: int, elapsed_s: float, waiting_s: float) -> dict[str, float]:
    """Return what is reported of one contender."""
    return {
        "clips_per_s": clips / elapsed_s,
        "tokens_per_s": tokens / elapsed_s,
        "waiting_for_frames": waiting_s / elapsed_s,
    }


def main() -> None:
    """Measure both and print the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="id or folder; a tiny random one is built where none is given")
    parser.add_argument("--random-7b", choices=["video_llava", "qwen2_5_vl"], help="build this family at 7B size")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--clips", type=int, default=96)
    parser.add_argument("--num-frames", type=int, default=8)
    parser.add_argument("--new-tokens", type=int, default=64, help="longest caption; random models never end earlier")
    parser.add_argument("--batch-size", type=int, default=16)
    parser.add_argument("--batch-tokens", type=int, default=CaptionConfig().batch_tokens)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    options = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    device = pick_device(options.device, "--device")
    with tempfile.TemporaryDirectory() as folder:
        name = options.model or folder
        source = ModelSource(name=name)
        if options.random_7b:
            dtype = pick_dtype("auto", device)
            loaded = random_weights(save_processor(options.random_7b, Path(folder)), device, dtype), device, dtype
        else:
            if not options.model:
                save_video_model("qwen2_5_vl", Path(folder))
            loaded = hf_model.load_weights(source, device)
        config = CaptionConfig(
            backend="hf", model=name, device=device, num_frames=options.num_frames, max_new_tokens=options.new_tokens,
            batch_size=options.batch_size, batch_tokens=options.batch_tokens,
        )  # fmt: skip
        wanted = requests(video(minutes=1), options.clips)
        with patch.object(hf_model, "load_weights", lambda *_: loaded):
            prompt = load_prompt(config.prompt).render()
            model = VideoModel(source, device, prompt, Generation(max_new_tokens=options.new_tokens))
            one_by_one(model, wanted[:WARM_UP], options.num_frames, read_by_decord)
            batched(config, wanted[:WARM_UP])
            alone, expected = one_by_one(model, wanted, options.num_frames, read_by_decord)
            together, texts = batched(config, wanted)
    ratio = together["clips_per_s"] / alone["clips_per_s"]
    target = TARGET_GPU if device.startswith("cuda") else TARGET_CPU
    same = sum(a == b for a, b in zip(expected, texts, strict=True))
    print(f"Captioning: {options.clips} clips of {CLIP_S} s, {options.num_frames} frames of {WIDTH}x{HEIGHT}, {device}")
    for contender, measured in {"one by one": alone, "hf captioner": together}.items():
        print(f"  {contender:14}", "  ".join(f"{measure} {value:9.3f}" for measure, value in measured.items()))
    print(f"  the same text for {same} of {len(texts)} clips")
    print(f"  clips per second: {ratio:.2f} times (target {target}: {'met' if ratio >= target else 'MISSED'})")
    if options.json:
        record = {"one_by_one": alone, "hf": together, "ratio": ratio, "target": target, "same_text": same}
        options.json.write_text(json.dumps(record, indent=2) + "\n")


if __name__ == "__main__":
    main()
