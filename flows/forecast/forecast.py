"""From the work of a build to hours, tokens, disk and cost, by what the workspace has measured or by stated figures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from flows.forecast.asking import Asking, Basis, answering_s, asking_of, model_asked, tokens_of
from flows.forecast.footage import Footage, look_at
from flows.forecast.stated import load_stated, parameters_of
from flows.forecast.work import Expected, Work, expect
from pipeline.config import BuildConfig
from pipeline.workspace import Workspace

_TABLES = {
    "ingest": "videos", "glances": "glances", "features": "features", "score": "scores", "clips": "clips",
    "caption": "captions", "levels": "level_captions", "synthesize": "pairs", "filter": "verdicts",
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class StageForecast:
    """What is left of a stage.

    Attributes:
        seconds: on the machines at hand; None where nothing tells.
        basis: of the seconds.
        gpu_hours: of all GPUs together; None where nothing tells, 0 where none is used.
        asking: None where no endpoint is asked.
        missing: what setting would tell the seconds, where nothing does.
    """

    work: Work
    seconds: float | None
    basis: Basis
    gpu_hours: float | None
    asking: Asking | None
    missing: str | None = None


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a build will take, from where it stands.

    Attributes:
        gpus: GPUs at hand, of all machines together; None where no stage asks for one.
        disk_bytes: of what is still to be written: clips, features, answers, responses.
        gpu_cost: of the GPU hours; None where an hour has no price.
    """

    footage: Footage
    expected: Expected
    stages: Sequence[StageForecast]
    machines: int
    cores: int
    gpus: int | None
    disk_bytes: float
    gpu_cost: float | None

    @property
    def seconds(self) -> float:
        """Time of the stages whose time is known, one after the other."""
        return sum(stage.seconds or 0.0 for stage in self.stages)

    @property
    def gpu_hours(self) -> float:
        """GPU hours of the stages whose GPU hours are known."""
        return sum(stage.gpu_hours or 0.0 for stage in self.stages)

    @property
    def cost(self) -> float | None:
        """Cost of all requests and GPU hours that have a price, None where none has."""
        costs = [stage.asking.cost for stage in self.stages if stage.asking and stage.asking.cost is not None]
        if self.gpu_cost is not None:
            costs.append(self.gpu_cost)
        return sum(costs) if costs else None

    def as_json(self) -> dict[str, Any]:
        """Return everything as JSON-able values."""
        footage = self.footage
        return {
            "videos": {
                "found": len(footage.items),
                "num_missing": footage.num_missing,
                "missing": list(footage.missing),
                "remarks": list(footage.remarks),
                "clicked_and_missing": list(footage.clicked_missing),
                "hours": round(footage.hours, 4),
                "lengths_by_bytes": len(footage.guessed),
                "gigabytes": round(footage.total_bytes / 1e9, 3),
            },
            "clicks": {"count": footage.clicks, "videos": footage.clicked, "of_no_use": footage.faults},
            "expected": {
                "clips": self.expected.clips,
                "clip_hours": round(self.expected.clip_hours, 4),
                "clips_counted": self.expected.counted,
                "answers": self.expected.answers,
                "events_and_videos": self.expected.spans,
            },
            "notes": list(self.expected.notes),
            "stages": [
                {
                    "stage": stage.work.stage,
                    "unit": stage.work.unit,
                    "expected": stage.work.expected,
                    "done": stage.work.done,
                    "left": stage.work.left,
                    "seconds": None if stage.seconds is None else round(stage.seconds, 1),
                    "basis": stage.basis,
                    "gpu_hours": None if stage.gpu_hours is None else round(stage.gpu_hours, 3),
                    "asking": None if stage.asking is None else asdict(stage.asking),
                }
                for stage in self.stages
            ],
            "machines": self.machines,
            "cores": self.cores,
            "gpus": self.gpus,
            "seconds": round(self.seconds, 1),
            "gpu_hours": round(self.gpu_hours, 3),
            "disk_gigabytes": round(self.disk_bytes / 1e9, 3),
            "cost": self.cost,
        }


def forecast(config: BuildConfig, workspace: Workspace, probed: Mapping[str, float] | None = None) -> Forecast:
    """Return what the build of a configuration will take, from where its workspace stands. Makes nothing.

    `probed` are seconds of a unit by stage, as a try of it took here: told where the workspace has measured none.

    Raises:
        DataError: no video is found.
        SetupError: the stated figures cannot be read.
    """
    footage = look_at(config, workspace)
    expected = expect(config, footage, workspace)
    gpus = _gpus_at_hand(config)
    cores = config.video.workers or os.cpu_count() or 1
    tried = probed or {}
    stages = [
        _forecast_stage(work, config, workspace, cores, gpus, probed=tried.get(work.stage)) for work in expected.stages
    ]
    gpu_hours = sum(stage.gpu_hours or 0.0 for stage in stages)
    price = config.plan.gpu_price_per_hour
    return Forecast(
        footage=footage,
        expected=expected,
        stages=stages,
        machines=config.plan.machines,
        cores=cores,
        gpus=gpus,
        disk_bytes=_disk_bytes(config, footage, expected, stages),
        gpu_cost=None if price is None or not gpu_hours else gpu_hours * price,
    )


