"""Colour of decoded frames: from whatever a camera wrote to the formats that the engine works with."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.errors import RecordError
from pipeline.records import Reason

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from av.video.reformatter import VideoReformatter

_FULL_RANGE, _TV_RANGE = 2, 1
_RGB, _BT709, _UNSPECIFIED, _BT2020 = 0, 1, 2, 9
_MATRICES = frozenset({_BT709, _UNSPECIFIED, 4, 5, 6, 7, _BT2020})
"""Colour matrices by their numbers in ISO/IEC 23091-2: those that the scaler converts with."""

_READ_AS = {10: _BT2020, 14: _BT2020}
"""Constant luminance and ICtCp, seldom seen: of the primaries of BT.2020 and near to it."""


def matrix_of(frame: VideoFrame) -> int:
    """Return the colour matrix that a frame is converted with, and that its clip declares."""
    matrix = int(frame.colorspace)
    if matrix == _RGB:
        # Some recorders write it on frames that are not RGB, which are then read like frames that declare nothing.
        return _BT709 if frame.format.is_rgb else _UNSPECIFIED
    return _READ_AS.get(matrix, matrix)


def check_matrix(frame: VideoFrame, name: str) -> None:
    """Check that the colours of a frame can be converted; `name` stands in the message.

    Raises:
        RecordError: UNSUPPORTED_CODEC where they cannot.
    """
    if matrix_of(frame) not in _MATRICES and not frame.format.is_rgb:
        raise RecordError(
            Reason.UNSUPPORTED_CODEC,
            f"{name}: its colour matrix, number {int(frame.colorspace)} of ISO/IEC 23091-2, cannot be converted",
        )


def to_rgb(frame: VideoFrame, reformatter: VideoReformatter, width: int, height: int) -> VideoFrame:
    """Return a frame as RGB24, scaled. A reformatter keeps the tables of its scaler: one per size is the fastest."""
    return reformatter.reformat(frame, width, height, format="rgb24", src_colorspace=matrix_of(frame), threads=1)


def to_yuv(frame: VideoFrame, reformatter: VideoReformatter, width: int, height: int) -> VideoFrame:
    """Return a frame as 4:2:0 of 8 bits, scaled, in the range of television: players take it for granted."""
    is_full = frame.color_range == _FULL_RANGE
    if not is_full and (frame.format.name, frame.width, frame.height) == ("yuv420p", width, height):
        return frame
    matrix = matrix_of(frame)
    return reformatter.reformat(
        frame, width, height, format="yuv420p",
        src_colorspace=matrix, dst_colorspace=matrix, dst_color_range=_TV_RANGE, threads=1,
    )  # fmt: skip
