"""Adapters of six families go onto their base; those of another base, damaged or incomplete ones are refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_adapter import make_random_adapter
from video_models import FAMILIES

from pipeline.config import LoraConfig
from pipeline.errors import SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.adapter import read_facts
from pipeline.models.hf.model import ModelSource, VideoModel, find_source, load_weights
from pipeline.models.hf.model_parts import lora_pattern, projector_parameters
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt
from pipeline.train.adapter import insert_lora

PROMPT = load_prompt("caption").render()
VideoModelOf = Callable[[str], str]


@pytest.fixture(scope="module")
def adapter(video_model: VideoModelOf, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """Return the folder of an adapter of a family that changes what the model says; made when first asked for."""
    folder = tmp_path_factory.mktemp("adapters")

    def make(family: str) -> Path:
        path = folder / family
        if not path.exists():
            path.mkdir()
            make_random_adapter(video_model(family), path)
        return path

    return make


def clip() -> ClipFrames:
    frames = np.random.default_rng(0).integers(0, 255, (4, 64, 96, 3), dtype=np.uint8)
    return ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)


def logits(model: Any, base: str) -> Any:
    import torch
    from transformers import AutoProcessor

    processor = AutoProcessor.from_pretrained(base)
    inputs = processor.apply_chat_template(
        [{"role": "user", "content": [{"type": "video", "video": clip().frames}, {"type": "text", "text": "What?"}]}],
        tokenize=True, add_generation_prompt=True, return_dict=True, return_tensors="pt",
        processor_kwargs={
            "do_sample_frames": False,
            "video_metadata": [{
                "total_num_frames": 20, "fps": 10.0, "duration": 2.0, "frames_indices": [0, 5, 10, 15],
                "height": 64, "width": 96,
            }],
        },
    )  # fmt: skip
    with torch.no_grad():
        return model(**inputs).logits


@pytest.mark.parametrize("family", FAMILIES)
def test_only_the_language_model_and_the_projector_are_trained(video_model: VideoModelOf, family: str) -> None:
    model, _, _ = load_weights(ModelSource(name=video_model(family)), "cpu")
    decoder = "text_model" if family == "smolvlm" else "language_model"
    projector = set(projector_parameters(model))
    expected = {
        "video_llava": {"model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"},
        "llava_onevision": {"model.multi_modal_projector.linear_1", "model.multi_modal_projector.linear_2"},
        "qwen2_5_vl": {f"model.visual.merger.{part}" for part in ("ln_q", "mlp.0", "mlp.2")},
        "qwen3_vl": {
            f"model.visual.{merger}.{part}"
            for merger in ("merger", "deepstack_merger_list.0")
            for part in ("norm", "linear_fc1", "linear_fc2")
        },
        "internvl": {f"model.multi_modal_projector.{part}" for part in ("layer_norm", "linear_1", "linear_2")},
        "smolvlm": {"model.connector.modality_projection.proj"},
    }[family]
    assert {name.rpartition(".")[0] for name in projector} == expected
    adapted = insert_lora(model, LoraConfig(rank=2, alpha=4))
    trained = {name.removeprefix("base_model.model.") for name, p in adapted.named_parameters() if p.requires_grad}
    layers = {name.partition(".lora_")[0] for name in trained - projector}
    assert layers == {
        f"model.{decoder}.layers.{layer}.{part}"
        for layer in range(2)
        for part in (
            "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
            "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
        )
    }  # fmt: skip
    assert projector <= trained


@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_loads_onto_its_base(
    video_model: VideoModelOf, adapter: Callable[[str], Path], tmp_path: Path, family: str
) -> None:
    import torch

    base = video_model(family)
    trained = make_random_adapter(base, tmp_path)
    plain, _, _ = load_weights(ModelSource(name=base), "cpu")
    source = find_source(str(adapter(family)), base, setting="--model-path")
    assert source.processor == str(adapter(family))
    loaded, _, _ = load_weights(source, "cpu")
    wanted, got = logits(trained, base), logits(loaded, base)
    assert torch.allclose(got, wanted, atol=1e-3 * float(wanted.abs().max()))
    assert not torch.allclose(logits(plain, base), wanted, atol=0.1 * float(wanted.abs().max()))
    answer = VideoModel(source, "cpu", PROMPT, Generation(max_new_tokens=6)).answer([clip()])
    assert isinstance(answer[0], str)


def test_the_base_is_read_from_the_adapter(video_model: VideoModelOf, adapter: Callable[[str], Path]) -> None:
    source = find_source(str(adapter("smolvlm")))
    assert source.name == video_model("smolvlm")
    assert source.adapter == str(adapter("smolvlm"))
    assert read_facts(adapter("smolvlm")).num_frames == 4


def test_an_adapter_that_others_trained_names_its_base_too(adapter: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter("smolvlm"), tmp_path / "foreign"))
    (folder / "holmes.json").unlink()
    (folder / "projector.safetensors").unlink()
    source = find_source(str(folder))
    assert source.adapter == str(folder)
    load_weights(source, "cpu")


def test_a_base_without_an_adapter_is_refused(video_model: VideoModelOf) -> None:
    with pytest.raises(SetupError, match=r"--model-path=.*no adapter there \(adapter_config.json is missing\)"):
        find_source(video_model("smolvlm"), "some/base", setting="--model-path")


def test_a_base_that_is_gone_is_named(adapter: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"its base=/nowhere/base: no such folder"):
        find_source(str(adapter("smolvlm")), "/nowhere/base")


def _other_seed(base: str, folder: Path) -> str:
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    model = AutoModelForImageTextToText.from_pretrained(base)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder)
    AutoProcessor.from_pretrained(base).save_pretrained(folder)
    return str(folder)


def _shallower(base: str, folder: Path) -> str:
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(base)
    config.text_config.num_hidden_layers = 1
    AutoModelForImageTextToText.from_config(config).save_pretrained(folder)
    return str(folder)


def refusal(source: ModelSource) -> str:
    with pytest.raises(SetupError) as caught:
        load_weights(source, "cpu")
    return str(caught.value)


def test_an_adapter_of_another_base_is_refused(
    video_model: VideoModelOf, adapter: Callable[[str], Path], tmp_path: Path
) -> None:
    folder = adapter("llava_onevision")
    base = video_model("llava_onevision")
    assert "trained on" in refusal(find_source(str(folder), video_model("video_llava")))
    told = refusal(find_source(str(folder), _other_seed(base, tmp_path / "seed")))
    assert "the base here is another model: its weights differ by" in told
    assert str(folder) in told
    foreign = Path(shutil.copytree(adapter("smolvlm"), tmp_path / "foreign"))
    (foreign / "holmes.json").unlink()
    (foreign / "projector.safetensors").unlink()
    told = refusal(find_source(str(foreign), _shallower(video_model("smolvlm"), tmp_path / "shallower")))
    assert "does not fit onto this base: 14 updates have no place in it, 0 layers no update" in told


def test_the_same_base_in_another_precision_is_known(video_model: VideoModelOf, adapter: Callable[[str], Path]) -> None:
    for dtype in ("bfloat16", "float16"):
        load_weights(find_source(str(adapter("qwen3_vl")), dtype=dtype), "cpu")


def test_a_missing_projector_is_refused(adapter: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter("smolvlm"), tmp_path / "adapter"))
    (folder / "projector.safetensors").unlink()
    told = refusal(find_source(str(folder)))
    assert told == f"{folder / 'projector.safetensors'}: missing: the adapter was trained with a projector of its own"


def test_a_projector_of_another_width_is_refused(adapter: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter("smolvlm"), tmp_path / "adapter"))
    shutil.copy(adapter("internvl") / "projector.safetensors", folder)
    assert "projector.safetensors: of another base: model.multi_modal_projector" in refusal(find_source(str(folder)))


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "projector.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "noise", "empty"])
def test_damaged_weights_are_refused(adapter: Callable[[str], Path], tmp_path: Path, name: str, damage: str) -> None:
    folder = Path(shutil.copytree(adapter("smolvlm"), tmp_path / "adapter"))
    content = (folder / name).read_bytes()
    broken = {"cut": content[: len(content) // 2], "noise": b"\xff" * 400, "empty": b""}[damage]
    (folder / name).write_bytes(broken)
    assert refusal(find_source(str(folder))).startswith(f"{folder / name}: damaged: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["adapter_model.safetensors", "projector.safetensors"])
def test_no_bit_of_a_header_can_flip_unnoticed(adapter: Callable[[str], Path], tmp_path: Path, name: str) -> None:
    folder = Path(shutil.copytree(adapter("smolvlm"), tmp_path / "adapter"))
    content = (folder / name).read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    whole = load_weights(find_source(str(folder)), "cpu")[0].state_dict()
    rng = np.random.default_rng(0)
    places = [*range(8), *rng.integers(8, end, 30).tolist()]
    refused = 0
    for place in places:
        bit = 1 << int(rng.integers(8))
        (folder / name).write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
        try:
            loaded = load_weights(find_source(str(folder)), "cpu")[0].state_dict()
        except SetupError:
            refused += 1
        else:  # blanks and what says which library wrote the file
            assert all(tensor.equal(whole[key]) for key, tensor in loaded.items())
    assert refused > 25


def test_a_damaged_description_is_refused(adapter: Callable[[str], Path], tmp_path: Path) -> None:
    folder = Path(shutil.copytree(adapter("smolvlm"), tmp_path / "adapter"))
    (folder / "holmes.json").write_text('{"base": ')
    with pytest.raises(SetupError, match=r"holmes.json: not the description of an adapter"):
        find_source(str(folder))


def test_pickled_updates_are_read_only_when_asked(adapter: Callable[[str], Path], tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(adapter("smolvlm"), tmp_path / "adapter"))
    weights = folder / "adapter_model.safetensors"
    torch.save(load_file(weights), folder / "adapter_model.bin")
    weights.unlink()
    assert "a pickle file, which can run code" in refusal(find_source(str(folder)))
    load_weights(find_source(str(folder), allow_pickle=True), "cpu")


class _Evil:
    def __init__(self, path: Path) -> None:
        self._path = path

    def __reduce__(self) -> tuple[Any, tuple[Any, ...]]:
        return Path.touch, (self._path,)


def test_pickled_code_never_runs(adapter: Callable[[str], Path], tmp_path: Path) -> None:
    import torch

    folder = Path(shutil.copytree(adapter("smolvlm"), tmp_path / "adapter"))
    (folder / "adapter_model.safetensors").unlink()
    torch.save({"weight": _Evil(tmp_path / "ran")}, folder / "adapter_model.bin")
    assert "holds more than tensors" in refusal(find_source(str(folder), allow_pickle=True))
    assert not (tmp_path / "ran").exists()


def test_pickled_base_weights_are_refused_unasked(video_model: VideoModelOf, tmp_path: Path) -> None:
    import torch
    from safetensors.torch import load_file

    folder = Path(shutil.copytree(video_model("smolvlm"), tmp_path / "base"))
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    told = refusal(ModelSource(name=str(folder), setting="--model-base"))
    assert told.startswith(f"--model-base={folder}: its weights are a pickle file (pytorch_model.bin)")
    load_weights(ModelSource(name=str(folder), allow_pickle=True), "cpu")


def test_a_corrupt_base_is_refused(video_model: VideoModelOf, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(video_model("smolvlm"), tmp_path / "base"))
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    assert refusal(ModelSource(name=str(folder))).startswith(f"caption.model={folder}: cannot be loaded: ")


def test_a_base_with_code_of_its_own_is_refused_unasked(video_model: VideoModelOf, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(video_model("smolvlm"), tmp_path / "base"))
    config = json.loads((folder / "config.json").read_text())
    config["model_type"] = "nobody_knows"
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForImageTextToText": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')\n")
    assert "comes with code of its own: trust_remote_code permits running it" in refusal(ModelSource(name=str(folder)))
    assert not (tmp_path / "ran").exists()


def test_a_layer_that_is_not_there_is_named(video_model: VideoModelOf) -> None:
    model, _, _ = load_weights(ModelSource(name=video_model("smolvlm")), "cpu")
    with pytest.raises(SetupError, match=r"lora.target_modules: no linear layer wq in model.text_model; there are"):
        lora_pattern(model, ["wq", "q_proj"])
    assert lora_pattern(model, ["q_proj"]) == r"model\.text_model\.(?:.*\.)?(?:q_proj)"
