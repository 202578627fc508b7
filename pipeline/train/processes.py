"""The processes that train together, and what they need before they begin."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

from pipeline.config import LoraConfig
from pipeline.devices import pick_device
from pipeline.errors import SetupError
from pipeline.models.hf.adapter import TRAIN_EXTRA
from pipeline.train.sharding import ShardedModel, SpreadModel, is_sharding_wanted
from pipeline.train.zero import ZeroModel, is_zero_wanted

_LOGGERS = {"tensorboard": TRAIN_EXTRA, "wandb": "pip install wandb"}


def start_accelerator(config: LoraConfig, folder: Path) -> Any:
    """Return accelerate's `Accelerator`, alone or one of several that a launcher has started; curves go to `folder`.

    Raises:
        SetupError: a package or the device is missing, or accelerate is to spread a model in a way that is not ours.
    """
    for package in ("peft", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise SetupError(f"holmes train lora needs {package}: {TRAIN_EXTRA}")
    if config.log_to != "none" and importlib.util.find_spec(config.log_to) is None:
        raise SetupError(f"lora.log_to={config.log_to} is not installed: {_LOGGERS[config.log_to]}, or set it to none")
    spread_by = spreading()
    if spread_by is not None and config.quantize != "none":
        raise SetupError(
            f"lora.quantize={config.quantize}: each device keeps a whole model: take MULTI_GPU, not FSDP or DEEPSPEED"
        )
    from accelerate import Accelerator
    from accelerate.utils import DistributedType, patch_environment

    # Of DeepSpeed accelerate would make a training of its own; ours only has it hold the frozen weights.
    with patch_environment(accelerate_use_deepspeed="false"):
        accelerator = Accelerator(
            # Told nothing, accelerate starts no communication between processes without a GPU.
            cpu=pick_device(config.device, "lora.device") == "cpu",
            # Precision is ours: what is trained stays float32.
            mixed_precision="no",
            project_dir=str(folder),
            log_with=None if config.log_to == "none" else config.log_to,
        )
    if accelerator.distributed_type == DistributedType.MEGATRON_LM:
        raise SetupError(
            f"accelerate is configured for {accelerator.distributed_type.value}; holmes train lora spreads a model by "
            "FSDP 2 or ZeRO-3 (fsdp2.yaml, zero3.yaml of datasets/training/accelerate), or keeps a whole one on each "
            "device (MULTI_GPU)"
        )
    return accelerator


def spreading() -> Callable[[Any, Any], SpreadModel] | None:
    """Return what makes a `SpreadModel` as `accelerate launch` was told to, None where each device keeps a whole one.

    Raises:
        SetupError: it was told to in a way that is not ours, or DeepSpeed is not installed.
    """
    if is_zero_wanted():
        return ZeroModel
    return ShardedModel if is_sharding_wanted() else None
