"""Video MLLMs of two families, tiny and untrained, describe clips of a real file through the one code path."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.models.base import CaptionRequest
from pipeline.models.clip_frames import ClipFrames, evenly_spaced
from pipeline.models.hf_caption import HfCaptioner
from pipeline.models.hf_model import VideoModel, model_identity
from pipeline.models.torchvision_mend import mend_torchvision
from pipeline.prompts import load_prompt
from pipeline.records import Caption, EventClip, Reason, Video
from pipeline.video.timeline import Timeline, read_timeline

NUM_FRAMES, FPS = 60, 10


def tokenizer(specials: list[str], **named: str) -> Any:
    """A byte-level BPE tokenizer trained on two sentences; `specials` begin with the padding and the end."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=specials, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    bpe.train_from_iterator(["A thing moves from left to right.", "Describe what can be seen."], trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=bpe, pad_token=specials[0], eos_token=specials[1], extra_special_tokens=named
    )


def chat_template(video: str) -> str:
    return (
        "{% for m in messages %}{{ m['role'] }}: {% for c in m['content'] %}{% if c['type'] == 'video' %}"
        + video
        + "{% else %}{{ c['text'] }}{% endif %}{% endfor %}\n{% endfor %}{% if add_generation_prompt %}assistant: "
        "{% endif %}"
    )


def lively(model: Any) -> Any:
    """Scale random weights up, so that what such a small model says depends on what it is shown."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.mul_(8)
    return model


def save_llava_onevision(folder: Path) -> None:
    import transformers as t

    words = tokenizer(["<pad>", "<eos>", "<image>", "<video>"], image_token="<image>", video_token="<video>")
    vision = t.SiglipVisionConfig(
        hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=8,
        vision_use_head=False,
    )  # fmt: skip
    text = t.Qwen2Config(
        vocab_size=len(words), hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=2, bos_token_id=None, eos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    config = t.LlavaOnevisionConfig(
        vision_config=vision.to_dict(), text_config=text.to_dict(), image_grid_pinpoints=[[32, 32]],
        image_token_index=words.convert_tokens_to_ids("<image>"),
        video_token_index=words.convert_tokens_to_ids("<video>"),
    )  # fmt: skip
    lively(t.LlavaOnevisionForConditionalGeneration(config)).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    t.LlavaOnevisionProcessor(
        image_processor=t.LlavaOnevisionImageProcessor(size=size, image_grid_pinpoints=[[32, 32]]),
        tokenizer=words,
        video_processor=t.LlavaOnevisionVideoProcessor(size=size),
        num_image_tokens=16,
        vision_feature_select_strategy="full",
        chat_template=chat_template("<video>"),
    ).save_pretrained(folder)


def save_qwen2_5_vl(folder: Path) -> None:
    import transformers as t

    specials = ["<|endoftext|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
    words = tokenizer(specials, image_token="<|image_pad|>", video_token="<|video_pad|>")
    ids = dict(zip(specials, words.convert_tokens_to_ids(specials), strict=True))
    config = t.Qwen2_5_VLConfig(
        vision_config={
            "depth": 2, "hidden_size": 32, "intermediate_size": 48, "num_heads": 2, "out_hidden_size": 32,
            "window_size": 56, "fullatt_block_indexes": [1],
        },
        text_config={
            "vocab_size": len(words), "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
            "num_attention_heads": 2, "num_key_value_heads": 2, "eos_token_id": ids["<|im_end|>"],
            "bos_token_id": None, "pad_token_id": 0,
            "rope_parameters": {"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        },
        image_token_id=ids["<|image_pad|>"], video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"], vision_end_token_id=ids["<|vision_end|>"],
    )  # fmt: skip
    lively(t.Qwen2_5_VLForConditionalGeneration(config)).save_pretrained(folder)
    size = {"shortest_edge": 28 * 28 * 4, "longest_edge": 56 * 56 * 8}
    t.Qwen2_5_VLProcessor(
        image_processor=t.Qwen2VLImageProcessor(size=size),
        tokenizer=words,
        video_processor=t.Qwen2VLVideoProcessor(size=size, cap_pixels_per_frame=False),
        chat_template=chat_template("<|vision_start|><|video_pad|><|vision_end|>"),
    ).save_pretrained(folder)


FAMILIES: dict[str, Callable[[Path], None]] = {
    "llava_onevision": save_llava_onevision,
    "qwen2_5_vl": save_qwen2_5_vl,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], str]:
    """Folders of tiny models with random but fixed weights, by family."""
    mend_torchvision()
    import torch

    folder = tmp_path_factory.mktemp("models")

    def build(family: str) -> str:
        path = folder / family
        if not path.exists():
            torch.manual_seed(0)
            FAMILIES[family](path)
        return str(path)

    return build


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Six seconds of noise that grows brighter, in a real file."""
    import av

    path = tmp_path_factory.mktemp("footage") / "noise.mp4"
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for index in range(NUM_FRAMES):
            picture = rng.integers(0, 100, (64, 96, 3)) + index * 2
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return Video(
        video_id="noise", path=str(path), sha256="", fps=FPS, num_frames=NUM_FRAMES, duration_s=6.0, width=96,
        height=64, codec="h264", label=None, split=None, source="test",
    )  # fmt: skip


