"""A stand-in for vLLM: its names and calls, transformers behind them. Like vLLM it serves updates and no projector."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest
import torch

from pipeline.models.hf.torchvision_mend import mend_torchvision


@dataclass
class SamplingParams:
    max_tokens: int = 16
    temperature: float = 1.0
    top_p: float = 1.0
    seed: int | None = None
    logprobs: int | None = None


@dataclass
class LoRARequest:
    lora_name: str
    lora_int_id: int
    lora_path: str


@dataclass
class Logprob:
    logprob: float


@dataclass
class Said:
    token_ids: list[int]
    finish_reason: str
    logprobs: list[dict[int, Logprob]] | None


@dataclass
class Output:
    outputs: list[Said] = field(default_factory=list)


class LLM:
    """The offline engine; `started` holds the settings of every one, `asked` the size of every call."""

    started: list[dict[str, Any]]
    asked: list[int]
    most_prompt_chars = 10**6

    def __init__(self, **settings: Any) -> None:
        mend_torchvision()
        from transformers import AutoModelForImageTextToText, AutoProcessor

        self.started.append(settings)
        self._processor = AutoProcessor.from_pretrained(settings["tokenizer"])
        self._model = AutoModelForImageTextToText.from_pretrained(settings["model"], dtype=torch.float32).eval()
        self._adapter: str | None = None

    def generate(
        self,
        requests: Sequence[Any],
        sampling: Sequence[SamplingParams],
        lora_request: Any = None,
        use_tqdm: bool = True,
    ) -> list[Output]:
        self.asked.append(len(requests))
        if any(len(request["prompt"]) > self.most_prompt_chars for request in requests):
            raise ValueError("The decoder prompt is longer than the maximum model length")
        if lora_request is not None and self._adapter != lora_request.lora_path:
            from peft import PeftModel

            self._model = PeftModel.from_pretrained(self._model, lora_request.lora_path).eval()
            self._adapter = lora_request.lora_path
        return [self._answer(request, how) for request, how in zip(requests, sampling, strict=True)]

    def _answer(self, request: Any, how: SamplingParams) -> Output:
        [(frames, facts)] = request["multi_modal_data"]["video"]
        known = {name: facts[name] for name in facts if name not in ("do_sample_frames", "video_backend")}
        inputs = self._processor(
            text=[request["prompt"]], videos=[frames], video_metadata=[known], do_sample_frames=False,
            return_tensors="pt",
        )  # fmt: skip
        with torch.inference_mode():
            made = self._model.generate(
                **inputs, max_new_tokens=how.max_tokens, do_sample=False, output_logits=True,
                return_dict_in_generate=True, pad_token_id=self._processor.tokenizer.pad_token_id,
            )  # fmt: skip
        ends = self._model.generation_config.eos_token_id
        added = made.sequences[0, inputs["input_ids"].shape[1] :].tolist()
        is_over = bool(added) and added[-1] in (ends if isinstance(ends, list) else [ends])
        logprobs = None
        if how.logprobs:
            shares = made.logits[0][0].float().log_softmax(dim=-1).topk(how.logprobs)
            pairs = zip(shares.indices.tolist(), shares.values.tolist(), strict=True)
            logprobs = [{token: Logprob(value) for token, value in pairs}]
        return Output([Said(added, "stop" if is_over else "length", logprobs)])


@pytest.fixture
def vllm_double(monkeypatch: pytest.MonkeyPatch) -> type[LLM]:
    """Stands where vLLM is imported, and remembers how it was started and asked."""
    engine = type("LLM", (LLM,), {"started": [], "asked": []})
    vllm, lora, request = ModuleType("vllm"), ModuleType("vllm.lora"), ModuleType("vllm.lora.request")
    vllm.LLM, vllm.SamplingParams, request.LoRARequest = engine, SamplingParams, LoRARequest  # type: ignore[attr-defined]
    for module in (vllm, lora, request):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    return engine
