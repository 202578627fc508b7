"""Small animated pictures of clips, for pages that people look at."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.errors import RecordError

if TYPE_CHECKING:
    from PIL.Image import Image

NUM_FRAMES = 12
WIDTH = 240
"""Longest side of a picture in pixels."""

_FRAME_MS = 320
_GLANCE_MS = 1200
_GLANCE_RGB = (255, 196, 0)
_TIMEOUT_S = 60.0
_MEMORY_MB = 2048
# Bounds for what one page carries: the quality drops before a picture grows beyond its share.
_MAX_BYTES = 180_000
_QUALITIES = (62, 45, 30, 15)


@dataclass(frozen=True, slots=True, kw_only=True)
class ThumbnailJob:
    """A span of a video file, in the file's own time, and the moment in it to mark."""

    path: str
    start_s: float
    end_s: float
    glance_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """An animated WebP and, for readers who want no motion, a still one."""

    animation: bytes
    still: bytes
    width: int
    height: int


def make_thumbnails(jobs: Sequence[ThumbnailJob]) -> Iterator[Thumbnail | RecordError]:
    """Yield one thumbnail or one fault per job, made in worker processes."""
    from pipeline.video.pool import VideoPool

    with VideoPool(0, _TIMEOUT_S, _MEMORY_MB) as pool:
        yield from pool.map(make_thumbnail, jobs)


def make_thumbnail(job: ThumbnailJob) -> Thumbnail:
    """Draw up to a dozen evenly spaced frames of a span; the one nearest to the glance is framed and lingers.

    Raises:
        RecordError: if the file cannot be read.
    """
    from PIL import Image, ImageDraw

    from pipeline.video.readers import open_reader

    with open_reader(job.path) as reader:
        start, end = reader.timeline.frame_range(job.start_s, job.end_s)
        end = min(max(end, start + 1), reader.timeline.num_frames)
        start = min(start, end - 1)
        count = min(NUM_FRAMES, end - start)
        indices = [start + (2 * i + 1) * (end - start) // (2 * count) for i in range(count)]
        glance = None
        if job.glance_s is not None:
            glance = min(max(reader.timeline.frame_at(job.glance_s), indices[0]), end - 1)
            indices = sorted({*indices, glance})
        scale = min(WIDTH / reader.width, WIDTH / reader.height)
        size = max(1, round(reader.width * scale)), max(1, round(reader.height * scale))
        # Scaled here and not by the reader: Pillow averages over all pixels when it shrinks a picture.
        pictures = [Image.fromarray(frame).resize(size) for frame in reader.frames_at(indices)]
    places = [(index - start) / (end - start) for index in indices]
    marked = None if glance is None else indices.index(glance)
    for position, picture in enumerate(pictures):
        _draw_progress(picture, places[position], None if marked is None else places[marked])
        if position == marked:
            ImageDraw.Draw(picture).rectangle((0, 0, size[0] - 1, size[1] - 1), outline=_GLANCE_RGB, width=4)
    durations = [_GLANCE_MS if position == marked else _FRAME_MS for position in range(len(pictures))]
    still = pictures[len(pictures) // 2 if marked is None else marked]
    return Thumbnail(animation=_encode(pictures, durations), still=_encode([still], [0]), width=size[0], height=size[1])


def _draw_progress(picture: Image, place: float, glance_place: float | None) -> None:
    """Draw a line along the bottom that fills with time, with a notch where the glance is."""
    from PIL import ImageDraw

    draw = ImageDraw.Draw(picture, "RGBA")
    width, height = picture.size
    draw.rectangle((0, height - 4, width, height), fill=(0, 0, 0, 150))
    draw.rectangle((0, height - 4, round(width * place), height), fill=(255, 255, 255, 220))
    if glance_place is not None:
        notch = round(width * glance_place)
        draw.rectangle((notch - 1, height - 7, notch + 1, height), fill=(*_GLANCE_RGB, 255))


def _encode(pictures: Sequence[Image], durations_ms: Sequence[int]) -> bytes:
    for quality in _QUALITIES:
        buffer = io.BytesIO()
        pictures[0].save(
            buffer, "WEBP", save_all=len(pictures) > 1, append_images=list(pictures[1:]), loop=0, method=4,
            quality=quality, **({"duration": list(durations_ms)} if len(pictures) > 1 else {}),
        )  # fmt: skip
        if buffer.tell() <= _MAX_BYTES:
            break
    return buffer.getvalue()
