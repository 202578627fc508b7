"""One picture of a video, for lists and messages."""

from __future__ import annotations

import io
from pathlib import Path

from pipeline.video.readers import open_reader

STILL_MAX_SIDE = 640
_QUALITY = 80


def middle_still(path: Path) -> bytes:
    """Return the middle frame of a video as JPEG, its sides at most STILL_MAX_SIDE pixels.

    Raises:
        RecordError: the file is no readable video.
    """
    from PIL import Image

    with open_reader(path) as reader:
        [frame] = reader.frames_at([reader.timeline.num_frames // 2])
    picture = Image.fromarray(frame)
    picture.thumbnail((STILL_MAX_SIDE, STILL_MAX_SIDE))
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()
