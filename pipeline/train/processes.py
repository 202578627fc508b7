"""The processes that train together, and what they need before they begin."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from pipeline.config import LoraConfig
from pipeline.devices import pick_device
from pipeline.errors import SetupError
from pipeline.models.hf.adapter import TRAIN_EXTRA

_LOGGERS = {"tensorboard": TRAIN_EXTRA, "wandb": "pip install wandb"}


def start_accelerator(config: LoraConfig, folder: Path) -> Any:
    """Return accelerate's `Accelerator`, alone or one of several that a launcher has started; curves go to `folder`.

    Raises:
        SetupError: a package or the device is missing, or accelerate is set up to spread one model over devices.
    """
    for package in ("peft", "accelerate"):
        if importlib.util.find_spec(package) is None:
            raise SetupError(f"holmes train lora needs {package}: {TRAIN_EXTRA}")
    if config.log_to != "none" and importlib.util.find_spec(config.log_to) is None:
        raise SetupError(f"lora.log_to={config.log_to} is not installed: {_LOGGERS[config.log_to]}, or set it to none")
    from accelerate import Accelerator
    from accelerate.utils import DistributedType

    accelerator = Accelerator(
        # Told nothing, accelerate starts no communication between processes without a GPU.
        cpu=pick_device(config.device, "lora.device") == "cpu",
        # Precision is ours: what is trained stays float32.
        mixed_precision="no",
        project_dir=str(folder),
        log_with=None if config.log_to == "none" else config.log_to,
    )
    if accelerator.distributed_type in (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise SetupError(
            f"accelerate is configured for {accelerator.distributed_type.value}; holmes train lora keeps a whole model "
            "on each device: choose MULTI_GPU, or lora.quantize=4bit where it does not fit"
        )
    return accelerator
