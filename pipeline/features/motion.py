"""The `motion` encoder: how things move in every part of the picture, without any model.

Dense optical flow (DIS, Kroeger et al., ECCV 2016) between small grey frames an eighth of a second apart, refined down
to half of their size, is averaged over patches the size of a person, so that noise cancels and what travels remains. It
is summed up on three grids, each cell by

- a histogram of flow orientations weighted by speed (HOOF: Chaudhry et al., CVPR 2009, after the flow histograms of
  Dalal, Triggs and Schmid, ECCV 2006),
- a histogram of speeds (the magnitude half of HOFM: Colque et al., IEEE TCSVT 2017),
- the fastest patch, and means of speed over the cell, over what moves and over the foreground,
- how much the flow of a patch changes from one frame to the next, which tells blows and shoves from walking (ViF:
  Hassner, Itcher and Kliper-Gross, CVPRW 2012), in the mean and at most,
- foreground statistics against a background that is the median of the last half minute: its share, what of it stands
  still, as things left behind do, and how much brighter it is, as fire is.

Speeds are picture widths per second, so that resolution and frame rate cancel out. A snippet's features are the means
over its frames, except the last statistic, which is a deviation over them. Nothing moves from one shot to the next: at
a cut, as at a gap, the last picture and the background are forgotten.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import VideoConfig
from pipeline.errors import RecordError
from pipeline.features.base import EncodedVideo, EncoderBackend, FeatureJob, Floats, num_snippets, write_features
from pipeline.needs import Needs
from pipeline.video.pool import VideoPool
from pipeline.video.readers import FrameReader, ReaderName, open_reader
from pipeline.video.shots import Layout, is_cut, layout_of

GRIDS: tuple[tuple[int, int], ...] = ((6, 8), (3, 4), (1, 1))
"""Rows and columns of the grids; each divides the one before, so that coarse cells are means of fine ones."""

ORIENTATIONS = 8
SPEED_EDGES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
SCALARS = (
    "fastest_patch", "fastest_mover", "speed", "mover_speed", "turn", "sharpest_turn", "foreground",
    "foreground_speed", "still_foreground", "bright_foreground", "change", "deviation_of_fastest_patch",
)  # fmt: skip
"""What stands after the two histograms among the statistics of a cell."""

STATISTICS = ORIENTATIONS + len(SPEED_EDGES) + len(SCALARS)
FASTEST = ORIENTATIONS + len(SPEED_EDGES)  # index of the fastest patch's speed among the statistics of a cell
DIM = STATISTICS * sum(rows * columns for rows, columns in GRIDS)

_VERSION = 5
_RATE_HZ = 8.0
_LONG_SIDE = 240
_PATCH_WIDTH, _PATCH_HEIGHT = 0.06, 0.1  # in picture widths
_BACKGROUND_FRAMES = 31
_BACKGROUND_EVERY = 8  # sampled frames
_FOREGROUND_CONTRAST = 14.0  # grey levels; below it lie compression and shadows
_GAP_S, _GAP_FRAMES = 2.0, 10
"""Seconds, and sampled frames, without a picture after which nothing is known to have moved: the scene is another."""
_MOVING = 0.02  # widths per second; below it lie noise and compression
_BLOCK = 32  # snippets handed on at once


class MotionEncoder:
    """Measures motion in worker processes, one video each."""

    name = "motion"

    def __init__(self, video: VideoConfig) -> None:
        self._video = video

    def identity(self) -> Mapping[str, Any]:
        return {"encoder": self.name, "version": _VERSION, "grids": GRIDS, "rate_hz": _RATE_HZ, "side": _LONG_SIDE}

    def needs(self) -> Needs:
        """Return that it takes a core."""
        return Needs()

    def encode(self, jobs: Iterable[FeatureJob]) -> Iterator[EncodedVideo | RecordError]:
        work = ((job, self._video.reader) for job in jobs)
        with VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool:
            yield from pool.map(encode_motion, work)


def pool_positions(features: Floats, largest: int = 4) -> Floats:
    """Forget where in the picture things happen: per grid and statistic the largest cells and the mean of all.

    Args:
        features: of this encoder, shape (..., DIM).
        largest: cells kept of each grid, in descending order; a grid of one cell is kept as it is.

    Returns:
        Shape (..., D) with D = STATISTICS * (number of values kept).
    """
    lead = features.shape[:-1]
    parts = []
    start = 0
    for rows, columns in GRIDS:
        cells = rows * columns
        grid = features[..., start : start + cells * STATISTICS].reshape(*lead, cells, STATISTICS)
        start += cells * STATISTICS
        if cells == 1:
            parts.append(grid)
            continue
        top = -np.sort(-grid, axis=-2)[..., :largest, :]
        parts += [top, grid.mean(axis=-2, keepdims=True)]
    return np.concatenate(parts, axis=-2).reshape(*lead, -1)


def encode_motion(work: tuple[FeatureJob, ReaderName]) -> EncodedVideo:
    """Write the features of one video. Runs in a worker process.

    Raises:
        RecordError: where the video cannot be read.
    """
    job, reader_name = work
    count = num_snippets(job.video.num_frames, job.stride_frames)
    blocks = MotionStream().blocks(job.video.path, job.stride_frames, reader_name)
    return write_features(job.path, count, job.video.video_id, blocks)


class MotionStream:
    """Measures motion in this process. See `FeatureStream`."""

    def blocks(self, path: str | Path, stride_frames: int, reader: ReaderName) -> Iterator[Floats]:
        with open_reader(path, reader, size=_small) as small:
            snippets = _snippets(small, stride_frames)
            while block := list(islice(snippets, _BLOCK)):
                yield np.stack(block)[None]

    def live(self, width: int, height: int, fps: float, stride_frames: int) -> LiveMotion:
        return LiveMotion((width, height), fps, stride_frames)


def _small(width: int, height: int) -> tuple[int, int]:
    scale = _LONG_SIDE / max(width, height)
    rows, columns = GRIDS[0]
    # Whole pixels per cell, at least four of them; on pictures lower than 36 pixels the flow reads past their end.
    fit_width = max(4, round(width * scale / columns)) * columns
    fit_height = max(6, round(height * scale / rows)) * rows
    return fit_width, fit_height


def _finest_scale(width: int, height: int) -> int:
    """Return how often the small picture is halved for the finest flow: to half of what it shows or was before.

    At a quarter flow misses arms and legs; finer than half of a picture that was enlarged, it follows noise.
    """
    return 1 + max(0, round(math.log2(_LONG_SIDE / max(width, height))))


def _snippets(reader: FrameReader, stride_frames: int) -> Iterator[Floats]:
    """Yield the features of every snippet, shape (DIM,), in time order."""
    motion = LiveMotion(reader.source_size, reader.timeline.fps, stride_frames)
    for index, frame in reader.iter_frames(step=motion.step):
        yield from motion.add(index, frame, reader.timeline.time_of(index))
    yield from motion.finish(num_snippets(reader.timeline.num_frames, stride_frames))


class LiveMotion:
    """Measures motion as frames come. See `LiveFeatures`.

    Attributes:
        step: every so many frames one is wanted.
    """

    def __init__(self, source_size: tuple[int, int], fps: float, stride_frames: int) -> None:
        self.size = _small(*source_size)
        self._finest_scale = _finest_scale(*source_size)
        self.step = max(1, min(round(fps / _RATE_HZ), stride_frames))
        self._stride_frames = stride_frames
        self._gap_s = max(_GAP_S, _GAP_FRAMES * self.step / fps)
        self._meter = _MotionMeter(*self.size, self._finest_scale)
        self._seen_s = 0.0
        self._gathered: list[Floats] = []
        self._finished = 0
        self._latest: Floats = np.zeros((GRIDS[0][0] * GRIDS[0][1], STATISTICS - 1), dtype=np.float32)

    def wants(self, index: int) -> bool:
        return index % self.step == 0

    def add(self, index: int, frame: NDArray[np.uint8], time_s: float) -> list[Floats]:
        finished = self.finish(index // self._stride_frames)
        if time_s - self._seen_s > self._gap_s:
            self._meter = _MotionMeter(*self.size, self._finest_scale)
        self._seen_s = time_s
        measured = self._meter.measure(frame, time_s)
        if measured is not None:
            self._gathered.append(measured)
            self._latest = measured
        return finished

    def finish(self, count: int) -> list[Floats]:
        finished = []
        while self._finished < count:
            # A snippet too short to hold a sampled frame repeats what came before.
            finished.append(_summed(self._gathered or [self._latest]))
            self._gathered.clear()
            self._finished += 1
        return finished


def _summed(measured: list[Floats]) -> Floats:
    """Average the frames of a snippet and build the coarser grids, shape (DIM,)."""
    frames = np.stack(measured)
    deviation = frames[:, :, FASTEST].std(axis=0)
    fine = np.concatenate([frames.mean(axis=0), deviation[:, None]], axis=1)
    rows, columns = GRIDS[0]
    picture = fine.reshape(rows, columns, STATISTICS)
    grids = [picture.reshape(r, rows // r, c, columns // c, STATISTICS).mean(axis=(1, 3)).reshape(-1) for r, c in GRIDS]
    return np.concatenate(grids, dtype=np.float32)


@dataclass(slots=True)
class _Last:
    grey: NDArray[np.uint8]
    layout: Layout
    time_s: float
    patch_velocity: Floats | None = None


class _MotionMeter:
    """Measures motion from frame to frame."""

    def __init__(self, width: int, height: int, finest_scale: int) -> None:
        import cv2

        self._cv2 = cv2
        # The flow is searched in stripes, one a thread, and depends on where they end.
        cv2.setNumThreads(1)
        self._flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
        self._flow.setFinestScale(finest_scale)
        self._width = width
        self._patch = (max(3, round(width * _PATCH_WIDTH)), max(3, round(width * _PATCH_HEIGHT)))
        rows, columns = GRIDS[0]
        self._cells = rows * columns
        row = np.arange(height) * rows // height
        column = np.arange(width) * columns // width
        self._cell_of = (row[:, None] * columns + column[None, :]).ravel()
        self._cell_pixels = height * width // self._cells
        self._last: _Last | None = None
        self._background: NDArray[np.float32] | None = None
        self._background_layout: Layout | None = None
        self._history: deque[NDArray[np.uint8]] = deque(maxlen=_BACKGROUND_FRAMES)
        self._seen = 0

    def measure(self, frame: NDArray[np.uint8], time_s: float) -> Floats | None:
        """Return the statistics of every cell since the last frame, shape (cells, STATISTICS - 1).

        None for the first frame of a shot.
        """
        grey = self._cv2.cvtColor(frame, self._cv2.COLOR_RGB2GRAY)
        layout = layout_of(grey)
        self._forget_at_cut(layout)
        background = self._updated_background(grey)
        last = self._last
        if last is None or time_s <= last.time_s:
            self._last = _Last(grey, layout, time_s)
            return None
        velocity = self._flow.calc(last.grey, grey, None) / np.float32(self._width * (time_s - last.time_s))
        speed = self._magnitude(velocity)
        moving = (speed > _MOVING).astype(np.float32)
        patch_velocity = self._cv2.boxFilter(velocity * moving[..., None], -1, self._patch)
        turn = np.zeros_like(speed)
        if last.patch_velocity is not None:
            turn = self._magnitude(patch_velocity - last.patch_velocity)
        self._last = _Last(grey, layout, time_s, patch_velocity)
        change = self._cv2.absdiff(grey, last.grey).astype(np.float32) / 255.0
        measured = [self._of_motion(speed, moving, patch_velocity, turn), self._of_foreground(grey - background, speed)]
        return np.column_stack([*measured, self._mean(change)]).astype(np.float32)

    def _forget_at_cut(self, layout: Layout) -> None:
        """Forget what was seen where a picture shows another scene."""
        if self._last is None or self._background_layout is None:
            return
        # A flash gives back what the background still shows.
        if is_cut(layout, self._last.layout, self._background_layout):
            self._last = self._background = None
            self._history.clear()

    def _magnitude(self, vectors: Floats) -> Floats:
        length: Floats = self._cv2.magnitude(vectors[..., 0], vectors[..., 1])
        return length

    def _of_motion(self, speed: Floats, moving: Floats, patch_velocity: Floats, turn: Floats) -> Floats:
        patch_speed, angle = self._cv2.cartToPolar(patch_velocity[..., 0], patch_velocity[..., 1])
        # Of what moves in the patch; a fifth of it at least, or a few noisy pixels would be the fastest thing.
        mover_speed = patch_speed / np.maximum(self._cv2.boxFilter(moving, -1, self._patch), 0.2)
        mean_speed = self._mean(speed)
        flat_speed = patch_speed.ravel()
        return np.column_stack(
            [
                self._orientations(flat_speed, angle.ravel()) / self._cell_pixels,
                self._speeds(flat_speed) / self._cell_pixels,
                self._largest(patch_speed),
                self._largest(mover_speed),
                mean_speed,
                self._mean(speed * speed) / np.maximum(mean_speed, _MOVING / self._cell_pixels),
                self._mean(turn),
                self._largest(turn),
            ]
        )

    def _of_foreground(self, contrast: Floats, speed: Floats) -> Floats:
        foreground = (np.abs(contrast) > _FOREGROUND_CONTRAST).astype(np.float32)
        share = self._mean(foreground)
        return np.column_stack(
            [
                share,
                self._mean(speed * foreground) / np.maximum(share, 1 / self._cell_pixels),
                self._mean(foreground * (speed <= _MOVING)),
                self._mean(np.maximum(contrast, 0.0) * foreground) / 255.0,
            ]
        )

    def _orientations(self, speed: Floats, angle: Floats) -> NDArray[np.float64]:
        """Return the speed that goes each way, summed over each cell, shape (cells, ORIENTATIONS)."""
        way = np.minimum((angle * np.float32(ORIENTATIONS / (2 * np.pi))).astype(np.int32), ORIENTATIONS - 1)
        sums = np.bincount(self._cell_of * ORIENTATIONS + way, weights=speed, minlength=self._cells * ORIENTATIONS)
        return np.asarray(sums, dtype=np.float64).reshape(self._cells, ORIENTATIONS)

    def _speeds(self, speed: Floats) -> NDArray[np.float64]:
        """Count the pixels of each cell by speed, those below the first edge left out."""
        bins = len(SPEED_EDGES) + 1
        level = np.digitize(speed, SPEED_EDGES)
        counts = np.bincount(self._cell_of * bins + level, minlength=self._cells * bins).astype(np.float64)
        return counts.reshape(self._cells, bins)[:, 1:]

    def _largest(self, values: Floats) -> Floats:
        return np.asarray(self._by_cell(values).max(axis=(1, 3)).reshape(-1), dtype=np.float32)

    def _mean(self, values: Floats) -> Floats:
        rows, columns = GRIDS[0]
        means: Floats = self._cv2.resize(values, (columns, rows), interpolation=self._cv2.INTER_AREA)
        return means.ravel()

    def _by_cell(self, values: Floats) -> Floats:
        rows, columns = GRIDS[0]
        height, width = values.shape
        return values.reshape(rows, height // rows, columns, width // columns)

    def _updated_background(self, grey: NDArray[np.uint8]) -> NDArray[np.float32]:
        if self._background is None or self._seen % _BACKGROUND_EVERY == 0:
            self._history.append(grey)
            self._background = median_picture(np.stack(self._history))
            self._background_layout = layout_of(self._background)
        self._seen += 1
        return self._background


def median_picture(pictures: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the median of at most 255 pictures, shape (N, H, W): as NumPy's, without sorting."""
    middles = {(len(pictures) - 1) // 2, len(pictures) // 2}
    return np.asarray(np.mean([_ranked(pictures, rank) for rank in middles], axis=0, dtype=np.float32))


def _ranked(pictures: NDArray[np.uint8], rank: int) -> NDArray[np.uint8]:
    """Return of each pixel the value before which `rank` others stand, found bit by bit, shape (H, W)."""
    value = np.zeros(pictures.shape[1:], dtype=np.uint8)
    for bit in (128, 64, 32, 16, 8, 4, 2, 1):
        raised = value + np.uint8(bit)
        value = np.where((pictures < raised).sum(axis=0, dtype=np.uint8) <= rank, raised, value)
    return value


MOTION = EncoderBackend(make_encoder=lambda _, video: MotionEncoder(video), make_stream=lambda _: MotionStream())
