"""When pictures are shown, in formats that hold only the times at which they are decoded: AVI, ASF, MXF.

libavformat makes display times up there. It knows the order of H.264 and HEVC too late, and then counts up, as it does
for MPEG-4 with two pictures in a packet. It gives out the first picture of MPEG-1 before it knows that others are shown
later than they are decoded.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.video.packet_times import Row
from pipeline.video.picture_order import PictureOrder
from pipeline.video.unpacking import ReferenceOrder, may_be_packed

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream


_PACKED = re.compile(rb"DivX\d+(?:Build|b)\d+p")
"""The mark of MPEG-4 with two pictures in a packet. Formats that hold times hold wrong ones of these."""

_KNOWN_LATE = frozenset({"h264", "hevc"})


class DisplayOrder:
    """Takes the packets of a stream in decode order, and then tells when each is shown."""

    def __init__(self, stream: VideoStream, *, holds_times: bool) -> None:
        self._holds_times = holds_times
        self._is_packed = False
        self._num_packets = 0
        codec, may_pack = stream.codec_context, may_be_packed(stream)
        self._is_reordered = bool(codec.has_b_frames) or may_pack
        self._is_known_late = codec.name in _KNOWN_LATE or may_pack
        self._order: PictureOrder | ReferenceOrder | None = None
        if self._is_reordered and codec.name == "h264" and not holds_times:
            self._order = PictureOrder(codec.extradata or b"")
        elif may_pack:
            self._order = ReferenceOrder()
        self._places: list[tuple[int, int] | None] = []

    def add(self, packet: Packet[Stream]) -> None:
        """Take the next packet."""
        self._is_packed = self._is_packed or (not self._num_packets and _PACKED.search(bytes(packet)) is not None)
        self._num_packets += 1
        if self._order is not None:
            self._places.append(self._order.place_of(bytes(packet)))

    def timed(self, rows: list[Row], *, is_cut: bool) -> list[Row]:
        """Return the packets, the first of those added, with the times at which they are shown; None for unknown ones.

        Pictures are shown at the times of decoding, in their own order, and later by as many pictures as the one waits
        that waits longest. Of a file that `is_cut` at its end, those behind a missing one leave its time free.
        """
        if self._holds_times:
            return [(None, *row[1:]) for row in rows] if self._is_packed else rows
        pts, dts = [row[0] for row in rows], [row[1] for row in rows]
        if not self._is_reordered or len(rows) < 2 or None in dts:
            return rows
        times: list[int | None] = pts
        if not self._is_known_late:
            times = [dts[1] if pts[0] == dts[0] and pts[1:] != dts[1:] else pts[0], *pts[1:]]
        elif self._places[: len(rows)].count(None) <= len(rows) // 2 and self._order is not None:
            times = self._shown_at(np.array(dts, dtype=np.int64), is_cut=is_cut)
        elif None not in pts and (np.diff(np.array(pts, dtype=np.int64)) > 0).all():
            times = [None] * len(rows)
        return [(time, *row[1:]) for time, row in zip(times, rows, strict=True)]

    def is_made_up(self, rows: list[Row]) -> bool:
        """Tell whether packets in the file are told apart by the times of decoding, since the others are no facts."""
        dts = [row[1] for row in rows]
        return not self._holds_times and None not in dts and len(set(dts)) == len(dts)

    def _shown_at(self, ticks: NDArray[np.int64], *, is_cut: bool) -> list[int | None]:
        # A damaged picture is taken for the one after that before it.
        last = (0, 0)
        places = [last := place or last for place in self._places[: len(ticks)]]
        periods, counts = np.array(places, dtype=np.int64).T
        order = np.lexsort((counts, periods))
        slots = np.arange(len(ticks))
        late = int((slots - np.argsort(order)).max())
        in_last = np.flatnonzero(periods[order] == periods[-1])
        if is_cut and isinstance(self._order, ReferenceOrder):
            slots[-1] += 1  # pictures shown before the last one may be missing
        elif is_cut and len(in_last) > 1:
            steps = np.diff(counts[order][in_last])
            slots[in_last[1:]] += np.cumsum(
                np.maximum(np.rint(steps / max(1.0, float(np.median(steps)))).astype(np.int64) - 1, 0)
            )
        beyond = ticks[-1] + int(np.median(np.diff(ticks))) * np.arange(1, late + 1 + slots[-1] - len(ticks) + 1)
        shown_at = np.empty_like(ticks)
        shown_at[order] = np.concatenate([np.sort(ticks), beyond])[slots + late]
        times: list[int | None] = shown_at.tolist()
        return times
