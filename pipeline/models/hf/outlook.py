"""What a model will need and how fast it will be, told before a run."""

from __future__ import annotations

import importlib.util
import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.config import CaptionConfig, LoraConfig
from pipeline.devices import pick_device, pick_dtype
from pipeline.errors import SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.inputs import ClipProcessor
from pipeline.models.hf.loading import LOAD_FAULTS, ModelSource, first_line
from pipeline.models.hf.model import VideoModel, find_source
from pipeline.models.hf.model_parts import language_model_name
from pipeline.models.hf.sampling import Generation
from pipeline.models.hf.torchvision_mend import mend_torchvision
from pipeline.prompts import load_prompt

KERNELS = {
    "flash-attn": "flash_attn", "liger-kernel": "liger_kernel", "vLLM": "vllm", "bitsandbytes": "bitsandbytes",
    "torchcodec": "torchcodec", "PyNvVideoCodec": "PyNvVideoCodec",
}  # fmt: skip
"""Packages that make a GPU faster, by the module that they bring."""

_GIB = 2**30
_MOST_ON_CPU = 1_000_000_000
"""Parameters above which a batch on a CPU takes minutes: it is not tried."""

_CLIP_S, _HEIGHT, _WIDTH = 4.0, 360, 480
_OVERHEAD_GIB = 1.0
"""The context of the device, kernels, and what the allocator cannot hand out again."""

_ROW_ANSWER_TOKENS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelShape:
    """The sizes that memory depends on: parameters in all and in linear layers of the language model, and its widths.

    `head_values` are keys and values of one token in one layer; `linear_widths` the sum of both sides of all linear
    layers of the language model, which is what a rank of LoRA adds.
    """

    parameters: int
    language_linear: int
    linear_widths: int
    layers: int
    hidden: int
    intermediate: int
    head_values: int
    vocabulary: int


def read_shape(source: ModelSource) -> ModelShape:
    """Return the sizes of a model from its configuration; no weights are read, and nothing is downloaded.

    Raises:
        SetupError: its configuration is not here, or of an unknown kind.
    """
    mend_torchvision()
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    try:
        config = AutoConfig.from_pretrained(
            source.name, revision=source.revision, trust_remote_code=source.trust_remote_code, local_files_only=True
        )
        with torch.device("meta"):
            model = AutoModelForImageTextToText.from_config(config, trust_remote_code=source.trust_remote_code)
    except LOAD_FAULTS as fault:
        raise SetupError(f"{source.title}: not known before it is here: {first_line(fault)}") from None
    return shape_of(model)


def shape_of(model: Any) -> ModelShape:
    """Return the sizes of a model that is loaded, or on the meta device."""
    import torch

    text = model.config.get_text_config()
    decoder = model.get_submodule(language_model_name(model))
    linear = [module for module in decoder.modules() if isinstance(module, torch.nn.Linear)]
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    head_dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return ModelShape(
        parameters=sum(parameter.numel() for parameter in model.parameters()),
        language_linear=sum(module.weight.numel() for module in linear),
        linear_widths=sum(module.in_features + module.out_features for module in linear),
        layers=text.num_hidden_layers,
        hidden=text.hidden_size,
        intermediate=text.intermediate_size,
        head_values=2 * heads * head_dim,
        vocabulary=text.vocab_size,
    )


def caption_gib(shape: ModelShape, tokens: int, rows: int, bytes_per_value: int) -> float:
    """Return the memory in GiB of captioning batches of `tokens` prompt and answer tokens in `rows` clips.

    Weights, keys and values of all layers, the widest activations of one layer, and the logits of a step in float32.
    """
    weights = shape.parameters * bytes_per_value
    kept = tokens * shape.layers * shape.head_values * bytes_per_value
    passing = tokens * (4 * shape.hidden + 3 * shape.intermediate) * bytes_per_value
    logits = 2 * rows * shape.vocabulary * 4
    return (weights + kept + passing + logits) / _GIB + _OVERHEAD_GIB


def training_gib(
    shape: ModelShape, config: LoraConfig, tokens: int, bytes_per_value: int, sharing_devices: int = 1
) -> float:
    """Return the memory in GiB that a LoRA training takes on each device, of `tokens` tokens with padding at a time.

    Frozen weights, of which those of the language model take 0.56 bytes each in NF4; updates with their gradients and
    both moments of AdamW, 16 bytes each; activations, of every layer or with checkpointing the input of each and one
    layer in full; and the logits of the answers in float32, with their gradient. Devices that share the language model
    (FSDP 2) hold a part of it and of its updates, and two layers in full: the one at work and the next one.
    """
    quantized = config.quantize == "4bit"
    frozen: float = (shape.parameters - shape.language_linear) * bytes_per_value
    language = shape.language_linear * (0.56 if quantized else bytes_per_value)
    updates: float = 16 * config.rank * shape.linear_widths
    if sharing_devices > 1:
        language = language / sharing_devices + 2 * language / shape.layers
        updates /= sharing_devices
    # Inputs of norms, attention and its output, of the MLP three times its inner width; updates keep inputs as well.
    of_layer = tokens * (12 * shape.hidden + 4 * shape.intermediate + 2 * shape.head_values) * bytes_per_value
    inputs = tokens * shape.hidden * bytes_per_value
    activations = shape.layers * inputs + of_layer if config.gradient_checkpointing else shape.layers * of_layer
    logits = 3 * config.micro_batch * _ROW_ANSWER_TOKENS * shape.vocabulary * 4
    return (frozen + language + updates + activations + logits) / _GIB + _OVERHEAD_GIB


