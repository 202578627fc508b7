"""Training batches streamed from the Parquet shards of a dataset.

Frames are decoded ahead by worker processes and kept while memory allows, since several questions ask about one clip. A
clip that cannot be read costs its rows, not the run: they are named in `rejected`, and left out of their batches.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.config import VideoConfig
from pipeline.errors import ConfigError, DataError, RecordError
from pipeline.models.clip_files import ClipJob, read_file_clip
from pipeline.models.clip_frames import CLIPS_AHEAD_PER_WORKER, ClipFrames
from pipeline.records import Reason, digest
from pipeline.train.clip_cache import ClipCache, PendingClip
from pipeline.train.conversation import Lesson, TrainingProcessor
from pipeline.train.frame_store import FrameStore
from pipeline.train.order import BatchPlan, Rows
from pipeline.train.rows import SplitRows, TrainingRow
from pipeline.train.seen_clips import SeenClips, View
from pipeline.video.pool import VideoPool

if TYPE_CHECKING:
    from torch import Tensor

logger = logging.getLogger(__name__)

_BATCHES_AHEAD = 2
_WINDOW_BYTES = 512 << 20
"""Size of the row groups that are shuffled together; clips embedded in them count."""

_LENGTH_BATCHES = 16
"""Batches that are sorted by length together: with fewer there is more padding, and rows are mixed better."""

_BLANK_SIDE = 224
_NO_CLIP = -1
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
        cache_mb: memory for frames that are decoded and may be asked for again.
        video: how clips are read.
        max_bad_share: share of unreadable rows above which the dataset is at fault.
        frames_folder: where frames are kept that leave the memory; None keeps none.
        frames_mb: disk for them, in MiB.
        prepared_ahead: batches that a thread makes ready while the model is at work on others.
    """

    num_frames: int = 8
    max_side: int = 448
    tasks: tuple[str, ...] | None = None
    shuffle: bool = True
    seed: int = 0
    window_rows: int = 8192
    cache_mb: int = 1024
    video: VideoConfig = field(default_factory=VideoConfig)
    max_bad_share: float = 0.1
    frames_folder: Path | None = None
    frames_mb: int = 0
    prepared_ahead: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingBatch:
    """A batch: `inputs` of the model with `labels`, and the rows in it with their classes, in their order.

    `views` are the clips of the rows where the tower looks once at each; the pixels among the inputs then mean nothing.
    Where no row is left, `ids` is empty and the inputs are those of black frames without a label: every rank takes as
    many steps, whatever its clips are like.
    """

    inputs: dict[str, Tensor]
    ids: list[str]
    classes: list[str]
    tasks: list[str]
    views: list[View] = field(default_factory=list)


