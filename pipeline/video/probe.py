"""What is known of a video file before anything is made of it, and whether all of it can be read."""

from __future__ import annotations

import hashlib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.losses import FrameSpan, LostSpans, lost_frames, lost_spans
from pipeline.video.pyav_decoder import LostFrameError, PyavDecoder


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoFacts:
    """The measured facts of a readable video.

    Attributes:
        fps: mean frame rate measured from the timestamps.
        num_frames: frames that a decoder puts out.
        duration_s: end of the last frame, or the one that the header promises beyond it, the first frame at 0.0.
        width: as shown, upright and of square pixels.
        height: likewise.
        codec: name of the codec, as libavcodec calls it.
        sha256: of the whole file.
        remarks: what of the file is not used, for people.
        lost: stretches [start_s, end_s) without a picture: of frames that were looked at and do not decode, pauses of
            the recorder, and an end that the header promises and the file lacks.
        lost_frames: the frames [start, end) of each of these.
        lost_share: of the frames, those that do not decode or are missing at the end, in [0, 1]; pauses do not count.
        missing_s: seconds of that end.
    """

    fps: float
    num_frames: int
    duration_s: float
    width: int
    height: int
    codec: str
    sha256: str
    remarks: tuple[str, ...] = ()
    lost: LostSpans = ()
    lost_frames: tuple[FrameSpan, ...] = ()
    lost_share: float = 0.0
    missing_s: float = 0.0


def probe(path: str | Path, verify: Literal["packets", "decode"] = "packets") -> VideoFacts:
    """Measure a video file and prove that it can be read to its end.

    Args:
        path: the video file.
        verify: packets reads every packet and decodes both ends of the video, and all of it where packets are damaged
            or missing; decode decodes every frame once.

    Raises:
        RecordError: with a reason of its own for everything that keeps a file from being a complete video.
    """
    path = Path(path)
    with closing(PyavDecoder(path, from_index=False)) as decoder:
        num_frames = decoder.timeline.num_frames
        missing = round(decoder.timeline.missing_s * decoder.timeline.fps)
        is_harmed = decoder.packets.is_damaged or decoder.packets.has_gaps
        looks_at_all = verify == "decode" or is_harmed or not _ends_well(decoder)
        lost = lost_frames(decoder) if looks_at_all else np.zeros(0, dtype=np.int64)
        spans = lost_spans(decoder.timeline, lost)
        width, height = decoder.size
        return VideoFacts(
            fps=decoder.timeline.fps,
            num_frames=num_frames,
            duration_s=decoder.timeline.duration_s,
            width=width,
            height=height,
            codec=decoder.codec_name,
            sha256=_sha256(path),
            remarks=decoder.remarks,
            lost=spans,
            lost_frames=tuple(decoder.timeline.frame_range(*span) for span in spans),
            lost_share=(len(lost) + missing) / (num_frames + missing),
            missing_s=decoder.timeline.missing_s,
        )


def _ends_well(decoder: PyavDecoder) -> bool:
    try:
        for _ in decoder.decode(np.array([decoder.timeline.num_frames - 1], dtype=np.int64)):
            pass
    except LostFrameError:
        return False
    return True


def _sha256(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as fault:
        raise RecordError(Reason.UNREADABLE, f"{path}: {fault.strerror}") from None
