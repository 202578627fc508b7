from __future__ import annotations

import pytest

from pipeline.needs import Needs, device_of_worker, needs_of_all, needs_of_device


@pytest.mark.parametrize(
    ("device", "gpus", "is_optional"),
    [("cpu", 0, False), ("auto", 1, True), ("cuda", 1, False), ("cuda:1", 1, False), ("cuda:0,cuda:1", 2, False)],
)
def test_model_takes_the_gpus_that_its_device_names(device: str, gpus: float, is_optional: bool) -> None:
    needs = needs_of_device(device)
    assert (needs.gpus, needs.gpu_is_optional) == (gpus, is_optional)


@pytest.mark.parametrize(
    ("device", "there"), [("auto", "auto"), ("cpu", "cpu"), ("cuda:3", "cuda"), ("cuda:2,cuda:3", "cuda:0,cuda:1")]
)
def test_worker_counts_its_own_gpus_from_zero(device: str, there: str) -> None:
    assert device_of_worker(device) == there


def test_parts_travel_together_or_not_at_all() -> None:
    tower = needs_of_device("auto", memory_mb=2000)
    assert needs_of_all([Needs(memory_mb=500), tower]) == Needs(gpus=1, gpu_is_optional=True, memory_mb=2500)
    assert needs_of_all([tower, None]) is None
    assert needs_of_all([Needs(), Needs()]) == Needs(memory_mb=2048)
