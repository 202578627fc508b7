"""Which rows make up which batch, the same on every machine and after every restart.

Row groups are shuffled, and clips within a window of several row groups, so that a pass reads every group once and
holds few of them. The rows of a clip stay near one another, in different batches mostly: on one rank its frames are
decoded once. Within a stretch of steps rows of similar length are put together, and the steps shuffled. Which rows make
a step depends on their number alone, not on how many ranks share it in how many batches. Every rank gets as many
batches, every row comes once, and the batches of a step differ by one row at most.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]
"""Indices of rows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFacts:
    """What the order depends on.

    Attributes:
        lengths: length of each row's texts, int32, shape (rows,).
        clips: a number for each row that rows about the same clip share, int64, shape (rows,).
        group_ends: index after the last row of each row group, int64, shape (groups,).
        group_bytes: size of each row group in memory, int64, shape (groups,).
    """

    lengths: NDArray[np.int32]
    clips: NDArray[np.int64]
    group_ends: NDArray[np.int64]
    group_bytes: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """How the rows of a split are dealt out.

    Attributes:
        batch_size: most rows of a batch on one rank.
        world_size: ranks.
        accumulate: batches of a rank that make one step together.
        window_rows: rows that are shuffled together, at least a row group.
        window_bytes: size in memory of the row groups that are shuffled together, at least one.
        length_batches: steps that are sorted by length together; 1 leaves the order to chance.
        shuffle: False keeps the order of the dataset.
        seed: of the shuffling, with the epoch.
    """

    batch_size: int
    world_size: int
    window_rows: int
    window_bytes: int
    length_batches: int
    shuffle: bool
    seed: int
    accumulate: int = 1

    def batches_per_rank(self, num_rows: int) -> int:
        """Return how many batches each rank gets in every epoch."""
        return self._steps(num_rows) * self.accumulate

    def deal(self, facts: RowFacts, epoch: int, rank: int) -> Iterator[Rows]:
        """Yield the batches of one rank in an epoch; where there are fewer rows than batches some are empty."""
        order = self._order(facts, epoch)
        steps = self._steps(len(order))
        ends = np.arange(steps + 1) * len(order) // steps
        stretch = self.length_batches if self.shuffle else 1
        for first in range(0, steps, stretch):
            own = ends[first : first + stretch + 1]
            whole = np.split(self._by_length(order[own[0] : own[-1]], facts), own[1:-1] - own[0])
            rng = np.random.default_rng([self.seed, epoch, first])
            for place in rng.permutation(len(whole)) if self.shuffle else range(len(whole)):
                yield from np.array_split(whole[place], self.world_size * self.accumulate)[rank :: self.world_size]

    def _steps(self, num_rows: int) -> int:
        return -(-num_rows // (self.batch_size * self.world_size * self.accumulate))

    def _by_length(self, rows: Rows, facts: RowFacts) -> Rows:
        if not self.shuffle or self.length_batches == 1:
            return rows
        # Stable, so that rows of one length keep the order of the shuffle.
        return rows[np.argsort(facts.lengths[rows], kind="stable")]

    def _order(self, facts: RowFacts, epoch: int) -> Rows:
        if not self.shuffle:
            return np.arange(len(facts.lengths))
        rng = np.random.default_rng([self.seed, epoch])
        return np.concatenate([_shuffled(window, facts.clips, rng) for window in self._windows(facts, rng)])

    def _windows(self, facts: RowFacts, rng: np.random.Generator) -> Iterator[Rows]:
        """Yield the rows of each window: whole row groups, in the order of the epoch."""
        starts = np.append(0, facts.group_ends[:-1])
        window: list[Rows] = []
        rows = size = 0
        for which in rng.permutation(len(starts)).tolist():
            added = int(facts.group_bytes[which])
            if window and (rows >= self.window_rows or size + added > self.window_bytes):
                yield np.concatenate(window)
                window, rows, size = [], 0, 0
            window.append(np.arange(starts[which], facts.group_ends[which]))
            rows, size = rows + len(window[-1]), size + added
        yield np.concatenate(window)


def _shuffled(rows: Rows, clips: NDArray[np.int64], rng: np.random.Generator) -> Rows:
    """Return the rows with their clips in a new order, and those of one clip in a new order among themselves."""
    distinct, clip = np.unique(clips[rows], return_inverse=True)
    order: Rows = np.lexsort((rng.random(len(rows)), rng.permutation(len(distinct))[clip]))
    return rows[order]
