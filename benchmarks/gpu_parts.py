"""The parts of `gpu_day.py`: each notes its figures as it measures them."""

from __future__ import annotations

import contextlib
import io
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

ROOT = Path(__file__).resolve().parents[1]
PEAK_FLOPS = {"H200": 989e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}
"""Dense bfloat16 by the vendor's data sheets, of the SXM parts; of other cards a matrix product is measured."""


@dataclass(kw_only=True)
class Run:
    """What a part is told, and where it writes what it measures."""

    device: str
    size: str
    seconds: float
    file: Path
    figures: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        from pipeline.devices import pick_device

        self.device = pick_device(self.device, "--device")

    @property
    def is_tiny(self) -> bool:
        """Whether the models are of a size that a CPU runs in seconds."""
        return self.size == "tiny"

    @property
    def is_gpu(self) -> bool:
        """Whether there is a GPU to wait for and to read the memory of."""
        return self.device.startswith("cuda")

    def note(self, **figures: Any) -> None:
        """Add figures, and write all."""
        self.figures |= figures
        self.file.write_text(json.dumps(self.figures))

    def note_memory(self, name: str) -> None:
        """Add the most memory of the device that was taken since the last call."""
        if self.is_gpu:
            import torch

            self.note(**{name: torch.cuda.max_memory_allocated() / 2**30})
            torch.cuda.reset_peak_memory_stats()

    def wait(self) -> None:
        """Wait until the device has done all it was given."""
        if self.is_gpu:
            import torch

            torch.cuda.synchronize()


@contextlib.contextmanager
def model_folder(run: Run, family: str) -> Iterator[str]:
    """Yield a folder that loads as a model of the family: of real size its weights are made on the device."""
    from random_7b import random_weights, save_processor
    from video_models import save_video_model

    from pipeline.devices import pick_dtype
    from pipeline.models.hf import model as hf_model
    from pipeline.train import base_model

    with tempfile.TemporaryDirectory() as folder:
        if run.is_tiny:
            yield str(save_video_model(family, Path(folder)))
            return
        config = save_processor(family, Path(folder))
        dtype = pick_dtype("auto", run.device)
        made: list[Any] = []

        def load(*_: Any) -> tuple[Any, str, Any]:
            # One for all that a part asks: LoRA, which changes a model, has one of its own.
            made[:] = made or [random_weights(config, run.device, dtype)]
            return made[0], run.device, dtype

        with (
            patch.object(hf_model, "load_weights", load),
            patch.object(base_model, "read_weights", lambda *_: random_weights(config, run.device, dtype)),
        ):
            yield folder


def footage(run: Run, minutes: int) -> Path:
    """Return a video of 320x240 at 25 frames a second; the rehearsal's costs little to encode."""
    import infer_videos
    import video_bench

    if not run.is_tiny:
        return video_bench.video(minutes)
    path = Path(tempfile.gettempdir()) / "rehearsal.mp4"
    if not path.exists():
        sizes = {"_WIDTH": video_bench.WIDTH, "_HEIGHT": video_bench.HEIGHT, "RATE": video_bench.FPS}
        with patch.multiple(infer_videos, **sizes):
            infer_videos.write_video(path, seconds=float(video_bench.SEGMENT_S))
    return path


def measure_device(run: Run) -> None:
    """Say what the device is, and how fast it multiplies and copies."""
    import torch

    run.note(device=torch.cuda.get_device_name() if run.is_gpu else "cpu", torch=torch.__version__)
    side = 8192 if run.is_gpu else 256
    run.note(matmul_tflops=matmul_flops(run, side) / 1e12)
    source = torch.empty(2**31 if run.is_gpu else 2**20, dtype=torch.uint8, device=run.device)
    target = torch.empty_like(source)
    seconds = median_s(run, lambda: target.copy_(source))
    run.note(copy_tb_per_s=2 * source.numel() / seconds / 1e12)


