"""Read the tracks of UBnormal: `<video>_tracks.txt`, a line `object, first frame, last frame` for each abnormal object.

Frames count from 0, and the last one belongs to the track. Where somebody corrected them, `<video>_new_tracks.txt`
stands for the other. There is no class, and a video without a track has no file.

Source: scripts/create_tracks_for_tbdc_rbdc.py of https://github.com/lilygeorgescu/UBnormal.
"""

from __future__ import annotations

import re

from annotation.formats.base import Format
from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.source import Source
from pipeline.errors import DataError
from pipeline.records import ABNORMAL, Reason

NAME = re.compile(r"(?P<video>.+?)(?P<new>_new)?_tracks\.txt", re.IGNORECASE)
"""What the files are called."""

_NUMBER = r"\s*(\d+)(?:\.0*)?\s*"
_LINE = re.compile(rf"{_NUMBER}[,;\s]{_NUMBER}[,;\s]{_NUMBER}")


def read_tracks(source: Source) -> Import:
    """Read the tracks as events; a line that is none is a fault and the rest goes on.

    Raises:
        DataError: the name of the file names no video, or the file holds no track.
    """
    called = NAME.fullmatch(source.name)
    if called is None:
        raise DataError(f"{source.path}: the name tells the video: <video>_tracks.txt is expected")
    video = called["video"]
    found = Import(format="ubnormal-tracks")
    for number, line in source.lines():
        place = f"{source.name}:{number}"
        track = _LINE.fullmatch(line)
        if track is None:
            found.fault(place, video, Reason.MALFORMED_ROW, f"{line[:80]!r}: object, first and last frame are expected")
            continue
        first, last = int(track[2]), int(track[3])
        found.take(
            ForeignSpan(
                video=video, start_frame=first, end_frame=last + 1, category=ABNORMAL, kind=SpanKind.EVENT, place=place
            )
        )  # fmt: skip
    if not found.spans and not found.faults:
        raise DataError(f"{source.path}: holds no track")
    return found


def _likeness(source: Source) -> float:
    if source.is_binary or NAME.fullmatch(source.name) is None:
        return 0.0
    return float(any(_LINE.fullmatch(line) for _, line in source.lines()))


UBNORMAL_TRACKS = Format(
    title="UBnormal: <video>_tracks.txt, a line object, first frame, last frame",
    likeness=_likeness,
    read=lambda source, _: read_tracks(source),
)
