"""LanguageBind's video encoder (Zhu et al., ICLR 2024): CLIP's vision model whose layers first attend over time.

No Auto class of transformers knows the layout. Its names of weights and the order of its operations are those of the
published `modeling_video.py`; they are tested here on small random weights, not on the published ones. LoRA weights
must be merged (`LanguageBind_Video_merge`). Frames are prepared as published but for its random crop and flip, in whose
place stands the middle crop.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "vision_model."
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")


@dataclass(frozen=True, slots=True)
class TimeTower:
    """A vision model that takes windows of `window_frames` frames in a row, and its image processor."""

    model: Any
    processor: Any
    window_frames: int


def load_time_tower(name: str, revision: str | None, dtype: Any) -> TimeTower | None:
    """Load a model of this layout by id or folder, or return None where it is of another.

    Raises:
        OSError: if there is no such model, or no file of weights.
        ValueError: if weights are missing.
    """
    from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel
    from transformers.image_utils import PILImageResampling
    from transformers.utils import cached_file

    found = cached_file(name, "config.json", revision=revision, _raise_exceptions_for_missing_entries=False)
    vision = {} if found is None else json.loads(Path(found).read_text(encoding="utf-8")).get("vision_config") or {}
    if not vision.get("add_time_attn"):
        return None
    window_frames = int(vision["num_frames"])
    config = CLIPVisionConfig.from_dict({key: value for key, value in vision.items() if key != "model_type"})
    model = CLIPVisionModel(config)
    tower = getattr(model, "vision_model", model)
    for layer in tower.encoder.layers:
        _add_time_attention(layer, config, window_frames)
    weights = _read_weights(name, revision)
    missing, _ = tower.load_state_dict(
        {key.removeprefix(_PREFIX): value for key, value in weights.items() if key.startswith(_PREFIX)}, strict=False
    )
    missing = [key for key in missing if not key.endswith("position_ids")]
    if missing:
        raise ValueError(f"{name}: {len(missing)} weights are missing, the first is {_PREFIX}{missing[0]}")
    side = config.image_size
    processor = CLIPImageProcessor(
        size={"shortest_edge": side}, crop_size={"height": side, "width": side}, resample=PILImageResampling.BILINEAR
    )
    return TimeTower(model=model.to(dtype), processor=processor, window_frames=window_frames)


def _read_weights(name: str, revision: str | None) -> dict[str, Tensor]:
    import torch
    from safetensors.torch import load_file
    from transformers.utils import cached_file

    for filename in _WEIGHTS:
        path = cached_file(name, filename, revision=revision, _raise_exceptions_for_missing_entries=False)
        if path is not None:
            return load_file(path) if filename.endswith("safetensors") else torch.load(path, weights_only=True)
    raise OSError(f"{name}: neither {' nor '.join(_WEIGHTS)} is there")


def _add_time_attention(layer: Any, config: Any, window_frames: int) -> None:
    """Give a layer of CLIP the weights of the attention over time, and let it run before the layer."""
    import torch
    from torch import nn
    from transformers.models.clip.modeling_clip import CLIPAttention

    width = config.hidden_size
    layer.temporal_embedding = nn.Parameter(torch.zeros(1, window_frames, width))
    layer.temporal_attn = CLIPAttention(config)
    layer.temporal_layer_norm1 = nn.LayerNorm(width, eps=config.layer_norm_eps)
    layer.register_forward_pre_hook(_attend_over_time(window_frames))


def _attend_over_time(window_frames: int) -> Callable[[Any, tuple[Any, ...]], tuple[Any, ...]]:
    def hook(layer: Any, given: tuple[Any, ...]) -> tuple[Any, ...]:
        """Let every token attend to the same token of the other frames of its window."""
        frames, tokens, width = given[0].shape
        by_token = given[0].view(-1, window_frames, tokens, width).transpose(1, 2).reshape(-1, window_frames, width)
        if window_frames > 1:
            by_token = by_token + layer.temporal_embedding
        attended, _ = layer.temporal_attn(layer.temporal_layer_norm1(by_token))
        by_frame = (by_token + attended).view(-1, tokens, window_frames, width).transpose(1, 2)
        return by_frame.reshape(frames, tokens, width), *given[1:]

    return hook
