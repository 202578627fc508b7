"""What is installed and reachable, and what a configuration would need."""

from __future__ import annotations

import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pipeline.config import BuildConfig, CaptionConfig, JudgeConfig, SynthesizeConfig
from pipeline.errors import HolmesError, SetupError
from pipeline.plugins import GROUPS, OURS, plugins

PACKAGES = ("torch", "transformers", "av", "decord", "datasets", "openai", "prefect", "label-studio-sdk")
LOW_DISK_GB = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at; `required` ones make the command fail."""

    name: str
    ok: bool
    required: bool
    detail: str


def examine(config: BuildConfig | None) -> Iterator[Check]:
    """Yield the state of the packages, the device and the disk, then what `config` needs."""
    for package in PACKAGES:
        yield _package(package)
    for group in GROUPS:
        yield from _plugins(group)
    yield _device()
    yield _disk(config)
    if config is not None:
        yield _inputs(config)
        if config.engine == "ray":
            yield _cluster(config.ray.address)
        if config.caption.backend == "hf":
            yield _local_model("caption.model", str(config.caption.model))
        if config.caption.backend == "openai":
            yield _endpoint("caption", config.caption)
        if config.synthesize.backend == "openai":
            yield _endpoint("synthesize", config.synthesize)
        if config.filter.judge.backend == "openai":
            yield _endpoint("filter.judge", config.filter.judge)
        if config.synthesize.backend == "hf":
            yield _local_model("synthesize.model", str(config.synthesize.model))


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