def request(video: Video, start_frame: int, end_frame: int) -> CaptionRequest:
    clip = EventClip(
        clip_id=f"{video.video_id}_{start_frame}_{end_frame}", video_id=video.video_id, start_s=start_frame / FPS,
        end_s=end_frame / FPS, start_frame=start_frame, end_frame=end_frame, glance_time_s=None, label="Normal",
        anomaly_score=None, method="window",
    )  # fmt: skip
    return CaptionRequest(clip=clip, video=video)


def settings(model: str, **values: Any) -> CaptionConfig:
    return CaptionConfig(backend="hf", model=model, num_frames=4, max_new_tokens=6, device="cpu", **values)


@pytest.mark.parametrize("family", FAMILIES)
def test_captions_in_order_faults_in_place(models: Callable[[str], str], footage: Video, family: str) -> None:
    requests = [
        request(footage, 0, 20),
        request(footage, 50, NUM_FRAMES + 5),
        request(footage, 20, 22),
        request(footage, 30, 60),
    ]
    captioner = HfCaptioner(settings(models(family), batch_size=2), VideoConfig(workers=1))
    outcomes = list(captioner.caption(iter(requests)))
    first, outside, short, last = outcomes
    assert isinstance(outside, RecordError)
    assert outside.reason is Reason.FRAME_OUT_OF_RANGE
    for outcome, made_from in ((first, requests[0]), (short, requests[2]), (last, requests[3])):
        assert isinstance(outcome, Caption)
        assert outcome.clip_id == made_from.clip.clip_id
        assert outcome.captioner == family
        assert outcome.prompt_hash == load_prompt("caption").hash
        assert outcome.text
        assert "Describe" not in outcome.text
        assert not any(token in outcome.text for token in ("<eos>", "<video>", "<|im_end|>", "<|video_pad|>"))


def clip_frames(seed: int, height: int = 64) -> ClipFrames:
    frames = np.random.default_rng(seed).integers(0, 255, (4, height, 96, 3), dtype=np.uint8)
    return ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_says_what_single_clips_say(models: Callable[[str], str], family: str) -> None:
    model = VideoModel(models(family), None, "cpu", "auto")
    prompt = load_prompt("caption").render()
    clips = [clip_frames(seed) for seed in range(3)]
    for column in range(3):
        striped = np.zeros_like(clips[0].frames)
        striped[:, :, column * 32 :, column] = 255
        clips.append(replace(clips[0], frames=striped))
    together = model.answer(clips, prompt, 6)
    assert len(set(together)) > 1, "the frames make no difference"
    assert together == [text for clip in clips for text in model.answer([clip], prompt, 6)]


