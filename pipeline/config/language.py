"""Settings of the stages that put clips into words: captioning and synthesis."""

from __future__ import annotations

from typing import Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator

from pipeline.config.section import Seconds, Section, operational
from pipeline.records import Task


class CaptionConfig(Section):
    """Who describes the clips."""

    backend: Literal["motion", "human", "hf"] = Field(
        "motion", description="motion: measured facts, no model; human: sentences from files; hf: a video MLLM"
    )
    model: str | None = Field(None, description="hf: model id or folder")
    revision: str | None = Field(None, description="hf: revision of the model")
    prompt: str = Field("caption", description="hf: id of the prompt in prompts/")
    files: list[str] = Field([], description="human: UCA, HIVAU-70k or CSV (video_id,start_s,end_s,sentence) files")
    num_frames: int = Field(8, ge=2, le=512, description="hf: frames shown to the model, evenly spaced in time")
    max_new_tokens: int = Field(128, ge=1, description="hf: longest caption in tokens")
    batch_size: int = operational(4, ge=1, description="hf: clips in one batch")
    device: str = operational("auto", description="hf: auto, cpu, cuda, cuda:1, ...")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="hf: auto is bfloat16 on GPU")


class TokenPrice(Section):
    """What a model costs."""

    input: float = Field(ge=0, description="price of a million prompt tokens")
    output: float = Field(ge=0, description="price of a million completion tokens")

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the cost of so many tokens."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


class SynthesizeConfig(Section):
    """Who writes the answers."""

    backend: Literal["template", "openai", "hf"] = Field(
        "template",
        description="template: deterministic sentences; openai: any OpenAI-compatible endpoint; hf: an LLM in process",
    )
    tasks: list[Task] = Field([Task.JUDGE_EXPLAIN, Task.DESCRIPTION], min_length=1, description="tasks of every clip")
    model: str | None = Field(None, description="openai: name of the model; hf: model id or folder")
    revision: str | None = Field(None, description="hf: revision of the model")
    base_url: str | None = operational(
        None, description="openai: URL of the endpoint; None is OPENAI_BASE_URL or OpenAI"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="openai, hf: sampling temperature; 0 is greedy")
    max_tokens: int = Field(400, ge=16, description="openai, hf: longest answer in tokens")
    transport: Literal["chat", "batch"] = operational(
        "chat", description="openai: chat: request by request; batch: the endpoint's Batch API, within a day"
    )
    concurrency: int = operational(
        8, ge=1, le=1024, description="openai: requests in flight; fewer while the endpoint answers HTTP 429"
    )
    timeout_s: Seconds = operational(120.0, description="openai: seconds one request may take")
    max_retries: int = operational(
        5, ge=0, le=50, description="openai: retries on 408, 409, 5xx and lost connections; on 429 four times as many"
    )
    max_requests: int | None = operational(None, ge=1, description="openai: requests that one run may send")
    max_total_tokens: int | None = operational(
        None, ge=1, description="openai: prompt and completion tokens that one run may use"
    )
    max_cost: float | None = operational(
        None, gt=0, description="openai: what one run may cost, in the currency of prices"
    )
    prices: dict[str, TokenPrice] = operational(
        {}, description="openai: price of a million tokens by model: {name: {input: 0.15, output: 0.60}}"
    )
    batch_requests: int = operational(20_000, ge=1, le=50_000, description="batch: requests in one batch")
    poll_s: Seconds = operational(60.0, description="batch: longest wait between two looks at a batch, in seconds")
    batch_size: int = operational(8, ge=1, description="hf: answers generated together")
    device: str = operational("auto", description="hf: auto, cpu, cuda, cuda:1, ...")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="hf: auto is bfloat16 on GPU")
    seed: int = Field(0, description="seed of the choice of questions and wordings, and of sampling")

    @field_validator("base_url")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        if url is not None and "@" in urlsplit(url).netloc:
            raise ValueError("credentials do not belong into a URL that reports show; use OPENAI_API_KEY")
        return url
