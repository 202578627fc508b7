"""What holmes-tiny sees in scenes that it was not trained on, clip by clip as the engine cuts them.

Of generated worlds every clip is shown: windows around clicks, spans that miss a part of their event, calm segments.
Right is an answer that claims what happened and nothing else, or nothing where nothing did; colours that are said are
held against what stands in the scene. Beside it stands who always says the most frequent answer. Seeds that are looked
at once measure; seeds that anything was chosen by do not.

    python benchmarks/bench_tiny.py [--model holmes-tiny] [--frames 16] [--videos 40] [--seeds 801 802 803] [--show 10]
"""

from __future__ import annotations

import argparse
import multiprocessing
import re
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from random import Random
from typing import Any

from pipeline.evaluate.shares import share_of
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.model import VideoModel, find_source
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt
from pipeline.quality.claims import claimed_families
from pipeline.sample.people import CLOTHES
from pipeline.sample.plan import plan_world
from pipeline.sample.vehicles import PAINTS
from pipeline.taxonomy import family_of
from pipeline.tiny.lessons import EVENT_QUESTION
from pipeline.tiny.marks import held_marks
from pipeline.tiny.scenes import NUM_FRAMES, SceneClip, cut_clips

DURATION_S = (15.0, 40.0)
BATCH = 8


def asked(model: VideoModel, clips: Sequence[SceneClip], frames: int) -> Iterator[str]:
    """Yield what is said of each clip."""
    every = NUM_FRAMES // frames
    for begin in range(0, len(clips), BATCH):
        shown = [
            ClipFrames(
                frames=clip.frames[::every], indices=tuple(range(frames)), clip_frames=frames, fps=1.0,
                duration_s=float(frames),
            )
            for clip in clips[begin : begin + BATCH]
        ]  # fmt: skip
        yield from map(str, model.answer(shown))


def colours_said(text: str) -> list[str]:
    """Return the marks of the colours that a caption names: of clothes, and of vehicles."""
    worn = re.findall(rf"in (?:an? )?({'|'.join(CLOTHES)})\b", text)
    painted = re.findall(rf"\b({'|'.join(PAINTS)}) (?:car|van|bus|truck|taxi|lorry|train|scooter|motorcycle)\b", text)
    return [f"wears {colour}" for colour in worn] + [f"paint {colour}" for colour in painted]


def is_right(text: str, category: str | None) -> bool:
    """Tell whether a text claims what happened and nothing else."""
    return set(claimed_families(text)) == ({family_of(category)} if category else set())


def told(right: Sequence[bool]) -> str:
    """Return a share with its interval, for people."""
    share = share_of(right)
    return "-" if share is None else f"{share.share:.3f} [{share.low:.3f}, {share.high:.3f}] of {share.num}"


def main() -> None:
    """Render, ask, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="holmes-tiny")
    parser.add_argument("--frames", type=int, choices=(8, 16), default=16)
    parser.add_argument("--videos", type=int, default=40, help="videos of each world")
    parser.add_argument("--seeds", type=int, nargs="+", default=[801, 802, 803])
    parser.add_argument("--show", type=int, default=10, help="wrong captions to quote")
    args = parser.parse_args()
    plans = [plan for seed in args.seeds for plan in plan_world(args.videos, seed, DURATION_S)]
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        clips = [clip for of_video in pool.map(cut_clips, plans, chunksize=4) for clip in of_video]
    categories: list[Any] = [clip.facts["category"] for clip in clips]
    prompts = {"caption": load_prompt("caption").render(), "event": [{"role": "user", "content": EVENT_QUESTION}]}
    said: dict[str, list[str]] = {}
    for name, prompt in prompts.items():
        model = VideoModel(find_source(args.model), "cpu", prompt, Generation(max_new_tokens=80))
        started = time.monotonic()
        said[name] = list(asked(model, clips, args.frames))
        print(f"{name}: {(time.monotonic() - started) / len(clips):.2f} s a clip", flush=True)
    print(f"\n{len(clips)} clips of {len(plans)} videos, seeds {args.seeds}, {args.frames} frames\n")
    for name in ("event", "caption"):
        for side, of_side in (("abnormal", lambda c: c is not None), ("calm", lambda c: c is None)):
            right = [is_right(text, c) for text, c in zip(said[name], categories, strict=True) if of_side(c)]
            print(f"{name:<8} right of {side:<9} {told(right)}")
    commonest, count = Counter(categories).most_common(1)[0]
    print(f"always {'nothing' if commonest is None else commonest!r}: right of all {count / len(clips):.3f}")
    marks = [held_marks(clip.marks) for clip in clips]
    colours = [mark in there for text, there in zip(said["caption"], marks, strict=True) for mark in colours_said(text)]
    print(f"colours  right {told(colours)}\n")
    confusion = Counter(
        (category or "nothing", ", ".join(sorted(claimed_families(text))) or "nothing")
        for text, category in zip(said["event"], categories, strict=True)
    )
    for (happens, claimed), number in confusion.most_common():
        print(f"{happens:<14} told as {claimed:<24} {number}")
    wrong = [
        (c, clip.facts["caption"], text)
        for text, c, clip in zip(said["caption"], categories, clips, strict=True)
        if not is_right(text, c)
    ]
    for category, truth, text in Random(0).sample(wrong, min(args.show, len(wrong))):
        print(f"\n{category or 'nothing'}: {truth}\n  -> {text}")


if __name__ == "__main__":
    main()
