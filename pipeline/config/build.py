"""The configuration of a build as one model, read from a YAML file and from overrides of single settings."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from pydantic import BaseModel, Field, ValidationError

from pipeline.config.engine import ClipsConfig, ExportConfig, FilterConfig, GlancesConfig, IngestConfig, VideoConfig
from pipeline.config.language import CaptionConfig, SynthesizeConfig
from pipeline.config.lora import LoraConfig
from pipeline.config.plan import PlanConfig
from pipeline.config.ray import RayConfig
from pipeline.config.sampler import FeaturesConfig, SamplerConfig
from pipeline.config.section import Section, operational
from pipeline.config.sources import SourcesConfig
from pipeline.errors import ConfigError
from pipeline.resources import DATASETS


class BuildConfig(Section):
    """A build: videos and glances in, an instruction dataset in the workspace out."""

    videos: list[str] = Field([], description="folders, globs, files, CSV/JSONL manifests or fsspec URLs")
    glances: list[str] = Field(
        [], description="annotation files with clicks, or folders of frame masks; the format is detected"
    )
    workspace: str = Field("runs/build", description="folder of everything that the build makes")
    shard_rows: int = operational(512, ge=1, description="units of work committed together")
    sources: SourcesConfig = Field(SourcesConfig(), description="published datasets and their official lists")
    engine: Literal["local", "ray"] = operational(
        "local", description="where the work is done: in processes of this machine, or on a Ray cluster"
    )
    ray: RayConfig = Field(RayConfig(), description="the Ray cluster")
    video: VideoConfig = Field(VideoConfig(), description="reading of video files")
    ingest: IngestConfig = Field(IngestConfig(), description="the ingest stage")
    glance: GlancesConfig = Field(GlancesConfig(), description="the glances stage")
    features: FeaturesConfig = Field(FeaturesConfig(), description="the features stage")
    sampler: SamplerConfig = Field(SamplerConfig(), description="the temporal sampler and the score stage")
    clips: ClipsConfig = Field(ClipsConfig(), description="the clips stage")
    caption: CaptionConfig = Field(CaptionConfig(), description="the caption stage")
    synthesize: SynthesizeConfig = Field(SynthesizeConfig(), description="the synthesize stage")
    filter: FilterConfig = Field(FilterConfig(), description="the filter stage")
    export: ExportConfig = Field(ExportConfig(), description="the export stage")
    lora: LoraConfig = Field(LoraConfig(), description="training of the explaining model")
    plan: PlanConfig = Field(PlanConfig(), description="what holmes plan counts with")


def load_config(
    path: Path | None, overrides: Sequence[str] = (), workspace: str | None = None, *, needs_videos: bool = True
) -> BuildConfig:
    """Read a config file, apply `section.key=value` overrides, and check every key, type and limit.

    Relative paths in the file are taken from the current folder, as on a command line. What works on a dataset that is
    there already needs no videos.

    Raises:
        ConfigError: naming the file, the key, the value and the limit; for an unknown key, the nearest valid one.
    """
    values: dict[str, Any] = {}
    if path is not None:
        values = _read_yaml(path)
    for override in overrides:
        apply_override(values, override)
    if workspace is not None:
        values["workspace"] = workspace
    return parse_config(values, origin=str(path) if path is not None else "--set", needs_videos=needs_videos)


def parse_config(values: Mapping[str, Any], origin: str = "config", *, needs_videos: bool = True) -> BuildConfig:
    """Check `values` against `BuildConfig`; `origin` stands in the message of the `ConfigError` raised on a fault."""
    # A section whose settings are all commented out is empty, not wrong.
    given = {key: value for key, value in values.items() if value is not None or not _keys([str(key)])}
    lines = []
    if needs_videos and not given.get("videos"):
        lines = [f"{origin}: videos {'= []: at least one ' if 'videos' in given else ''}is required"]
    try:
        config = BuildConfig.model_validate(given)
    except ValidationError as fault:
        raise ConfigError("\n".join([*lines, *(_explain(error, origin) for error in fault.errors())])) from None
    if lines:
        raise ConfigError(lines[0])
    return config


def describe_config(model: type[Section] = BuildConfig, indent: str = "") -> Iterator[str]:
    """Yield the lines of a YAML file that holds every default with its meaning as a comment."""
    for name, field in model.model_fields.items():
        section = field.annotation if isinstance(field.annotation, type) else None
        if section is not None and issubclass(section, Section):
            yield f"{indent}{name}:  # {field.description}"
            yield from describe_config(section, indent + "  ")
            continue
        default = [] if field.is_required() else field.get_default(call_default_factory=False)
        text = yaml.safe_dump(_plain(default), default_flow_style=True, width=1000).removesuffix("\n...\n").strip()
        yield f"{indent}{name}: {text}  # {field.description}{_choices(field.annotation)}"


def _choices(annotation: Any) -> str:
    if get_origin(annotation) is Literal:
        return f" ({' | '.join(map(str, get_args(annotation)))})"
    return ""


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(item) for item in value]
    return value.value if isinstance(value, StrEnum) else value


def _read_yaml(path: Path) -> dict[str, Any]:
    if not path.exists() and path.parts[:1] == (DATASETS.name,):
        # a recipe that comes along, by the name that it has in the repository
        path = DATASETS.joinpath(*path.parts[1:])
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such config file") from None
    except OSError as fault:
        raise ConfigError(f"{path}: cannot be read: {fault.strerror}") from None
    except UnicodeDecodeError as fault:
        raise ConfigError(f"{path}: not UTF-8 text: byte 0x{fault.object[fault.start]:02x}") from None
    try:
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as fault:
        mark = fault.problem_mark
        where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        raise ConfigError(f"{where}: not valid YAML: {fault.problem}") from None
    except yaml.YAMLError as fault:
        raise ConfigError(f"{path}: not valid YAML: {fault}") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: a mapping of settings is expected, not {type(values).__name__}")
    return values


def apply_override(values: dict[str, Any], override: str) -> None:
    """Set one setting in `values` from its `section.key=value`, the value being YAML.

    Raises:
        ConfigError: if `override` has another shape.
    """
    key, separator, text = override.partition("=")
    if not separator or not key:
        raise ConfigError(f"--set {override}: expected section.key=value")
    *sections, leaf = key.strip().split(".")
    target = values
    for section in sections:
        inner = target.setdefault(section, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"--set {override}: {section} is a setting, not a section")
        target = inner
    try:
        target[leaf] = yaml.safe_load(text)
    except yaml.YAMLError as fault:
        raise ConfigError(f"--set {override}: the value is not valid YAML: {fault}") from None


def _explain(error: Any, origin: str) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        *sections, unknown = [str(part) for part in error["loc"]]
        known = _keys(sections)
        near = difflib.get_close_matches(unknown, known, n=1, cutoff=0.0)
        hint = f"; the nearest valid key is {'.'.join([*sections, near[0]])}" if near else ""
        return f"{origin}: unknown key {place}{hint}"
    if error["type"] == "missing":
        return f"{origin}: {place} is required"
    if "credentials" in error["msg"]:
        return f"{origin}: {place}: {error['msg']}"
    if not place:
        return f"{origin}: {error['msg']}"
    return f"{origin}: {place} = {error['input']!r}: {error['msg'].removeprefix('Value error, ')}"


def _keys(sections: Sequence[str]) -> list[str]:
    model: type[BaseModel] = BuildConfig
    for section in sections:
        field = model.model_fields.get(section)
        annotation = field.annotation if field else None
        if get_origin(annotation) in (Union, UnionType):
            annotation = next((a for a in get_args(annotation) if isinstance(a, type)), None)
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return []
        model = annotation
    return list(model.model_fields)
