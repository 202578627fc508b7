"""Training of the explaining model: LoRA in a video MLLM, on the dataset of a workspace.

The adapter is left in `models/lora`; checkpoints and curves of a training lie in `models/lora-training/<key>`. The key
is a hash of dataset, base and settings, so that a training goes on only where it is the same one.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config import LoraConfig, VideoConfig
from pipeline.dataset.layout import dataset_folder_of, list_shards
from pipeline.errors import SetupError
from pipeline.models.hf.adapter import FACTS_FILE, AdapterFacts, is_adapter, read_facts
from pipeline.models.hf.loading import ModelSource, first_line
from pipeline.models.hf.model import folder_identity, model_identity
from pipeline.models.hf.model_parts import probe_weights
from pipeline.models.hf.outlook import blank_clip
from pipeline.records import Task, digest
from pipeline.storage import describe_os_error, open_to_readers, swap_in
from pipeline.train.adapter import insert_lora, package_versions, save_adapter
from pipeline.train.base_model import load_base, source_of_base
from pipeline.train.batches import DataSettings, TrainingBatches
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.conversation import Lesson, TrainingProcessor
from pipeline.train.frozen_vision import find_frozen_vision
from pipeline.train.order import Rows
from pipeline.train.plan import FEW_STEPS, planned
from pipeline.train.processes import spreading, start_accelerator
from pipeline.train.recipe import with_recipe
from pipeline.train.rows import SplitRows, content_identity
from pipeline.train.schedule import rising_steps
from pipeline.train.seen_clips import KeptVision
from pipeline.train.trainer import EXPLANATIONS, Progress, Trainer, precision
from pipeline.train.validation import measure_judgements, measure_loss
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

MODEL_FOLDER = "models/lora"
TRAINING_FOLDER = "models/lora-training"
REPORT = "reports/train-lora.json"
_NEW, _OLD = "models/_tmp-lora", "models/_old-lora"
_CHECKPOINTS, _FRAMES, _FEATURES = "checkpoints", "frames", "features"
ENOUGH_JUDGED = 20
"""Judged validation rows from which on the adapter with the truest answers is kept; of fewer chance would choose."""

_PREPARED_AHEAD = 2
"""Batches whose pixels are made ready while a GPU works on others; on a CPU both would want the same cores."""

_VERSION = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedLora:
    """A trained adapter, and what validation measured of it at the end.

    Attributes:
        steps: of the training; 0 where it had been trained before.
        is_main: whether this process is the one that speaks, of several.
    """

    folder: Path
    metrics: dict[str, float]
    steps: int
    is_main: bool = True


def train_lora(
    workspace: Workspace, config: LoraConfig, video: VideoConfig, on_progress: Progress | None = None
) -> TrainedLora:
    """Train on the dataset of a workspace and leave the adapter in its `models/lora`.

    Under `accelerate launch` or `torchrun` every process calls this. A training that was interrupted goes on after its
    newest checkpoint; one that is finished is not repeated.

    Raises:
        DataError: there is no dataset, its training split is empty, or it is damaged.
        SetupError: a package, the base or the device is missing, the loss or the gradient is no finite number, or the
            disk is full.
        KeyboardInterrupt: Ctrl-C; the training can go on.
    """
    config = with_recipe(config)
    key = training_key(workspace, config, video)
    folder = workspace.storage.local_path(TRAINING_FOLDER) / key
    accelerator = start_accelerator(config, folder)
    with workspace.locked(will_build=False) if accelerator.is_main_process else nullcontext():
        if accelerator.is_main_process:
            _repair(workspace)
        accelerator.wait_for_everyone()
        rows = len(SplitRows(workspace.storage.local_path("dataset"), "train", tasks=config.tasks or None))
        config = planned(config, rows, accelerator.num_processes)
        return _LoraTraining(workspace, config, video, accelerator, key=key, folder=folder).run(on_progress)


def training_key(workspace: Workspace, config: LoraConfig, video: VideoConfig) -> str:
    """Hash what a trained adapter depends on: the rows of the dataset, the base, and the settings.

    Raises:
        DataError: there is no dataset.
        SetupError: there is no such base.
    """
    dataset = dataset_folder_of(workspace.storage.local_path(""))
    source = source_of_base(config)
    return digest(
        _VERSION,
        folder_identity(dataset / "data"),
        content_identity(dataset, "train"),
        video.identity(),
        model_identity(source.name),
        source.revision,
        config.identity(),
    )[:16]


class _LoraTraining:
    """One call of `train_lora` in one process."""

    def __init__(
        self, workspace: Workspace, config: LoraConfig, video: VideoConfig, accelerator: Any, *, key: str, folder: Path
    ) -> None:
        self._workspace = workspace
        self._config = config
        self._video = video
        self._accelerator = accelerator
        self._is_main: bool = accelerator.is_main_process
        self._dataset = workspace.storage.local_path("dataset")
        self._folder = workspace.storage.local_path(MODEL_FOLDER)
        self._key = key
        self._spread = spreading() if accelerator.num_processes > 1 else None
        self._training_folder = folder
        self._half_precision = config.dtype == "bf16" or (config.dtype == "auto" and accelerator.device.type == "cuda")

    def run(self, on_progress: Progress | None) -> TrainedLora:
        if (known := self._finished()) is not None:
            return known
        started = time.monotonic()
        config, accelerator = self._config, self._accelerator
        source = source_of_base(config)
        processor = TrainingProcessor(source)
        batches = self._batches("train", processor, config.micro_batch)
        self._draw_validation()
        half_precision = self._half_precision
        model, facts = self._model(source)
        sizes = {is_trained: _size(model, is_trained=is_trained) for is_trained in (True, False)}
        spread = self._spread and self._spread(model, accelerator)
        checkpoints = self._checkpoint_folder()
        trainer = Trainer(
            model,
            batches,
            config,
            accelerator,
            Checkpoints(checkpoints, config.keep, is_behind=accelerator.device.type == "cuda"),
            half_precision=half_precision,
            chooses=len(self._judged) >= ENOUGH_JUDGED,
            vision=self._vision(model, processor, batches),
            spread=spread,
            on_progress=on_progress,
        )
        accelerator.init_trackers("lora", config=_flat(config))
        try:
            trainer.run(
                lambda: self._validate(trainer, processor),
                lambda step_s: self._announce(sizes, trainer, batches, step_s),
            )
            weights = None if spread is None else trainer.weights()
            if self._is_main:
                facts = replace(facts, metrics=trainer.metrics)
                self._save(model, processor, facts, weights)
                self._report(trainer, batches, facts, time.monotonic() - started)
                shutil.rmtree(checkpoints, ignore_errors=True)
                for kept in (_FRAMES, f"{_FEATURES}-bf16", f"{_FEATURES}-float32"):
                    shutil.rmtree(self._training_folder / kept, ignore_errors=True)
            accelerator.wait_for_everyone()
        finally:
            accelerator.end_training()
        return TrainedLora(folder=self._folder, metrics=trainer.metrics, steps=trainer.steps, is_main=self._is_main)

    def _finished(self) -> TrainedLora | None:
        if not (is_adapter(str(self._folder)) and (self._folder / FACTS_FILE).is_file()):
            return None
        try:
            facts = read_facts(self._folder)
        except SetupError as fault:
            logger.warning("%s: trained again", fault)
            return None
        if facts.trained_on != self._key:
            return None
        return TrainedLora(folder=self._folder, metrics=facts.metrics, steps=0, is_main=self._is_main)

    def _checkpoint_folder(self) -> Path:
        """Return the folder of this training's checkpoints.

        How many rows are taken together decides their order, and the arithmetic what comes of them: with another number
        of devices, or other ones, a training begins anew.
        """
        together = self._config.micro_batch * self._accelerator.num_processes
        precision = "bf16" if self._half_precision else "float32"
        folder = self._training_folder / f"{_CHECKPOINTS}-{together}-{precision}"
        others = [path for path in folder.parent.parent.glob(f"*/{_CHECKPOINTS}-*") if path != folder]
        if others and not folder.exists() and self._is_main:
            logger.warning(
                "%s: an unfinished training with another dataset, base, settings or number of devices: this one begins "
                "anew",
                others[0],
            )
        return folder

    def _model(self, source: ModelSource) -> tuple[Any, AdapterFacts]:
        import torch

        config = self._config
        dtype = torch.bfloat16 if self._half_precision else torch.float32
        # A model that is to be spread need not fit on one device.
        base = load_base(source, config, self._accelerator.device, dtype, on_host=self._spread is not None)
        is_folder = Path(config.base).is_dir()
        facts = AdapterFacts(
            base=str(Path(config.base).resolve()) if is_folder else config.base,
            revision=source.revision,
            architecture=type(base).__name__,
            probe=probe_weights(base),
            has_projector=config.projector_lr > 0,
            num_frames=config.num_frames,
            max_side=config.max_side,
            trained_on=self._key,
            versions=package_versions(),
        )
        return insert_lora(base, config), facts

    def _vision(self, model: Any, processor: TrainingProcessor, batches: TrainingBatches) -> KeptVision | None:
        """Return the tower that looks once at each clip, where it can, and where any clip is asked about again."""
        config = self._config
        if not (config.keep_features and batches.asks_again(config.epochs or 1)):
            return None
        noise = [blank_clip(config.num_frames, config.max_side, seed) for seed in range(2)]
        lessons = [Lesson(clip=clip, question="?", answer="No.") for clip in noise]
        single, other, both = (
            {name: value.to(self._accelerator.device) for name, value in processor.inputs(shown).items()}
            for shown in (lessons[:1], lessons[1:], lessons)
        )
        with precision(self._accelerator.device.type, half=self._half_precision):
            vision = find_frozen_vision(model, [single, other], both)
        if vision is None:
            return None
        kind = "bf16" if self._half_precision else "float32"
        return KeptVision(vision, batches.look_once(self._kept_clips(f"{_FEATURES}-{kind}")))

    def _kept_clips(self, name: str) -> Path | None:
        """Return the folder for clips that leave the memory; whoever sees all rows once asks for each clip soon."""
        return self._training_folder / name if (self._config.epochs or 1) > 1 else None

    def _batches(
        self, split: str, processor: TrainingProcessor, batch_size: int, only: Rows | None = None
    ) -> TrainingBatches:
        config, is_training = self._config, only is None
        settings = DataSettings(
            num_frames=config.num_frames,
            max_side=config.max_side,
            tasks=tuple(config.tasks) or None,
            shuffle=is_training,
            seed=config.seed,
            video=self._video,
            frames_folder=self._kept_clips(_FRAMES) if is_training else None,
            frames_mb=round(config.frames_gb * 1024),
            prepared_ahead=_PREPARED_AHEAD if self._accelerator.device.type == "cuda" else 0,
        )
        world = self._accelerator.num_processes
        return TrainingBatches(
            self._dataset,
            split,
            processor,
            settings,
            batch_size=batch_size,
            rank=self._accelerator.process_index,
            world_size=world,
            # a batch size that does not come out even is refused by the trainer
            accumulate=max(1, (config.batch_size or 1) // (batch_size * world)) if is_training else 1,
            only=only,
        )

    def _draw_validation(self) -> None:
        """Draw the rows that every validation measures, before hours of training, whose end could not be measured.

        Raises:
            DataError: the validation split is damaged, or holds no row of the tasks.
        """
        config = self._config
        self._measured: Rows = np.zeros(0, np.int64)
        self._judged: Rows = np.zeros(0, np.int64)
        if not (config.validation_rows or config.judged_rows):
            return
        if not any(shard.split == "validation" for shard in list_shards(self._dataset)[0]):
            if self._is_main:
                logger.warning("%s: no validation split: neither loss nor judgements are measured", self._dataset)
            return
        rows = SplitRows(self._dataset, "validation", tasks=config.tasks or None)
        if config.validation_rows:
            self._measured = rows.drawn(config.validation_rows)
        if config.judged_rows:
            self._judged = rows.drawn(config.judged_rows, Task.JUDGE_EXPLAIN)

    def _validate(self, trainer: Trainer, processor: TrainingProcessor) -> dict[str, float]:
        """Return loss and judgement accuracy on the validation rows that were drawn; empty where there are none."""
        config, metrics = self._config, {}
        if len(self._measured):
            batches = self._batches("validation", processor, config.micro_batch, self._measured)
            loss, tokens = trainer.total(measure_loss(trainer.bare_model, batches, trainer.place)).tolist()
            metrics["validation/loss"] = loss / max(tokens, 1)
        if len(self._judged):
            judged = measure_judgements(
                trainer.bare_model,
                processor.processor.tokenizer,
                self._batches("validation", processor, 1, self._judged),
                place=trainer.place,
                max_new_tokens=config.judged_tokens,
                in_step=self._spread is not None,
            )
            right, count, true, told = trainer.total(judged).tolist()
            metrics["validation/judgement_accuracy"] = right / max(count, 1)
            metrics[EXPLANATIONS] = true / max(told, 1)
        return metrics

    def _announce(self, sizes: Mapping[bool, int], trainer: Trainer, batches: TrainingBatches, step_s: float) -> None:
        if not self._is_main:
            return
        config = self._config
        minutes = (trainer.steps - trainer.step) * step_s / 60
        logger.info(
            "%s on %d device(s) %s: %s parameters of %s trained",
            config.base,
            self._accelerator.num_processes,
            self._accelerator.device,
            f"{sizes[True]:,}",
            f"{sum(sizes.values()):,}",
        )
        logger.info(
            "plan: %d rows, %d to a step, %d time(s): %d steps, the rates rise in the first %d, about %s",
            len(batches.rows),
            config.batch_size,
            config.epochs,
            trainer.steps,
            rising_steps(trainer.steps, config.warmup),
            f"{minutes:.0f} minutes" if minutes > 1.5 else "a minute",
        )
        if trainer.steps < FEW_STEPS:
            logger.warning(
                "%d steps are few: below %d little is learned; where they are not set, lora.batch_size and lora.epochs "
                "follow the number of rows",
                trainer.steps,
                FEW_STEPS,
            )

    def _save(
        self, model: Any, processor: TrainingProcessor, facts: AdapterFacts, weights: Mapping[str, Any] | None
    ) -> None:
        from safetensors import SafetensorError

        new = self._workspace.storage.local_path(_NEW)
        try:
            new.mkdir(parents=True)
            save_adapter(model, processor.processor, facts, new, weights)
            open_to_readers(new)
            swap_in(new, self._folder, self._workspace.storage.local_path(_OLD))
        except (OSError, SafetensorError) as fault:
            shutil.rmtree(new, ignore_errors=True)
            reason = describe_os_error(fault) if isinstance(fault, OSError) else first_line(fault)
            raise SetupError(
                f"{self._folder}: adapter not written, the checkpoint of the last step stays: {reason}"
            ) from None

    def _report(self, trainer: Trainer, batches: TrainingBatches, facts: AdapterFacts, seconds: float) -> None:
        self._workspace.write_json(
            REPORT,
            {
                "config": self._config.model_dump(mode="json"),
                "base": facts.base,
                "trained_on": facts.trained_on,
                "rows": len(batches.rows),
                "rejected": {row: str(fault) for row, fault in batches.rejected.items()},
                "steps": trainer.steps,
                "devices": self._accelerator.num_processes,
                "device": str(self._accelerator.device),
                "seconds": round(seconds, 1),
                "losses": trainer.losses,
                "pace": trainer.pace(),
                "metrics": facts.metrics,
                "versions": facts.versions,
            },
        )


def _repair(workspace: Workspace) -> None:
    """Undo what a killed process may have left between two renames, or before them."""
    current, new, old = (workspace.storage.local_path(name) for name in (MODEL_FOLDER, _NEW, _OLD))
    if old.exists() and not current.exists():
        old.rename(current)
    for remains in (new, old):
        shutil.rmtree(remains, ignore_errors=True)


def _size(model: Any, *, is_trained: bool) -> int:
    """Return the number of parameters that are trained, or of the others."""
    return sum(p.numel() for p in model.parameters() if p.requires_grad is is_trained)


def _flat(config: LoraConfig) -> dict[str, Any]:
    """Return the settings as trackers take them."""
    values = config.model_dump(mode="json")
    return {name: ",".join(value) if isinstance(value, list) else value or 0 for name, value in values.items()}
