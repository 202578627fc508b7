"""A bounded piece of a camera's stream, kept as it comes: then it is a video like any other.

FFmpeg reads the stream, and goes where the camera sends it: unlike `fetch` it cannot be held to the addresses that were
checked. So streams are taken only where addresses of private networks are, on which cameras live in any case.
"""

from __future__ import annotations

import time
from fractions import Fraction
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

from flows.api.faults import ApiFault
from flows.page.intake import MIB, apart
from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.container import best_stream
from pipeline.video.live import TIMEOUT_S, without_password

STREAM_PORTS = {"rtsp": 554, "rtsps": 322}
"""Schemes of streams, and the port that each means."""

DEFAULT_S = 30.0
"""Seconds of a stream that are looked at where the caller does not say how many."""


def is_stream(url: str) -> bool:
    """Whether an address is that of a stream."""
    return urlsplit(url).scheme in STREAM_PORTS


def record(url: str, out: Path, *, seconds: float, max_mb: int) -> None:
    """Write the next `seconds` of a stream to `out`, a Matroska file, or less where it ends or breaks off.

    Raises:
        ApiFault: 502 where nothing comes, 413 where more than `max_mb` MiB do.
    """
    made = apart(partial(copy_packets, out=out, seconds=seconds, max_mb=max_mb), url, seconds + 3 * TIMEOUT_S)
    if isinstance(made, RecordError):
        raise ApiFault(502, "fetch_failed", made.detail.replace(url, without_password(url)))
    if made > max_mb * MIB:
        raise ApiFault(
            413, "too_large", f"url: {seconds:g} s of the stream are more than the {max_mb} MB that are taken here"
        )


def copy_packets(url: str, out: Path, *, seconds: float, max_mb: int) -> int:
    """Copy the video packets of a stream from a key packet on, and return how many bytes; runs in a worker process.

    Raises:
        RecordError: UNREADABLE where nothing answers, NO_VIDEO_STREAM where no complete picture comes.
    """
    import av

    options = {"rtsp_transport": "tcp"} if is_stream(url) else {}
    deadline = time.monotonic() + seconds + TIMEOUT_S
    written = 0
    first_s: Fraction | None = None
    try:
        with (
            av.open(url, options=options, timeout=(TIMEOUT_S, TIMEOUT_S), metadata_errors="replace") as camera,
            av.open(str(out), "w", format="matroska") as file,
        ):
            if not camera.streams.video:
                raise RecordError(Reason.NO_VIDEO_STREAM, f"{url}: no video stream")
            stream = best_stream(camera.streams.video)
            kept = file.add_stream_from_template(stream)
            for packet in camera.demux(stream):
                time_s = None if packet.dts is None or packet.time_base is None else packet.dts * packet.time_base
                if not packet.size or time_s is None or (first_s is None and not packet.is_keyframe):
                    continue
                first_s = time_s if first_s is None else first_s
                written += packet.size
                if time_s - first_s >= seconds or written > max_mb * MIB or time.monotonic() > deadline:
                    break
                packet.stream = kept
                file.mux(packet)
    except (OSError, ValueError, av.error.FFmpegError) as fault:
        # Most streams end by breaking off, and what came is worth no less.
        if first_s is None:
            raise RecordError(Reason.UNREADABLE, f"{url}: {getattr(fault, 'strerror', None) or fault}") from None
    if first_s is None:
        raise RecordError(Reason.NO_VIDEO_STREAM, f"{url}: no complete picture within {seconds:g} s")
    return written
