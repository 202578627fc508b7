"""The videos of one folder, offered to be looked at: their names, lengths and a picture each."""

from __future__ import annotations

import base64
import io
import logging
from dataclasses import dataclass
from pathlib import Path

from pipeline.errors import RecordError, SetupError
from pipeline.stages.listing import Source, list_sources

logger = logging.getLogger(__name__)

OFFERED_MAX = 60

_PICTURE_WIDTH = 320
_TIMEOUT_S = 60.0
_MEMORY_MB = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedVideo:
    """A video of the folder: its resolved path, its name below the folder, and a still from its middle as data URI."""

    path: Path
    name: str
    duration_s: float
    picture: str


def list_offered(folder: Path, *, max_minutes: float) -> list[OfferedVideo]:
    """Return the readable videos of a folder and those below it, in the order of their names.

    Left out, and named in the log, are links that lead out of the folder, what cannot be read, what is too long, and
    what exceeds OFFERED_MAX.

    Raises:
        SetupError: there is no such folder, or no video in it.
    """
    from pipeline.video.pool import VideoPool

    if not folder.is_dir():
        raise SetupError(f"--videos {folder}: no such folder")
    root = folder.resolve()
    found = [Path(source.path) for source in list_sources([str(folder)]) if isinstance(source, Source)]
    inside = [path for path in found if path.resolve().is_relative_to(root)]
    for path in sorted(set(found) - set(inside)):
        logger.warning("%s: leads out of %s, not offered", path, folder)
    if not inside:
        raise SetupError(f"--videos {folder}: no video in it")
    if len(inside) > OFFERED_MAX:
        logger.warning("%s: %d videos, the first %d are offered", folder, len(inside), OFFERED_MAX)
    offered = []
    paths = inside[:OFFERED_MAX]
    with VideoPool(0, _TIMEOUT_S, _MEMORY_MB) as pool:
        for path, looked in zip(paths, pool.map(_look, map(str, paths)), strict=True):
            if isinstance(looked, RecordError):
                logger.warning("%s: not offered: %s", path, looked)
            elif looked[0] > max_minutes * 60:
                logger.warning("%s: %.1f minutes exceed %g, not offered", path, looked[0] / 60, max_minutes)
            else:
                name = path.relative_to(folder).as_posix()
                offered.append(OfferedVideo(path=path.resolve(), name=name, duration_s=looked[0], picture=looked[1]))
    return offered


def _look(path: str) -> tuple[float, str]:
    """Return the length in seconds and the picture in the middle."""
    from PIL import Image

    from pipeline.video.readers import open_reader

    with open_reader(path) as reader:
        [frame] = reader.frames_at([reader.timeline.num_frames // 2])
        duration_s = reader.timeline.duration_s
    picture = Image.fromarray(frame)
    picture.thumbnail((_PICTURE_WIDTH, _PICTURE_WIDTH))
    buffer = io.BytesIO()
    picture.save(buffer, "WEBP", quality=60)
    return duration_s, f"data:image/webp;base64,{base64.b64encode(buffer.getvalue()).decode()}"
