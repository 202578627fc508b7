"""Features of a frame per snippet from any vision tower of transformers: CLIP, SigLIP, DINOv2, a video MLLM's own.

Towers that attend over time (`language_bind`) see the frames of several snippets in a row as one clip.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FeaturesConfig, VideoConfig
from pipeline.devices import is_gpu, move, pick_device, pick_dtype
from pipeline.errors import RecordError, SetupError
from pipeline.features.base import EncodedVideo, EncoderBackend, FeatureJob, Floats, num_snippets, write_features
from pipeline.features.language_bind import load_time_tower
from pipeline.features.packaged import SIDES, load_packaged
from pipeline.features.picture_fit import Fit, fit_picture
from pipeline.models.hf.model import model_identity
from pipeline.models.hf.torchvision_mend import mend_torchvision
from pipeline.needs import Needs, needs_of_device
from pipeline.records import Reason
from pipeline.video.pool import VideoPool
from pipeline.video.readers import FrameReader, ReaderName, open_reader

logger = logging.getLogger(__name__)

_CHUNK = 128  # snippets read by a worker at once
_LARGER = 1.15  # frames are read a little larger than the tower sees them, for its own scaling and cropping


@dataclass(frozen=True, slots=True)
class _Chunk:
    """Some snippets of a job: the frames to read, scaled so that the shorter side is `short_side`."""

    job: FeatureJob
    first: int
    end: int
    short_side: int
    reader: ReaderName


class VisionTowerEncoder:
    """Encodes the middle frame of every snippet; frames are read in worker processes while the model works."""

    def __init__(self, config: FeaturesConfig, video: VideoConfig) -> None:
        self.name = config.encoder
        self._config = config
        self._video = video
        self._keeps = False
        self._kept: VisionTower | None = None

    def needs(self) -> Needs:
        """Return that it takes the device of `features.device`."""
        return needs_of_device(self._config.device)

    def keep(self) -> None:
        """Keep the tower between calls."""
        self._keeps = True

    def identity(self) -> Mapping[str, Any]:
        return {
            "encoder": model_identity(self.name),
            "version": 3 if self.name in SIDES else 1,
            "revision": self._config.revision,
            "pooling": self._config.pooling,
            "dtype": self._config.dtype,
            # What was made before there was a choice is up to date.
            **({} if self._config.fit == "model" else {"fit": self._config.fit}),
        }

    def encode(self, jobs: Iterable[FeatureJob]) -> Iterator[EncodedVideo | RecordError]:
        tower = self._kept or VisionTower(self._config)
        if self._keeps:
            self._kept = tower
        begun: deque[_Chunk] = deque()

        def chunks() -> Iterator[_Chunk]:
            for job in jobs:
                count = num_snippets(job.video.num_frames, job.stride_frames)
                for first, end in tower.parts(count):
                    chunk = _Chunk(job, first, end, tower.read_side, self._video.reader)
                    begun.append(chunk)
                    yield chunk

        with VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool:
            read = ((begun.popleft(), frames) for frames in pool.map(read_middle_frames, chunks()))
            for _, of_video in groupby(read, key=lambda pair: pair[0].job.video.video_id):
                try:
                    yield _write(tower, of_video)
                except RecordError as fault:
                    yield fault


def _write(tower: VisionTower, chunks: Iterator[tuple[_Chunk, NDArray[np.uint8] | RecordError]]) -> EncodedVideo:
    """Encode and write the chunks of one video.

    Raises:
        RecordError: the first that came instead of frames.
    """
    first = next(chunks)

    def blocks() -> Iterator[tuple[Floats, int]]:
        for chunk, frames in chain([first], chunks):
            if isinstance(frames, RecordError):
                raise frames
            yield tower.encode(frames), chunk.end - chunk.first

    job = first[0].job
    count = num_snippets(job.video.num_frames, job.stride_frames)
    return write_features(job.path, count, job.video.video_id, with_stand_ins(blocks(), job.video.path))


def with_stand_ins(blocks: Iterable[tuple[Floats, int]], name: str) -> Iterator[Floats]:
    """Yield the features of all snippets, shape (1, n, dim): where nothing decodes, what came before stands in.

    Before the first that is there, it is that one.

    Args:
        blocks: features, shape (n, dim), or empty where none of n frames decodes, and n.
        name: the video, for messages.

    Raises:
        RecordError: DECODE_FAILED where there are none at all.
    """
    owed = 0
    latest: Floats | None = None
    for features, count in blocks:
        if len(features):
            if owed:
                yield np.repeat(features[None, :1], owed, axis=1)
                owed = 0
            latest = features[None, -1:]
            yield features[None]
        elif latest is None:
            owed += count
        else:
            yield np.repeat(latest, count, axis=1)
    if owed:
        raise RecordError(Reason.DECODE_FAILED, f"{name}: of none of its {owed} snippets the middle frame decodes")


def read_middle_frames(chunk: _Chunk) -> NDArray[np.uint8]:
    """Return the middle frame of each snippet of a chunk, RGB, shape (n, H, W, 3). Runs in a worker process.

    Those that do not decode look like the one before; there is none where no frame of the chunk does.

    Raises:
        RecordError: where the video cannot be read.
    """
    video = chunk.job.video
    size = _scaled(video.width, video.height, chunk.short_side)
    with open_reader(video.path, chunk.reader, size=size) as reader:
        return _middle_frames(reader, chunk.first, chunk.end, chunk.job.stride_frames)


def _middle_frames(reader: FrameReader, first: int, end: int, stride: int) -> NDArray[np.uint8]:
    last = reader.timeline.num_frames
    starts = np.arange(first, end) * stride
    middles = (starts + np.minimum(starts + stride, last)) // 2
    try:
        return reader.frames_at(np.clip(middles, 0, last - 1).tolist(), max_lost_share=1.0)
    except RecordError as fault:
        if fault.reason is not Reason.DECODE_FAILED:
            raise
        return np.empty((0, reader.height, reader.width, 3), dtype=np.uint8)


def _scaled(width: int, height: int, short_side: int) -> tuple[int, int] | None:
    scale = short_side / min(width, height)
    return None if scale >= 1 else (round(width * scale), round(height * scale))


class TowerStream:
    """Encodes the middle frame of every snippet in this process. See `FeatureStream`."""

    def __init__(self, config: FeaturesConfig) -> None:
        """Load the tower.

        Raises:
            SetupError: if there is no such model, or it has no vision tower.
        """
        self._tower = VisionTower(config)

    def blocks(self, path: str | Path, stride_frames: int, reader: ReaderName) -> Iterator[Floats]:
        side = self._tower.read_side
        with open_reader(path, reader, size=lambda width, height: _scaled(width, height, side)) as small:
            parts = self._tower.parts(num_snippets(small.timeline.num_frames, stride_frames))
            blocks = (
                (self._tower.encode(_middle_frames(small, first, end, stride_frames)), end - first)
                for first, end in parts
            )
            yield from with_stand_ins(blocks, str(path))

    def live(self, width: int, height: int, fps: float, stride_frames: int) -> LiveTower:  # noqa: ARG002
        size = _scaled(width, height, self._tower.read_side) or (width, height)
        return LiveTower(self._tower, size, stride_frames)


class LiveTower:
    """Encodes the middle frame of every snippet as frames come. See `LiveFeatures`."""

    def __init__(self, tower: VisionTower, size: tuple[int, int], stride_frames: int) -> None:
        self.size = size
        self._tower = tower
        self._stride_frames = stride_frames
        self._waiting: list[NDArray[np.uint8]] = []
        self._latest: NDArray[np.uint8] | None = None
        self._taken = 0

    def wants(self, index: int) -> bool:
        return index == 0 or index % self._stride_frames == self._stride_frames // 2

    def add(self, index: int, frame: NDArray[np.uint8], time_s: float) -> list[Floats]:  # noqa: ARG002
        self._latest = frame
        if index % self._stride_frames != self._stride_frames // 2:
            return []
        self._waiting.append(frame)
        self._taken += 1
        return self._encoded() if len(self._waiting) == self._tower.window_frames else []

    def finish(self, count: int) -> list[Floats]:
        if self._latest is not None and self._taken < count:
            # The last snippet ended before its middle: it looks like what came last.
            self._waiting += [self._latest] * (count - self._taken)
            self._taken = count
        return self._encoded()

    def _encoded(self) -> list[Floats]:
        if not self._waiting:
            return []
        features = self._tower.encode(np.stack(self._waiting))
        self._waiting.clear()
        return list(features)


class VisionTower:
    """A model's vision tower with its image processor.

    Attributes:
        side: side in pixels of the square that the tower sees.
        window_frames: frames that the tower sees as one clip, 1 where it sees each alone.

    Raises:
        SetupError: if there is no such model, or it has no vision tower.
    """

    def __init__(self, config: FeaturesConfig) -> None:
        mend_torchvision()
        import torch
        from transformers import AutoImageProcessor, AutoModel
        from transformers.image_processing_backends import TorchvisionBackend

        self._torch = torch
        self._config = config
        self._device = pick_device(config.device, "features.device")
        self._dtype = pick_dtype(config.dtype, self._device)
        name, revision = config.encoder, config.revision
        self.window_frames = 1
        try:
            over_time = None if name in SIDES else load_time_tower(name, revision, self._dtype)
            if name in SIDES:
                model, self._processor = load_packaged(name)
                model = model.to(self._dtype)
            elif over_time is not None:
                model, self._processor, self.window_frames = (
                    over_time.model, over_time.processor, over_time.window_frames,
                )  # fmt: skip
            else:
                self._processor = AutoImageProcessor.from_pretrained(name, revision=revision)
                model = AutoModel.from_pretrained(name, revision=revision, dtype=self._dtype)
        except (OSError, ValueError, ImportError, KeyError, RuntimeError) as fault:
            lines = str(fault).strip().splitlines() or [type(fault).__name__]
            raise SetupError(f"features.encoder={name}: cannot be loaded: {lines[0]}") from None
        # Frames are scaled where the tower is, if their processor can.
        self._where = {"device": self._device} if isinstance(self._processor, TorchvisionBackend) else {}
        self._fit: Fit | Literal["model"] = "aspect" if name in SIDES and config.fit == "model" else config.fit
        self._pooling = "max" if name in SIDES and config.pooling == "class" else config.pooling
        self._tower: Any = _vision_part(model).to(self._device).eval()
        if self._fit == "aspect" and hasattr(self._tower.config, "num_attention_heads"):
            # Of a transformer each place in the square has a position of its own.
            raise SetupError(f"features.fit=aspect: {name} sees squares alone; letterbox shows the whole picture")
        side = getattr(self._tower.config, "image_size", 224)
        self.side: int = side if isinstance(side, int) else min(side)
        logger.info("%s: %s on %s", name, type(self._tower).__name__, self._device)

    @property
    def read_side(self) -> int:
        """Shorter side in pixels that frames are read with."""
        return round(self.side * _LARGER)

    def parts(self, count: int) -> Iterator[tuple[int, int]]:
        """Yield the stretches [first, end) of `count` snippets that are read at once."""
        # Whole windows, so that they fall alike whatever is read at once.
        size = -(-_CHUNK // self.window_frames) * self.window_frames
        for first in range(0, count, size):
            yield first, min(count, first + size)

    def encode(self, frames: NDArray[np.uint8]) -> Floats:
        """Return the features of frames, float32, shape (n, dim), where n may be 0."""
        window = self.window_frames
        parts = []
        size = max(1, self._config.batch_size // window) * window
        for first in range(0, len(frames), size):
            batch = list(frames[first : first + size])
            count = len(batch)
            batch += batch[-1:] * (-count % window)  # the last frame fills the last window
            parts.append(self._seen(batch)[:count].float())
        # Read off the device at the end alone: a GPU need not stop between two batches.
        return self._torch.cat(parts).cpu().numpy() if parts else np.empty((0, 0), dtype=np.float32)

    def _seen(self, frames: list[NDArray[np.uint8]]) -> Any:
        """Return the features of frames as they meet the tower, shape (n, dim)."""
        if self._fit == "model":
            return self._run(self._processor(images=self._placed(frames), return_tensors="pt", **self._where))
        squares = [fit_picture(frame, self.side, self._fit) for frame in frames]
        tiles = [
            self._run(
                self._processor(
                    images=self._placed(tile), return_tensors="pt", do_resize=False, do_center_crop=False, **self._where
                )
            )
            for tile in zip(*squares, strict=True)
        ]
        together = self._torch.stack(tiles)
        return together.amax(dim=0) if self._pooling == "max" else together.mean(dim=0)

    def _placed(self, pictures: Sequence[NDArray[np.uint8]]) -> list[Any]:
        """Return pictures of one size as the processor takes them, which would wait for each one's copy to a GPU."""
        if not (self._where and is_gpu(self._device)):
            return list(pictures)
        return list(move(self._torch.from_numpy(np.stack(pictures)), self._device).permute(0, 3, 1, 2))

    def _run(self, prepared: Any) -> Any:
        pixels = move(prepared["pixel_values"], self._device, self._dtype)
        with self._torch.inference_mode():
            return self._pooled(self._tower(pixel_values=pixels).last_hidden_state)

    def _pooled(self, hidden: Any) -> Any:
        """Reduce (n, tokens, dim) or, of convolutional towers, (n, dim, h, w), to (n, dim)."""
        if hidden.ndim == 4:
            return hidden.amax(dim=(2, 3)) if self._pooling == "max" else hidden.mean(dim=(2, 3))
        # SigLIP has no class token: its first token is a patch like the others.
        has_class_token = any("class" in name or "cls" in name for name, _ in self._tower.named_parameters())
        if self._pooling == "class" and has_class_token:
            return hidden[:, 0]
        patches = hidden[:, int(has_class_token) :]
        return patches.amax(dim=1) if self._pooling == "max" else patches.mean(dim=1)


def _vision_part(model: Any) -> Any:
    """Return the vision tower of a model: a part of two-tower models and MLLMs, the whole of pure vision models."""
    for holder in (model, getattr(model, "model", None)):
        for name in ("vision_model", "vision_tower", "visual", "video_tower", "image_tower"):
            part = getattr(holder, name, None)
            if part is not None:
                return part
    return model


VISION = EncoderBackend(make_encoder=VisionTowerEncoder, make_stream=TowerStream)
