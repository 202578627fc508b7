"""What an encoder is, and how its features are stored.

A video of N frames has ceil(N / stride_frames) snippets; snippet t covers the frames [t * stride_frames,
(t + 1) * stride_frames). Others' features may have any number of snippets, equal parts of their video: stride_frames is
0 there. Features are float16, shape (crops, num_snippets, dim), in a plain .npy file that training
maps into memory.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FeaturesConfig, VideoConfig
from pipeline.errors import RecordError
from pipeline.records import Reason, Video
from pipeline.storage import TEMPORARY
from pipeline.video.readers import ReaderName

Features = NDArray[np.float16]
Floats = NDArray[np.float32]

_SHORTEST = 1e-6

_LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureJob:
    """A video to encode and the file to write; `stride_frames` is 0 where snippets are equal parts of the video."""

    video: Video
    stride_frames: int
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class EncodedVideo:
    """What was written: the shape of the array and the hash of the file."""

    crops: int
    num_snippets: int
    dim: int
    sha256: str


class FeatureStream(Protocol):
    """Computes the features of one video after the other, block by block, in this process.

    What it yields is what an encoder of the same name writes, before it is rounded to float16.
    """

    def blocks(self, path: str | Path, stride_frames: int, reader: ReaderName) -> Iterator[Floats]:
        """Yield the features of a few snippets at a time, shape (crops, n, dim), in time order.

        Raises:
            RecordError: where the video cannot be read.
        """
        ...

    def live(self, width: int, height: int, fps: float, stride_frames: int) -> LiveFeatures:
        """Return what computes the features of frames that come one by one, of a stream of that size and rate."""
        ...


class LiveFeatures(Protocol):
    """Computes features of frames as they come, of every snippet when it is over.

    Attributes:
        size: width and height that frames are scaled to.
    """

    size: tuple[int, int]

    def wants(self, index: int) -> bool:
        """Tell whether the frame at `index` has to be given to `add`; the others are not."""
        ...

    def add(self, index: int, frame: NDArray[np.uint8], time_s: float) -> list[Floats]:
        """Take a frame, RGB, and return the features of the snippets that are finished, shape (dim,) each."""
        ...

    def finish(self, count: int) -> list[Floats]:
        """Return the features of all snippets up to the number `count` that `add` has not returned."""
        ...


class FeatureEncoder(Protocol):
    """Turns videos into features.

    Attributes:
        name: names the encoder and, where there is one, its model.
    """

    name: str

    def identity(self) -> Mapping[str, Any]:
        """Return what decides the features beside video and stride: code version, model, settings."""
        ...

    def encode(self, jobs: Iterable[FeatureJob]) -> Iterator[EncodedVideo | RecordError]:
        """Write the file of every job and yield what was written, in the order of the jobs."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderBackend:
    """An encoder by name: what encodes a workspace's videos, and what computes the same features in this process.

    `make_stream` raises SetupError where features cannot be computed for a new video, or a model cannot be loaded.
    """

    make_encoder: Callable[[FeaturesConfig, VideoConfig], FeatureEncoder]
    make_stream: Callable[[FeaturesConfig], FeatureStream]


def of_unit_length(features: Floats) -> Floats:
    """Return features scaled to length 1 along the last axis; those of length 0 stay."""
    scaled: Floats = features / np.maximum(np.linalg.norm(features, axis=-1, keepdims=True), _SHORTEST)
    return scaled


def num_snippets(num_frames: int, stride_frames: int) -> int:
    """Return how many snippets a video has."""
    return -(-num_frames // stride_frames)


def snippet_edges(num_frames: int, count: int, stride_frames: int) -> NDArray[np.int64]:
    """Return the frames at which the `count` snippets of a video begin, and the end of the last: shape (count + 1,).

    Args:
        num_frames: of the video, at least `count`.
        count: number of snippets; `num_snippets` where `stride_frames` is not 0.
        stride_frames: frames of a snippet; 0 for equal parts of the video, to a frame.
    """
    places = np.arange(count + 1, dtype=np.int64)
    return np.minimum(places * stride_frames, num_frames) if stride_frames else places * num_frames // count


def snippets_that_begin(frames: Iterable[int], edges: NDArray[np.int64]) -> list[int]:
    """Return the snippets, ascending, that begin nearest to some frames; the first and the end are none of them.

    Args:
        frames: any number of them.
        edges: as `snippet_edges`.
    """
    nearest = {int(np.abs(edges - frame).argmin()) for frame in frames}
    return sorted(nearest - {0, len(edges) - 1})


def snippet_s(num_frames: int, count: int, stride_frames: int, fps: float) -> float:
    """Return how many seconds a snippet lasts; arguments as `snippet_edges`."""
    return (stride_frames or num_frames / count) / fps


def stored(features: Floats) -> Features:
    """Return features as they are stored."""
    # float16 ends at 65,504; a clipped outlier is worth more than an infinite one.
    return np.clip(features, -_LARGEST, _LARGEST).astype(np.float16)


def write_features(path: Path, count: int, name: str, blocks: Iterable[Floats]) -> EncodedVideo:
    """Write a features file block by block in memory that does not grow; the file appears whole or not at all.

    Args:
        path: the file.
        count: number of snippets of the video.
        name: the video, for messages.
        blocks: the features of some snippets after the other, shape (crops, n, dim).

    Raises:
        RecordError: BAD_FEATURES where a value is not finite, or other than `count` snippets come.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    shape: tuple[int, int, int] | None = None
    written = 0
    try:
        for block in blocks:
            if not np.isfinite(block).all():
                at = written + int(np.argwhere(~np.isfinite(block))[0][1])
                raise RecordError(Reason.BAD_FEATURES, f"{name}: snippet {at} holds a value that is not finite")
            mode: Literal["w+", "r+"] = "w+" if shape is None else "r+"
            shape = shape or (block.shape[0], count, block.shape[2])
            # Mapped for one block at a time: pages that stay mapped count as the worker's memory.
            array = np.lib.format.open_memmap(  # type: ignore[no-untyped-call]
                temporary, mode=mode, dtype=np.float16, shape=shape
            )
            array[:, written : written + block.shape[1]] = stored(block)
            written += block.shape[1]
        if shape is None or written != count:
            raise RecordError(Reason.BAD_FEATURES, f"{name}: {written} snippets of {count}")
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        temporary.replace(path)
        return EncodedVideo(crops=shape[0], num_snippets=count, dim=shape[2], sha256=sha256)
    finally:
        temporary.unlink(missing_ok=True)


def open_features(path: Path) -> Features:
    """Map a features file into memory, shape (crops, num_snippets, dim).

    Raises:
        RecordError: BAD_FEATURES where the file is missing or of another shape or type.
    """
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as fault:
        raise RecordError(Reason.BAD_FEATURES, f"{path}: {fault}") from None
    if array.ndim != 3 or array.dtype != np.float16:
        raise RecordError(
            Reason.BAD_FEATURES, f"{path}: {array.dtype} of shape {array.shape}; expected float16 (crops, T, D)"
        )
    return cast(Features, array)
