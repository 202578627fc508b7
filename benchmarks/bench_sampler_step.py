"""A training step of the sampler against a plain PyTorch transcription of UR-DMU and GlanceVAD with its Python loops.

Both sides get the same batch of the papers' shape: as many normal as abnormal videos, 200 segments, 1024 values, clicks
distributed as those of UCF-Crime are, and scores that make mining walk. The step is forward, loss, backward and Adam,
in float32 on both sides; each is measured in turn, so that other work on the machine slows both. Crops multiply
everything but mining alike. The plain step keeps all activations of the batch: some 3 GB a crop at 64 + 64 videos.

With --clicks FILE (a GlanceVAD CSV of UCF-Crime) it also runs the annotation side at the paper's size: all videos of
the file and 800 normal ones with fake features of --scale-crops crops in one workspace, from reading the tables to a
training step on a batch of them, with the memory that takes. --only-scale does nothing else, so that the peak is its
own.

    python benchmarks/bench_sampler_step.py [--videos 64] [--crops 1] [--device cpu] [--clicks FILE]
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from reference_urdmu import PlainUrDmu, mine_in_loops, plain_loss, render_in_loops

from pipeline.config import ExportConfig, Recipe
from pipeline.records import NORMAL, FeatureFile, Glance, Rejected, Video, digest
from pipeline.sampler.data import Batch, Batches, FeatureSource, load_corpus
from pipeline.sampler.losses import Targets
from pipeline.sampler.mining import mine_events, render
from pipeline.sampler.network import UrDmu
from pipeline.sampler.step import add_gradient, pick_snippets_at_once
from pipeline.stages.run import run_stage
from pipeline.stages.splits import SplitsStage
from pipeline.workspace import Workspace

SEGMENTS, DIM = 200, 1024
CLICKS_PER_VIDEO = 2.5  # of UCF-Crime's published clicks
MINED_STEP = 1000  # past the first steps, which train on raw clicks


def pick_clock(device: str) -> Callable[[], float]:
    """Return what to measure by: with one thread the processor's time, which other work on the machine leaves alone."""
    return time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter


def timed_in_turn(functions: list[Callable[[], object]], device: str, repeats: int) -> list[float]:
    """Return the median seconds of a call of each function, after one to warm up."""
    clock = pick_clock(device)
    seconds: list[list[float]] = [[] for _ in functions]
    for _ in range(repeats + 1):
        for function, of_function in zip(functions, seconds, strict=True):
            started = clock()
            function()
            if device.startswith("cuda"):
                torch.cuda.synchronize()
            of_function.append(clock() - started)
    return [statistics.median(of_function[1:]) for of_function in seconds]


def timed(function: Callable[[], object], device: str, repeats: int) -> float:
    """Return the median seconds of a call, after one to warm up."""
    [seconds] = timed_in_turn([function], device, repeats)
    return seconds


def make_clicks(videos: int) -> torch.Tensor:
    """Return clicks like those of UCF-Crime, bool (videos, SEGMENTS)."""
    generator = torch.Generator().manual_seed(0)
    clicks = torch.rand(videos, SEGMENTS, generator=generator) < CLICKS_PER_VIDEO / SEGMENTS
    clicks[clicks.sum(dim=1) == 0, SEGMENTS // 2] = True
    return clicks


def compare_mining(videos: int) -> tuple[float, float]:
    """Time mining and rendering alone, in loops and vectorised, on smooth scores that events stand out of."""
    clicks = make_clicks(videos)
    generator = torch.Generator().manual_seed(1)
    noise = torch.rand(videos, 1, SEGMENTS + 20, generator=generator)
    scores = torch.nn.functional.avg_pool1d(noise, 21, stride=1)[:, 0]
    lengths = torch.full((videos,), SEGMENTS)
    as_float = clicks.float()
    loops = timed(lambda: render_in_loops(mine_in_loops(scores, as_float, 0.9), 0.1), "cpu", 3)
    ours = timed(lambda: render(mine_events(scores, clicks, lengths, 0.9), lengths, 0.1), "cpu", 9)
    marked = mine_events(scores, clicks, lengths, 0.9).float().mean().item()
    print(f"mined snippets: {marked:.0%} of abnormal videos")
    return loops, ours


class OurStep:
    """A network and its optimiser, ready to take training steps."""

    def __init__(self, device: str, half: bool) -> None:
        self._recipe = Recipe()
        self._half = half
        self._at_once = pick_snippets_at_once(0, device)
        self._network = UrDmu(DIM, self._recipe.network).to(device)
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=1e-4, weight_decay=5e-5)

    def take(self, batch: Batch) -> None:
        """Take a step as training does."""
        self._optimizer.zero_grad(set_to_none=True)
        add_gradient(
            self._network, batch, self._recipe, MINED_STEP, snippets_at_once=self._at_once, half_precision=self._half
        )
        self._optimizer.step()


