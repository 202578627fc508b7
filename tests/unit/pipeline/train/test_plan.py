"""How many steps of how many rows a training takes, where the settings leave it to the number of rows."""

from __future__ import annotations

import pytest

from pipeline.config import LoraConfig
from pipeline.train.plan import FEW_STEPS, planned


@pytest.mark.parametrize(
    ("rows", "batch_size", "epochs"),
    [(10, 8, 8), (70, 8, 7), (474, 8, 2), (1_000, 16, 1), (5_000, 64, 1), (8_000, 128, 1), (51_567, 128, 1)],
)
def test_batch_and_passes_follow_the_number_of_rows(rows: int, batch_size: int, epochs: int) -> None:
    plan = planned(LoraConfig(), rows, devices=1)
    assert (plan.batch_size, plan.epochs) == (batch_size, epochs)
    assert rows < 64 or -(-rows // batch_size) * epochs >= FEW_STEPS


def test_what_is_set_stays() -> None:
    as_set = planned(LoraConfig(batch_size=128, epochs=1), 70, devices=1)
    assert (as_set.batch_size, as_set.epochs) == (128, 1)
    assert planned(LoraConfig(batch_size=32), 320, devices=1).epochs == 6
    assert planned(LoraConfig(epochs=3), 320, devices=1).batch_size == 16


@pytest.mark.parametrize("devices", [1, 2, 3, 8])
def test_a_batch_can_be_shared_out_on_any_number_of_devices(devices: int) -> None:
    for rows in (10, 70, 474, 51_567):
        plan = planned(LoraConfig(micro_batch=8), rows, devices)
        assert plan.batch_size is not None
        assert plan.batch_size % (plan.micro_batch * devices) == 0
