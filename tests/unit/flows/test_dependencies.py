"""What is made anew when a setting or an input changes: all that depends on it, and nothing else."""

from __future__ import annotations

import re
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
from moving_square import write_video
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from flows.plan import EXPORT, run_step, step_names, steps_of
from pipeline.config import BuildConfig, parse_config
from pipeline.errors import ConfigError
from pipeline.prompts import Prompt
from pipeline.stages import export
from pipeline.stages.base import fingerprint_of
from pipeline.workspace import Workspace

pytestmark = pytest.mark.slow

_LABELS = {"calm": "Normal", "quiet": "Normal", "blow": "Fighting", "grab": "Robbery"}
_NETWORK = {"hidden_dim": 8, "heads": 1, "head_dim": 8, "layers": 0, "memory_slots": 2}


def _table(**changes: dict[str, str]) -> str:
    """Return the list of videos, with `changes` by name of the video and column."""
    rows = (
        {"file": f"{name}.mp4", "label": _LABELS[name], "split": "train"} | changes.get(name, {}) for name in _LABELS
    )
    lines = [f"{name},{row['file']},{row['label']},{row['split']}" for name, row in zip(_LABELS, rows, strict=True)]
    return "\n".join(["video_id,file,label,split", *lines, ""])


def _sentences(about_blow: str = "A man walks past.") -> str:
    told = dict.fromkeys(_LABELS, "Two people stand there.") | {"blow": about_blow}
    return "video_id,start_s,end_s,sentence\n" + "".join(f"{name},0,4.8,{text}\n" for name, text in told.items())


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> BuildConfig:
    """A build of four videos of five seconds, with a click on each of the two abnormal ones."""
    folder = tmp_path_factory.mktemp("world")
    for speed, name in enumerate([*_LABELS, "other"]):
        write_video(folder / f"{name}.mp4", speed, frames=48)
    files = {
        "videos.csv": _table(),
        "clicks.csv": "video-id,glance,category\nblow,20,\ngrab,30,\n",
        "sentences.csv": _sentences(),
        "verdicts.csv": "pair_id,decision,edited_answer,reviewer,reviewed_at\n",
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    config = parse_config(
        {
            "videos": [str(folder / "videos.csv")],
            "glances": [str(folder / "clicks.csv")],
            "workspace": str(folder / "w"),
            "video": {"workers": 1},
            "features": {"stride_frames": 8},
            "sampler": {"search": "off", "folds": 1, "recipe": {"steps": 1, "batch_videos": 1, "network": _NETWORK}},
            "clips": {"method": "sampler", "min_s": 0.5, "files": "reference"},
            "caption": {"backend": "human", "files": [str(folder / "sentences.csv")]},
            "filter": {"verdicts": [str(folder / "verdicts.csv")]},
        }
    )
    assert len(_made(config)) == len(step_names(config))
    return config


def _made(config: BuildConfig) -> set[str]:
    """Run the whole plan and return the stages that had work to do."""
    workspace = Workspace(config.workspace)
    reports = [run_step(name, workspace, config) for name in step_names(config)]
    return {report.stage for report in reports if report.made}


_AFTER_CLIPS = {"clips", "caption", "synthesize", "filter", EXPORT}
_UP_TO_CLIPS = {"ingest", "glances", "features", "score", "clips"}


def _clicks(blow: str) -> str:
    return f"video-id,glance,category\nblow,{blow}\ngrab,30,\n"


# Each change is made on top of those before it. Where scores change, what follows from them is up to the numbers.
_CHANGES: dict[str, tuple[str, str, set[str]]] = {
    "nothing": ("videos.csv", _table(), set()),
    "label": ("videos.csv", _table(blow={"label": "Stealing"}), {"ingest", "glances"} | _AFTER_CLIPS),
    "label for training too": ("videos.csv", _table(quiet={"label": "Arson"}), {"ingest", "glances", "score", "clips"}),
    "split": ("videos.csv", _table(blow={"split": "validation"}), {"ingest", "score", "clips"}),
    "frame within its snippet": ("clicks.csv", _clicks("21,"), {"glances", "clips", "caption", "synthesize", EXPORT}),
    "frame": ("clicks.csv", _clicks("41,"), {"glances", "score", "clips"}),
    "category": ("clicks.csv", _clicks("41,Vandalism"), {"glances"} | _AFTER_CLIPS),
    "sentence": ("sentences.csv", _sentences("A dog barks at the door."), _AFTER_CLIPS - {"clips"}),
    "verdict": ("verdicts.csv", "{pair_id},reject,,ann,2026-01-01T00:00:00+00:00\n", {"filter", EXPORT}),
    "other file": ("videos.csv", _table(calm={"file": "other.mp4"}), {"ingest", "features", "score", "clips"}),
}


def test_a_changed_input_remakes_what_depends_on_it(built: BuildConfig) -> None:
    folder = Path(built.videos[0]).parent
    found, expected = {}, {}
    for change, (file, text, stages) in _CHANGES.items():
        if change == "verdict":
            pair = next(iter(Workspace(built.workspace).pairs.records()))
            text = (folder / file).read_text() + text.format(pair_id=pair.pair_id)  # noqa: PLW2901
        (folder / file).write_text(text)
        made = _made(built)
        found[change] = made & _UP_TO_CLIPS if "score" in stages else made
        expected[change] = stages
    assert found == expected
    assert Workspace(built.workspace).videos.num_rows == len(_LABELS), "the id moved on to the other file"


def _settings(model: BaseModel, prefix: str = "") -> Iterator[tuple[str, FieldInfo, Any]]:
    for name, field in type(model).model_fields.items():
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield from _settings(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", field, value


_OTHER: dict[str, Any] = {
    "video.reader": "decord",
    "glance.policy": "majority",
    "glance.frame_rate": 10.0,
    "clips.normal_per_video": 1.0,
    "clips.proposal.high": 0.8,
    "synthesize.tasks": ["analysis"],
    "synthesize.levels": ["clip", "event", "video"],
    "glance.taxonomy": "ucf-crime",
    "plan.seconds_per_unit": {"caption": 1.0},
}
_STAGES = {"glance": "glances", "sampler": "score"}
_DECIDES = {
    "ingest.unlabelled": {"clips"},
    "video.reader": {"features", "caption"},
    "clips.files": {"clips", EXPORT},
    "clips.normal_lengths": set(),  # what stands stays, until a click changes the lengths
    "synthesize.levels": {"clips", "synthesize"},
    "synthesize.event_gap_s": set(),  # of clips alone there are no events
    "export.validation_fraction": {"splits", EXPORT},
    "export.test_fraction": {"splits", EXPORT},
}
_ELSEWHERE = {
    "glance.annotator",  # goes with policy one
    "caption.prompt",  # counts by its text
    "features.folders", "sampler.weights", "caption.files", "filter.verdicts",  # count by what is in them
    "features.encoder", "caption.backend", "synthesize.backend", "filter.judge.backend",  # the variants below
    "sources.datasets",  # counts by what their lists make of each video
    "caption.options", "synthesize.options", "features.options",  # go with a plug-in
}  # fmt: skip
_PRICES = {"llm": {"input": 1.0, "output": 1.0}, "vlm": {"input": 1.0, "output": 1.0}}
_VARIANTS: dict[str, dict[str, Any]] = {
    "measured": {"caption.backend": "motion"},
    "models": {
        "features.encoder": "org/tower",
        "caption": {"backend": "hf", "model": "org/mllm", "temperature": 0.5},
        "synthesize": {"backend": "openai", "model": "llm", "base_url": "http://localhost:1", "prices": _PRICES},
        "filter.judge": {"backend": "openai", "model": "llm", "base_url": "http://localhost:1", "prices": _PRICES},
    },
    "endpoint": {
        "caption": {
            "backend": "openai",
            "model": "vlm",
            "base_url": "http://localhost:1",
            "prices": _PRICES,
            "temperature": 0.5,
        }
    },
}
_BACKENDS = re.compile(r"(?:^|; |, )(hf|openai|human|npy|vision model)(?=[:,])")
"""Whose settings these are stands at the head of their descriptions: `hf, openai: ...; human: ...`."""


def _changed(field: FieldInfo, value: Any) -> Any:  # noqa: PLR0911
    """Return another value of a setting."""
    if typing.get_origin(field.annotation) is Literal:
        return next(choice for choice in typing.get_args(field.annotation) if choice != value)
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 0.9 or 0.5
        case str():
            return f"{value}x"
        case list():
            return value[:-1]
        case dict():
            return {"model": {"input": 1.0, "output": 1.0}}
        case _:
            return "x" if str in typing.get_args(field.annotation) else 1


def _set(values: dict[str, Any], name: str, value: Any) -> dict[str, Any]:
    """Return settings in which one, or those of a section that are given, is another."""
    first, _, rest = name.partition(".")
    if rest:
        return values | {first: _set(values[first], rest, value)}
    return values | {first: values[first] | value if isinstance(value, dict) else value}


def _fingerprints(config: BuildConfig) -> dict[str, str]:
    workspace = Workspace(config.workspace)
    prints = {step.name: fingerprint_of(step.make_stage(workspace, config)) for step in steps_of(config)}
    return prints | {EXPORT: export._identity(workspace, config.export, config.clips.files)}


@pytest.mark.parametrize("variant", _VARIANTS)
def test_a_changed_setting_remakes_the_stages_that_it_decides(
    variant: str, built: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = built.model_dump(mode="json")
    for name, value in _VARIANTS[variant].items():
        values = _set(values, name, value)
    config = parse_config(values)
    before = _fingerprints(config)
    used = {
        "caption": {config.caption.backend},
        "synthesize": {config.synthesize.backend},
        "filter": {config.filter.judge.backend},
        "features": {"vision model" if config.features.encoder != "motion" else "motion"},
    }
    wrong = {}
    for name, field, value in _settings(config):
        section = name.partition(".")[0]
        if "." not in name or section == "lora" or name in _ELSEWHERE:
            continue
        is_operational = isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("operational")
        backends = set(_BACKENDS.findall(field.description or ""))
        is_idle = bool(backends) and not used[section] & backends
        is_idle |= name.startswith("filter.judge.") and config.filter.judge.backend == "none"
        expected = set() if is_operational or is_idle else _DECIDES.get(name, {_STAGES.get(section, section)})
        other = "http://localhost:2" if name.endswith("base_url") else _OTHER.get(name, _changed(field, value))
        try:
            after = _fingerprints(parse_config(_set(values, name, other)))
        except ConfigError:
            assert is_idle, name  # a setting of another backend may be refused
            continue
        changed = {stage for stage in before if before[stage] != after.get(stage, before[stage])}
        if changed != expected:
            wrong[name] = (changed, expected)
    assert wrong == {}


@pytest.mark.parametrize(
    ("prompt_id", "stage"),
    [("caption", "caption"), ("judge_explain_abnormal", "synthesize"), ("judge_quality", "filter")],
)
def test_a_changed_prompt_remakes_what_is_asked_with_it(
    prompt_id: str, stage: str, built: BuildConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = built.model_dump(mode="json")
    for name, value in _VARIANTS["models"].items():
        values = _set(values, name, value)
    config = parse_config(values)
    before = _fingerprints(config)
    of_text = Prompt.hash.fget
    monkeypatch.setattr(
        Prompt, "hash", property(lambda prompt: "another" if prompt.id == prompt_id else of_text(prompt))
    )
    after = _fingerprints(config)
    assert {name for name in before if before[name] != after[name]} == {stage}
