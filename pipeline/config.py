"""The configuration of a build: every setting with its default, its meaning and its limits.

A config file is YAML of the shape of `BuildConfig`; `--set section.key=value` overrides single settings. An unknown
key is an error that names the nearest valid one.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from urllib.parse import urlsplit

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from pipeline.errors import ConfigError
from pipeline.records import Task

Fraction = Annotated[float, Field(ge=0, le=1)]
Seconds = Annotated[float, Field(gt=0)]
Reader = Literal["auto", "pyav", "decord"]


def operational(default: Any, **kwargs: Any) -> Any:
    """Declare a setting that changes how a stage runs but never what it makes: it stays out of the fingerprint."""
    return Field(default, json_schema_extra={"operational": True}, **kwargs)


class Section(BaseModel):
    """A part of the configuration."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide what a stage makes, without the operational ones."""
        kept = {
            name
            for name, field in type(self).model_fields.items()
            if not (isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("operational"))
        }
        return self.model_dump(mode="json", include=kept)


class VideoConfig(Section):
    """How video files are read, in worker processes that can neither hang nor exhaust the machine."""

    reader: Reader = Field(
        "auto", description="decoder; auto takes decord only where it is exact and pyav everywhere else"
    )
    workers: int = operational(0, ge=0, description="worker processes that decode; 0 is one per core")
    timeout_s: Seconds = operational(600.0, description="seconds one file may take before its worker is killed")
    memory_mb: int = operational(4096, ge=512, description="memory one worker may use above its start, in MiB")


class IngestConfig(Section):
    """Which videos are taken and what is known of them."""

    label_from_name: bool = Field(
        True, description="read the label from UCF-Crime and XD-Violence file names where the manifest gives none"
    )
    unlabelled: Literal["skip", "normal"] = Field(
        "skip", description="what a video without a label and without a glance counts as"
    )
    verify: Literal["packets", "decode"] = Field(
        "packets",
        description="packets compares index and packets and decodes both ends; decode decodes every frame once",
    )


class GlancesConfig(Section):
    """How clicks become glances."""

    taxonomy: str = Field(
        "auto", description="class names to accept: auto, or the name of a file in datasets/taxonomies"
    )
    frame_rate: float | None = Field(
        None, gt=0, description="frame rate of Label Studio projects whose tasks record none; None asks the video"
    )


class ProposalConfig(Section):
    """How spans are read from anomaly scores. Fractions count from a video's calm level up to a glance's score."""

    smooth_s: float = Field(
        0.5, ge=0, description="standard deviation of the smoothing over time, in seconds; 0 is none"
    )
    level: Fraction = Field(0.2, description="quantile of a video's smoothed scores that counts as its calm level")
    peak_s: float = Field(
        1.0, ge=0, description="a glance's score is the highest smoothed one within this many seconds of it"
    )
    low: Fraction = Field(
        0.5,
        description="a span reaches as far as the scores stay above this fraction; half-way is where smoothing "
        "leaves the edges of an event",
    )
    high: Fraction = Field(0.7, description="beyond a dip below low, a span goes on only where scores exceed this one")
    alpha: Fraction = Field(
        0.9, description="no threshold exceeds alpha times the glance's score: a video may be abnormal throughout"
    )
    gap_s: float = Field(1.0, ge=0, description="longest dip below low inside a span, in seconds")
    max_s: Seconds = Field(60.0, description="longest span; of a longer one the part with the highest scores is kept")
    nested: int = Field(1, ge=1, le=10, description="proposals a glance: the widest, then tighter ones inside it")

    @model_validator(mode="after")
    def _order(self) -> ProposalConfig:
        if self.low > self.high:
            raise ValueError(f"low={self.low} exceeds high={self.high}")
        return self