def matmul_flops(run: Run, side: int) -> float:
    """Return the operations a second of a square bfloat16 product of random matrices."""
    import torch

    a, b = (torch.randn(side, side, device=run.device, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 / median_s(run, lambda: a @ b)


def median_s(run: Run, call: Callable[[], object], repeats: int = 7, warm_up: int = 2) -> float:
    """Return the median seconds of a call, those that warm up left out."""
    seconds = []
    for _ in range(repeats + warm_up):
        started = time.perf_counter()
        call()
        run.wait()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds[warm_up:])


def peak_flops(run: Run) -> float:
    """Return what the device could do at most."""
    import torch

    name = torch.cuda.get_device_name() if run.is_gpu else ""
    known = next((peak for card, peak in PEAK_FLOPS.items() if card in name), None)
    return known or matmul_flops(run, 8192 if run.is_gpu else 256)


def read_by_pyav(path: str, indices: list[int]) -> Any:
    """Return frames of a video, opened for them alone."""
    from pipeline.video.readers import open_reader

    with open_reader(path, "pyav") as reader:
        return reader.frames_at(indices)


def caption_config(run: Run, family: str, folder: str) -> Any:
    """Return the settings that the captioner is measured with."""
    from pipeline.config import CaptionConfig

    frames = 8 if family == "video_llava" else 16
    tokens, batch = (4, 3) if run.is_tiny else (64, 64)
    return CaptionConfig(
        backend="hf", model=folder, device=run.device, num_frames=frames, max_new_tokens=tokens, batch_size=batch,
        batch_tokens=262_144, buffer_mb=8192,
    )  # fmt: skip


def caption_static(run: Run, family: str) -> None:
    """Caption clips with decoding compiled into CUDA graphs; what compiling takes is told apart."""
    import bench_captioning as bench

    wanted = bench.requests(footage(run, 1), 6 if run.is_tiny else 256)
    with model_folder(run, family) as folder:
        config = caption_config(run, family, folder).model_copy(update={"decoding": "static"})
        started = time.perf_counter()
        bench.batched(config, wanted[: config.batch_size])
        run.note(compiling_s=time.perf_counter() - started)
        compiled, _ = bench.batched(config, wanted)
        run.note(**compiled)
        run.note_memory("memory_gib")


def caption(run: Run, family: str) -> None:
    """Caption clips by the `hf` captioner, and one after the other as Holmes-VAD's command line does."""
    import bench_captioning as bench

    from pipeline.models.hf.model import ModelSource, VideoModel
    from pipeline.models.hf.sampling import Generation
    from pipeline.prompts import load_prompt

    clips, alone_clips = (6, 2) if run.is_tiny else (256, 12)
    wanted = bench.requests(footage(run, 1), clips)
    with model_folder(run, family) as folder:
        config = caption_config(run, family, folder)
        frames, tokens, batch = config.num_frames, config.max_new_tokens, config.batch_size
        prompt = load_prompt(config.prompt).render()
        model = VideoModel(ModelSource(name=folder), run.device, prompt, Generation(max_new_tokens=tokens))
        bench.one_by_one(model, wanted[:1], frames, read_by_pyav)
        alone, _ = bench.one_by_one(model, wanted[:alone_clips], frames, read_by_pyav)
        run.note(loop_clips_per_s=alone["clips_per_s"], loop_tokens_per_s=alone["tokens_per_s"])
        run.note_memory("loop_memory_gib")
        del model
        bench.batched(config, wanted[:batch])
        together, _ = bench.batched(config, wanted)
        run.note(**together, times_the_loop=together["clips_per_s"] / alone["clips_per_s"])
        run.note_memory("memory_gib")


def explain(run: Run, family: str) -> None:
    """Judge clips one by one as `holmes detect` does, and ask several questions about each in one batch.

    Both are measured with what prompts about a clip share computed once, and with each of them in full.
    """
    from pipeline.models.hf.model import ModelSource, VideoModel
    from pipeline.models.hf.outlook import blank_clip
    from pipeline.models.hf.sampling import Generation

    count, tokens = (1, 4) if run.is_tiny else (8, 32)
    questions = ("Is anything abnormal?", "What happens?", "Who is to be seen?", "Where is it?")
    clips = [blank_clip(8 if family == "video_llava" else 16, 320, seed) for seed in range(count)]
    asked = [
        replace(clip, turns=({"role": "user", "content": question},)) for clip in clips for question in questions
    ]  # fmt: skip
    apart = [replace(one, frames=one.frames.copy()) for one in asked]
    seconds: dict[str, float] = {}
    with model_folder(run, family) as folder:
        for name, keeps, batch in (("in_full", False, apart), ("once", True, asked)):
            how = Generation(max_new_tokens=tokens)
            model = VideoModel(ModelSource(name=folder), run.device, (), how, keeps_clip=keeps)

            def judge(model: VideoModel = model) -> None:
                for clip in asked[:: 4 * len(questions)]:
                    model.odds(clip)
                    model.answer([clip])
                    model.answer([clip], "Yes,")

            def answer(model: VideoModel = model, batch: Sequence[Any] = batch) -> None:
                model.answer(batch)

            seconds[f"judged_{name}"] = median_s(run, judge, 1, 1) / len(clips[::4])
            seconds[f"answered_{name}"] = median_s(run, answer, 1, 1) / len(batch)
            run.note_memory(f"memory_{name}_gib")
    run.note(
        judgements_per_s=1 / seconds["judged_once"], answers_per_s=1 / seconds["answered_once"],
        judged_times_in_full=seconds["judged_in_full"] / seconds["judged_once"],
        answered_times_in_full=seconds["answered_in_full"] / seconds["answered_once"],
    )  # fmt: skip


def step_sampler(run: Run) -> None:
    """Take training steps of the sampler at the papers' shape: 64 and 64 videos of 200 segments, ten crops."""
    from bench_sampler_step import compare_mining, compare_steps

    videos, crops = (2, 1) if run.is_tiny else (64, 10)
    loops_s, ours_s = compare_mining(videos)
    run.note(mining_ms=1e3 * ours_s, mining_times_loops=loops_s / ours_s)
    _, step_s = compare_steps(videos, crops, run.device, run.is_gpu, 1 if run.is_tiny else 5)
    run.note(step_ms=1e3 * step_s)
    run.note_memory("memory_gib")


def encode_features(run: Run) -> None:
    """Encode the middle frame of every snippet by a ViT-L/14 at 224."""
    import torch
    import transformers

    from pipeline.config import FeaturesConfig, VideoConfig
    from pipeline.errors import RecordError
    from pipeline.features.base import FeatureJob
    from pipeline.features.vision_tower import VisionTowerEncoder
    from pipeline.records import Video

    sizes = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
    if run.is_tiny:
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2}
    minutes, count = (1, 2) if run.is_tiny else (5, 13)
    film = footage(run, minutes)
    num_frames = minutes * 60 * 25
    video = Video(
        video_id="scene", path=str(film), sha256="", fps=25.0, num_frames=num_frames, duration_s=minutes * 60.0,
        width=320, height=240, codec="h264", label=None, split=None, source="benchmark",
    )  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = transformers.CLIPVisionConfig(**sizes, image_size=224, patch_size=14)
        transformers.CLIPVisionModel(config).to(torch.bfloat16).save_pretrained(folder / "tower")
        transformers.CLIPImageProcessor().save_pretrained(folder / "tower")
        jobs = (
            FeatureJob(video=replace(video, video_id=f"v{n}"), stride_frames=16, path=folder / f"{n}.npy")
            for n in range(count)
        )
        features = FeaturesConfig(encoder=str(folder / "tower"), device=run.device, batch_size=128)
        encoded = VisionTowerEncoder(features, VideoConfig()).encode(jobs)
        ends = []
        for outcome in encoded:
            if isinstance(outcome, RecordError):
                raise outcome
            ends.append(time.perf_counter())
    of_a_video_s = (ends[-1] - ends[0]) / (len(ends) - 1)
    run.note(
        frames_per_s=num_frames / 16 / of_a_video_s,
        video_hours_per_hour=minutes * 60 / of_a_video_s,
    )
    run.note_memory("memory_gib")


