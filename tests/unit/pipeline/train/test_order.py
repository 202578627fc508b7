"""Which rows make up which batch."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.train.order import BatchPlan, RowFacts

PLAN = BatchPlan(batch_size=3, world_size=2, window_rows=20, window_bytes=1000, length_batches=2, shuffle=True, seed=5)
FACTS = RowFacts(
    lengths=(np.arange(47) * 7 % 13).astype(np.int32),
    clips=np.arange(47) // 3,
    group_ends=np.array([10, 20, 33, 47]),
    group_bytes=np.array([10, 10, 13, 14]),
)


def deal(plan: BatchPlan, epoch: int = 0, rank: int = 0, facts: RowFacts = FACTS) -> list[list[int]]:
    return [batch.tolist() for batch in plan.deal(facts, epoch, rank)]


def many(rows: int, rows_of_a_clip: int = 2) -> RowFacts:
    return RowFacts(
        lengths=(np.arange(rows) * 7 % 97).astype(np.int32),
        clips=np.arange(rows) // rows_of_a_clip,
        group_ends=np.arange(500, rows + 1, 500),
        group_bytes=np.full(rows // 500, 500_000),
    )


@pytest.mark.parametrize("world_size", [1, 2, 3, 5, 16])
@pytest.mark.parametrize("shuffle", [True, False])
def test_each_row_comes_once_and_every_rank_has_as_many_batches(world_size: int, shuffle: bool) -> None:
    plan = replace(PLAN, world_size=world_size, shuffle=shuffle)
    for epoch in range(3):
        ranks = [deal(plan, epoch, rank) for rank in range(world_size)]
        assert {len(batches) for batches in ranks} == {plan.batches_per_rank(47)}
        sizes = [len(batch) for batches in ranks for batch in batches]
        assert max(sizes) <= 3
        assert max(sizes) - min(sizes) <= 1
        assert sorted(row for batches in ranks for batch in batches for row in batch) == list(range(47))


def test_epochs_differ_and_repeat() -> None:
    assert deal(PLAN, epoch=0) == deal(PLAN, epoch=0)
    assert deal(PLAN, epoch=0) != deal(PLAN, epoch=1)
    assert deal(replace(PLAN, seed=6)) != deal(PLAN)
    in_order = replace(PLAN, shuffle=False, world_size=1)
    assert [row for batch in deal(in_order, epoch=3) for row in batch] == list(range(47))


def test_without_shuffling_the_first_steps_of_all_ranks_hold_the_first_rows() -> None:
    ranks = [deal(replace(PLAN, shuffle=False), rank=rank) for rank in range(2)]
    assert sorted(row for rank in ranks for batch in rank[:2] for row in batch) == list(range(11))


def test_rows_of_similar_length_share_a_batch() -> None:
    def spread(length_batches: int) -> float:
        plan = replace(PLAN, batch_size=8, length_batches=length_batches, window_rows=2000)
        facts = many(4000)
        return float(np.mean([np.ptp(facts.lengths[batch]) for batch in deal(plan, facts=facts)]))

    assert spread(16) < 0.25 * spread(1)


def test_ranks_have_batches_of_like_length_at_the_same_time() -> None:
    facts = many(8000)
    plan = replace(PLAN, batch_size=8, world_size=2, length_batches=32, window_rows=8000, window_bytes=10**9)
    means = [[facts.lengths[batch].mean() for batch in deal(plan, rank=rank, facts=facts)] for rank in range(2)]
    assert np.corrcoef(means)[0, 1] > 0.9


def test_the_rows_of_a_clip_come_soon_after_one_another() -> None:
    """Or a clip would be decoded once a row."""
    facts = many(4000, rows_of_a_clip=4)
    plan = replace(PLAN, batch_size=8, world_size=1, length_batches=8, window_rows=2000, window_bytes=10**9)
    seen: dict[int, list[int]] = {}
    for step, batch in enumerate(deal(plan, facts=facts)):
        for row in batch:
            seen.setdefault(int(facts.clips[row]), []).append(step // 8)
    together = [len(set(places)) == 1 for places in seen.values()]
    assert np.mean(together) > 0.9


def test_shuffling_separates_neighbours() -> None:
    facts = many(4000)
    [first, *_] = deal(replace(PLAN, world_size=1, batch_size=64, window_rows=4000, window_bytes=10**9), facts=facts)
    assert len({row // 500 for row in first}) >= 6


@pytest.mark.parametrize(("limit", "groups"), [({"window_rows": 20}, 3), ({"window_bytes": 25}, 3)])
def test_a_pass_reads_each_row_group_within_one_window(limit: dict[str, int], groups: int) -> None:
    """Otherwise shards would be read once a batch."""
    plan = replace(PLAN, world_size=1, length_batches=1, **limit)
    used = [set(np.searchsorted(FACTS.group_ends, batch, side="right").tolist()) for batch in deal(plan)]
    for group in range(4):
        uses = [number for number, batch in enumerate(used) if group in batch]
        assert len(set().union(*used[uses[0] : uses[-1] + 1])) <= groups


@pytest.mark.parametrize(("world_size", "accumulate"), [(2, 6), (3, 4), (12, 1), (1, 1)])
def test_a_step_holds_the_same_rows_however_it_is_shared_out(world_size: int, accumulate: int) -> None:
    facts = many(1000, rows_of_a_clip=3)
    alone = replace(PLAN, batch_size=1, world_size=1, accumulate=12, window_rows=400)
    shared = replace(alone, world_size=world_size, accumulate=accumulate, batch_size=12 // (world_size * accumulate))

    def steps(plan: BatchPlan) -> list[list[int]]:
        ranks = [deal(plan, epoch=2, rank=rank, facts=facts) for rank in range(plan.world_size)]
        assert len({len(batches) for batches in ranks}) == 1
        return [
            sorted(int(row) for batches in ranks for batch in batches[first : first + plan.accumulate] for row in batch)
            for first in range(0, len(ranks[0]), plan.accumulate)
        ]

    assert steps(shared) == steps(alone)


@pytest.mark.parametrize(("rows", "batch_size", "micro_batch"), [(20_000, 128, 8), (2000, 32, 4), (480, 8, 4)])
def test_little_of_a_batch_is_padding(rows: int, batch_size: int, micro_batch: int) -> None:
    """Texts of four tasks, of lengths as answers have them (log-normal), behind a video of only 64 tokens."""
    median = np.array([180, 260, 420, 90])[np.arange(rows) % 4]
    characters = 40 + median * np.exp(np.random.default_rng(0).normal(0, 0.45, rows))
    facts = replace(
        many(rows), lengths=characters.astype(np.int32), group_ends=np.array([rows]), group_bytes=np.ones(1)
    )
    plan = replace(PLAN, batch_size=micro_batch, world_size=1, accumulate=batch_size // micro_batch, length_batches=16)

    def padding(plan: BatchPlan) -> float:
        tokens = [64 + 20 + facts.lengths[batch] // 4 for batch in deal(plan, facts=facts) if batch]
        return 1 - float(sum(each.sum() for each in tokens) / sum(len(each) * each.max() for each in tokens))

    assert padding(plan) < 0.05
    assert padding(replace(plan, length_batches=1)) > 0.15, "what chance would leave"