class FeaturesConfig(Section):
    """What the sampler sees of a video."""

    encoder: str = Field(
        "motion",
        description="motion: measured, no model; npy: others' features from files; else a vision model's id or folder",
    )
    stride_frames: int = Field(16, ge=1, le=4096, description="frames of one snippet; of a 10 fps video take 8")
    folders: list[str] = Field([], description="npy: folders of .npy files, <video> or <video>__<crop>")
    revision: str | None = Field(None, description="vision model: its revision")
    pooling: Literal["class", "mean"] = Field("class", description="vision model: class token, or mean of the patches")
    batch_size: int = operational(32, ge=1, description="vision model: frames in one batch")
    device: str = operational("auto", description="vision model: auto, cpu, cuda, cuda:1, ...")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="vision model: auto is bfloat16 on GPU"
    )


class NetworkConfig(Section):
    """The size of the network; the defaults are UR-DMU's."""

    hidden_dim: int = Field(512, ge=8, description="width of the network")
    heads: int = Field(4, ge=1, description="attention heads")
    head_dim: int = Field(128, ge=1, description="width of an attention head")
    layers: int = Field(2, ge=0, description="transformer layers")
    memory_slots: int = Field(60, ge=1, description="slots of each of the two memories")
    dropout: float = Field(0.5, ge=0, lt=1, description="dropout in the transformer layers")
    shortcut: bool = Field(False, description="add a linear classifier of the input to the network's logit")


class LossConfig(Section):
    """Weights of the loss terms and the parameters of the targets; the defaults are GlanceVAD's."""

    glance: float = Field(1.0, ge=0, description="cross entropy with the targets made from the clicks")
    mil_abnormal: float = Field(0.0, ge=0, description="top-k of abnormal videos; 1 where there are no clicks to use")
    mil_normal: float = Field(1.0, ge=0, description="top-k of normal videos")
    memory: float = Field(0.1, ge=0, description="attention on the two memories")
    triplet: float = Field(0.1, ge=0, description="margin between normal and abnormal features")
    kl: float = Field(0.001, ge=0, description="normal memory's latent against the unit Gaussian")
    distance: float = Field(0.0001, ge=0, description="margin between the lengths of the latents")
    shortcut: float = Field(0.0, ge=0, description="squared weights of the shortcut")
    alpha: Fraction = Field(0.9, description="clicks: share of a click's score down to which its event is mined")
    sigma: float = Field(0.1, gt=0, description="clicks: width of the Gaussians, the video's length being 2")
    raw_steps: int = Field(50, ge=0, description="clicks: first steps, trained on the raw clicks")
    positive_s: Seconds = Field(4.0, description="regions: this close to a click is abnormal")
    negative_s: Seconds = Field(10.0, description="regions: further than this from every click is held normal")
    negative_weight: Fraction = Field(0.3, description="regions: weight of what is held normal in abnormal videos")

    @model_validator(mode="after")
    def _regions(self) -> LossConfig:
        if self.positive_s > self.negative_s:
            raise ValueError(f"positive_s={self.positive_s} exceeds negative_s={self.negative_s}")
        return self


class Recipe(Section):
    """Everything that decides one network; the defaults are GlanceVAD's on UCF-Crime."""

    supervision: Literal["clicks", "video-label", "regions"] = Field(
        "clicks",
        description="clicks: mined and rendered; video-label: no clicks; regions: near clicks, far from them, unknown",
    )
    pooling: Literal["none", "positions"] = Field(
        "none", description="positions: forget where in the picture things move; motion features only"
    )
    context: Literal["none", "video"] = Field(
        "none", description="video: add how each feature differs from the video's own calm quarter"
    )
    standardise: bool = Field(False, description="take signed roots and scale features by the training videos")
    network: NetworkConfig = Field(NetworkConfig(), description="size of the network")
    loss: LossConfig = Field(LossConfig(), description="loss terms")
    segments: int = Field(200, ge=2, description="longest training sequence; longer videos are averaged down to it")
    batch_videos: int = Field(64, ge=1, description="normal and as many abnormal videos in a step")
    crops: int = Field(0, ge=0, description="random crops of a video in a step; 0 is all")
    steps: int = Field(1500, ge=1, description="training steps at most")
    learning_rate: float = Field(1e-4, gt=0, description="of Adam")
    weight_decay: float = Field(5e-5, ge=0, description="of Adam")