def compare_steps(videos: int, crops: int, device: str, half: bool, repeats: int) -> tuple[float, float]:
    """Time a whole training step of both sides; of ours alone where it runs on a GPU."""
    features = torch.randn(2 * videos, crops, SEGMENTS, DIM)
    clicks = make_clicks(videos)
    targets = Targets(
        lengths=torch.full((2 * videos,), SEGMENTS), glances=clicks, glance_distance_s=torch.zeros(videos, SEGMENTS)
    )
    batch = Batch(features=features, lengths=None, targets=targets)
    ours = OurStep(device, half)
    if device != "cpu":
        return float("nan"), timed(lambda: ours.take(batch), device, repeats)
    plain = PlainUrDmu(DIM)
    plain_optimizer = torch.optim.Adam(plain.parameters(), lr=1e-4, weight_decay=5e-5)
    as_float = clicks.float()

    def plain_step() -> None:
        loss = plain_loss(plain(features), as_float, MINED_STEP)
        plain_optimizer.zero_grad()
        loss.backward()
        plain_optimizer.step()

    plain_s, ours_s = timed_in_turn([plain_step, lambda: ours.take(batch)], device, repeats)
    return plain_s, ours_s


def make_scale_workspace(folder: Path, clicks_file: Path, crops: int, stride: int = 16) -> Workspace:
    """Fill the tables with the videos of a click file and 800 normal ones; their features are noise.

    The click file tells no lengths: an abnormal video ends 20 snippets after its last click, a normal one has 600 to
    8000 frames, 20 seconds to 4.5 minutes, and none is longer than 2000 snippets, 18 minutes.
    """
    workspace = Workspace(str(folder))
    clicks: dict[str, list[int]] = {}
    for line in clicks_file.read_text().splitlines()[1:]:
        name, frame = line.split(",")
        clicks.setdefault(name, []).append(int(frame))
    rng = np.random.default_rng(0)
    (folder / "features").mkdir()
    # Videos of a like length share a file, longer than each of them by less than an eighth: what is measured is the
    # reading of so many rows and videos, not the room on the disk.
    lengths = np.unique(np.ceil(40 * 1.125 ** np.arange(35)).clip(max=2000).astype(int))
    for length in lengths:
        noise = rng.standard_normal((1, length, DIM), dtype=np.float32).astype(np.float16)
        np.save(folder / "features" / f"shared{length}.npy", np.concatenate([noise] * crops))
    videos, features, glances = [], [], []
    names = [(name, "Fighting") for name in clicks] + [(f"Normal{n:04d}", NORMAL) for n in range(800)]
    for name, label in names:
        least = max(clicks.get(name, [int(rng.integers(600, 8000))])) // stride + 20
        snippets = int(lengths[min(np.searchsorted(lengths, least), len(lengths) - 1)])
        videos.append(
            Video(
                video_id=name, path="", sha256=digest(name), fps=30.0, num_frames=snippets * stride,
                duration_s=snippets * stride / 30, width=320, height=240, codec="h264", label=label,
                split=None, source="",
            )
        )  # fmt: skip
        (folder / "features" / f"{name}.npy").hardlink_to(folder / "features" / f"shared{snippets}.npy")
        features.append(
            FeatureFile(
                video_id=name, encoder="npy", crops=crops, num_snippets=snippets, dim=DIM, stride_frames=stride,
                path=f"features/{name}.npy", sha256="",
            )
        )  # fmt: skip
        glances += [
            Glance(video_id=name, time_s=frame / 30, frame_index=frame, category=label, annotator=None, origin="bench")
            for frame in clicks.get(name, [])
        ]
    no_rejects: list[tuple[str, Rejected]] = []
    workspace.videos.commit(["u"], [("u", row) for row in videos], no_rejects, "bench")
    workspace.features.commit(["u"], [("u", row) for row in features], no_rejects, "bench")
    workspace.glances.commit(["u"], [("u", row) for row in glances], no_rejects, "bench")
    run_stage(SplitsStage(workspace, ExportConfig(validation_fraction=0)), workspace.splits)
    return workspace


