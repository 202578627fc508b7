"""vLLM's engine makes the rows that transformers make; a stand-in of its class takes the calls."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from random_adapter import make_random_adapter
from vllm_double import LLM, vllm_double

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.models.base import CaptionRequest
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.adapter import PROJECTOR_FILE
from pipeline.models.hf.captioner import HfCaptioner
from pipeline.models.hf.chat import VideoChat
from pipeline.models.hf.devices import Engine
from pipeline.models.hf.model import find_source
from pipeline.models.hf.sampling import Generation
from pipeline.models.hf.vllm_model import VllmChat, VllmModel
from pipeline.prompts import Message, load_prompt
from pipeline.records import Caption, EventClip, Reason, Video

__all__ = ["vllm_double"]
PROMPT = load_prompt("caption").render()
QUESTION = "Is there anything abnormal in the video?"


def clip(seed: int, height: int = 64) -> ClipFrames:
    frames = np.random.default_rng(seed).integers(0, 255, (4, height, 96, 3), dtype=np.uint8)
    return ClipFrames(frames=frames, indices=(0, 5, 10, 15), clip_frames=20, fps=10.0, duration_s=2.0)


def said(chat: VideoChat, seed: int, opening: str = "") -> list[str | RecordError]:
    turns = (Message(role="user", content=QUESTION),)
    return chat._model.answer([replace(clip(seed), turns=turns)], opening)


def requests(film: Path) -> list[CaptionRequest]:
    video = Video(
        video_id="film", path=str(film), sha256="", fps=25.0, num_frames=50, duration_s=2.0, width=128, height=96,
        codec="h264", label=None, split=None, source="test",
    )  # fmt: skip
    return [
        CaptionRequest(
            video=video,
            clip=EventClip(
                clip_id=f"clip{start}", video_id="film", start_s=0.0, end_s=1.0, start_frame=start, end_frame=end,
                glance_time_s=None, label="Normal", anomaly_score=None, method="window",
            ),
        )
        for start, end in ((0, 8), (4, 12), (0, 10**6))
    ]  # fmt: skip


@pytest.mark.parametrize("family", ["qwen2_5_vl", "llava_onevision"])
def test_the_rows_are_those_of_transformers(
    family: str, video_model: Callable[[str], str], film: Callable[[str], Path], vllm_double: type[LLM]
) -> None:
    config = CaptionConfig(backend="hf", model=video_model(family), device="cpu", num_frames=4, max_new_tokens=6)

    def captions(engine: Engine) -> list[Caption | RecordError]:
        return list(HfCaptioner(config, VideoConfig(workers=1), engine).caption(requests(film("h264.mp4"))))

    ours, theirs = captions("transformers"), captions("vllm")
    assert [one for one in ours if isinstance(one, Caption)] == [one for one in theirs if isinstance(one, Caption)]
    assert isinstance(theirs[2], RecordError)
    assert theirs[2].reason is Reason.FRAME_OUT_OF_RANGE
    assert vllm_double.asked == [2], "both clips are given at once"
    [settings] = vllm_double.started
    assert settings["load_format"] == "safetensors"
    assert settings["trust_remote_code"] is False
    made = [HfCaptioner(config, VideoConfig(), engine).identity() for engine in ("transformers", "vllm")]
    assert made[1] == {**made[0], "engine": "vllm"}


def test_verdict_and_answer_are_those_of_transformers(
    video_model: Callable[[str], str], vllm_double: type[LLM]
) -> None:
    source = find_source(video_model("qwen2_5_vl"))
    ours, theirs = VideoChat(source, "cpu", 6), VllmChat(source, 6)
    assert theirs.odds(clip(1), QUESTION) == pytest.approx(ours.odds(clip(1), QUESTION), rel=0.05)
    for opening in ("", "Yes,"):
        assert said(theirs, 1, opening) == said(ours, 1, opening)


def test_updates_are_served_and_a_trained_projector_is_merged_first(
    video_model: Callable[[str], str], vllm_double: type[LLM], tmp_path: Path
) -> None:
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    make_random_adapter(video_model("qwen2_5_vl"), adapter)
    source = find_source(str(adapter))
    expected = said(VideoChat(source, "cpu", 8), 2)
    assert said(VllmChat(source, 8), 2) == expected
    merged = tmp_path / "adapter.merged"
    [settings] = vllm_double.started
    assert settings["model"] == str(merged)
    assert "enable_lora" not in settings
    written = (merged / "config.json").stat().st_mtime_ns
    VllmChat(source, 8)
    assert (merged / "config.json").stat().st_mtime_ns == written, "merged once"

    (adapter / PROJECTOR_FILE).unlink()
    facts = adapter / "holmes.json"
    facts.write_text(facts.read_text().replace('"has_projector": true', '"has_projector": false'))
    alone = said(VideoChat(source, "cpu", 8), 2)
    assert alone != expected
    assert said(VllmChat(source, 8), 2) == alone
    assert vllm_double.started[-1]["max_lora_rank"] == 8, "the least room that vLLM has for rank 2"


def test_what_vllm_does_not_take_costs_itself_alone(video_model: Callable[[str], str], vllm_double: type[LLM]) -> None:
    model = VllmModel(find_source(video_model("qwen2_5_vl")), PROMPT, Generation(max_new_tokens=4))
    vllm_double.most_prompt_chars = len(model._processor.prompt_text(clip(0)))
    long = replace(clip(1), turns=({"role": "user", "content": "word " * 400},))
    answers = model.answer([clip(0), long, clip(2)])
    assert [isinstance(answer, str) for answer in answers] == [True, False, True]
    assert isinstance(answers[1], RecordError)
    assert answers[1].reason is Reason.UNFIT_INPUT
    assert "longer than the maximum" in answers[1].detail


def test_without_vllm_the_message_names_the_server(
    video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(SetupError, match=r"pip install vllm, or .*vllm serve .*caption.backend=openai"):
        VllmModel(find_source(video_model("qwen2_5_vl")), PROMPT, Generation(max_new_tokens=4))


@pytest.mark.integration
@pytest.mark.skipif(importlib.util.find_spec("vllm") is None, reason="vLLM is not installed")
def test_vllm_itself_answers_as_transformers(video_model: Callable[[str], str]) -> None:
    source = find_source(video_model("qwen2_5_vl"))
    assert said(VllmChat(source, 6), 1) == said(VideoChat(source, "auto", 6), 1)
