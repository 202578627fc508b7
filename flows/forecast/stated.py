"""Stated figures of `datasets/planning/stated.yaml`: what is counted with where nothing was measured."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from pipeline.config import CaptionConfig
from pipeline.errors import SetupError
from pipeline.models.chat.drafts import prompt_ids
from pipeline.models.chat.quality_judge import PROMPT as JUDGE_PROMPT
from pipeline.prompts import load_prompt
from pipeline.records import Level, Task
from pipeline.resources import DATASETS

_FILE = DATASETS / "planning" / "stated.yaml"
_SIZE = re.compile(r"(?<![a-z0-9.])(\d+(?:\.\d+)?)([bm])(?![a-z0-9])", re.IGNORECASE)


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Tokens(_Section):
    """How many tokens texts and pictures have; `completion` by what is answered, `repaired` is a share of answers."""

    chars_per_token: float
    pixels_per_token: float
    caption_chars: int
    completion: Mapping[str, int]
    repaired: float


class Gpu(_Section):
    """How much a GPU computes; `encoder_parameters` are those of an encoder whose name tells none."""

    tflops: float
    utilisation: float
    encoder_parameters: float


class Endpoint(_Section):
    """How fast a request to somebody else's endpoint is answered."""

    completion_tokens_per_s: float


class Bytes(_Section):
    """How much room things take."""

    features_value: int
    features_values: int
    motion_video_hour: float
    answer_row: int
    response: int


class Stated(_Section):
    """All stated figures; `cpu_s` are seconds of one core, by stage or `stage.backend`, for one of a thing."""

    cpu_s: Mapping[str, Mapping[str, float]]
    tokens: Tokens
    gpu: Gpu
    endpoint: Endpoint
    bytes: Bytes


@functools.cache
def load_stated() -> Stated:
    """Return the stated figures.

    Raises:
        SetupError: the file cannot be read or has another shape.
    """
    try:
        return Stated.model_validate(yaml.safe_load(_FILE.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
        raise SetupError(f"{_FILE}: not the figures of a forecast: {fault}") from None


def parameters_of(model: str) -> float | None:
    """Return the parameters that a model's name tells: `Video-LLaVA-7B-hf` has 7e9; None where it tells none."""
    found = [float(size) * {"b": 1e9, "m": 1e6}[unit.lower()] for size, unit in _SIZE.findall(model)]
    # of a mixture of experts, 30B-A3B, the first number is all of it: an upper bound of what computes
    return max(found, default=None)


def answer_tokens(task: Task, captions: float | None = None) -> tuple[float, float]:
    """Return prompt and completion tokens of one request for an answer, without repairs.

    With `captions` it is about an event or a video, told by so many captions of clips.
    """
    stated = load_stated().tokens
    of_clips = prompt_ids([task])
    ids = set(of_clips) - {"repair"} if captions is None else {*prompt_ids([task], Level)} - {*of_clips}
    chars = sum(map(_prompt_chars, ids)) / len(ids) + stated.caption_chars * (1 if captions is None else captions)
    return chars / stated.chars_per_token, stated.completion.get(task.value, stated.completion["answer"])


def judge_tokens() -> tuple[float, float]:
    """Return prompt and completion tokens of one request that judges an answer."""
    stated = load_stated().tokens
    prompt = (_prompt_chars(JUDGE_PROMPT) + 2 * stated.caption_chars) / stated.chars_per_token
    return prompt, stated.completion["judge"]


def caption_tokens(config: CaptionConfig, picture: tuple[int, int]) -> tuple[float, float]:
    """Return prompt and completion tokens of one caption; `picture` is width and height of the videos in pixels."""
    stated = load_stated().tokens
    width, height = picture
    scale = min(1.0, config.max_side / max(width, height))
    pictures = config.num_frames * width * height * scale**2 / stated.pixels_per_token
    return pictures + _prompt_chars(config.prompt) / stated.chars_per_token, stated.completion["captioner"]


def _prompt_chars(prompt_id: str) -> int:
    prompt = load_prompt(prompt_id)
    messages = prompt.render(**dict.fromkeys(prompt.variables, ""))
    return sum(len(message["content"]) for message in messages)
