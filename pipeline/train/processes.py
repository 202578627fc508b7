"""The processes that train together, and what they need before they begin."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

from pipeline.config import LoraConfig
from pipeline.devices import pick_device
from pipeline.errors import SetupError
from pipeline.models.hf.adapter import TRAIN_EXTRA
from pipeline.train.sharding import is_sharding_wanted

_LOGGERS = {"tensorboard": TRAIN_EXTRA, "wandb": "pip install wandb"}


def start_accelerator(config: LoraConfig, folder: Path) -> Any:
    """Return accelerate's `Accelerator`, alone or one of several that a launcher has started; curves go to `folder`.

    Raises:
        SetupError: a package or the device is missing, or accelerate spreads a model otherwise than FSDP 2 does.
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
    if is_sharding_wanted() and config.quantize != "none":
        raise SetupError(f"lora.quantize={config.quantize}: each device keeps a whole model: take MULTI_GPU, not FSDP")
    if accelerator.distributed_type in (DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM):
        raise SetupError(
            f"accelerate is configured for {accelerator.distributed_type.value}; holmes train lora spreads a model by "
            "FSDP 2 (datasets/training/accelerate/fsdp2.yaml), or keeps a whole one on each device (MULTI_GPU)"
        )
    return accelerator