def run_scale(clicks_file: Path, videos: int, crops: int, device: str, half: bool) -> None:
    """Read the published clicks at the paper's size, make batches and take a training step on each."""
    with tempfile.TemporaryDirectory() as name:
        workspace = make_scale_workspace(Path(name), clicks_file, crops)
        started = time.perf_counter()
        corpus = load_corpus(workspace)
        loaded_s = time.perf_counter() - started
        clicks = sum(len(video.glances) for video in corpus.videos)
        abnormal = sum(video.is_abnormal for video in corpus.videos)
        normal = len(corpus.videos) - abnormal
        print(
            f"corpus: {abnormal} abnormal + {normal} normal videos, {clicks} clicked snippets, read in {loaded_s:.2f} s"
        )
        recipe = Recipe(batch_videos=videos)
        batches = Batches(corpus.videos, FeatureSource(corpus.videos, recipe), recipe, seed=0)
        step = iter(range(1000))
        read_s = timed(lambda: batches.at(next(step)), "cpu", 2)
        batch = batches.at(0)
        shape, lengths = tuple(batch.features.shape), batch.targets.lengths.float()
        print(
            f"batch of shape {shape}, {lengths.mean():.0f} segments a video: {read_s:.1f} s, beside the step before it"
        )
        before_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        ours = OurStep(device, half)
        clock = pick_clock(device)
        started = clock()
        ours.take(batch)
        step_s = clock() - started
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"step on it: {step_s:.1f} s; peak {before_mb:.0f} MB with the batch, {peak_mb:.0f} MB with the step")


def run_comparison(videos: int, crops: int, device: str, half: bool, repeats: int) -> None:
    """Compare with the plain transcription and print the ratios."""
    loops, ours = compare_mining(videos)
    print(f"mining + rendering: loops {loops * 1e3:.0f} ms, ours {ours * 1e3:.1f} ms: {loops / ours:.0f}x")
    plain, step = compare_steps(videos, crops, device, half, repeats)
    precision = "bfloat16 against float32" if half else "float32"
    print(f"step, {videos}+{videos} videos x {crops} crops x {SEGMENTS} x {DIM}, {device} {precision}:")
    print(f"    plain {plain:.2f} s, ours {step:.2f} s: {plain / step:.2f}x")
    peak = torch.cuda.max_memory_allocated() / 2**20 if device != "cpu" else 0
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB host, {peak:.0f} MB device")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", type=int, default=64, help="normal and as many abnormal videos")
    parser.add_argument("--crops", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--threads", type=int, default=0, help="threads of torch on CPU; 0 leaves its choice")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--precision", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--clicks", type=Path, help="GlanceVAD CSV of UCF-Crime")
    parser.add_argument("--scale-crops", type=int, default=10)
    parser.add_argument("--only-scale", action="store_true", help="without the comparison")
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    half = arguments.precision == "bfloat16"
    if not arguments.only_scale:
        run_comparison(arguments.videos, arguments.crops, arguments.device, half, arguments.repeats)
    if arguments.clicks:
        run_scale(arguments.clicks, arguments.videos, arguments.scale_crops, arguments.device, half)


if __name__ == "__main__":
    main()
