"""Settings of builds that run on a Ray cluster."""

from __future__ import annotations

from pydantic import model_validator

from pipeline.config.section import Seconds, Section, operational


class RayConfig(Section):
    """How work is handed to a Ray cluster; none of it decides what is made."""

    address: str | None = operational(
        None,
        description="host:port of the cluster; null: that of RAY_ADDRESS, that this machine belongs to, or its own",
    )
    workers: int = operational(
        0, ge=0, description="workers of a stage; 0: as many as the cluster has room for. Autoscaling follows this"
    )
    shard_units: int = operational(128, ge=1, description="most units of work (videos, clips) handed out together")
    gpu_share: float = operational(
        1.0, gt=0, description="GPUs of a worker whose stage runs a model on one; 0.25 puts four workers on each"
    )
    start_timeout_s: Seconds = operational(
        60.0, description="seconds without any worker after which a stage asks whether the cluster can have one"
    )

    @model_validator(mode="after")
    def _whole_gpus(self) -> RayConfig:
        if self.gpu_share > 1 and self.gpu_share % 1:
            raise ValueError(f"gpu_share={self.gpu_share:g}: a part of one GPU, or a whole number of them")
        return self
