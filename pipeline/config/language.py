"""Settings of the stages that put clips into words: captioning and synthesis."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from pipeline.config.section import Seconds, Section, operational, plugin_name
from pipeline.plugins import CAPTIONERS, SYNTHESIZERS
from pipeline.records import Level, Task


class EndpointConfig(Section):
    """How an OpenAI-compatible endpoint is called, and what one run may spend there."""

    base_url: str | None = operational(
        None, description="openai: URL of the endpoint; null: OPENAI_BASE_URL, else OpenAI"
    )
    concurrency: int = operational(
        8, ge=1, le=1024, description="openai: requests in flight; fewer while the endpoint answers HTTP 429"
    )
    timeout_s: Seconds = operational(120.0, description="openai: timeout of one request in seconds")
    max_retries: int = operational(
        5, ge=0, le=50, description="openai: retries on 408, 409, 5xx and lost connections; four times as many on 429"
    )
    max_requests: int | None = operational(None, ge=1, description="openai: requests one run may send; null: no limit")
    max_total_tokens: int | None = operational(
        None, ge=1, description="openai: prompt and completion tokens one run may use; null: no limit"
    )
    max_cost: float | None = operational(
        None, gt=0, description="openai: what one run may cost, in the currency of prices; null: no limit"
    )
    prices: dict[str, TokenPrice] = operational(
        {}, description="openai: price per million tokens, by model: {name: {input: 0.15, output: 0.60}}"
    )

    @field_validator("base_url")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        if url is not None and "@" in urlsplit(url).netloc:
            raise ValueError("credentials do not belong into a URL that reports show; use OPENAI_API_KEY")
        return url


class CaptionConfig(EndpointConfig):
    """Who describes the clips."""

    backend: Annotated[str, plugin_name(CAPTIONERS)] = Field(
        "motion",
        description="motion: measured facts, no model; human: sentences from files; hf: a video MLLM; vllm: the same "
        "in vLLM's engine; openai: a vision model behind any OpenAI-compatible endpoint; package:name: a captioner of "
        "another package",
    )
    options: dict[str, Any] = Field(
        {},
        description="package:name: settings of that captioner; vllm: arguments of its LLM, "
        "e.g. {tensor_parallel_size: 2}",
    )
    model: str | None = Field(
        None, description="hf: model id, folder, holmes-tiny, or folder of an adapter; openai: name of the model"
    )
    revision: str | None = Field(None, description="hf: revision of the model")
    trust_remote_code: bool = operational(False, description="hf: run code that comes with the model")
    allow_pickle: bool = operational(False, description="hf: read weights from pickle files, which can run code")
    prompt: str = Field("caption", description="hf, openai: id of the prompt in prompts/")
    files: list[str] = Field(
        [],
        description="UCA, HIVAU-70k or CSV (video_id,start_s,end_s,sentence) files: all that human says, and what "
        "takes the place of another backend's caption where there is a sentence about the clip",
    )
    num_frames: int = Field(16, ge=2, le=512, description="hf, openai: frames shown per clip, evenly spaced in time")
    max_side: int = Field(
        768,
        ge=32,
        le=4096,
        description="hf, openai: longest side of the frames in pixels; smaller videos are not enlarged",
    )
    samples: int = Field(
        1,
        ge=1,
        le=16,
        description="hf, openai: times that a clip is asked about, each time showing other frames; what most of the "
        "captions say is kept, their agreement stored",
    )
    send: Literal["frames", "video"] = Field(
        "frames", description="openai: frames: num_frames JPEG pictures; video: the whole clip as an MP4 file"
    )
    jpeg_quality: int = Field(90, ge=1, le=100, description="openai: JPEG quality of the frames")
    max_new_tokens: int = Field(128, ge=1, description="hf, openai: longest caption in tokens")
    temperature: float = Field(0.0, ge=0, le=2, description="hf, openai: sampling temperature; 0: greedy")
    top_p: float = Field(1.0, gt=0, le=1, description="hf: with temperature above 0, nucleus to sample from")
    seed: int = Field(0, description="hf, openai: seed of the sampling; hf draws the same for a clip in any batch")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="hf: auto is bfloat16 on GPU")
    attention: Literal["auto", "eager", "sdpa", "flash_attention_2", "flash_attention_3"] = operational(
        "auto", description="hf: attention kernels; auto is sdpa wherever the model has it"
    )
    decoding: Literal["dynamic", "static"] = operational(
        "dynamic",
        description="hf: static fills batches up to few shapes and has decoding compiled into CUDA graphs: faster for "
        "thousands of clips on a GPU, after a minute of compiling",
    )
    device: str = operational(
        "auto",
        description="hf: auto, cpu, cuda, cuda:1; map spreads one model over all GPUs; cuda:0,cuda:1 runs one model "
        "on each, and all does so on every GPU",
    )
    batch_size: int = operational(16, ge=1, description="hf: clips per batch at most")
    batch_tokens: int = operational(
        32_768, ge=1, description="hf: prompt tokens per batch at most, with visual tokens and padding"
    )
    buffer_mb: int = operational(2048, ge=64, description="hf, openai: frames decoded ahead of the model, in MiB")

    @model_validator(mode="after")
    def _samples_differ(self) -> CaptionConfig:
        sends_all = self.backend == "openai" and self.send == "video"
        if self.samples > 1 and (sends_all or self.backend in ("human", "motion")):
            how = f"caption.send={self.send}" if self.backend == "openai" else f"caption.backend={self.backend}"
            raise ValueError(f"samples={self.samples} with {how}: it would say the same each time; at most 1")
        return self


class TokenPrice(Section):
    """What a model costs."""

    input: float = Field(ge=0, description="price of a million prompt tokens")
    output: float = Field(ge=0, description="price of a million completion tokens")

    def of(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the cost of so many tokens."""
        return (prompt_tokens * self.input + completion_tokens * self.output) / 1e6


