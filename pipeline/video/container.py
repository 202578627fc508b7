"""Opening of video files: every way in which a path is not a readable video gets its own reason."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video import mp4
from pipeline.video.unpacking import may_be_packed, unpacked

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

# Naming the demuxers keeps text files from being taken for playlists, which could open other files or addresses.
_VIDEO_FORMATS = (
    "mov,mp4,matroska,webm,avi,mpegts,mpeg,mpegvideo,flv,asf,ogg,mxf,dhav,rm,wtv,nut,ivf,gif,dv,h264,hevc,m4v,mjpeg,obu"
)
_AUDIO_FORMATS = "mp3,wav,flac,aac,ac3,amr,aiff,w64,caf"
_IMAGE_FORMATS = "image2,png_pipe,jpeg_pipe,webp_pipe,bmp_pipe,tiff_pipe,jpegls_pipe,j2k_pipe,svg_pipe,psd_pipe"

_OPTIONS = {"format_whitelist": f"{_VIDEO_FORMATS},{_AUDIO_FORMATS},{_IMAGE_FORMATS}"}

_DEFAULT_WEIGHT = 5_000_000
"""Pixels by which a stream that is marked as default may be smaller and still be chosen, as in `ffmpeg`."""

_MPEG_PS_VIDEO = range(0x1E0, 0x1F0)
"""Identifiers of video streams in MPEG-PS, whose codec libavformat guesses from their content."""

_RESYNC_BYTES = 1 << 16
"""How far libavformat looks for the next packet of a transport stream before it gives notice."""


def check_file(path: Path) -> None:
    """Check that `path` is a readable, regular file with something in it.

    Raises:
        RecordError: NO_FOOTAGE where the path is empty, as that of a video without footage is; FILE_MISSING, NOT_A_FILE
            (a folder, a device, a loop of links), UNREADABLE or EMPTY_FILE.
    """
    if path == Path():
        raise RecordError(Reason.NO_FOOTAGE, "the manifest names no file for this video, and this needs its pictures")
    try:
        status = path.stat()
    except FileNotFoundError:
        raise RecordError(Reason.FILE_MISSING, f"{path}: no such file") from None
    except OSError as fault:
        reason = Reason.NOT_A_FILE if fault.errno in (errno.ELOOP, errno.ENOTDIR) else Reason.UNREADABLE
        raise RecordError(reason, f"{path}: {fault.strerror}") from None
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise RecordError(Reason.NOT_A_FILE, f"{path}: {kind}")
    if not os.access(path, os.R_OK):
        raise RecordError(Reason.UNREADABLE, f"{path}: permission denied")
    if status.st_size == 0:
        raise RecordError(Reason.EMPTY_FILE, f"{path}: zero bytes")


@contextmanager
def open_video(path: Path) -> Iterator[tuple[InputContainer, VideoStream]]:
    """Open a file and its video stream, of several the one that `best_stream` says, set to decode on one thread.

    Raises:
        RecordError: as `check_file`, and NOT_A_VIDEO, NO_VIDEO_STREAM, UNSUPPORTED_CODEC, TRUNCATED or UNREADABLE.
    """
    import av

    check_file(path)
    # An absolute path cannot be taken for an address such as "a:b.mp4".
    address = os.path.abspath(path)  # noqa: PTH100  (Path.resolve would fail on names that only exist as links)
    try:
        try:
            container = av.open(address, options=_OPTIONS, metadata_errors="replace")
        except (av.error.InvalidDataError, EOFError):
            end = mp4.broken_fragment(path)
            if end is None:
                raise
            whole = f"subfile,,start,0,end,{end},,:{address}"
            container = av.open(whole, options=_OPTIONS, metadata_errors="replace")
    except PermissionError:
        raise RecordError(Reason.UNREADABLE, f"{path}: permission denied") from None
    except (av.error.InvalidDataError, av.error.ArgumentError, ValueError, EOFError):
        raise _not_a_video(path) from None
    except MemoryError:
        # A damaged header can ask for any amount; the file is at fault, not the machine.
        raise RecordError(Reason.OUT_OF_MEMORY, f"{path}: its header asks for more memory than there is") from None
    except (OSError, av.error.FFmpegError) as fault:
        raise RecordError(Reason.UNREADABLE, f"{path}: {getattr(fault, 'strerror', None) or fault}") from None
    with container:
        yield container, _video_stream(container, path)


def demux(container: InputContainer, *streams: Stream) -> Iterator[Packet[Stream]]:
    """Yield the packets of `streams`, or of all streams where none is named, with one picture in each.

    The empty ones at the end are left out.

    Raises:
        RecordError: UNREADABLE where reading fails before the end of the file.
    """
    packets = _stored_packets(container, *streams)
    for stream in container.streams.video:
        if may_be_packed(stream):
            packets = unpacked(packets, stream)
    return packets


def _stored_packets(container: InputContainer, *streams: Stream) -> Iterator[Packet[Stream]]:
    import av

    for _ in range(2 + container.size // _RESYNC_BYTES):
        try:
            for packet in container.demux(*streams):
                if packet.size:
                    yield packet
            return
        except av.error.BlockingIOError:
            continue  # recorders set space aside: the zeros in it are passed over, so many at a time
        except IndexError:
            return  # at the very end PyAV 18 stumbles over streams that a transport stream announces late
        except av.error.FFmpegError as fault:
            raise RecordError(Reason.UNREADABLE, f"{container.name}: {fault.strerror}") from None


def _not_a_video(path: Path) -> RecordError:
    with path.open("rb") as file:
        head = file.read(12)
    if head[4:8] in (b"ftyp", b"mdat", b"free", b"wide", b"skip"):
        return RecordError(
            Reason.TRUNCATED,
            f"{path}: an MP4 file without a complete index (moov box): recording or copy stopped early",
        )
    return RecordError(Reason.NOT_A_VIDEO, f"{path}: no video format is recognised in its {path.stat().st_size} bytes")


def _video_stream(container: InputContainer, path: Path) -> VideoStream:
    from av.stream import Disposition

    name = container.format.name
    if name in _IMAGE_FORMATS.split(","):
        raise RecordError(Reason.NOT_A_VIDEO, f"{path}: a still image ({name.removesuffix('_pipe')})")
    streams = [stream for stream in container.streams.video if not stream.disposition & Disposition.attached_pic]
    if not container.streams:
        raise _not_a_video(path)
    if not streams:
        if name == "mpeg" and (ids := [stream.id for stream in container.streams if stream.id in _MPEG_PS_VIDEO]):
            raise RecordError(
                Reason.UNSUPPORTED_CODEC,
                f"{path}: no video codec is recognised in its video stream {ids[0]:#x}: a program that copied H.264 or "
                "HEVC from an MP4 file may have left out start codes and parameters",
            )
        held = ", ".join(sorted({stream.type for stream in container.streams})) or "none"
        raise RecordError(Reason.NO_VIDEO_STREAM, f"{path}: no video stream (streams: {held})")
    stream = best_stream(streams)
    if stream.codec_context is None:
        raise RecordError(Reason.UNSUPPORTED_CODEC, f"{path}: no decoder for the codec of stream {stream.index}")
    # Scale comes from one process per core; decoding threads only add to the CPU time of each file.
    stream.codec_context.thread_count = 1
    return stream


def best_stream(streams: Sequence[VideoStream]) -> VideoStream:
    """Return of several video streams the one that `ffmpeg` reads: what is marked as default, then the largest picture.

    A single picture, as a preview is, comes after every film.
    """
    from av.stream import Disposition

    def rank(stream: VideoStream) -> tuple[bool, int]:
        codec = stream.codec_context
        area = 0 if codec is None else codec.width * codec.height
        is_default = bool(stream.disposition & Disposition.default)
        return codec is not None and stream.frames != 1, area + _DEFAULT_WEIGHT * is_default

    return max(streams, key=rank)
