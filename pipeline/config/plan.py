"""Settings of the forecast of a build: what is at hand to work with, and at which price."""

from __future__ import annotations

from pipeline.config.section import Seconds, Section, operational


class PlanConfig(Section):
    """What `holmes plan` counts with; nothing here changes what a build makes."""

    machines: int = operational(1, ge=1, description="machines like this one that share the work")
    gpus: int | None = operational(None, ge=0, description="GPUs of all machines together; null: those of this machine")
    gpu_tflops: float | None = operational(
        None, gt=0, description="dense bfloat16 TFLOP/s of one GPU; null: 312, those of an A100"
    )
    gpu_price_per_hour: float | None = operational(
        None, ge=0, description="price of a GPU hour, in the currency of prices; null: GPU hours are not priced"
    )
    seconds_per_unit: dict[str, Seconds] = operational(
        {}, description="seconds that one unit of a stage takes, by stage, e.g. {caption: 0.8}; before what is measured"
    )
