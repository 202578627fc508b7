"""The answers of a build as the search for crowded ones asks for them: by number, shard by shard of the pairs table."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Collection, Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from pipeline.quality.answer_hashes import CODE_VERSION, band_names, column_names, hash_answers
from pipeline.records import InstructionPair, digest
from pipeline.schema import from_arrow
from pipeline.tables import Shard, Table, to_parquet
from pipeline.workspace import Workspace

_FOLDER = "tables/filter/_hashes"


class PairAnswers:
    """Numbers pairs in the order of their table.

    What is hashed of a shard of the table is kept beside it, so that what a build adds alone is hashed anew.

    Args:
        workspace: its pairs are read; `store_hashes` alone writes.
        near_duplicate: decides by what answers are hashed.
        decided: ids of pairs that people have decided about; they do not count.
        videos: returns a hash of the video of each pair of some clips.
        expect: is told the pairs whose rules are asked for next.
        keeps_rules: whether an answer may stand in the dataset, by its number too.
    """

    def __init__(
        self,
        workspace: Workspace,
        near_duplicate: float,
        *,
        decided: Collection[str],
        videos: Callable[[], NDArray[np.int64]],
        expect: Callable[[Sequence[InstructionPair]], None],
        keeps_rules: Callable[[int, InstructionPair], bool],
    ) -> None:
        self._storage = workspace.storage
        self._pairs: Table[InstructionPair] = workspace.pairs
        self._near_duplicate = near_duplicate
        self._decided = decided
        self.videos = functools.cache(videos)
        self.keeps_rules = keeps_rules
        self._expect = expect
        self._tag = digest(CODE_VERSION, len(band_names(near_duplicate)), near_duplicate)[:8]
        self._hashes: pa.Table | None = None
        self._new: dict[str, slice] = {}

    def hashes(self) -> pa.Table:
        """Return the hashes of all answers, those of new shards made now."""
        names = column_names(self._near_duplicate)
        columns = {name: np.empty(self._pairs.num_rows, np.uint64) for name in names}
        begin = 0
        for shard in self._pairs.shards_with_rows():
            here = slice(begin, begin + shard.rows)
            begin = here.stop
            stored = self._storage.read(f"{_FOLDER}/{self._file(shard)}")
            if stored is None:
                rows = self._pairs.read_shard(shard, ["task", "question", "answer"])
                tasks, questions, answers = (column.to_pylist() for column in rows.columns)
                hashes = hash_answers(tasks, questions, answers, self._near_duplicate)
                self._new[self._file(shard)] = here
            else:
                hashes = pq.read_table(pa.BufferReader(stored), use_threads=False)
            for name in names:
                columns[name][here] = hashes.column(name).to_numpy()
        self._hashes = pa.table(columns)
        return self._hashes

    def store_hashes(self) -> None:
        """Keep what was hashed for the next run, and remove what belongs to shards that are gone."""
        if self._hashes is not None:
            for name, here in self._new.items():
                hashes = self._hashes.slice(here.start, here.stop - here.start)
                self._storage.write(f"{_FOLDER}/{name}", to_parquet(hashes))
        self._new.clear()
        self._hashes = None
        wanted = {self._file(shard) for shard in self._pairs.shards}
        for name in self._storage.list(_FOLDER):
            if name not in wanted:
                self._storage.remove(f"{_FOLDER}/{name}")

    def counted(self) -> NDArray[np.bool_]:
        """Tell which pairs people have not decided about."""
        if not self._decided:
            return np.ones(self._pairs.num_rows, bool)
        decided = pa.array(sorted(self._decided), pa.string())
        parts = [
            pc.invert(pc.is_in(batch.column(0), value_set=decided)).to_numpy(zero_copy_only=False)
            for batch in self._pairs.batches(["pair_id"])
        ]
        return np.concatenate([*parts, np.empty(0, bool)])

    def pairs(self, numbers: NDArray[np.int64]) -> Iterator[tuple[int, InstructionPair]]:
        """Yield the pairs of ascending numbers; of a shard without any of them nothing is read."""
        shards = self._pairs.shards_with_rows()
        starts = [0, *itertools.accumulate(shard.rows for shard in shards)]
        cuts = np.searchsorted(numbers, starts)
        for shard, start, first, last in zip(shards, starts, cuts, cuts[1:], strict=False):
            if first < last:
                here = numbers[first:last]
                rows = self._pairs.read_shard(shard).take(pa.array(here - start))
                pairs = list(from_arrow(InstructionPair, rows.to_batches()))
                self._expect(pairs)
                yield from zip(here.tolist(), pairs, strict=True)

    def _file(self, shard: Shard) -> str:
        return f"{shard.name}-{self._tag}.parquet"
