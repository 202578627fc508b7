"""Settings of the training of the explaining model."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from pipeline.config.section import Fraction, Section, operational
from pipeline.records import Task


class LoraConfig(Section):
    """How a video MLLM is trained on the dataset; the defaults are Holmes-VAD's."""

    base: str = Field("holmes-tiny", description="video MLLM to train: model id, folder, or holmes-tiny")
    revision: str | None = Field(None, description="revision of that model")
    trust_remote_code: bool = operational(False, description="run code that comes with the model")
    allow_pickle: bool = operational(False, description="read weights from pickle files, which can run code")
    rank: int = Field(64, ge=1, description="rank of the updates of each layer")
    alpha: int = Field(128, ge=1, description="updates are scaled by alpha / rank")
    dropout: float = Field(0.0, ge=0, lt=1, description="dropout on the input of the updates")
    target_modules: list[str] = Field(
        [],
        description="layers that get updates, by the last part of their name, e.g. q_proj; []: every linear layer of "
        "the language model",
    )
    lr: float = Field(
        2e-4,
        ge=0,
        description="peak learning rate of the updates; 0: train only the projector",
    )
    projector_lr: float = Field(2e-5, ge=0, description="peak learning rate of the projector; 0: leave it unchanged")
    warmup: Fraction = Field(0.03, description="share of the steps in which the learning rates rise from 0")
    weight_decay: float = Field(0.0, ge=0, description="weight decay of AdamW, on matrices")
    max_grad_norm: float = Field(1.0, gt=0, description="gradient norm above which gradients are scaled down")
    epochs: int | None = Field(
        None, ge=1, description="passes over the training split; unset: 1, or up to 8 where rows are few"
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="rows per step, over all devices; unset: 128, or fewer where rows are few: 60 steps remain",
    )
    micro_batch: int = operational(
        4, ge=1, description="rows per device at a time; gradients accumulate to a full step"
    )
    num_frames: int = Field(16, ge=2, le=512, description="frames shown per clip, evenly spaced in time")
    max_side: int = Field(
        448, ge=32, le=4096, description="longest side of the frames in pixels; smaller ones are not enlarged"
    )
    tasks: list[Task] = Field([], description="tasks to train on; []: all")
    dtype: Literal["auto", "bf16", "float32"] = Field(
        "auto", description="type of the arithmetic and of frozen weights; auto: bf16 on GPU, float32 elsewhere"
    )
    quantize: Literal["none", "4bit"] = Field(
        "none", description="4bit: the language model in NF4 (QLoRA), by bitsandbytes on a CUDA device"
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"] = operational(
        "auto", description="attention kernels; auto is sdpa wherever the model has it"
    )
    gradient_checkpointing: bool = operational(
        True, description="recompute activations instead of storing them: less memory, about a third more time"
    )
    kernels: Literal["auto", "torch", "liger"] = operational(
        "auto",
        description="norms, rotary positions and MLPs of the language model by fused kernels: auto is liger on a CUDA "
        "device where liger-kernel is installed and knows the model, torch otherwise",
    )
    frames_gb: float = operational(
        20.0,
        ge=0,
        description="disk for clips that do not fit into memory, in GiB, so that a later epoch decodes none again; "
        "0: none",
    )
    keep_features: bool = operational(
        True,
        description="keep what the frozen vision tower makes of a clip rather than its frames, so that it looks once "
        "at each; false: it works in every step",
    )
    seed: int = Field(0, ge=0, description="seed of initial weights, row order and dropout")
    device: Literal["auto", "cpu"] = operational("auto", description="auto: the GPU if there is one")
    validate_every: int | None = Field(
        None,
        ge=0,
        description="steps between validations; 0: only after the last step; unset: a quarter of the steps, where 20 "
        "validation rows or more are judged. Of all validations the adapter with the truest explanations is kept",
    )
    validation_rows: int = operational(
        256, ge=0, description="validation rows to measure the loss on, drawn once; 0: none"
    )
    judged_rows: int = Field(
        64,
        ge=0,
        description="validation rows that are answered and held against their label, verdict and explanation, drawn "
        "once; 0: none",
    )
    judged_tokens: int = Field(96, ge=1, description="most tokens of such an answer")
    checkpoint_every: int = operational(50, ge=1, description="steps between checkpoints")
    keep: int = operational(2, ge=1, description="number of checkpoints to keep")
    log_to: Literal["tensorboard", "wandb", "none"] = operational(
        "tensorboard", description="where training curves are logged"
    )

    @model_validator(mode="after")
    def _rates(self) -> LoraConfig:
        if self.lr == self.projector_lr == 0:
            raise ValueError("lr and projector_lr are both 0: nothing would be trained")
        return self

    @model_validator(mode="after")
    def _batches(self) -> LoraConfig:
        if self.batch_size is not None and self.batch_size % self.micro_batch:
            raise ValueError(f"batch_size={self.batch_size} is no multiple of micro_batch={self.micro_batch}")
        return self