def _forecast_stage(
    work: Work, config: BuildConfig, workspace: Workspace, cores: int, gpus: int | None, *, probed: float | None
) -> StageForecast:
    picture = _picture_of(workspace)
    asking = asking_of(work, config, workspace, picture)
    machines = config.plan.machines
    gpu_s = _stated_gpu_s(work, config, picture)
    told: Sequence[tuple[Basis, float | None]] = (
        ("set", config.plan.seconds_per_unit.get(work.stage)),
        ("measured", _measured(work, workspace)),
        ("probed", probed),
    )
    nothing: tuple[Basis, float | None] = ("stated", None)
    uses_gpu = gpu_s != 0.0
    at_hand = max(1, gpus or 0)
    basis, of_unit_s = next((one for one in told if one[1] is not None), nothing)
    if of_unit_s is not None:
        seconds = work.left * of_unit_s / machines
        hours = 0.0 if not uses_gpu else None if gpus is None else seconds * gpus / 3600
        return StageForecast(work=work, seconds=seconds, basis=basis, gpu_hours=hours, asking=asking)
    share_left = work.left / work.expected if work.expected else 0.0
    if gpu_s is None:
        setting = f"plan.seconds_per_unit={{{work.stage}: SECONDS}}"
        return StageForecast(work=work, seconds=None, basis="unknown", gpu_hours=None, asking=asking, missing=setting)
    seconds = max(
        _stated_cpu_s(work, config) * share_left / (cores * machines),
        gpu_s * share_left / at_hand,
        0.0 if asking is None else answering_s(asking, config, work.stage),
    )
    return StageForecast(work=work, seconds=seconds, basis=basis, gpu_hours=gpu_s * share_left / 3600, asking=asking)


def _measured(work: Work, workspace: Workspace) -> float | None:
    """Return the seconds of one unit as shards, or else the latest run, tell them; None where neither does."""
    if work.stage in _TABLES:
        units, seconds = getattr(workspace, _TABLES[work.stage]).measured()
        if units:
            return float(seconds / units)
    run = workspace.read_json("run.json")
    for stage in run.get("stages", ()) if isinstance(run, dict) else ():
        if stage["stage"] == work.stage and stage["made"]:
            return float(stage["seconds"] / stage["made"])
    return None


def _stated_cpu_s(work: Work, config: BuildConfig) -> float:
    """Return the seconds of one core for the whole stage."""
    backend = {
        "caption": config.caption.backend,
        "features": config.features.encoder,
    }.get(work.stage, "")
    stated = load_stated().cpu_s
    rates = stated.get(f"{work.stage}.{backend}", stated[work.stage])
    return sum(work.things[thing] * seconds for thing, seconds in rates.items())


def _stated_gpu_s(work: Work, config: BuildConfig, picture: tuple[int, int]) -> float | None:
    """Return the seconds of one GPU for the whole stage: 0 where none is used, None where its model has no known size.

    A model behind an endpoint that has a price is somebody else's to run.
    """
    stated = load_stated().gpu
    tflops = config.plan.gpu_tflops or stated.tflops
    operations_per_s = tflops * 1e12 * stated.utilisation
    if work.stage == "features":
        if config.features.encoder in {"motion", "npy"} or ":" in config.features.encoder:
            return 0.0
        parameters = parameters_of(config.features.encoder) or stated.encoder_parameters
        pictures = work.things["video_hour"] * 3600 * 30 / config.features.stride_frames
        # 16 x 16 patches of 14 pixels, and the class token
        return pictures * 257 * 2 * parameters / operations_per_s
    asked = model_asked(work, config)
    if asked is None:
        return 0.0
    settings, (prompt, completion) = asked[0], tokens_of(work, config, picture)
    if settings.backend == "openai" and settings.model in settings.prices:
        return 0.0
    size = parameters_of(settings.model or "")
    if size is None:
        # Of an endpoint the requests are timed by its answers, whoever runs it.
        return 0.0 if settings.backend == "openai" else None
    return asked[1] * (prompt + completion) * 2 * size / operations_per_s


def _gpus_at_hand(config: BuildConfig) -> int | None:
    """Return the GPUs that are set or found, None where no stage runs a model of its own."""
    if config.plan.gpus is not None:
        return config.plan.gpus
    models = config.features.encoder not in {"motion", "npy"} and config.clips.method == "sampler"
    if not (models or config.caption.backend == "hf" or config.synthesize.backend == "hf"):
        return None
    import torch

    return torch.cuda.device_count() * config.plan.machines


def _picture_of(workspace: Workspace) -> tuple[int, int]:
    """Return width and height of the first video with a picture, those of UCF-Crime where none was looked at."""
    return next(((video.width, video.height) for video in workspace.videos.records() if video.width), (320, 240))


def _disk_bytes(config: BuildConfig, footage: Footage, expected: Expected, stages: Sequence[StageForecast]) -> float:
    """Return the bytes still to be written: clips at the videos' own bytes a second."""
    stated = load_stated().bytes
    left = {stage.work.stage: stage.work.left / stage.work.expected for stage in stages if stage.work.expected}
    needed = expected.answers * stated.answer_row * left.get("export", 0.0)
    needed += sum(stage.asking.requests for stage in stages if stage.asking) * stated.response
    if config.clips.files == "encode":
        footage_s = footage.hours * 3600
        per_s = footage.total_bytes / footage_s if footage_s else 0.0
        clips = per_s * expected.clip_hours * 3600
        needed += clips * left.get("clips", 0.0)
        if config.export.embed_videos:
            needed += clips * len(config.synthesize.tasks) * left.get("export", 0.0)
    if config.clips.method == "sampler" and config.features.encoder != "npy":
        hour = 3600 * 30 / config.features.stride_frames * stated.features_values * stated.features_value
        per_hour = stated.motion_video_hour if config.features.encoder == "motion" else hour
        needed += footage.hours * per_hour * left.get("features", 0.0)
    return needed
