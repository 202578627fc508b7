"""What is installed and reachable, and what a configuration would need."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.config import BuildConfig, CaptionConfig, JudgeConfig, SynthesizeConfig
from pipeline.errors import HolmesError, SetupError
from pipeline.plugins import GROUPS, OURS, plugins

if TYPE_CHECKING:
    from pipeline.models.hf.outlook import Outlook

PACKAGES = ("torch", "transformers", "av", "decord", "datasets", "openai", "prefect", "label-studio-sdk")
LOW_DISK_GB = 5.0
MANY_CLIPS = 10_000
"""What speeds are told for: a dataset of the papers' size has some tens of thousands of clips."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at; `required` ones make the command fail."""

    name: str
    ok: bool
    required: bool
    detail: str


def examine(config: BuildConfig | None, *, probes: bool = True) -> Iterator[Check]:
    """Yield the state of the packages, the device and the disk, then what `config` needs.

    With `probes` the captioner describes a few clips of noise, to tell how long a build will take.
    """
    for package in PACKAGES:
        yield _package(package)
    for group in GROUPS:
        yield from _plugins(group)
    yield _device()
    yield _kernels()
    yield _disk(config)
    if config is not None:
        yield _inputs(config)
        yield from _published(config)
        if config.engine == "ray":
            yield _cluster(config.ray.address)
        yield from _local_captioner(config, probes=probes)
        if config.caption.backend == "openai":
            yield _endpoint("caption", config.caption)
        if config.synthesize.backend == "openai":
            yield _endpoint("synthesize", config.synthesize)
        if config.filter.judge.backend == "openai":
            yield _endpoint("filter.judge", config.filter.judge)
        if config.synthesize.backend == "hf":
            yield _local_model("synthesize.model", str(config.synthesize.model))
        if "lora" in config.model_fields_set:
            yield _training(config)


def _package(name: str) -> Check:
    try:
        return Check(name=name, ok=True, required=True, detail=importlib.metadata.version(name))
    except importlib.metadata.PackageNotFoundError:
        # decord has no build for some systems; PyAV reads everything there.
        return Check(name=name, ok=False, required=name != "decord", detail="not installed")


def _plugins(group: str) -> Iterator[Check]:
    """Yield what a group holds: ours in one line, those of other packages one by one, each imported once."""
    known = plugins(group)
    ours = ", ".join(name for name, plugin in known.items() if plugin.package == OURS)
    yield Check(name=group, ok=True, required=True, detail=ours)
    for name, plugin in known.items():
        if plugin.package != OURS:
            try:
                plugin.load()
            except HolmesError as fault:
                yield Check(name=group, ok=False, required=False, detail=str(fault))
            else:
                yield Check(name=group, ok=True, required=False, detail=f"{name} of {plugin.package} {plugin.version}")


def _device() -> Check:
    import torch

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        return Check(name="device", ok=True, required=False, detail=names)
    return Check(name="device", ok=True, required=False, detail="no GPU: everything runs on the CPU")


def _kernels() -> Check:
    from pipeline.models.hf.outlook import kernels

    there, missing = kernels()
    detail = f"{', '.join(['sdpa of torch', *there])}; not installed: {', '.join(missing) or 'none'}"
    return Check(name="kernels", ok=True, required=False, detail=detail)


def _captioning(config: BuildConfig, *, probes: bool) -> Iterator[Check]:
    """Yield whether the captioner fits into memory, and how fast it is."""
    from pipeline.models.hf.outlook import caption_outlook

    try:
        outlook = caption_outlook(config.caption, probes=probes)
    except HolmesError as fault:
        yield Check(name="caption", ok=False, required=False, detail=str(fault))
        return
    yield _memory("caption memory", outlook, f"caption.batch_size={config.caption.batch_size}")
    if outlook.clips_per_s is None:
        yield Check(name="caption speed", ok=True, required=False, detail=f"not measured: {outlook.reason}")
        return
    hours = MANY_CLIPS / outlook.clips_per_s / 3600
    detail = f"{outlook.clips_per_s:.2f} clips/s, measured just now: {MANY_CLIPS:,} clips in {hours:.1f} hours"
    yield Check(name="caption speed", ok=True, required=False, detail=detail)


def _training(config: BuildConfig) -> Check:
    from pipeline.models.hf.outlook import training_outlook

    try:
        outlook = training_outlook(config.lora)
    except HolmesError as fault:
        return Check(name="lora", ok=True, required=False, detail=str(fault))
    return _memory("lora memory", outlook, f"lora.micro_batch={config.lora.micro_batch}")


