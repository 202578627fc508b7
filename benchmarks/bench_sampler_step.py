"""A training step of the sampler against a plain PyTorch transcription of UR-DMU and GlanceVAD with its Python loops.

Both sides get the same batch of the papers' shape: as many normal as abnormal videos, 200 segments, 1024 values, clicks
distributed as those of UCF-Crime are, and scores that make mining walk. The step is forward, loss, backward and Adam.
Crops multiply everything but mining alike; on a small machine take fewer than the papers' ten.

With --clicks FILE (a GlanceVAD CSV of UCF-Crime) it also runs the annotation side at the paper's size: all videos of
the file and as many normal ones with fake features in one workspace, and the steps of real batches from it.

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

from pipeline.config import Recipe
from pipeline.records import NORMAL, FeatureFile, Glance, Rejected, Video
from pipeline.sampler.data import Batches, FeatureSource, load_corpus
from pipeline.sampler.losses import Targets, sampler_loss
from pipeline.sampler.mining import mine_events, render
from pipeline.sampler.network import UrDmu
from pipeline.workspace import Workspace

SEGMENTS, DIM = 200, 1024
CLICKS_PER_VIDEO = 2.5  # of UCF-Crime's published clicks
MINED_STEP = 1000  # past the first steps, which train on raw clicks


def timed(function: Callable[[], object], device: str, repeats: int) -> float:
    """Return the median seconds of a call, after one to warm up.

    With one thread it is the processor's time that counts, which other work on the machine leaves alone.
    """
    clock = time.process_time if device == "cpu" and torch.get_num_threads() == 1 else time.perf_counter
    seconds = []
    for _ in range(repeats + 1):
        started = clock()
        function()
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        seconds.append(clock() - started)
    return statistics.median(seconds[1:])


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


def compare_steps(videos: int, crops: int, device: str, half: bool, repeats: int) -> tuple[float, float]:
    """Time a whole training step of both sides."""
    features = torch.randn(2 * videos, crops, SEGMENTS, DIM, device=device)
    clicks = make_clicks(videos)
    targets = Targets(
        lengths=torch.full((2 * videos,), SEGMENTS, device=device),
        glances=clicks.to(device),
        glance_distance_s=torch.zeros(videos, SEGMENTS, device=device),
    )
    recipe = Recipe()
    network = UrDmu(DIM, recipe.network).to(device)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, weight_decay=5e-5)

    def our_step() -> None:
        with torch.autocast(device.partition(":")[0], dtype=torch.bfloat16, enabled=half):
            output = network.training_output(features)
        loss = torch.stack(list(sampler_loss(output, targets, recipe, MINED_STEP).values())).sum()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    ours = timed(our_step, device, repeats)
    if device != "cpu":
        return float("nan"), ours
    plain = PlainUrDmu(DIM)
    plain_optimizer = torch.optim.Adam(plain.parameters(), lr=1e-4, weight_decay=5e-5)
    as_float = clicks.float()

    def plain_step() -> None:
        loss = plain_loss(plain(features), as_float, MINED_STEP)
        plain_optimizer.zero_grad()
        loss.backward()
        plain_optimizer.step()

    return timed(plain_step, device, repeats), ours


def make_scale_workspace(folder: Path, clicks_file: Path, crops: int, stride: int = 16) -> Workspace:
    """Fill the tables with the videos of a click file and 800 normal ones; their features are noise."""
    workspace = Workspace(str(folder))
    clicks: dict[str, list[int]] = {}
    for line in clicks_file.read_text().splitlines()[1:]:
        name, frame = line.split(",")
        clicks.setdefault(name, []).append(int(frame))
    rng = np.random.default_rng(0)
    # All videos share one file: what is measured is the reading of that many rows and videos, not the disk.
    longest = max(max(frames) for frames in clicks.values()) // stride + 64
    shared = folder / "features" / "shared.npy"
    shared.parent.mkdir()
    np.save(shared, rng.normal(size=(crops, min(longest, 2000), DIM)).astype(np.float16))
    videos, features, glances = [], [], []
    names = [(name, "Fighting") for name in clicks] + [(f"Normal{n:04d}", NORMAL) for n in range(800)]
    for name, label in names:
        snippets = min(2000, max(clicks.get(name, [int(rng.integers(600, 8000))])) // stride + 20)
        videos.append(
            Video(
                video_id=name, path="", sha256="", fps=30.0, num_frames=snippets * stride,
                duration_s=snippets * stride / 30, width=320, height=240, codec="h264", label=label,
                split=None, source="",
            )
        )  # fmt: skip
        path = folder / "features" / f"{name}.npy"
        header = np.load(shared, mmap_mode="r")
        np.save(path, header[:, :snippets])
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
    return workspace


def run_scale(clicks_file: Path, videos: int, crops: int) -> None:
    """Read the published clicks at the paper's size and time the making of batches."""
    with tempfile.TemporaryDirectory() as name:
        workspace = make_scale_workspace(Path(name), clicks_file, crops)
        started = time.perf_counter()
        corpus = load_corpus(workspace)
        loaded = time.perf_counter() - started
        clicks = sum(len(video.glances) for video in corpus.videos)
        abnormal = sum(video.is_abnormal for video in corpus.videos)
        recipe = Recipe(batch_videos=videos)
        batches = Batches(corpus.videos, FeatureSource(corpus.videos, recipe), recipe, seed=0)
        step = iter(range(1000))
        seconds = timed(lambda: batches.at(next(step)), "cpu", 3)
        shape = tuple(batches.at(0).features.shape)
        normal = len(corpus.videos) - abnormal
        print(
            f"corpus: {abnormal} abnormal + {normal} normal videos, {clicks} clicked snippets, read in {loaded:.2f} s"
        )
        print(f"batch of shape {shape}: {seconds:.2f} s, in a thread beside the step before it")


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
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    loops, ours = compare_mining(arguments.videos)
    print(f"mining + rendering: loops {loops * 1e3:.0f} ms, ours {ours * 1e3:.1f} ms: {loops / ours:.0f}x")
    half = arguments.precision == "bfloat16"
    plain, step = compare_steps(arguments.videos, arguments.crops, arguments.device, half, arguments.repeats)
    shape = f"{arguments.videos}+{arguments.videos} videos x {arguments.crops} crops x {SEGMENTS} x {DIM}"
    print(f"step, {shape}, {arguments.device} {arguments.precision}:")
    print(f"    plain {plain:.2f} s, ours {step:.2f} s: {plain / step:.2f}x")
    peak = torch.cuda.max_memory_allocated() / 2**20 if arguments.device != "cpu" else 0
    print(f"peak memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB host, {peak:.0f} MB device")
    if arguments.clicks:
        run_scale(arguments.clicks, arguments.videos, arguments.crops)


if __name__ == "__main__":
    main()