def test_out_of_memory_halves_the_batch(models: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    model = VideoModel(models("llava_onevision"), None, "cpu", "float32")
    sizes: list[int] = []

    def generate(clips: list[ClipFrames], prompt: object, max_new_tokens: int) -> list[str]:
        sizes.append(len(clips))
        if len(clips) > 1 or clips[0].indices[0] == 99:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return [f"clip {clips[0].indices[0]}"]

    monkeypatch.setattr(model, "_generate", generate)
    clips = [
        ClipFrames(frames=np.zeros((2, 8, 8, 3), np.uint8), indices=(n, n), clip_frames=9, fps=1, duration_s=1)
        for n in (1, 2, 3)
    ]
    assert model.answer(clips, [], 6) == ["clip 1", "clip 2", "clip 3"]
    assert sizes == [3, 1, 2, 1, 1]
    too_large = ClipFrames(frames=clips[0].frames, indices=(99, 99), clip_frames=9, fps=1, duration_s=1)
    with pytest.raises(MemoryError, match="does not fit"):
        model.answer([too_large], [], 6)


def test_identity_follows_weights_and_settings(models: Callable[[str], str], tmp_path: Path) -> None:
    import shutil

    source = models("llava_onevision")
    moved = Path(shutil.copytree(source, tmp_path / "moved"))
    assert model_identity(str(moved)) == model_identity(source)
    weights = moved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert model_identity(str(moved)) != model_identity(source)
    one = HfCaptioner(settings(source), VideoConfig()).identity()
    assert one == HfCaptioner(settings(source, batch_size=1), VideoConfig(workers=3)).identity()
    assert one != HfCaptioner(settings(source, revision="v2"), VideoConfig()).identity()


@pytest.mark.parametrize(
    ("values", "message"),
    [({"model": None}, "needs caption.model"), ({"model": "x", "prompt": "captoin"}, "the nearest is caption")],
)
def test_settings_are_checked_before_any_clip(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        HfCaptioner(CaptionConfig(backend="hf", **values), VideoConfig())


def test_unknown_models_stop_with_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match=r"caption\.model=/nowhere/model: no such folder"):
        VideoModel("/nowhere/model", None, "cpu", "auto")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SetupError, match="cannot be loaded") as fault:
        VideoModel(str(tmp_path), None, "cpu", "auto")
    assert "\n" not in str(fault.value)


def test_unusable_device(models: Callable[[str], str]) -> None:
    with pytest.raises(SetupError, match=r"caption\.device=gpu1"):
        VideoModel(models("llava_onevision"), None, "gpu1", "auto")


def test_frames_are_spaced_in_time_not_by_index() -> None:
    # Ten frames in the first second, then one a second.
    times_s = np.concatenate([np.arange(10) / 10, 1.0 + np.arange(9)])
    timeline = Timeline(times_s=times_s, duration_s=10.0, fps=1.9, tick_s=0.001, nominal_fps=None)
    clip = request(Video(
        video_id="v", path="", sha256="", fps=1.9, num_frames=19, duration_s=10, width=1, height=1, codec="",
        label=None, split=None, source="",
    ), 0, 19).clip  # fmt: skip
    assert evenly_spaced(timeline, clip, 5) == [10, 12, 14, 16, 18]


def test_short_clips_repeat_frames_within_themselves(footage: Video) -> None:
    timeline = read_timeline(footage.path)
    assert evenly_spaced(timeline, request(footage, 20, 22).clip, 4) == [20, 20, 21, 21]
    assert evenly_spaced(timeline, request(footage, 59, 60).clip, 3) == [59, 59, 59]


def run_with(path: Path, code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), str(Path(__file__).resolve().parents[2])])}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    return done.stdout + done.stderr


MEND = "from pipeline.models.torchvision_mend import mend_torchvision as mend; "
BROKEN = """
import torch
if not hasattr(torch.ops.torchvision, 'qnms'):
    raise RuntimeError('operator torchvision::nms does not exist')
"""


def test_mended_torchvision_imports(tmp_path: Path) -> None:
    assert "True" in run_with(
        tmp_path, MEND + "mend(); mend(); import torchvision; from torchvision.transforms import v2; print(True)"
    )


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        ("nms = 1", "None"),
        (BROKEN, "Library"),
        ("raise RuntimeError('something else')", "something else"),
    ],
)
def test_mend_touches_broken_installs_alone(tmp_path: Path, module: str, expected: str) -> None:
    (tmp_path / "torchvision").mkdir()
    (tmp_path / "torchvision" / "__init__.py").write_text(module)
    assert expected in run_with(tmp_path, MEND + "print(type(mend()).__name__.replace('NoneType', 'None'))")
