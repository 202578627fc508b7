"""A clip is looked at once, shapes are few where they are asked to be, and what is merged answers alike."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_adapter import make_random_adapter
from video_models import FAMILIES

from pipeline.config import CaptionConfig, LoraConfig
from pipeline.errors import SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf import outlook
from pipeline.models.hf.chat import VideoChat
from pipeline.models.hf.merge import merge_adapter
from pipeline.models.hf.merge_check import compare_merged
from pipeline.models.hf.model import VideoModel, find_source
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt

PROMPT = load_prompt("caption").render()


def clip(seed: int, height: int = 64) -> ClipFrames:
    frames = np.random.default_rng(seed).integers(0, 255, (4, height, 96, 3), dtype=np.uint8)
    return ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_tower_sees_a_clip_once(family: str, video_model: Callable[[str], str]) -> None:
    source = find_source(video_model(family))
    fresh, chat = VideoModel(source, "cpu", PROMPT, Generation(max_new_tokens=4)), VideoChat(source, "cpu", 4)
    [tower] = {module for name, module in chat._model._model.named_modules() if _is_tower(name)}
    seen: list[int] = []
    tower.register_forward_hook(lambda *_: seen.append(1))

    def ask(model: Any, seed: int, question: str) -> list[Any]:
        return model.answer([replace(clip(seed), turns=({"role": "user", "content": question},))])

    asked = [(1, "What moves?"), (1, "Who is there?")]
    said = [ask(chat._model, *one) for one in asked]
    chat.odds(clip(1), "Is there anything abnormal?")
    assert len(seen) == 1
    said.append(ask(chat._model, 2, "What moves?"))
    assert len(seen) == 2
    assert said == [ask(fresh, *one) for one in [*asked, (2, "What moves?")]]


def _is_tower(name: str) -> bool:
    return name.rpartition(".")[2] in {"visual", "vision_tower", "video_tower", "vision_model"} and "." not in (
        name.removeprefix("model.")
    )


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision", "smolvlm"])
def test_few_shapes_change_no_answer(
    family: str, video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    source = find_source(video_model(family))
    free = VideoModel(source, "cpu", PROMPT, Generation(max_new_tokens=6))
    static = VideoModel(source, "cpu", PROMPT, Generation(max_new_tokens=6, is_static=True))
    shapes: list[tuple[int, ...]] = []
    generate = static._model.generate

    def noting(**inputs: Any) -> Any:
        shapes.append(tuple(inputs["input_ids"].shape))
        return generate(**inputs)

    monkeypatch.setattr(static._model, "generate", noting)
    clips = [clip(1), clip(2), clip(3)]
    assert static.answer(clips) == free.answer(clips)
    [(rows, tokens)] = shapes
    assert (rows, tokens % 128) == (4, 0)


@pytest.mark.slow
def test_a_merged_model_is_compared_with_its_adapter(video_model: Callable[[str], str], tmp_path: Path) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    make_random_adapter(video_model("qwen2_5_vl"), adapter)
    source = find_source(str(adapter))
    merged = merge_adapter(str(adapter), None, tmp_path / "merged")
    compared = compare_merged(source, merged, device="cpu")
    assert compared.is_alike
    assert compared.same == compared.asked == 4
    base = compare_merged(source, Path(video_model("qwen2_5_vl")), device="cpu")
    assert base.same < base.asked, "the base says other things"


def test_the_outlook_tells_memory_and_speed(video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    config = CaptionConfig(
        backend="hf", model=video_model("qwen2_5_vl"), device="cpu", num_frames=4, max_side=64, max_new_tokens=4
    )
    told = outlook.caption_outlook(config, probes=True)
    assert told.clips_per_s is not None
    assert told.clips_per_s > 0
    assert 1 < told.needed_gib < 1.5 < told.free_gib
    assert (told.device, told.dtype, told.attention) == ("cpu", "float32", "sdpa")
    monkeypatch.setattr(outlook, "_MOST_ON_CPU", 10)
    refused = outlook.caption_outlook(config, probes=True)
    assert refused.clips_per_s is None
    assert refused.reason.endswith("billion parameters on a CPU")
    with pytest.raises(SetupError, match="not known before it is here"):
        outlook.caption_outlook(config.model_copy(update={"model": "nobody/nothing"}), probes=True)


def test_training_memory_follows_what_is_chosen(video_model: Callable[[str], str]) -> None:
    shape = outlook.read_shape(find_source(video_model("qwen2_5_vl")))
    big = replace(
        shape, parameters=8_292_166_656, language_linear=6_525_288_448, linear_widths=2_523_136, layers=28, hidden=3584,
        intermediate=18_944, head_values=1024, vocabulary=152_064,
    )  # fmt: skip

    def gib(**changes: Any) -> float:
        return outlook.training_gib(big, LoraConfig(micro_batch=4, **changes), tokens=4000, bytes_per_value=2)

    assert gib() < 24
    assert gib(gradient_checkpointing=False) > gib() + 15
    assert gib(quantize="4bit") < 16
    assert gib(rank=128) > gib()


_OF_TABLE = {
    "Qwen2.5-VL-7B": (900, {
        "parameters": 8_292_166_656, "language_linear": 6_525_288_448, "linear_widths": 2_523_136, "layers": 28,
        "hidden": 3584, "intermediate": 18_944, "head_values": 1024, "vocabulary": 152_064,
    }),
    "Video-LLaVA-7B": (2140, {
        "parameters": 7_366_279_168, "language_linear": 6_476_005_376, "linear_widths": 2_498_560, "layers": 32,
        "hidden": 4096, "intermediate": 11_008, "head_values": 8192, "vocabulary": 32_064,
    }),
}  # fmt: skip


def test_the_table_of_what_fits_is_reckoned() -> None:
    guide = (Path(__file__).resolve().parents[5] / "docs" / "guides" / "gpu.md").read_text(encoding="utf-8")
    base, seen = "", 0
    for line in guide.splitlines():
        cells = [cell.strip() for cell in line.split("|")[1:-1]]
        if len(cells) != 8 or cells[2] not in ("recomputed", "kept"):
            continue
        base = cells[0] or base
        tokens, sizes = _OF_TABLE[base]
        weights, _, devices = cells[1].partition(" on ")
        for micro_batch, told in zip((1, 2, 4, 8), cells[3:7], strict=True):
            config = LoraConfig(
                micro_batch=micro_batch, quantize="4bit" if weights == "4bit" else "none",
                gradient_checkpointing=cells[2] == "recomputed",
            )  # fmt: skip
            count = int(devices.split()[0]) if devices else 1
            reckoned = outlook.training_gib(outlook.ModelShape(**sizes), config, micro_batch * tokens, 2, count)
            assert float(told) == pytest.approx(reckoned, abs=0.051), line
            seen += 1
    assert seen == 40


def test_the_doctor_tells_what_captioning_and_training_need(
    video_model: Callable[[str], str], tmp_path: Path, film: Callable[[str], Path]
) -> None:
    from flows.doctor import examine
    from pipeline.config import BuildConfig

    base = video_model("qwen2_5_vl")
    config = BuildConfig.model_validate(
        {
            "videos": [str(film("h264.mp4"))], "glances": [], "workspace": str(tmp_path),
            "caption": {"backend": "hf", "model": base, "num_frames": 4, "max_side": 64, "max_new_tokens": 4},
            "lora": {"base": base, "num_frames": 4, "max_side": 64},
        }
    )  # fmt: skip
    checks = {check.name: check for check in examine(config)}
    assert checks["caption memory"].ok
    assert "GiB needed at caption.batch_size=16, " in checks["caption memory"].detail
    assert "clips/s, measured just now: 10,000 clips in " in checks["caption speed"].detail
    assert "GiB needed at lora.micro_batch=4, " in checks["lora memory"].detail
    assert checks["kernels"].detail.startswith("sdpa of torch")
    unprobed = {check.name: check for check in examine(config, probes=False)}
    assert unprobed["caption speed"].detail == "not measured: --no-probe"


@pytest.mark.slow
def test_the_doctor_knows_models_that_come_with_the_engine() -> None:
    """Their sizes are the first that a process asks transformers for: torchvision may have to be mended before."""
    from flows.doctor import _local_model

    assert _local_model("caption.model", "holmes-tiny").detail == "holmes-tiny, which comes with the engine"
    code = (
        "from pipeline.models.hf.outlook import read_shape\nfrom pipeline.models.hf.model import find_source\n"
        "print(read_shape(find_source('holmes-tiny')).parameters)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 1_000_000
