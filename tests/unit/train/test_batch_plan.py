"""Which rows make up which batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.train.order import BatchPlan, PlannedBatch

PLAN = BatchPlan(batch_size=3, world_size=2, window_rows=20, length_batches=2, shuffle=True, seed=5)
LENGTHS = (np.arange(47) * 7 % 13).astype(np.int32)
ENDS = np.array([10, 20, 33, 47])


def deal(plan: BatchPlan, epoch: int = 0, rank: int = 0) -> list[PlannedBatch]:
    return list(plan.deal(LENGTHS, ENDS, epoch, rank))


@pytest.mark.parametrize("world_size", [1, 2, 3, 5])
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_row_counts_once_and_every_rank_has_as_many_batches(world_size: int, shuffle: bool) -> None:
    plan = replace(PLAN, world_size=world_size, shuffle=shuffle)
    ranks = [deal(plan, rank=rank) for rank in range(world_size)]
    assert {len(batches) for batches in ranks} == {plan.batches_per_rank(ENDS, 0)}
    counted = [row for batches in ranks for batch in batches for row in batch.rows[: batch.counted]]
    assert sorted(counted) == list(range(47))
    assert all(len(batch.rows) == 3 for batches in ranks for batch in batches)


def test_epochs_differ_and_repeat() -> None:
    assert deal(PLAN, epoch=0) == deal(PLAN, epoch=0)
    assert deal(PLAN, epoch=0) != deal(PLAN, epoch=1)
    assert deal(replace(PLAN, seed=6)) != deal(PLAN)
    in_order = replace(PLAN, shuffle=False, world_size=1)
    assert [row for batch in deal(in_order, epoch=3) for row in batch.rows[: batch.counted]] == list(range(47))


def test_rows_of_similar_length_share_a_batch() -> None:
    def spread(plan: BatchPlan) -> float:
        return float(np.mean([np.ptp(LENGTHS[list(b.rows[: b.counted])]) for b in deal(plan) if b.counted > 1]))

    # of all rows together, so that there is something to sort
    mixed = replace(PLAN, world_size=1, window_rows=100, length_batches=1)
    assert spread(replace(mixed, length_batches=16)) < 0.4 * spread(mixed)


def test_a_pass_reads_each_row_group_within_one_window() -> None:
    """Otherwise shards would be read once a batch."""
    plan = replace(PLAN, world_size=1, window_rows=20)
    groups = [set(np.searchsorted(ENDS, batch.rows, side="right").tolist()) for batch in deal(plan)]
    for group in range(len(ENDS)):
        uses = [number for number, used in enumerate(groups) if group in used]
        assert uses[-1] - uses[0] < 12
        others = set().union(*groups[uses[0] : uses[-1] + 1])
        assert len(others) <= 3
