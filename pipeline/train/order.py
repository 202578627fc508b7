"""Which rows make up which batch, the same on every machine and after every restart.

Row groups are shuffled, and rows within a window of several row groups, so that a pass reads every group once and holds
few of them. Within a window rows of similar length are put together, and the batches shuffled. Every rank gets as many
batches; where the rows do not come out even, rows are repeated that count for nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class PlannedBatch:
    """Rows of one batch; the first `counted` of them count, the others only fill it up."""

    rows: tuple[int, ...]
    counted: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchPlan:
    """How the rows of a split are dealt out.

    Attributes:
        batch_size: rows of a batch on one rank.
        world_size: ranks.
        window_rows: rows that are shuffled together, at least a row group.
        length_batches: global batches that are sorted by length together; 1 leaves the order to chance.
        shuffle: False keeps the order of the dataset, with rows of a global batch dealt out in turn.
        seed: of the shuffling, with the epoch.
    """

    batch_size: int
    world_size: int
    window_rows: int
    length_batches: int
    shuffle: bool
    seed: int

    def batches_per_rank(self, group_ends: NDArray[np.int64], epoch: int) -> int:
        """Return how many batches each rank gets in an epoch."""
        step = self.batch_size * self.world_size
        return sum(-(-rows // step) for rows in self._window_sizes(group_ends, epoch))

    def deal(
        self, lengths: NDArray[np.int32], group_ends: NDArray[np.int64], epoch: int, rank: int
    ) -> Iterator[PlannedBatch]:
        """Yield the batches of one rank in an epoch."""
        step = self.batch_size * self.world_size
        for number, rows in enumerate(self._windows(group_ends, epoch)):
            rng = np.random.default_rng([self.seed, epoch, number])
            ordered = rng.permutation(rows) if self.shuffle else rows
            global_batches = list(self._global_batches(ordered, lengths))
            order = rng.permutation(len(global_batches)) if self.shuffle else np.arange(len(global_batches))
            for which in order.tolist():
                whole = global_batches[which]
                filled = np.resize(whole, step)
                mine = filled[rank :: self.world_size]
                counted = len(range(rank, len(whole), self.world_size))
                yield PlannedBatch(tuple(mine.tolist()), counted)

    def _global_batches(self, rows: NDArray[np.int64], lengths: NDArray[np.int32]) -> Iterator[NDArray[np.int64]]:
        step = self.batch_size * self.world_size
        for begin in range(0, len(rows), step * self.length_batches):
            part = rows[begin : begin + step * self.length_batches]
            if self.shuffle and self.length_batches > 1:
                # Stable, so that rows of one length keep the order of the shuffle.
                part = part[np.argsort(lengths[part], kind="stable")]
            for start in range(0, len(part), step):
                yield part[start : start + step]

    def _group_order(self, group_ends: NDArray[np.int64], epoch: int) -> NDArray[np.int64]:
        count = len(group_ends)
        return np.random.default_rng([self.seed, epoch]).permutation(count) if self.shuffle else np.arange(count)

    def _windows(self, group_ends: NDArray[np.int64], epoch: int) -> Iterator[NDArray[np.int64]]:
        """Yield the rows of each window: whole row groups, in the order of the epoch."""
        starts = np.append(0, group_ends[:-1])
        window: list[NDArray[np.int64]] = []
        for which in self._group_order(group_ends, epoch).tolist():
            window.append(np.arange(starts[which], group_ends[which]))
            if sum(map(len, window)) >= self.window_rows:
                yield np.concatenate(window)
                window = []
        if window:
            yield np.concatenate(window)

    def _window_sizes(self, group_ends: NDArray[np.int64], epoch: int) -> Sequence[int]:
        return [len(window) for window in self._windows(group_ends, epoch)]
