"""Training batches streamed from the Parquet shards of a dataset.

Frames are decoded ahead by worker processes and kept while memory allows, since several questions ask about one clip. A
clip that cannot be read costs its rows, not the run: they are named in `rejected`, and count for nothing.
"""

from __future__ import annotations

import functools
import logging
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError, RecordError
from pipeline.models.clip_files import ClipJob, read_file_clip
from pipeline.models.clip_frames import ClipFrames
from pipeline.train.conversation import Lesson, TrainingProcessor
from pipeline.train.order import BatchPlan, PlannedBatch
from pipeline.train.rows import SplitRows, TrainingRow
from pipeline.video.pool import VideoPool
from pipeline.video.readers import ReaderName

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_BATCHES_AHEAD = 2
_CLIPS_AHEAD_PER_WORKER = 4
_BLANK_SIDE = 224
_FEW_BAD = 3
"""Unreadable rows that a small dataset may have, whatever their share."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DataSettings:
    """How rows become batches.

    Attributes:
        num_frames: of a clip, evenly spaced in time.
        max_side: longest side in pixels that frames are scaled down to.
        tasks: rows of other tasks are left out; None takes all.
        shuffle: in a new order every epoch; False keeps the order of the dataset.
        seed: of the order.
        window_rows: rows that are shuffled together.
        length_batches: batches that are sorted by length together; 1 pads more and mixes better.
        workers: processes that decode; 0 is one per core.
        timeout_s, memory_mb: what one clip may take.
        cache_mb: memory for frames that are decoded and may be asked for again.
        reader: the decoder.
        max_bad_share: share of unreadable rows above which the dataset is at fault.
    """

    num_frames: int = 8
    max_side: int = 448
    tasks: tuple[str, ...] | None = None
    shuffle: bool = True
    seed: int = 0
    window_rows: int = 8192
    length_batches: int = 16
    workers: int = 0
    timeout_s: float = 120.0
    memory_mb: int = 2048
    cache_mb: int = 1024
    reader: ReaderName = "auto"
    max_bad_share: float = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """A batch: `inputs` of the model with `labels`, and the rows in it that count, in their order.

    Rows that only fill a batch up, and those whose clip cannot be read, are in the inputs with no label.
    """

    inputs: dict[str, Tensor]
    ids: list[str]
    is_anomaly: list[bool]
    tasks: list[str]
    answers: list[str]


class TrainingBatches:
    """The batches of one rank, epoch by epoch; the same for the same seed, and resumable after any of them.

    Attributes:
        epoch: whose batches iteration yields.
        done: batches of it that have been yielded.
        rejected: what was wrong with rows whose clip cannot be read, by their ids.
    """

    def __init__(
        self,
        dataset: Path,
        split: str,
        processor: TrainingProcessor,
        settings: DataSettings,
        *,
        batch_size: int,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        """Read how many rows there are.

        Raises:
            DataError: there is no dataset, a shard is damaged or missing, or no row is left.
            ValueError: the rank is none of the world.
        """
        if not 0 <= rank < world_size or batch_size < 1:
            raise ValueError(f"rank={rank}, world_size={world_size}, batch_size={batch_size}")
        self.rows = SplitRows(dataset, split, tasks=settings.tasks)
        self._processor = processor
        self._settings = settings
        self._rank = rank
        self._plan = BatchPlan(
            batch_size=batch_size,
            world_size=world_size,
            window_rows=settings.window_rows,
            length_batches=settings.length_batches,
            shuffle=settings.shuffle,
            seed=settings.seed,
        )
        self.epoch = 0
        self.done = 0
        self.rejected: dict[str, RecordError] = {}
        self._clips = _ClipCache(settings.cache_mb << 20)

    def __len__(self) -> int:
        """Return the batches of an epoch, the same number on every rank."""
        return self._plan.batches_per_rank(self.rows.group_ends, self.epoch)

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch at its first batch."""
        self.epoch, self.done = epoch, 0

    def state_dict(self) -> dict[str, int]:
        """Return where iteration stands: after the batches that were yielded."""
        return {"epoch": self.epoch, "done": self.done}

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Go on where another one stood, with the same dataset and settings."""
        self.epoch, self.done = state["epoch"], state["done"]

    def __iter__(self) -> Iterator[TrainingBatch]:
        """Yield the batches that are left of the epoch.

        Raises:
            DataError: a shard cannot be read, or too many clips cannot.
            SetupError: the model's processor cannot take such input.
        """
        plan = self._plan.deal(self.rows.lengths, self.rows.group_ends, self.epoch, self._rank)
        left = (batch for number, batch in enumerate(plan) if number >= self.done)
        settings = self._settings
        with VideoPool(settings.workers, settings.timeout_s, settings.memory_mb) as pool:
            ahead = max(_BATCHES_AHEAD, -(-_CLIPS_AHEAD_PER_WORKER * pool.workers // self._plan.batch_size))
            begun: deque[_Begun] = deque()
            while True:
                begun.extend(self._begin(pool, planned) for planned in islice(left, ahead + 1 - len(begun)))
                if not begun:
                    return
                batch = self._finish(begun.popleft())
                self.done += 1
                yield batch

    def _begin(self, pool: VideoPool, planned: PlannedBatch) -> _Begun:
        rows = self.rows.at(planned.rows)
        clips = [self._clips.get(row.clip, functools.partial(self._read, pool, row)) for row in rows]
        return _Begun(planned.counted, rows, clips)

    def _read(self, pool: VideoPool, row: TrainingRow) -> Callable[[], ClipFrames | RecordError]:
        settings = self._settings
        job = ClipJob(
            file=row.file, content=row.content, span_s=row.span_s, num_frames=settings.num_frames,
            max_side=settings.max_side, reader=settings.reader,
        )  # fmt: skip
        return pool.submit(read_file_clip, job)

    def _finish(self, begun: _Begun) -> TrainingBatch:
        lessons: list[Lesson] = []
        learned: list[TrainingRow] = []
        for place, (row, pending) in enumerate(zip(begun.rows, begun.clips, strict=True)):
            clip = pending.wait()
            counts = place < begun.counted
            if isinstance(clip, RecordError):
                self._reject(row, clip)
                lessons.append(Lesson(clip=self._blank(), question=row.question, answer=row.answer, counts=False))
                continue
            lessons.append(Lesson(clip=clip, question=row.question, answer=row.answer, counts=counts))
            if counts:
                learned.append(row)
        self._clips.trim()
        return TrainingBatch(
            inputs=self._processor.inputs(lessons),
            ids=[row.id for row in learned],
            is_anomaly=[row.is_anomaly for row in learned],
            tasks=[row.task for row in learned],
            answers=[row.answer for row in learned],
        )

    def _reject(self, row: TrainingRow, fault: RecordError) -> None:
        if row.id in self.rejected:
            return
        self.rejected[row.id] = fault
        logger.warning("%s: not trained on: %s: %s", row.id, fault.reason, fault.detail)
        allowed = max(_FEW_BAD, self._settings.max_bad_share * len(self.rows))
        if len(self.rejected) > allowed or len(self.rejected) == len(self.rows):
            raise DataError(
                f"{self.rows.folder}: the clips of {len(self.rejected)} of {len(self.rows)} rows of split "
                f"{self.rows.split} cannot be read, more than a share of {self._settings.max_bad_share:g}; the last: "
                f"{row.id}: {fault}"
            )

    def _blank(self) -> ClipFrames:
        """Return black frames, which keep a batch in shape where a clip is missing."""
        count = self._settings.num_frames
        return ClipFrames(
            frames=np.zeros((count, _BLANK_SIDE, _BLANK_SIDE, 3), np.uint8),
            indices=tuple(range(count)),
            clip_frames=count,
            fps=1.0,
            duration_s=float(count),
        )


@dataclass(frozen=True, slots=True)
class _Begun:
    """A batch whose clips are being decoded."""

    counted: int
    rows: list[TrainingRow]
    clips: list[_Pending]


class _Pending:
    """A clip that is decoded, or will be."""

    def __init__(self, wait: Callable[[], ClipFrames | RecordError]) -> None:
        self._wait: Callable[[], ClipFrames | RecordError] | None = wait
        self._clip: ClipFrames | RecordError | None = None

    def wait(self) -> ClipFrames | RecordError:
        if self._clip is None:
            assert self._wait is not None  # noqa: S101 - it has not been waited for
            self._clip, self._wait = self._wait(), None
        return self._clip

    @property
    def nbytes(self) -> int:
        return self._clip.frames.nbytes if isinstance(self._clip, ClipFrames) else 0


class _ClipCache:
    """Clips by what tells them apart; the ones used longest ago leave first where they take too much memory."""

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes = most_bytes
        self._clips: OrderedDict[Any, _Pending] = OrderedDict()

    def get(self, key: Any, begin: Callable[[], Callable[[], ClipFrames | RecordError]]) -> _Pending:
        """Return a clip, beginning to decode it where it is not there."""
        if key not in self._clips:
            self._clips[key] = _Pending(begin())
        self._clips.move_to_end(key)
        return self._clips[key]

    def trim(self) -> None:
        """Forget what does not fit."""
        taken = sum(pending.nbytes for pending in self._clips.values())
        while taken > self._most_bytes and len(self._clips) > 1:
            _, dropped = self._clips.popitem(last=False)
            taken -= dropped.nbytes
