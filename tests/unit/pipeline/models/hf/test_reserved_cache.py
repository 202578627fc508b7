"""Keys and values stay where they are while an answer grows, and nothing more is waited for."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf import model as hf_model
from pipeline.models.hf.model import VideoModel, find_source
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt


def clip(seed: int) -> ClipFrames:
    frames = np.random.default_rng(seed).integers(0, 255, (4, 64, 96, 3), dtype=np.uint8)
    return ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)


_OPS = torch.ops.aten
_WAITS = (_OPS._local_scalar_dense.default, _OPS.is_nonzero.default, _OPS.item.default, _OPS.equal.default)


class Watch(TorchDispatchMode):
    """Counts what is joined to more tokens than a prompt has, and what the host waits for a device to tell."""

    def __init__(self, prompt_tokens: int) -> None:
        super().__init__()
        self.seen: Counter[str] = Counter()
        self._prompt_tokens = prompt_tokens

    def __torch_dispatch__(self, call: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = call(*args, **(kwargs or {}))
        if call is _OPS.cat.default and out.dim() == 4 and out.shape[-2] > self._prompt_tokens:
            self.seen["joined"] += 1
        if call in _WAITS:
            self.seen["waited"] += 1
        return out


def answered(model: VideoModel, new_tokens: int) -> tuple[list[Any], Counter[str]]:
    clips = [clip(1), clip(2), clip(3)]
    model._generation = Generation(max_new_tokens=new_tokens, temperature=model._generation.temperature)
    with Watch(model._processor.footprint(clips[0]).tokens) as watch:
        return model.answer(clips), watch.seen


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_token_copies_none_before_it_and_is_not_waited_for(
    temperature: float, video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source, how = find_source(video_model("llava_onevision")), Generation(max_new_tokens=1, temperature=temperature)
    model = VideoModel(source, "cpu", load_prompt("caption").render(), how)
    _, few = answered(model, 4)
    said, many = answered(model, 12)
    assert model.new_tokens == 3 * (4 + 12), "none of the rows ends before"
    assert many["joined"] == 0
    assert 0 < many["waited"] - few["waited"] <= 2 * (12 - 4), "what transformers itself waits for"
    monkeypatch.setattr(hf_model, "is_known", lambda _: False)
    same, joined = answered(model, 12)
    assert same == said
    assert joined["waited"] == many["waited"]
    assert joined["joined"] == 2 * 2 * 11, "keys and values of two layers"


def states(first: int, tokens: int, rows: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    keys = torch.arange(first, first + tokens).float()[None, None, :, None].expand(rows, 3, tokens, 4).clone()
    return keys, -keys[..., :2]


def test_a_layer_holds_what_it_is_given() -> None:
    from pipeline.models.hf.reserved_cache import ReservedLayer

    layer = ReservedLayer(3)
    layer.update(*states(0, 5))
    place = layer.keys.data_ptr()
    layer.update(*states(5, 1))
    keys, values = layer.update(*states(6, 2))
    assert keys.data_ptr() == place
    assert (layer.get_seq_length(), keys.shape, values.shape) == (8, (2, 3, 8, 4), (2, 3, 8, 2))
    assert torch.equal(keys[1, 2, :, 0], torch.arange(8.0))
    assert torch.equal(values[0, 1, :, 1], -torch.arange(8.0))
    keys, _ = layer.update(*states(8, 1))
    assert torch.equal(keys[1, 2, :, 3], torch.arange(9.0)), "beyond its room it takes another"
    layer.batch_select_indices(torch.tensor([1]))
    keys, _ = layer.update(*states(9, 1, rows=1))
    assert torch.equal(keys[0, 0, :, 0], torch.arange(10.0)), "rows that were picked have a room of their own"


def test_layers_of_a_sliding_window_are_left_to_transformers() -> None:
    from transformers import Qwen2Config

    from pipeline.models.hf.reserved_cache import reserved_cache

    shape = {"hidden_size": 8, "num_attention_heads": 2, "num_key_value_heads": 2, "num_hidden_layers": 2}
    assert reserved_cache(Qwen2Config(**shape), 4) is not None
    sliding = Qwen2Config(**shape, use_sliding_window=True, sliding_window=4, max_window_layers=0)
    assert reserved_cache(sliding, 4) is None