class SamplerConfig(Section):
    """How the temporal sampler is trained, chosen and applied."""

    weights: str | None = Field(None, description="folder of a trained sampler; null trains one on this workspace")
    search: Literal["auto", "off"] = Field(
        "auto",
        description="auto: with few training videos, small recipes compete on validation; off: the recipe as it stands",
    )
    small_below: int = Field(100, ge=0, description="training videos below which search=auto tries small recipes")
    recipe: Recipe = Field(Recipe(), description="the network and its training")
    folds: int = Field(
        0, ge=0, le=50, description="networks, each validated on its own part; 0: up to 8 with few videos, otherwise 1"
    )
    validation_fraction: float = Field(0.2, gt=0, lt=1, description="share of videos that validate a single network")
    evaluate_every: int = Field(50, ge=1, description="steps between validations; fewer where training is short")
    smoothing_s: list[Annotated[float, Field(ge=0, le=60)]] = Field(
        [0.0, 1.0, 2.0, 3.0], min_length=1, description="widths of the score's smoothing in seconds; validation chooses"
    )
    seed: int = Field(0, ge=0, description="seed of weights, batches, dropout and folds")
    device: str = operational("auto", description="auto, cpu, cuda, cuda:1, ...")
    precision: Literal["auto", "float32", "bfloat16"] = Field("auto", description="auto is bfloat16 on GPU")


class ClipsConfig(Section):
    """Which spans become event clips."""

    method: Literal["window", "sampler"] = Field(
        "window", description="window: centred on the click; sampler: the span that the anomaly scores support"
    )
    window_s: Seconds = Field(10.0, description="length of a click-centred window in seconds")
    proposal: ProposalConfig = Field(ProposalConfig(), description="sampler: from scores to spans")
    min_s: Seconds = Field(1.0, description="shortest clip kept, in seconds")
    whole_max_s: float = Field(
        20.0, ge=0, description="an abnormal video without a click and at most this long is taken whole; 0 takes none"
    )
    normal_per_video: Annotated[float, Field(ge=0, le=100)] | None = Field(
        None, description="mean number of random segments of a normal video; null is as many as an abnormal one has"
    )
    files: Literal["encode", "reference"] = Field(
        "encode", description="encode writes an H.264 file per clip; reference reads the span from the source video"
    )
    seed: int = Field(0, description="seed of the random segments")

    @model_validator(mode="after")
    def _lengths(self) -> ClipsConfig:
        if self.min_s > self.window_s:
            raise ValueError(f"min_s={self.min_s} exceeds window_s={self.window_s}")
        if self.min_s > self.proposal.max_s:
            raise ValueError(f"min_s={self.min_s} exceeds proposal.max_s={self.proposal.max_s}")
        return self

    def identity(self) -> dict[str, Any]:
        """Return the settings that decide what the stage makes: of the proposals only where they are used."""
        kept = super().identity()
        if self.method == "window":
            del kept["proposal"]
        return kept


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


