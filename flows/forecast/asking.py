"""What is asked of endpoints: requests, tokens and cost, by what the journal has measured or by stated figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from flows.forecast.stated import answer_tokens, caption_tokens, judge_tokens, load_stated
from flows.forecast.work import Work
from pipeline.config import BuildConfig, CaptionConfig, JudgeConfig, SynthesizeConfig
from pipeline.models.chat.journal import read_usage
from pipeline.questions import LEVEL_TASKS
from pipeline.records import Task
from pipeline.workspace import Workspace

Basis = Literal["set", "measured", "probed", "stated", "unknown"]
"""Where a figure comes from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """The requests that are left to send to an endpoint.

    Attributes:
        model: as the endpoint knows it.
        requests: with repairs.
        prompt_tokens, completion_tokens: of all of them.
        basis: of the tokens of one request.
        cost: None where the model has no price; `setting` is where one belongs.
        max_cost: what one run may cost; None where it has no limit.
    """

    model: str
    requests: int
    prompt_tokens: int
    completion_tokens: int
    basis: Basis
    cost: float | None
    setting: str
    max_cost: float | None


def model_asked(work: Work, config: BuildConfig) -> tuple[CaptionConfig | SynthesizeConfig | JudgeConfig, int] | None:
    """Return the settings of the model that a stage asks, and how often in all; None where it asks none."""
    match work.stage:
        case "caption" if config.caption.backend in {"hf", "openai"}:
            return config.caption, work.expected * config.caption.samples
        case "synthesize" if config.synthesize.backend in {"hf", "openai"}:
            return config.synthesize, work.expected
        case "filter" if config.filter.judge.backend == "openai":
            return config.filter.judge, round(work.things["answer"])
    return None


def tokens_of(work: Work, config: BuildConfig, picture: tuple[int, int]) -> tuple[float, float]:
    """Return the stated prompt and completion tokens of one request."""
    if work.stage == "caption":
        return caption_tokens(config.caption, picture)
    if work.stage == "filter":
        return judge_tokens()
    of_clips = _mean_tokens(config.synthesize.tasks)
    of_levels = work.things["level_answer"]
    if not of_levels:
        return of_clips
    # every caption of a clip is told once for each level above
    tasks = [task for task in config.synthesize.tasks if task in LEVEL_TASKS]
    prompt, completion = _mean_tokens(tasks, work.things["caption_told"] * len(tasks) / of_levels)
    share = of_levels / work.expected
    return (1 - share) * of_clips[0] + share * prompt, (1 - share) * of_clips[1] + share * completion


def _mean_tokens(tasks: Sequence[Task], captions: float | None = None) -> tuple[float, float]:
    """Return the mean of `answer_tokens` over tasks."""
    each = [answer_tokens(task, captions) for task in tasks]
    return sum(prompt for prompt, _ in each) / len(each), sum(completion for _, completion in each) / len(each)


def asking_of(work: Work, config: BuildConfig, workspace: Workspace, picture: tuple[int, int]) -> Asking | None:
    """Return what is left to ask of an endpoint for a stage, None where it asks none."""
    asked = model_asked(work, config)
    if asked is None or asked[0].backend != "openai" or not asked[0].model:
        return None
    settings, in_all = asked
    left = round(in_all * work.left / work.expected) if work.expected else 0
    done = in_all * min(1.0, work.done / work.expected) if work.expected else 0.0
    responses, usage = _paid(workspace, work.stage, str(settings.model))
    basis: Basis = "stated"
    if responses and done >= 1:
        basis = "measured"
        each = responses / done
        prompt, completion = usage[0] / responses, usage[1] / responses
    else:
        each = 1.0 if work.stage == "caption" else 1 + load_stated().tokens.repaired
        prompt, completion = tokens_of(work, config, picture)
    requests = round(left * each)
    tokens = round(requests * prompt), round(requests * completion)
    price = settings.prices.get(str(settings.model))
    return Asking(
        model=str(settings.model),
        requests=requests,
        prompt_tokens=tokens[0],
        completion_tokens=tokens[1],
        basis=basis,
        cost=None if price is None else price.of(*tokens),
        setting=f"{'filter.judge' if work.stage == 'filter' else work.stage}.prices",
        max_cost=settings.max_cost,
    )


def _paid(workspace: Workspace, stage: str, model: str) -> tuple[int, tuple[int, int]]:
    """Return the responses of a model in a stage's journal, and their prompt and completion tokens."""
    if not workspace.storage.is_local:
        return 0, (0, 0)
    found = read_usage(workspace.journal_folder(stage)).get(model)
    return (0, (0, 0)) if found is None else (found[0], (found[1].prompt_tokens, found[1].completion_tokens))


def answering_s(asking: Asking, config: BuildConfig, stage: str) -> float:
    """Return the seconds in which an endpoint answers, so many requests at a time."""
    endpoints: Mapping[str, CaptionConfig | SynthesizeConfig | JudgeConfig] = {
        "caption": config.caption, "synthesize": config.synthesize, "filter": config.filter.judge,
    }  # fmt: skip
    at_a_time = endpoints[stage].concurrency * load_stated().endpoint.completion_tokens_per_s
    return asking.completion_tokens / at_a_time
