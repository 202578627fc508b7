"""The parts of `gpu_day.py` that train."""

from __future__ import annotations

import gc
import itertools
import json
import os
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

from gpu_parts import Run, footage, model_folder, peak_flops


def train_lora_step(run: Run, family: str) -> None:
    """Take steps of `holmes train lora`, and of transformers' Trainer with the same model, rows and settings."""
    from accelerate.state import AcceleratorState

    from pipeline.config import LoraConfig, VideoConfig
    from pipeline.train.lora import train_lora
    from pipeline.workspace import Workspace

    steps, batch, micro = (2, 2, 1) if run.is_tiny else (8, 32, 4)
    with model_folder(run, family) as folder, tempfile.TemporaryDirectory() as place:
        workspace = training_set(run, Path(place), rows=steps * batch)
        config = LoraConfig(
            base=folder, batch_size=batch, micro_batch=micro, epochs=1, num_frames=8 if run.is_tiny else 16,
            gradient_checkpointing=False, device="auto" if run.is_gpu else "cpu", validation_rows=0, judged_rows=0,
            log_to="none", checkpoint_every=1000,
        )  # fmt: skip
        train_lora(Workspace(str(workspace)), config, VideoConfig())
        pace = json.loads((workspace / "reports" / "train-lora.json").read_text())["pace"]
        run.note(step_ms=1e3 * pace["step_s"], tokens_per_s=pace["tokens_per_s"], padding=pace["padding"])
        run.note(waiting_for_data=pace["waiting_share"])
        run.note_memory("memory_gib")
        # The other trainer has a precision of its own, and wants the memory.
        AcceleratorState._reset_state(reset_partial_state=True)
        gc.collect()
        plain_s, flops = plain_trainer(run, workspace, config, steps)
        run.note(plain_step_ms=1e3 * plain_s, times_plain_trainer=plain_s / pace["step_s"])
        run.note_memory("plain_memory_gib")
        run.note(mfu=flops / steps / pace["step_s"] / peak_flops(run))


def train_kept(run: Run, family: str) -> None:
    """Train two epochs of the same clips: in the second no clip is decoded, and the frozen tower does not work."""
    from accelerate.state import AcceleratorState

    from pipeline.config import LoraConfig, VideoConfig
    from pipeline.train.lora import train_lora
    from pipeline.workspace import Workspace

    steps, batch, micro = (2, 2, 1) if run.is_tiny else (5, 16, 4)
    for keeps in (True, False):
        ends: list[float] = []

        def tick(*_: Any, ends: list[float] = ends) -> None:
            ends.append(time.perf_counter())

        with model_folder(run, family) as folder, tempfile.TemporaryDirectory() as place:
            workspace = training_set(run, Path(place), rows=steps * batch)
            config = LoraConfig(
                base=folder, batch_size=batch, micro_batch=micro, epochs=2, num_frames=8 if run.is_tiny else 16,
                gradient_checkpointing=False, device="auto" if run.is_gpu else "cpu", validation_rows=0, judged_rows=0,
                log_to="none", checkpoint_every=1000, keep_features=keeps,
            )  # fmt: skip
            train_lora(Workspace(str(workspace)), config, VideoConfig(), tick)
        seconds = [after - before for before, after in itertools.pairwise(ends)]
        name = "once" if keeps else "every_step"
        run.note(**{f"step_ms_{name}": 1e3 * statistics.median(seconds[steps - 1 :])})
        run.note_memory(f"memory_gib_{name}")
        AcceleratorState._reset_state(reset_partial_state=True)
        gc.collect()
    run.note(times_every_step=run.figures["step_ms_every_step"] / run.figures["step_ms_once"])


def training_set(run: Run, workspace: Path, rows: int) -> Path:
    """Write a dataset whose clips are ten seconds of 320x240."""
    from lora_dataset import write_dataset

    from pipeline.video.cut import ClipSpan, cut_clips

    write_dataset(workspace, train=rows, validation=0, is_typed=False)
    film = footage(run, 1)
    spans = [ClipSpan(25 * n, 25 * n + 250, workspace / f"cut{n}.mp4") for n in range(1 if run.is_tiny else 8)]
    cut_clips(str(film), spans)
    for number, path in enumerate(sorted((workspace / "clips").glob("*.mp4"))):
        shutil.copy(spans[number % len(spans)].path, path)
    return workspace