def free_gib(device: str) -> float:
    """Return the memory that is free on a device, in GiB."""
    if device.startswith("cuda"):
        import torch

        return float(torch.cuda.mem_get_info(device)[0]) / _GIB
    with open("/proc/meminfo", encoding="ascii") as file:  # noqa: PTH123
        return next(int(line.split()[1]) for line in file if line.startswith("MemAvailable")) / 2**20


def kernels() -> tuple[list[str], list[str]]:
    """Return which packages with fast kernels and decoders are installed, and which are not."""
    there = [name for name, module in KERNELS.items() if importlib.util.find_spec(module) is not None]
    return there, [name for name in KERNELS if name not in there]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What a model needs and how fast it is; `clips_per_s` is None where nothing was tried, for `reason`."""

    device: str
    dtype: str
    attention: str
    needed_gib: float
    free_gib: float
    clips_per_s: float | None = None
    reason: str = ""

    def told_memory(self, setting: str) -> str:
        """Return what is needed at the value of a setting, what is there, and how it is computed, in one line."""
        return (
            f"{self.needed_gib:.1f} GiB needed at {setting}, {self.free_gib:.1f} GiB free on {self.device}; "
            f"{self.dtype}, {self.attention}"
        )


def caption_outlook(config: CaptionConfig, *, probes: bool) -> Outlook:
    """Return what the captioner of these settings needs; with `probes` a batch is captioned and timed.

    Raises:
        SetupError: the model is not here, or cannot be loaded.
    """
    source = find_source(
        str(config.model), revision=config.revision, dtype=config.dtype, attention=config.attention,
        trust_remote_code=config.trust_remote_code, allow_pickle=config.allow_pickle,
    )  # fmt: skip
    device = pick_device("auto" if config.device in ("all", "map") else config.device.split(",")[0], "caption.device")
    dtype = pick_dtype(config.dtype, device)
    shape = read_shape(source)
    processor = ClipProcessor(source, load_prompt(config.prompt).render())
    rows = config.batch_size
    of_clip = processor.footprint(blank_clip(config.num_frames, config.max_side)).tokens
    tokens = min(rows * of_clip, max(config.batch_tokens, of_clip)) + rows * config.max_new_tokens
    clips_per_s: float | None = None
    reason = "--no-probe"
    if probes and device == "cpu" and shape.parameters > _MOST_ON_CPU:
        reason = f"{shape.parameters / 1e9:.1f} billion parameters on a CPU"
    elif probes:
        clips_per_s, reason = _probe(config, source, device, processor), ""
    return Outlook(
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        attention="sdpa" if config.attention == "auto" else config.attention,
        needed_gib=caption_gib(shape, tokens, rows, dtype.itemsize),
        free_gib=free_gib(device),
        clips_per_s=clips_per_s,
        reason=reason,
    )


def training_outlook(config: LoraConfig) -> Outlook:
    """Return what a training of these settings needs on each device.

    Raises:
        SetupError: the base is not here.
    """
    source = find_source(
        config.base, setting="lora.base", revision=config.revision, attention=config.attention,
        trust_remote_code=config.trust_remote_code, allow_pickle=config.allow_pickle,
    )  # fmt: skip
    device = pick_device(config.device, "lora.device")
    dtype = pick_dtype({"bf16": "bfloat16"}.get(config.dtype, config.dtype), device)
    processor = ClipProcessor(source, load_prompt("caption").render())
    of_row = processor.footprint(blank_clip(config.num_frames, config.max_side)).tokens + _ROW_ANSWER_TOKENS
    tokens = config.micro_batch * of_row
    return Outlook(
        device=device,
        dtype=str(dtype).removeprefix("torch."),
        attention="sdpa" if config.attention == "auto" else config.attention,
        needed_gib=training_gib(read_shape(source), config, tokens, dtype.itemsize),
        free_gib=free_gib(device),
    )


def _probe(config: CaptionConfig, source: ModelSource, device: str, processor: ClipProcessor) -> float:
    """Return clips a second of one batch, after a smaller one that makes kernels ready."""
    generation = Generation(max_new_tokens=config.max_new_tokens)
    model = VideoModel(source, device, load_prompt(config.prompt).render(), generation, processor)
    count = config.batch_size if device.startswith("cuda") else min(2, config.batch_size)
    clips = [blank_clip(config.num_frames, config.max_side, seed) for seed in range(count)]
    model.answer(clips[:1])
    started = time.perf_counter()
    model.answer(clips)
    return count / (time.perf_counter() - started)


def blank_clip(num_frames: int, max_side: int, seed: int = 0) -> ClipFrames:
    """Return a clip of noise of four by three, as large as the settings show one."""
    scale = min(1.0, max_side / _WIDTH)
    shape = (num_frames, round(_HEIGHT * scale), round(_WIDTH * scale), 3)
    frames = np.random.default_rng(seed).integers(0, 255, shape, dtype=np.uint8)
    return ClipFrames(
        frames=frames, indices=tuple(range(num_frames)), clip_frames=num_frames, fps=num_frames / _CLIP_S,
        duration_s=_CLIP_S,
    )  # fmt: skip
