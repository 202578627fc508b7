"""Video MLLMs of six families, tiny and untrained, describe clips of a real file through the one code path."""

from __future__ import annotations

import gc
import logging
import tracemalloc
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest
from video_models import FAMILIES

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.models.base import CaptionRequest
from pipeline.models.clip_frames import ClipFrames, evenly_spaced
from pipeline.models.hf import devices
from pipeline.models.hf.captioner import HfCaptioner
from pipeline.models.hf.devices import DeviceModels, ModelCall, list_devices
from pipeline.models.hf.inputs import ClipProcessor
from pipeline.models.hf.model import ModelSource, VideoModel, model_identity
from pipeline.models.hf.sampling import Generation
from pipeline.prompts import load_prompt
from pipeline.records import Caption, EventClip, Reason, Video
from pipeline.video.timeline import Timeline, read_timeline

NUM_FRAMES, FPS = 60, 10
PROMPT = load_prompt("caption").render()
SPECIAL = ("<eos>", "</s>", "<video>", "<|im_end|>", "<|video_pad|>", "<end_of_utterance>", "<IMG_CONTEXT>")


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Video:
    """Six seconds of noise that grows brighter, in a real file."""
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
    given = {"backend": "hf", "model": model, "num_frames": 4, "max_new_tokens": 6, "device": "cpu", **values}
    return CaptionConfig(**given)


def load(folder: str, *, source: dict[str, str] | None = None, **generation: Any) -> VideoModel:
    how = Generation(**{"max_new_tokens": 6, **generation})
    return VideoModel(ModelSource(name=folder, **(source or {})), "cpu", PROMPT, how)


def test_a_clip_without_a_picture_is_no_clip_to_describe(
    video_model: Callable[[str], str], footage: Video, tmp_path: Path
) -> None:
    dark = tmp_path / "dark.mp4"
    with av.open(str(dark), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 96, 64, "yuv420p"
        for _ in range(20):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(np.full((64, 96, 3), 5, np.uint8), format="rgb24")))
        container.mux(stream.encode())
    captioner = HfCaptioner(settings(video_model(next(iter(FAMILIES)))), VideoConfig(workers=1))
    requests = [request(replace(footage, path=str(dark), num_frames=20), 0, 20), request(footage, 0, 20)]
    refused, caption = captioner.caption(requests)
    assert isinstance(refused, RecordError)
    assert refused.reason is Reason.BLANK_PICTURE
    assert isinstance(caption, Caption)


@pytest.mark.parametrize("family", FAMILIES)
def test_captions_in_order_faults_in_place(video_model: Callable[[str], str], footage: Video, family: str) -> None:
    requests = [
        request(footage, 0, 20),
        request(footage, 50, NUM_FRAMES + 5),
        request(footage, 20, 22),
        request(footage, 30, 60),
    ]
    captioner = HfCaptioner(settings(video_model(family), batch_size=2), VideoConfig(workers=1))
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
        assert "Describe in one" not in outcome.text
        assert not any(token in outcome.text for token in SPECIAL)
    assert captioner.use.clips == 3
    assert captioner.use.batches == 2
    assert 3 <= captioner.use.new_tokens <= 3 * 6