class TrainingBatches:
    """The batches of one rank, epoch by epoch; the same for the same seed, and resumable after any of them.

    Attributes:
        epoch: whose batches iteration yields.
        done: batches of it that have been yielded.
        rejected: what was wrong with rows that are left out, by their ids.
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
        accumulate: int = 1,
        only: Rows | None = None,
    ) -> None:
        """Read how many rows there are.

        Args:
            dataset: its folder, or a workspace with one.
            split: which rows.
            processor: of the model.
            settings: how rows become batches.
            batch_size: most rows of a batch.
            rank: whose batches, of `world_size`.
            world_size: ranks that share the rows.
            accumulate: batches of a rank that make one step: the same rows make a step however it is shared out.
            only: which rows, by index; None is all.

        Raises:
            DataError: there is no dataset, a shard is damaged or missing, or no row is left.
            ValueError: the rank is none of the world.
        """
        if not 0 <= rank < world_size or batch_size < 1 or accumulate < 1:
            raise ValueError(f"{rank=}, {world_size=}, {batch_size=}, {accumulate=}")
        # Where one window gives way to the next, rows of both are asked for.
        self.rows = SplitRows(dataset, split, tasks=settings.tasks, held_bytes=2 * _WINDOW_BYTES)
        self._processor = processor
        self._settings = settings
        self._rank = rank
        self._plan = BatchPlan(
            batch_size=batch_size,
            world_size=world_size,
            window_rows=settings.window_rows,
            window_bytes=_WINDOW_BYTES,
            length_batches=_LENGTH_BATCHES,
            shuffle=settings.shuffle,
            seed=settings.seed,
            accumulate=accumulate,
        )
        self.epoch = 0
        self.done = 0
        self.rejected: dict[str, RecordError] = {}
        self._bad_rows = 0
        self._chosen = np.arange(len(self.rows)) if only is None else only
        facts = self.rows.facts
        self._facts = replace(facts, lengths=facts.lengths[self._chosen], clips=facts.clips[self._chosen])
        self._order_key = digest(str(self._plan), facts.lengths.tobytes().hex(), facts.clips.tobytes().hex())
        folder = settings.frames_folder
        self._seen: SeenClips | None = None
        store = None if folder is None else FrameStore(folder, (settings.frames_mb << 20) // world_size)
        self._clips = ClipCache(settings.cache_mb << 20, store)

    def __len__(self) -> int:
        """Return the batches of an epoch, the same number on every rank and in every epoch."""
        return self._plan.batches_per_rank(len(self._chosen))

    def asks_again(self, epochs: int) -> bool:
        """Whether any clip is asked about more than once in so many epochs."""
        return len(self._chosen) * epochs > len(np.unique(self._facts.clips))

    def look_once(self, folder: Path | None) -> SeenClips:
        """Have batches hold, from now on, what the vision tower made of clips, as far as it is in what is returned.

        The folder is for what leaves the memory; None keeps none of it.
        """
        settings, world_size = self._settings, self._plan.world_size
        store = None if folder is None else FrameStore(folder, (settings.frames_mb << 20) // world_size)
        self._seen = SeenClips(settings.cache_mb << 20, store, is_shared=world_size > 1)
        self._clips = ClipCache(settings.cache_mb << 20)
        return self._seen

    def set_epoch(self, epoch: int) -> None:
        """Begin an epoch at its first batch."""
        self.epoch, self.done, self._bad_rows = epoch, 0, 0

    def state_dict(self) -> dict[str, Any]:
        """Return where iteration stands, JSON-able: after the batches that were yielded."""
        rejected = {row: [fault.reason.value, fault.detail] for row, fault in self.rejected.items()}
        return {"epoch": self.epoch, "done": self.done, "order": self._order_key, "rejected": rejected}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on where another one stood.

        Raises:
            ConfigError: that one had another dataset, batch size, seed or number of ranks, and so another order.
        """
        if state["order"] != self._order_key:
            raise ConfigError(
                f"{self.rows.folder}: the state after batch {state['done']} of epoch {state['epoch']} is of another "
                "dataset, batch size, seed or number of ranks: its rows cannot be found again"
            )
        self.set_epoch(state["epoch"])
        self.done = state["done"]
        self.rejected = {
            row: RecordError(Reason(reason), detail) for row, (reason, detail) in state["rejected"].items()
        }

    def __iter__(self) -> Iterator[TrainingBatch]:
        """Yield the batches that are left of the epoch.

        Raises:
            DataError: a shard cannot be read, or too many clips cannot.
            SetupError: the model's processor cannot take such input.
        """
        left = islice(self._plan.deal(self._facts, self.epoch, self._rank), self.done, None)
        video = self._settings.video
        with VideoPool(video.workers, video.timeout_s, video.memory_mb) as pool:
            try:
                # The thread that makes batches has ended before what it makes them with is closed.
                with (
                    closing(self._make(left, pool)) as made,
                    closing(_made_ahead(made, self._settings.prepared_ahead)) as batches,
                ):
                    for batch in batches:
                        self.done += 1
                        yield batch
            finally:
                # What the pool has not read by now it never will.
                self._clips.forget_pending()

    def _make(self, left: Iterator[Rows], pool: VideoPool) -> Generator[TrainingBatch, None, None]:
        """Yield the batches of the rows that are left, the clips of the next ones being decoded."""
        ahead = max(_BATCHES_AHEAD, -(-CLIPS_AHEAD_PER_WORKER * pool.workers // self._plan.batch_size))
        begun: deque[_Begun] = deque()
        while True:
            begun.extend(self._begin(pool, planned) for planned in islice(left, ahead + 1 - len(begun)))
            if not begun:
                return
            yield self._finish(begun.popleft())

    def _begin(self, pool: VideoPool, planned: Rows) -> _Begun:
        rows = self.rows.at(self._chosen[planned].tolist())
        return _Begun(rows, [self._begin_clip(pool, row) for row in rows])

    def _begin_clip(self, pool: VideoPool, row: TrainingRow) -> PendingClip:
        if self._seen is not None and (seen := self._seen.get(row.clip)) is not None:
            return PendingClip(lambda: seen.clip, seen.clip)
        return self._clips.get(row.clip, functools.partial(self._read, pool, row))

    def _read(self, pool: VideoPool, row: TrainingRow) -> Callable[[], ClipFrames | RecordError]:
        settings = self._settings
        job = ClipJob(
            file=row.file, content=row.content, span_s=row.span_s, num_frames=settings.num_frames,
            max_side=settings.max_side, reader=settings.video.reader,
        )  # fmt: skip
        return pool.submit(read_file_clip, job)

    def _finish(self, begun: _Begun) -> TrainingBatch:
        lessons: list[Lesson] = []
        learned: list[TrainingRow] = []
        for row, pending in zip(begun.rows, begun.clips, strict=True):
            clip = self._fault_of(row) or pending.wait()
            if isinstance(clip, RecordError):
                self._reject(row, clip)
                continue
            lessons.append(Lesson(clip=clip, question=row.question, answer=row.answer))
            learned.append(row)
        self._clips.trim()
        lessons = lessons or [self._nothing()]
        return TrainingBatch(
            inputs=self._processor.inputs(lessons, has_pixels=self._seen is None),
            ids=[row.id for row in learned],
            classes=[row.label for row in learned],
            tasks=[row.task for row in learned],
            views=self._views(lessons, [row.clip for row in learned] or [_NO_CLIP]),
        )

    def _views(self, lessons: list[Lesson], numbers: list[int]) -> list[View]:
        """Return the clips of lessons as the model is to see them; none where it sees pixels."""
        if self._seen is None:
            return []
        self._seen.trim()
        views: dict[int, View] = {}
        for lesson, number in zip(lessons, numbers, strict=True):
            if number in views:
                continue
            seen = self._seen.get(number)
            views[number] = View(
                number=number,
                clip=lesson.clip,
                features=None if seen is None else seen.features,
                inputs=self._processor.inputs([lesson]) if seen is None else None,
            )
        return [views[number] for number in numbers]

    def _fault_of(self, row: TrainingRow) -> RecordError | None:
        """Return what is wrong with the texts of a row."""
        for name, text in (("question", row.question), ("answer", row.answer)):
            if not text:
                return RecordError(Reason.EMPTY_TEXT, f"no {name}")
            if part := self._processor.unfit_part(text):
                return RecordError(Reason.UNFIT_INPUT, f"the {name} holds {part}, which means something to the model")
        return None

    def _reject(self, row: TrainingRow, fault: RecordError) -> None:
        if row.id not in self.rejected:
            self.rejected[row.id] = fault
            logger.warning("%s: not trained on: %s: %s", row.id, fault.reason, fault.detail)
        self._bad_rows += 1
        total = -(-len(self._chosen) // self._plan.world_size)
        if self._bad_rows > max(_FEW_BAD, self._settings.max_bad_share * total) or self._bad_rows == total:
            raise DataError(
                f"{self.rows.folder}: {self._bad_rows} of {total} rows of split {self.rows.split} cannot be trained "
                f"on, more than a share of {self._settings.max_bad_share:g}; the last: {row.id}: {fault}"
            )

    def _nothing(self) -> Lesson:
        count = self._settings.num_frames
        black = ClipFrames(
            frames=np.zeros((count, _BLANK_SIDE, _BLANK_SIDE, 3), np.uint8),
            indices=tuple(range(count)),
            clip_frames=count,
            fps=1.0,
            duration_s=float(count),
        )
        return Lesson(clip=black, question="?", answer="No.", counts=False)


@dataclass(frozen=True, slots=True)
class _Begun:
    """A batch whose clips are being decoded."""

    rows: list[TrainingRow]
    clips: list[PendingClip]


def _made_ahead(made: Iterator[TrainingBatch], count: int) -> Generator[TrainingBatch, None, None]:
    """Yield batches in their order, `count` of them made in a thread before they are asked for."""
    if not count:
        yield from made
        return
    begun: deque[Future[TrainingBatch | None]] = deque()
    with ThreadPoolExecutor(1, "batches") as thread:
        try:
            while True:
                begun.extend(thread.submit(next, made, None) for _ in range(count + 1 - len(begun)))
                batch = begun.popleft().result()
                if batch is None:
                    return
                yield batch
        finally:
            thread.shutdown(wait=True, cancel_futures=True)