class SynthesizeConfig(EndpointConfig):
    """Who writes the answers."""

    backend: Annotated[str, plugin_name(SYNTHESIZERS)] = Field(
        "template",
        description="template: deterministic sentences; openai: any OpenAI-compatible endpoint; hf: an LLM in process; "
        "package:name: a synthesizer of another package",
    )
    options: dict[str, Any] = Field({}, description="package:name: settings of that synthesizer")
    tasks: list[Task] = Field(
        [Task.JUDGE_EXPLAIN, Task.DESCRIPTION], min_length=1, description="tasks written for every clip"
    )
    levels: list[Level] = Field(
        [Level.CLIP],
        min_length=1,
        description="what rows are about: clip; event, the clips of one event in their order; video, all of its events",
    )
    event_gap_s: float = Field(
        5.0, ge=0, description="event, video: clips of one class that are at most this far apart are one event, in s"
    )
    model: str | None = Field(None, description="openai: name of the model; hf: model id or folder")
    revision: str | None = Field(None, description="hf: revision of the model")
    temperature: float = Field(0.0, ge=0, le=2, description="openai, hf: sampling temperature; 0: greedy")
    max_tokens: int = Field(400, ge=16, description="openai, hf: longest answer in tokens")
    transport: Literal["chat", "batch"] = operational(
        "chat", description="openai: chat sends single requests; batch uses the endpoint's Batch API, within a day"
    )
    batch_requests: int = operational(20_000, ge=1, le=50_000, description="batch: requests in one batch")
    poll_s: Seconds = operational(60.0, description="batch: longest interval between status checks, in seconds")
    batch_size: int = operational(8, ge=1, description="hf: answers generated together")
    device: str = operational("auto", description="hf: auto, cpu, cuda, cuda:1, ...")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field("auto", description="hf: auto is bfloat16 on GPU")
    seed: int = Field(0, description="seed of the choice of questions and wordings, and of sampling")


class JudgeConfig(EndpointConfig):
    """An LLM that reads answers as a reviewer would. Pairs that people decided are not judged again."""

    backend: Literal["none", "openai"] = Field(
        "none", description="none: nobody judges; openai: any OpenAI-compatible endpoint"
    )
    model: str | None = Field(None, description="openai: name of the model")
    min_score: float = Field(
        3.0,
        ge=1,
        le=5,
        description="answers whose lowest score for support, relevance and clarity is below this are dropped",
    )
    max_tokens: int = Field(200, ge=16, description="openai: longest reply in tokens")
    temperature: float = Field(0.0, ge=0, le=2, description="openai: sampling temperature; 0 is greedy")
    seed: int = Field(0, description="openai: seed of the sampling")
