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
        description="last parts of the names of layers that are updated, e.g. q_proj; [] is every linear layer of the "
        "language model",
    )
    lr: float = Field(
        2e-4,
        ge=0,
        description="highest learning rate of the updates; 0 leaves them zero, so that the projector alone is trained",
    )
    projector_lr: float = Field(2e-5, ge=0, description="highest learning rate of the projector; 0 leaves it as it is")
    warmup: Fraction = Field(0.03, description="share of the steps in which the rates rise from 0")
    weight_decay: float = Field(0.0, ge=0, description="of AdamW, on matrices")
    max_grad_norm: float = Field(1.0, gt=0, description="longer gradients are scaled down to this length")
    epochs: int | None = Field(
        None, ge=1, description="passes over the training split; unset: one, or where rows are few up to 8"
    )
    batch_size: int | None = Field(
        None,
        ge=1,
        description="rows in one step, on all devices together; unset: 128, or where rows are few as many as leave 60 "
        "steps",
    )
    micro_batch: int = operational(
        4, ge=1, description="rows that a device takes at once; gradients accumulate to those of a step"
    )
    num_frames: int = Field(8, ge=2, le=512, description="frames shown of a clip, evenly spaced in time")
    max_side: int = Field(
        448, ge=32, le=4096, description="longest side of these frames in pixels; smaller ones stay as they are"
    )
    tasks: list[Task] = Field([], description="tasks of the rows that are trained on; [] is all")
    dtype: Literal["auto", "bf16", "float32"] = Field(
        "auto", description="of the arithmetic and of weights that stay; auto is bf16 on GPU and float32 elsewhere"
    )
    quantize: Literal["none", "4bit"] = Field(
        "none", description="4bit: the language model in NF4 (QLoRA), by bitsandbytes on a CUDA device"
    )
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"] = operational(
        "auto", description="attention kernels; auto is sdpa wherever the model has it"
    )
    gradient_checkpointing: bool = operational(
        True, description="compute activations twice instead of keeping them: less memory, about a third more time"
    )
    seed: int = Field(0, ge=0, description="seed of the first weights, of the order of rows and of dropout")
    device: Literal["auto", "cpu"] = operational("auto", description="auto: the GPU where there is one")
    validate_every: int = operational(0, ge=0, description="steps between validations; 0: after the last step alone")
    validation_rows: int = operational(
        256, ge=0, description="validation rows that the loss is measured on, drawn once; 0: none"
    )
    judged_rows: int = operational(
        64,
        ge=0,
        description="validation rows whose Yes or No is generated and compared with the label, drawn once; 0: none",
    )
    judged_tokens: int = operational(
        16, ge=1, description="tokens generated of such an answer, which opens with its judgement"
    )
    checkpoint_every: int = operational(50, ge=1, description="steps between checkpoints")
    keep: int = operational(2, ge=1, description="checkpoints kept")
    log_to: Literal["tensorboard", "wandb", "none"] = operational("tensorboard", description="where curves go")

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