@pytest.mark.slow
@pytest.mark.parametrize("family", ["video_llava"])
def test_memory_stays_flat_over_many_clips(
    video_model: Callable[[str], str], footage: Video, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept of a clip would show: its four frames take 74 KB, a hundredth of that is allowed."""
    import torch

    # To ask the garbage collector for all tensors would break tuples that other threads are making.
    made: list[weakref.ref[torch.Tensor]] = []
    make_inputs = VideoModel._inputs

    def watched(model: VideoModel, *arguments: Any, **more: Any) -> Any:
        inputs = make_inputs(model, *arguments, **more)
        made.extend(weakref.ref(value) for value in inputs.values() if isinstance(value, torch.Tensor))
        return inputs

    def held() -> tuple[int, int]:
        gc.collect()
        alive = (tensor() for tensor in made)
        return tracemalloc.get_traced_memory()[0], sum(value.nbytes for value in alive if value is not None)

    monkeypatch.setattr(VideoModel, "_inputs", watched)
    requests = (request(footage, start % 40, start % 40 + 10 + start % 9) for start in range(260))
    captioner = HfCaptioner(settings(video_model(family), batch_size=4, max_new_tokens=2), VideoConfig(workers=1))
    taken = []
    tracemalloc.start()
    try:
        for number, _ in enumerate(captioner.caption(requests)):
            if number in (59, 159, 259):
                taken.append(held())
    finally:
        tracemalloc.stop()
    assert len(made) >= 260 / 4, "no inputs were watched"
    host, tensors = np.array(taken).T
    assert host[2] - host[0] < 200 * 740
    assert tensors[2] - tensors[0] < 200 * 740


def clip_frames(seed: int, height: int = 64, width: int = 96) -> ClipFrames:
    """Noise with a stripe of one colour, so that clips look different even to a model that sees little."""
    frames = np.random.default_rng(seed).integers(0, 255, (4, height, width, 3), dtype=np.uint8)
    frames[:, :, : width // 2] = np.eye(3, dtype=np.uint8)[seed % 3] * 255
    return ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_batch_says_what_single_clips_say(video_model: Callable[[str], str], family: str) -> None:
    """Also where the clips of a batch differ in resolution and shape."""
    model = load(video_model(family))
    clips = [clip_frames(seed, height) for seed, height in enumerate([64, 64, 64, 112, 64, 96])]
    together = model.answer(clips)
    assert len(set(map(str, together))) > 1, "the frames make no difference"
    assert together == [text for clip in clips for text in model.answer([clip])]


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_draws_the_same_for_a_clip_in_any_batch(video_model: Callable[[str], str], family: str) -> None:
    sampled = {"temperature": 1.5, "top_p": 0.95}
    clips = [clip_frames(seed) for seed in range(3)]
    model = load(video_model(family), **sampled)
    together = model.answer(clips)
    assert together == [text for clip in clips for text in model.answer([clip])]
    assert together != load(video_model(family), seed=1, **sampled).answer(clips)
    greedy = load(video_model(family)).answer(clips)
    assert together != greedy
    assert load(video_model(family), temperature=1e-4).answer(clips) == greedy


def test_settings_reach_the_model(video_model: Callable[[str], str]) -> None:
    import torch

    model = load(video_model("qwen2_5_vl"), source={"dtype": "bfloat16", "attention": "eager"})
    assert model._model.dtype is torch.bfloat16
    assert model._model.config._attn_implementation == "eager"
    assert model.answer([clip_frames(0)])
    assert load(video_model("qwen2_5_vl"))._model.config._attn_implementation == "sdpa"
    if not torch.cuda.is_available():
        with pytest.raises(SetupError, match=r"(?i)cannot be loaded: .*flash.?attn|flash.?attention"):
            load(video_model("qwen2_5_vl"), source={"attention": "flash_attention_2"})


def test_a_spread_model_says_the_same(video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    import transformers

    folder, clips = video_model("llava_onevision"), [clip_frames(0), clip_frames(1)]
    expected = load(folder).answer(clips)
    asked: list[Any] = []
    original = transformers.AutoModelForImageTextToText.from_pretrained

    def from_pretrained(*args: Any, **kwargs: Any) -> Any:
        asked.append(kwargs.get("device_map"))
        return original(*args, **kwargs)

    monkeypatch.setattr(transformers.AutoModelForImageTextToText, "from_pretrained", from_pretrained)
    spread = VideoModel(ModelSource(name=folder), "map", PROMPT, Generation(max_new_tokens=6))
    assert asked == ["auto"]
    assert spread.answer(clips) == expected


@pytest.mark.slow
def test_two_models_share_the_work(video_model: Callable[[str], str], footage: Video) -> None:
    """One process per device; outcomes are those of one model, in order."""
    requests = [request(footage, start, start + 10) for start in range(0, 50, 5)]
    of_one, of_two = (
        HfCaptioner(settings(video_model("llava_onevision"), batch_size=2, device=device), VideoConfig(workers=1))
        for device in ("cpu", "cpu,cpu")
    )
    expected = list(of_one.caption(iter(requests)))
    assert list(of_two.caption(iter(requests))) == expected
    assert (of_two.use.clips, of_two.use.batches) == (len(requests), 5)
    assert of_two.use.new_tokens == of_one.use.new_tokens > 0


@pytest.mark.parametrize("keeps", [False, True])
def test_a_model_that_is_kept_is_loaded_once(
    video_model: Callable[[str], str], footage: Video, monkeypatch: pytest.MonkeyPatch, keeps: bool
) -> None:
    loaded: list[str] = []

    class Counted(VideoModel):
        def __init__(self, source: ModelSource, *arguments: Any) -> None:
            loaded.append(source.name)
            super().__init__(source, *arguments)

    monkeypatch.setattr(devices, "VideoModel", Counted)
    captioner = HfCaptioner(settings(video_model("smolvlm")), VideoConfig(workers=1))
    if keeps:
        captioner.keep()
    told = [list(captioner.caption([request(footage, 0, 20), request(footage, 20, 40)])) for _ in range(2)]
    assert told[0] == told[1]
    assert len(loaded) == (1 if keeps else 2)
    assert captioner.use.clips == 4


def test_a_model_process_that_fails_or_dies_ends_the_run(video_model: Callable[[str], str]) -> None:
    generation = Generation(max_new_tokens=1)
    call = ModelCall(source=ModelSource(name="/nowhere/model"), prompt="caption", generation=generation)
    processor = ClipProcessor(ModelSource(name=video_model("llava_onevision")), PROMPT)
    with DeviceModels(call, ["cpu", "cpu"], processor) as models:
        with pytest.raises(SetupError, match=r"caption\.model=/nowhere/model: no such folder"):
            models.submit(numbered(1)).result()
        # The other device has not started its process yet.
        for process in list(models._devices[0].executor._processes.values()):
            process.kill()
            process.join()
        with pytest.raises(SetupError, match="the process of the model on cpu died"):
            models.submit(numbered(1)).result()


def test_nothing_to_describe_loads_nothing(tmp_path: Path) -> None:
    assert list(HfCaptioner(settings("/nowhere/model"), VideoConfig(workers=1)).caption([])) == []


def numbered(*numbers: int) -> list[ClipFrames]:
    pictures = np.zeros((2, 32, 32, 3), np.uint8)
    return [ClipFrames(frames=pictures, indices=(n, n), clip_frames=200, fps=1, duration_s=1) for n in numbers]


def stand_in(model: VideoModel, monkeypatch: pytest.MonkeyPatch, fault: Callable[[list[int]], None]) -> list[int]:
    """Replace generation by `fault`, which may raise, and return the sizes of the batches to come."""
    sizes: list[int] = []

    def generate(clips: Sequence[ClipFrames], *_: object) -> list[str]:
        sizes.append(len(clips))
        fault([clip.indices[0] for clip in clips])
        return [f"clip {clip.indices[0]}" for clip in clips]

    monkeypatch.setattr(model, "_generate", generate)
    return sizes


@pytest.mark.parametrize(
    "sign", ["CUDA out of memory", "DefaultCPUAllocator: can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED"]
)
def test_out_of_memory_halves_the_batch(
    video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch, sign: str
) -> None:
    import torch

    def fault(numbers: list[int]) -> None:
        if len(numbers) > 2 or 99 in numbers:
            raise torch.OutOfMemoryError(sign) if "CUDA" in sign else RuntimeError(sign)

    model = load(video_model("llava_onevision"))
    sizes = stand_in(model, monkeypatch, fault)
    assert model.answer(numbered(*range(8))) == [f"clip {n}" for n in range(8)]
    assert sizes == [8, 4, 2, 2, 2, 2], "the half of 4 was not tried as 4 again"
    sizes.clear()
    assert model.answer(numbered(*range(8))) == [f"clip {n}" for n in range(8)]
    assert sizes == [2, 2, 2, 2], "the size that fits is remembered"
    *fitting, large = model.answer(numbered(1, 99))
    assert fitting == ["clip 1"]
    assert isinstance(large, RecordError)
    assert large.reason is Reason.OUT_OF_MEMORY
    assert "does not fit on cpu" in large.detail


def test_a_clip_that_the_processor_refuses_is_one_fault(
    video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fault(numbers: list[int]) -> None:
        if 7 in numbers:
            raise ValueError("absolute aspect ratio must be smaller than 200")

    model = load(video_model("llava_onevision"))
    stand_in(model, monkeypatch, fault)
    before, refused, after = model.answer(numbered(6, 7, 8))
    assert (before, after) == ("clip 6", "clip 8")
    assert isinstance(refused, RecordError)
    assert refused.reason is Reason.UNFIT_INPUT
    assert "aspect ratio" in refused.detail
    never = load(video_model("llava_onevision"))
    stand_in(never, monkeypatch, fault)
    with pytest.raises(SetupError, match=r"cannot describe clips: .*aspect ratio"):
        never.answer(numbered(7, 7))


def test_a_broken_device_ends_the_run(video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fault(numbers: list[int]) -> None:
        raise RuntimeError("device-side assert triggered\nCompile with ...")

    model = load(video_model("llava_onevision"))
    stand_in(model, monkeypatch, fault)
    with pytest.raises(SetupError, match=r"device-side assert triggered$"):
        model.answer(numbered(1, 2))


def test_models_that_echo_and_models_that_do_not(
    video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`generate` returns the prompt's tokens first, or the new ones alone; a text that repeats the prompt loses it."""
    import torch

    model = load(video_model("llava_onevision"), max_new_tokens=200)
    words = model._processor._tokenizer

    def saying(text: str, *, with_prompt: bool) -> str:
        added = torch.tensor([words(text)["input_ids"]])

        def generate(input_ids: Any, **_: Any) -> Any:
            sequences = torch.cat([input_ids, added], dim=1) if with_prompt else added
            return SimpleNamespace(sequences=sequences, past_key_values=None)

        monkeypatch.setattr(model._model, "generate", generate)
        return str(model.answer([clip_frames(0)])[0])

    said = "A man runs to the left."
    for text in (said, f"ASSISTANT: {said}<eos><pad>", f"{PROMPT[0]['content']}\nassistant: {said}\nuser: And?"):
        assert saying(text, with_prompt=True) == said
        assert saying(text, with_prompt=False) == said


def test_identity_follows_what_changes_text(video_model: Callable[[str], str], tmp_path: Path) -> None:
    import shutil

    source = video_model("llava_onevision")
    moved = Path(shutil.copytree(source, tmp_path / "moved"))
    assert model_identity(str(moved)) == model_identity(source)
    weights = moved / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")
    assert model_identity(str(moved)) != model_identity(source)

    def identity(video: VideoConfig | None = None, **values: Any) -> object:
        return HfCaptioner(settings(source, **values), video or VideoConfig()).identity()

    one = identity()
    assert one == identity(
        VideoConfig(workers=3), batch_size=1, batch_tokens=9, attention="eager", device="cuda:1,cuda:2", buffer_mb=64,
        seed=5, top_p=0.5,
    )  # fmt: skip
    changes = [{"revision": "v2"}, {"max_side": 100}, {"num_frames": 5}, {"dtype": "bfloat16"}, {"temperature": 0.5}]
    assert all(identity(**values) != one for values in changes)
    assert identity(temperature=0.5) != identity(temperature=0.5, seed=5)


@pytest.mark.parametrize(
    ("values", "message"),
    [({"model": None}, "needs caption.model"), ({"model": "x", "prompt": "captoin"}, "the nearest is caption")],
)
def test_settings_are_checked_before_any_clip(values: dict[str, Any], message: str) -> None:
    with pytest.raises(SetupError, match=message):
        HfCaptioner(CaptionConfig(backend="hf", **values), VideoConfig())


def test_unknown_models_stop_with_one_message(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"caption\.model=/nowhere/model: no such folder"):
        load("/nowhere/model")
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(SetupError, match="cannot be loaded") as fault:
        load(str(tmp_path))
    assert "\n" not in str(fault.value)


def test_a_missing_package_is_named(video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    folder = video_model("smolvlm")
    monkeypatch.setattr("transformers.models.smolvlm.processing_smolvlm.num2words", None)
    with pytest.raises(SetupError, match="pip install num2words"):
        load(folder)


def test_unusable_devices(video_model: Callable[[str], str]) -> None:
    import torch

    with pytest.raises(SetupError, match=r"caption\.device=gpu1"):
        VideoModel(ModelSource(name=video_model("smolvlm")), "gpu1", PROMPT, Generation(max_new_tokens=1))
    assert list_devices("cuda:0, cuda:1") == ["cuda:0", "cuda:1"]
    for setting in ("cpu,", "cuda:0,map"):
        with pytest.raises(SetupError, match="expected one device"):
            list_devices(setting)
    if not torch.cuda.is_available():
        with pytest.raises(SetupError, match=r"caption\.device=all: no CUDA"):
            list_devices("all")


def test_large_frames_are_read_smaller(footage: Video, video_model: Callable[[str], str]) -> None:
    from pipeline.models.clip_frames import FrameJob, read_clip_frames

    job = FrameJob(request=request(footage, 0, 20), num_frames=4, max_side=48, reader="auto")
    assert read_clip_frames(job).frames.shape == (4, 32, 48, 3)
    assert read_clip_frames(replace(job, max_side=768)).frames.shape == (4, 64, 96, 3)


def test_the_end_tells_what_the_model_did(
    video_model: Callable[[str], str], footage: Video, caplog: pytest.LogCaptureFixture
) -> None:
    captioner = HfCaptioner(settings(video_model("llava_onevision")), VideoConfig(workers=1))
    with caplog.at_level(logging.INFO):
        assert len(list(captioner.caption([request(footage, 0, 20)]))) == 1
    assert "1 clips in 1 batches" in caplog.text


def test_frames_are_spaced_in_time_not_by_index() -> None:
    # Ten frames in the first second, then one a second.
    times_s = np.concatenate([np.arange(10) / 10, 1.0 + np.arange(9)])
    timeline = Timeline(times_s=times_s, duration_s=10.0, fps=1.9, tick_s=0.001, nominal_fps=None)
    assert evenly_spaced(timeline, 0, 19, 5) == [10, 12, 14, 16, 18]


def test_short_clips_repeat_frames_within_themselves(footage: Video) -> None:
    timeline = read_timeline(footage.path)
    assert evenly_spaced(timeline, 20, 22, 4) == [20, 20, 21, 21]
    assert evenly_spaced(timeline, 59, 60, 3) == [59, 59, 59]
