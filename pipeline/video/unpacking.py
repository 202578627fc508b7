"""MPEG-4 in AVI files, in which older recorders put two pictures into one packet, and an empty one after it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pipeline.video.picture_order import Content

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream

_PICTURE = re.compile(rb"\x00\x00\x01\xb6(.)", re.DOTALL)
_MPEG2_PICTURE = re.compile(rb"\x00\x00\x01\x00.(.)", re.DOTALL)
_ALONE, _SHOWN_FIRST = 0, 2
"""Kinds of pictures: one that needs no other, and one that is shown before the one that it follows in the file."""


def may_be_packed(stream: Stream) -> bool:
    """Tell whether packets of a stream may hold two pictures."""
    return (
        stream.container.format.name == "avi"
        and stream.codec_context is not None
        and stream.codec_context.name == "mpeg4"
    )


def unpacked(packets: Iterable[Packet[Stream]], stream: Stream) -> Iterator[Packet[Stream]]:
    """Yield the packets with one picture in each of `stream`."""
    import av
    from av.bitstream import BitStreamFilterContext

    parting = BitStreamFilterContext("mpeg4_unpack_bframes", stream)
    for packet in packets:
        if packet.stream_index != stream.index:
            yield packet
            continue
        try:
            parted = parting.filter(packet)
        except av.error.FFmpegError:
            continue  # it holds no picture
        for part in parted:
            # An empty picture that makes way for another leaves it its mark.
            part.is_keyframe = part.is_keyframe and _kind(bytes(part)) == _ALONE
            yield part


def _kind(content: Content) -> int | None:
    picture = _PICTURE.search(content)
    return picture[1][0] >> 6 if picture else None


def _mpeg2_kind(content: Content) -> int | None:
    picture = _MPEG2_PICTURE.search(content)
    return (picture[1][0] >> 3 & 7) - 1 if picture else None


class ReferenceOrder:
    """Tells of MPEG-4 packets, or those of MPEG-1 and 2, in decode order, where each is shown among the others."""

    def __init__(self, *, is_mpeg4: bool = True) -> None:
        self._references = 0
        self._kind = _kind if is_mpeg4 else _mpeg2_kind

    def place_of(self, content: Content) -> tuple[int, int] | None:
        """Return the place of the next packet, by which packets sort; None where it cannot be told."""
        kind = self._kind(content)
        if kind is None:
            return None
        self._references += kind != _SHOWN_FIRST
        return self._references, int(kind != _SHOWN_FIRST)
