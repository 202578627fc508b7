"""Which rows make up which batch, the same on every machine and after every restart.

Row groups are shuffled, and clips within a window of several row groups, so that a pass reads every group once and
holds few of them. The rows of a clip stay near one another, in different batches mostly: its frames are decoded once.
Within a stretch of batches rows of similar length are put together, and the batches shuffled. Every rank gets as many
batches, every row comes once, and batches differ by one row at most.
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
        window_rows: rows that are shuffled together, at least a row group.
        window_bytes: size in memory of the row groups that are shuffled together, at least one.
        length_batches: batches of a rank that are sorted by length together; 1 leaves the order to chance.
        shuffle: False keeps the order of the dataset, the rows of a step dealt out in turn.
        seed: of the shuffling, with the epoch.
    """

    batch_size: int
    world_size: int
    window_rows: int
    window_bytes: int
    length_batches: int
    shuffle: bool
    seed: int

    def batches_per_rank(self, num_rows: int) -> int:
        """Return how many batches each rank gets in every epoch."""
        return -(-num_rows // (self.batch_size * self.world_size))

    def deal(self, facts: RowFacts, epoch: int, rank: int) -> Iterator[Rows]:
        """Yield the batches of one rank in an epoch; with fewer rows than ranks some are empty."""
        order = self._order(facts, epoch)
        steps = self.batches_per_rank(len(order))
        stretch_steps = self.length_batches if self.shuffle else 1
        for first in range(0, steps, stretch_steps):
            last = min(first + stretch_steps, steps)
            # A rank's rows follow one another in the order: the rows of a clip fall to the same rank.
            ends = self._ends(len(order), steps, first, last, rank)
            mine = order[ends[0] : ends[-1]]
            batches = np.split(self._by_length(mine, facts), ends[1:-1] - ends[0])
            # Steps are shuffled alike on all ranks, which thus have batches of like lengths at the same time.
            rng = np.random.default_rng([self.seed, epoch, first])
            for place in rng.permutation(len(batches)) if self.shuffle else range(len(batches)):
                yield batches[place]

    def _ends(self, num_rows: int, steps: int, first: int, last: int, rank: int) -> NDArray[np.int64]:
        """Return where the batches of a rank in steps [first, last) begin and end among the rows in order."""
        total = steps * self.world_size
        begin = first * self.world_size + rank * (last - first)
        return np.arange(begin, begin + (last - first) + 1) * num_rows // total

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
