"""Whether a packet is damaged, as far as can be seen without decoding it.

What is overwritten or cut short no longer has the frame that its format asks for: of H.264 and HEVC the lengths and the
headers of the NAL units (ISO/IEC 14496-15, 5.3; ITU-T H.264, 7.3.1; H.265, 7.3.1.2), of JPEG the mark at its start.
Damage inside the picture data of a unit stays unseen: a decoder conceals most of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream

_ZEROS = bytes(16)
"""No packet of a compressed format begins with so many."""

_JPEG_START = b"\xff\xd8"

_IN_UNITS = {"h264": 4, "hevc": 21}
"""Codecs in NAL units, and the byte of the header of the stream whose last two bits tell how long a length is."""


def damage_check(stream: VideoStream) -> Callable[[Packet[Stream]], bool]:
    """Return what tells of a packet of a stream whether it is damaged."""
    name = stream.codec_context.name
    header = stream.codec_context.extradata or b""
    place = _IN_UNITS.get(name)
    # Without such a header units are parted by start codes, which a packet is found by.
    length_bytes = (header[place] & 3) + 1 if place is not None and header[:1] == b"\1" and len(header) > place else 0
    is_raw, is_jpeg = name == "rawvideo", name == "mjpeg"

    def is_damaged(packet: Packet[Stream]) -> bool:
        content = memoryview(packet)
        if packet.is_corrupt or (not is_raw and content[: len(_ZEROS)] == _ZEROS):
            return True
        if is_jpeg and content[: len(_JPEG_START)] != _JPEG_START:
            return True
        return bool(length_bytes) and not _is_of_units(content, length_bytes, is_hevc=name == "hevc")

    return is_damaged


def _is_of_units(content: memoryview, length_bytes: int, *, is_hevc: bool) -> bool:
    """Whether a packet is made of NAL units with headers as the standard has them."""
    at, size = 0, len(content)
    while at < size:
        start = at + length_bytes
        at = start + int.from_bytes(content[at:start], "big")
        if not start < at <= size:
            return False
        first = content[start]
        # The first bit is always zero; HEVC's second byte ends in the number of the temporal layer, from 1 on.
        if first & 0x80 or (is_hevc and (at - start < 2 or not content[start + 1] & 7)):
            return False
        if not is_hevc and not 1 <= first & 31 <= 23:
            return False
    return True