def detect_an_hour(run: Run, family: str) -> None:
    """Find and explain an event every two minutes in an hour of video, as `holmes detect` does."""
    import infer_videos
    import video_bench

    from flows.commands.detect import detect

    minutes = 2 if run.is_tiny else 60
    with model_folder(run, family) as folder, tempfile.TemporaryDirectory() as name:
        place = Path(name)
        sizes = {"_WIDTH": video_bench.WIDTH, "_HEIGHT": video_bench.HEIGHT, "RATE": video_bench.FPS}
        with patch.multiple(infer_videos, **sizes):
            infer_videos.write_video(place / "part.mp4", seconds=120.0, events=((55.0, 65.0),))
        video_bench.loop(place / "part.mp4", place / "film.mp4", minutes // 2)
        sampler_by_hand(place / "sampler")
        said = io.StringIO()
        started = time.perf_counter()
        with contextlib.redirect_stdout(said):
            detect(
                videos=[str(place / "film.mp4")], model_path=folder, sampler=str(place / "sampler"), device=run.device,
                max_new_tokens=8 if run.is_tiny else 64, num_frames=16, as_json=True,
            )  # fmt: skip
        run.note(seconds=time.perf_counter() - started, minutes=minutes)
        run.note(spans=len(json.loads(said.getvalue())["spans"]), events=minutes // 2)
        run.note_memory("memory_gib")


def sampler_by_hand(folder: Path) -> None:
    """Save a sampler whose score rises with the mean change of the picture."""
    import torch

    from pipeline.config import NetworkConfig, Recipe
    from pipeline.features.motion import DIM, MotionEncoder
    from pipeline.sampler.model_io import TrainedRecipe, TrainedSampler
    from pipeline.sampler.network import UrDmu

    shape = NetworkConfig(hidden_dim=8, heads=1, head_dim=4, layers=1, memory_slots=2, shortcut=True)
    network = UrDmu(DIM, shape)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.zero_()
        network.head_out.bias.fill_(-4.0)
        network.shortcut.weight[..., DIM - 2] = 4000.0
    recipe = TrainedRecipe(recipe=Recipe(network=shape), networks=[network.eval()], scales=[None], smoothing_s=0.0)
    TrainedSampler(
        recipes=[recipe], encoder=MotionEncoder.name, dim=DIM, stride_frames=16, trained_on="by hand", validation={}
    ).save(folder)


def run_tests(run: Run) -> None:
    """Run the tests that need a GPU; without one all of them skip."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", str(ROOT / "tests" / "gpu")]
    done = subprocess.run(command, cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False)
    print(done.stdout)
    counts = {word: int(count) for count, word in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout)}
    run.note(failed=counts.pop("failed", 0) + counts.pop("error", 0), **counts)
    if done.returncode:
        sys.exit(f"pytest: exit status {done.returncode}")