def plain_trainer(run: Run, workspace: Path, config: Any, steps: int) -> tuple[float, float]:
    """Train by transformers' Trainer, and return the median seconds of a step and the model FLOPs of all steps."""
    import torch
    from transformers import Trainer, TrainerCallback, TrainingArguments

    from pipeline.models.clip_files import ClipJob, read_file_clip
    from pipeline.train.adapter import insert_lora
    from pipeline.train.base_model import load_base, source_of_base
    from pipeline.train.conversation import Lesson, TrainingProcessor
    from pipeline.train.rows import SplitRows

    source = source_of_base(config)
    processor = TrainingProcessor(source)
    rows = SplitRows(workspace / "dataset", "train")
    flops = [0.0]

    class Lessons(torch.utils.data.Dataset[Lesson]):
        def __len__(self) -> int:
            return len(rows)

        def __getitem__(self, index: int) -> Lesson:
            [row] = rows.at([index])
            job = ClipJob(
                file=row.file, content=None, span_s=row.span_s, num_frames=config.num_frames,
                max_side=config.max_side, reader="auto",
            )  # fmt: skip
            return Lesson(clip=read_file_clip(job), question=row.question, answer=row.answer)

    ends: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            run.wait()
            ends.append(time.perf_counter())

    class Counting(Trainer):
        def compute_loss(self, model: Any, inputs: Any, *args: Any, **named: Any) -> Any:
            flops[0] += model_flops(model, inputs)
            return super().compute_loss(model, inputs, *args, **named)

    dtype = torch.bfloat16 if run.is_gpu else torch.float32
    model = insert_lora(load_base(source, config, torch.device(run.device), dtype), config)
    arguments = TrainingArguments(
        output_dir=str(workspace / "plain"), per_device_train_batch_size=config.micro_batch,
        gradient_accumulation_steps=config.batch_size // config.micro_batch, max_steps=steps, learning_rate=config.lr,
        bf16=run.is_gpu, use_cpu=not run.is_gpu, report_to=[], save_strategy="no", logging_strategy="no",
        remove_unused_columns=False, dataloader_num_workers=min(8, (os.cpu_count() or 1) // 2) if run.is_gpu else 0,
        disable_tqdm=True,
    )  # fmt: skip
    Counting(
        model=model, args=arguments, train_dataset=Lessons(), data_collator=processor.inputs, callbacks=[Clock()]
    ).train()
    return statistics.median(b - a for a, b in itertools.pairwise(ends)), flops[0]


def model_flops(model: Any, inputs: Any) -> float:
    """Return the operations that a step on a batch needs, whatever an implementation adds by recomputing.

    Of frozen weights 2 forward and 2 backward for each token and weight, of trained ones 2 more, of the frozen tower 2
    for each patch; attention, causal, 6 times the width for each pair of layer and token before.
    """
    tower = language = trained = 0
    patches = inputs["pixel_values_videos"]
    from pipeline.models.hf.model_parts import language_model_name

    base = model.get_base_model()
    inside = language_model_name(base)
    for name, parameter in base.named_parameters():
        if parameter.dim() < 2 or "embed" in name:
            continue
        if parameter.requires_grad:
            trained += parameter.numel()
        elif name.startswith(inside):
            language += parameter.numel()
        else:
            tower += parameter.numel()
    text = base.config.get_text_config()
    tokens = float(inputs["attention_mask"].sum())
    width = inputs["attention_mask"].shape[1]
    attention = 6 * text.hidden_size * text.num_hidden_layers * width * tokens
    return 4 * language * tokens + 6 * trained * tokens + attention + 2 * tower * patches.shape[0]


def train_tiny(run: Run) -> None:
    """Make holmes-tiny of few scenes until the time is over, and note how many steps a second each stage takes."""
    from pipeline.tiny.recipe import Recipe, make_tiny

    begun: dict[str, tuple[float, int]] = {}

    def show(stage: str, done: int, total: int) -> None:
        first_s, first = begun.setdefault(stage, (time.perf_counter(), done))
        seconds = time.perf_counter() - first_s
        name = re.sub(r"\W+", "_", stage)
        run.note(**{f"{name}_done": done, f"{name}_of": total})
        if seconds:
            run.note(**{f"{name}_per_s": (done - first) / seconds})

    smallest = Recipe(videos=2, vision_steps=2, vision_batch=2, language_steps=2, language_batch=2)
    recipe = smallest if run.is_tiny else Recipe(videos=64)
    with tempfile.TemporaryDirectory() as folder:
        make_tiny(Path(folder) / "tiny", recipe, threads=0, device=run.device, on_progress=show)