def _memory(name: str, outlook: Outlook, setting: str) -> Check:
    detail = outlook.told_memory(setting)
    return Check(name=name, ok=outlook.needed_gib <= outlook.free_gib, required=False, detail=detail)


def _disk(config: BuildConfig | None) -> Check:
    place = Path(config.workspace if config and "://" not in config.workspace else ".").absolute()
    while not place.exists():
        place = place.parent
    free_gb = shutil.disk_usage(place).free / 1e9
    return Check(name="disk", ok=free_gb >= LOW_DISK_GB, required=False, detail=f"{free_gb:.0f} GB free at {place}")


def _inputs(config: BuildConfig) -> Check:
    from flows.plan import check_inputs

    try:
        check_inputs(config)
    except HolmesError as fault:
        return Check(name="inputs", ok=False, required=True, detail=str(fault))
    return Check(name="inputs", ok=True, required=True, detail=f"{len(config.videos)} videos entries, files found")


def _local_captioner(config: BuildConfig, *, probes: bool) -> Iterator[Check]:
    backend = config.caption.backend
    if backend in ("hf", "vllm"):
        yield _local_model("caption.model", str(config.caption.model))
    if backend == "hf":
        yield from _captioning(config, probes=probes)
    if backend == "vllm":
        found = importlib.util.find_spec("vllm") is not None
        yield Check(name="vLLM", ok=found, required=True, detail="installed" if found else "pip install vllm")


def _published(config: BuildConfig) -> Iterator[Check]:
    """Yield what is at hand of each published dataset beside its videos, and on which terms it comes."""
    from pipeline.sources.catalogue import load_catalogue

    try:
        datasets = load_catalogue(config.sources, config.videos).datasets
    except HolmesError:
        return  # the inputs have told it
    for name, dataset in datasets.items():
        described = dataset.description
        files = (*described.lists, *described.glances, *described.sentences, *described.truth)
        there = [path.name for one in files if (path := dataset.path_of(one)) is not None]
        missing = [
            f"{' or '.join(one.files)} ({', '.join(filter(None, (one.url, one.license)))})"
            for one in files
            if dataset.path_of(one) is None
        ]
        told = f"{described.license}; cite {described.citation}; there: {', '.join(there) or 'nothing'}"
        detail = told + (f"; missing: {', '.join(missing)}" if missing else "")
        detail += "; known of it: " + " ".join(described.defects) if described.defects else ""
        yield Check(name=name, ok=not dataset.missing_lists, required=False, detail=detail)


def _cluster(address: str | None) -> Check:
    from flows.cluster.connection import connect

    try:
        ray = connect(address)
    except SetupError as fault:
        return Check(name="ray", ok=False, required=True, detail=str(fault))
    machines = sum(bool(node["Alive"]) for node in ray.nodes())
    there = ray.cluster_resources()
    detail = f"{machines} machines, {there.get('CPU', 0):g} CPUs, {there.get('GPU', 0):g} GPUs"
    return Check(name="ray", ok=True, required=True, detail=detail)


def _local_model(setting: str, model: str) -> Check:
    from pipeline.models.hf.bundled import find_model

    if find_model(model) != model:
        return Check(name=setting, ok=True, required=True, detail=f"{model}, which comes with the engine")
    if Path(model).is_dir():
        return Check(name=setting, ok=True, required=True, detail=f"folder {model}")
    from huggingface_hub import try_to_load_from_cache

    cached = isinstance(try_to_load_from_cache(model, "config.json"), str)
    detail = f"{model}: {'in the local cache' if cached else 'not here yet: will be downloaded from the hub'}"
    return Check(name=setting, ok=True, required=True, detail=detail)


def _endpoint(section: str, config: CaptionConfig | SynthesizeConfig | JudgeConfig) -> Check:
    import openai

    from pipeline.models.chat.settings import ChatSettings, find_access

    key = "set" if os.environ.get("OPENAI_API_KEY") else "not set"
    try:
        access = find_access(ChatSettings(section=section, model=str(config.model), endpoint=config))
    except SetupError as fault:
        return Check(name=f"{section}.base_url", ok=False, required=True, detail=str(fault))
    try:
        client = openai.OpenAI(max_retries=0, timeout=10, **access.client_options())
        models = [model.id for model in client.models.list().data]
    except openai.OpenAIError as fault:
        detail = f"no answer ({type(fault).__name__}); OPENAI_API_KEY is {key}"
        return Check(name=f"{section}.base_url", ok=False, required=True, detail=detail)
    known = config.model in models
    detail = f"{len(models)} models; {config.model} is {'among' if known else 'not among'} them"
    return Check(name=f"{section}.base_url", ok=known, required=False, detail=f"{detail}; OPENAI_API_KEY is {key}")