class SynthesizeConfig(Section):
    """Who writes the answers."""

    backend: Literal["template", "openai"] = Field(
        "template", description="template: deterministic sentences; openai: any OpenAI-compatible endpoint"
    )
    tasks: list[Task] = Field([Task.JUDGE_EXPLAIN, Task.DESCRIPTION], min_length=1, description="tasks of every clip")
    model: str | None = Field(None, description="openai: name of the model")
    base_url: str | None = operational(
        None, description="openai: URL of the endpoint; None is OPENAI_BASE_URL or OpenAI"
    )
    temperature: float = Field(0.0, ge=0, le=2, description="openai: sampling temperature")
    max_tokens: int = Field(400, ge=16, description="openai: longest answer in tokens")
    concurrency: int = operational(8, ge=1, le=1024, description="openai: requests in flight")
    timeout_s: Seconds = operational(120.0, description="openai: seconds one request may take")
    max_retries: int = operational(
        5, ge=0, le=50, description="openai: retries on 408, 409, 429, 5xx and lost connections"
    )
    seed: int = Field(0, description="seed of the choice of questions and wordings")

    @field_validator("base_url")
    @classmethod
    def _no_secret(cls, url: str | None) -> str | None:
        if url is not None and "@" in urlsplit(url).netloc:
            raise ValueError("credentials do not belong into a URL that reports show; use OPENAI_API_KEY")
        return url


class FilterConfig(Section):
    """Which answers are dropped by rule, and where human verdicts come from."""

    verdicts: list[str] = Field([], description="files of human verdicts: Parquet, CSV or JSONL of Verdict rows")
    min_words: int = Field(5, ge=1, description="shortest answer in words")
    max_words: int = Field(200, ge=1, description="longest answer in words")
    near_duplicate: Fraction = Field(
        0.9,
        description="Jaccard similarity of word trigrams from which a later answer of one video and task is dropped",
    )

    @model_validator(mode="after")
    def _lengths(self) -> FilterConfig:
        if self.min_words > self.max_words:
            raise ValueError(f"min_words={self.min_words} exceeds max_words={self.max_words}")
        return self


class ExportConfig(Section):
    """How the dataset is written."""

    embed_videos: bool = Field(False, description="put the bytes of the clip files into the Parquet shards")
    rows_per_shard: int = Field(10_000, ge=1, description="rows of one Parquet shard")
    row_group_rows: int = Field(500, ge=1, description="rows of one row group")
    validation_fraction: Fraction = Field(0.1, description="share of videos without a split that go to validation")
    test_fraction: Fraction = Field(0.0, description="share of videos without a split that go to test")
    name: str = Field("", description="title of the dataset card; empty is the name of the workspace")
    license: str = Field("other", description="license field of the dataset card: that of your footage")

    @model_validator(mode="after")
    def _fractions(self) -> ExportConfig:
        if self.validation_fraction + self.test_fraction > 1:
            raise ValueError(
                f"validation_fraction={self.validation_fraction} + test_fraction={self.test_fraction} exceed 1"
            )
        return self


class BuildConfig(Section):
    """A build: videos and glances in, an instruction dataset in the workspace out."""

    videos: list[str] = Field(min_length=1, description="folders, globs, files, CSV/JSONL manifests or fsspec URLs")
    glances: list[str] = Field([], description="files of single-frame annotations; the format is detected")
    workspace: str = Field("runs/build", description="folder of everything that the build makes")
    shard_rows: int = operational(512, ge=1, description="units of work that are committed together")
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


def load_config(path: Path | None, overrides: Sequence[str] = (), workspace: str | None = None) -> BuildConfig:
    """Read a config file, apply `section.key=value` overrides, and check every key, type and limit.

    Relative paths in the file are taken from the current folder, as on a command line.

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
    return parse_config(values, origin=str(path) if path is not None else "--set")


def parse_config(values: Mapping[str, Any], origin: str = "config") -> BuildConfig:
    """Check `values` against `BuildConfig`; `origin` stands in the message of the `ConfigError` raised on a fault."""
    # A section whose settings are all commented out is empty, not wrong.
    given = {key: value for key, value in values.items() if value is not None or not _keys([str(key)])}
    try:
        return BuildConfig.model_validate(given)
    except ValidationError as fault:
        lines = [_explain(error, origin) for error in fault.errors()]
        raise ConfigError("\n".join(lines)) from None


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
    return value.value if isinstance(value, Task) else value


def _read_yaml(path: Path) -> dict[str, Any]:
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
    return f"{origin}: {place} = {error['input']!r}: {error['msg']}"


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
