"""When pictures are shown, where a format holds only the times at which they are decoded: AVI, ASF, MXF.

And where it holds times of display that cannot be right: those of a stream whose pictures state another order.

libavformat makes display times up there. It knows the order of H.264 and HEVC too late, and then counts up, as it does
for MPEG-4 with two pictures in a packet. It gives out the first picture of MPEG-1 before it knows that others are shown
later than they are decoded.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby, pairwise, takewhile
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.video.packet_times import MAX_B_FRAMES, MAX_HELD_BACK, MAX_REORDER, Row, farthest_moved
from pipeline.video.picture_order import HevcPictureOrder, PictureOrder
from pipeline.video.unpacking import ReferenceOrder, may_be_packed

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream
    from av.video.stream import VideoStream


_PACKED = re.compile(rb"DivX\d+(?:Build|b)\d+p")
"""The mark of MPEG-4 with two pictures in a packet. Formats that hold times hold wrong ones of these."""

_KNOWN_LATE = frozenset({"h264", "hevc"})

STEADY_PACKETS = 17
"""Pictures in a row that are shown as long after they are decoded as the one before: B-frames are seldom so many."""

_SAMPLE_PACKETS, _SAMPLE_EVERY = 32, 1024
"""How many packets are looked at, and how often, to see whether the times of a stream are right."""

_BLIND_PACKETS = 8
"""First packets of a sample amid a group of pictures, of which the count goes on from one that was not looked at."""

Place = tuple[int, int]
Order = PictureOrder | ReferenceOrder


def order_of(stream: VideoStream) -> Order | None:
    """Return what tells the order of the pictures of a stream; None where nothing does, or it is that of the file."""
    codec = stream.codec_context
    if not codec.has_b_frames and not may_be_packed(stream):
        return None
    header = codec.extradata or b""
    if codec.name in _KNOWN_LATE:
        return PictureOrder(header) if codec.name == "h264" else HevcPictureOrder(header)
    if codec.name in {"mpeg4", "mpeg2video", "mpeg1video"}:
        return ReferenceOrder(is_mpeg4=codec.name == "mpeg4")
    return None


def have_wrong_times(packets: Iterable[Packet[Stream]], order: Order) -> bool:
    """Tell whether packets, in decode order from a key packet on, are shown in another order than their times say."""
    looked_at = [(order.place_of(memoryview(packet)), packet.pts) for packet in packets]
    return _contradict([place for place, _ in looked_at], [pts for _, pts in looked_at])


def _contradict(places: Sequence[Place | None], pts: Sequence[int | None]) -> bool:
    in_order = sorted((place, time) for place, time in zip(places, pts, strict=True) if place and time is not None)
    return any(after < before for (_, before), (_, after) in pairwise(in_order))


class DisplayOrder:
    """Takes the packets of a stream in decode order, and then tells when each is shown.

    Args:
        stream: whose packets these are.
        holds_times: the format says when each is shown; samples of the packets are then looked at.
        is_thorough: all of them are.
    """

    def __init__(self, stream: VideoStream, *, holds_times: bool, is_thorough: bool = False) -> None:
        self._holds_times = holds_times
        self._is_thorough = is_thorough or not holds_times
        self._is_packed = self._is_corrected = False
        self._num_packets = 0
        codec, may_pack = stream.codec_context, may_be_packed(stream)
        self._is_reordered = bool(codec.has_b_frames) or may_pack
        self._is_known_late = codec.name in _KNOWN_LATE or may_pack
        self._order = order_of(stream) if holds_times or self._is_known_late else None
        self._places: list[Place | None] = []
        self._delay: int | None = None
        self._steady = self._sampled_until = self._blind_until = 0
        self._begins_with_key: bool | None = None

    def add(self, packet: Packet[Stream]) -> None:
        """Take the next packet."""
        self._is_packed = self._is_packed or (not self._num_packets and _PACKED.search(bytes(packet)) is not None)
        if self._order is not None:
            is_looked_at = self._is_thorough or self._is_in_sample(packet)
            place = self._order.place_of(memoryview(packet)) if is_looked_at else None
            self._places.append(place if self._num_packets >= self._blind_until else None)
            if packet.is_keyframe and self._begins_with_key is None:
                self._begins_with_key = isinstance(self._order, PictureOrder) and self._order.begins
        self._num_packets += 1

    def _is_in_sample(self, packet: Packet[Stream]) -> bool:
        delay = None if packet.pts is None or packet.dts is None else packet.pts - packet.dts
        self._steady = self._steady + 1 if delay is not None and delay == self._delay else 1
        self._delay, place = delay, self._num_packets
        if place >= self._sampled_until:
            if packet.is_keyframe and (not self._sampled_until or place >= self._sampled_until + _SAMPLE_EVERY):
                self._sampled_until = place + _SAMPLE_PACKETS
            elif self._steady == STEADY_PACKETS:
                self._sampled_until, self._blind_until = place + _SAMPLE_PACKETS, place + _BLIND_PACKETS
        return place < self._sampled_until

    def is_doubtful(self, rows: Sequence[Row]) -> bool:
        """Tell whether the samples contradict the times of the packets, so that all have to be looked at."""
        if self._is_thorough or self._is_packed or self._order is None:
            return False
        seen = groupby(zip(self._places, (row[0] for row in rows), strict=False), key=lambda pair: pair[0] is not None)
        return any(_contradict(*zip(*sample, strict=True)) for is_sample, sample in seen if is_sample)

    def corrected(self, rows: list[Row], starts: Sequence[int], remarks: list[str], *, has_gaps: bool) -> list[Row]:
        """Return the packets with the times there are in the order of the pictures, where theirs contradict it.

        What is done is added to `remarks`.

        Args:
            rows: as `timed` gives them.
            starts: those at which a clock starts.
            remarks: what of the file is not used, for people.
            has_gaps: packets may be missing; with them the order of the others may be lost, and is only believed
                where times say nothing else than the order in the file.
        """
        if not self._holds_times or not self._is_thorough or self._is_packed or self._order is None:
            return rows
        rows = list(rows)
        for start, stop in pairwise([*starts, len(rows)]):
            # What comes before the first key packet is counted from a picture that is elsewhere.
            key = next((place for place in range(start, stop) if rows[place][2]), stop)
            part = self._corrected_part(rows[key:stop], self._places[key:stop], has_gaps=has_gaps)
            if part is not None:
                rows[key:stop], self._is_corrected = part, True
        if self._is_corrected:
            remarks.append("its display times are broken: frames are shown in the order that their pictures state")
        return rows

    def _corrected_part(self, rows: list[Row], found: list[Place | None], *, has_gaps: bool) -> list[Row] | None:
        if 2 * found.count(None) >= len(found) or any(row[0] is None for row in rows):
            return None
        pts, is_shown = np.array([row[0] for row in rows], dtype=np.int64), np.array([row[3] for row in rows])
        order, late = _in_order(_known(found))
        if farthest_moved(np.argsort(order))[1] > MAX_REORDER:
            return None
        is_wrong = np.diff(pts[order]) < 0
        if has_gaps:
            rises = _in_long_rise(pts)
            is_wrong &= rises[order[:-1]] & rises[order[1:]]
        if not is_wrong.any():
            return None
        in_time = np.argsort(pts, kind="stable")
        times = pts[in_time]
        is_as_decoded = all(row[0] == row[1] for row in rows)
        if is_as_decoded or not np.diff(times).all():
            dts = np.array([row[1] for row in rows if row[1] is not None], dtype=np.int64)
            if len(dts) < len(rows) or not (np.diff(dts) > 0).all():
                return None
            times = np.append(dts, dts[-1] + int(np.median(np.diff(dts))) * np.arange(1, late + 1))[late:]
        # An edit list hides by time, and libavformat by the times of the file. So few frames make up for the delay.
        at = np.searchsorted(pts[in_time], times).clip(max=len(rows) - 1)
        is_shown = is_shown[in_time][at] | ((~is_shown).sum() <= MAX_HELD_BACK)
        slots = np.argsort(order)
        shown_at, is_shown = times[slots].tolist(), is_shown[slots].tolist()
        return [(time, *row[1:3], shows, row[4]) for row, time, shows in zip(rows, shown_at, is_shown, strict=True)]

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

    def headless(self, is_key: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Return which packets of a stream without times need a picture before its first key packet, shape (P,).

        That are those before it, and those that follow it and are shown before.
        """
        key = int(is_key.argmax())
        headless = np.arange(len(is_key)) < key
        if self._order is not None and not self._begins_with_key and (first := self._places[key]) is not None:
            behind = takewhile(lambda place: place is not None and place < first, self._places[key + 1 :])
            headless[key + 1 : key + 1 + len(list(behind))] = True
        return headless

    def slots(self, num_packets: int) -> NDArray[np.int64] | None:
        """Return the rank in display order of each of the first packets, shape (P,); None where no picture tells it."""
        if not self._is_reordered:
            return np.arange(num_packets, dtype=np.int64)
        places = self._places[:num_packets]
        if not self._is_thorough or self._order is None or 2 * places.count(None) >= num_packets:
            return None
        order, _ = _in_order(_known(places))
        return np.argsort(order)

    def is_made_up(self, rows: list[Row]) -> bool:
        """Tell whether packets in the file are told apart by the times of decoding, since the others are no facts."""
        pts, dts = [row[0] for row in rows], [row[1] for row in rows]
        is_unknown = self._is_corrected and len(set(pts)) < len(pts)
        return (not self._holds_times or is_unknown) and None not in dts and len(set(dts)) == len(dts)

    def _shown_at(self, ticks: NDArray[np.int64], *, is_cut: bool) -> list[int | None]:
        places = _known(self._places[: len(ticks)])
        periods, counts = places.T
        order, late = _in_order(places)
        slots = np.arange(len(ticks))
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


def _known(places: Sequence[Place | None]) -> NDArray[np.int64]:
    """Return all places, shape (P, 2): a damaged picture is taken for the one after that before it."""
    last = (0, 0)
    known = np.array([last := place or last for place in places], dtype=np.int64)
    known[:, 0] += np.cumsum(_lost_beginnings(known))
    return known


def _lost_beginnings(places: NDArray[np.int64]) -> NDArray[np.int64]:
    """Mark with 1 the packets that go on counting from a beginning which is lost, shape (P,).

    A picture is soon followed by one that is shown later, unless counting began anew in between. Those that follow it
    and are shown before it are shown after all that came before it.
    """
    begins = np.zeros(len(places), dtype=np.int64)
    place = np.argsort(np.lexsort((places[:, 1], places[:, 0])))
    start = 0
    while start < len(place):
        latest = np.maximum.accumulate(place[start:])
        rises = np.flatnonzero(np.diff(latest, prepend=-1))
        lasts = np.flatnonzero(np.diff(np.append(rises, len(latest))) > MAX_B_FRAMES + 1)
        if not len(lasts):
            break
        last = int(rises[lasts[0]])
        before = latest[last - 1] if last else -1
        behind = np.flatnonzero(place[start + last + 1 :] < before)
        if not len(behind):
            break
        start += last + 1 + int(behind[0])
        begins[start] = 1
    return begins


def _in_order(places: NDArray[np.int64]) -> tuple[NDArray[np.int64], int]:
    """Return the packets in display order, and by how many pictures the one waits that waits longest."""
    order = np.lexsort((places[:, 1], places[:, 0]))
    return order, int((np.arange(len(places)) - np.argsort(order)).max())


def _in_long_rise(pts: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Return which packets lie among so many that are shown as decoded that it is no chance, shape (P,)."""
    ends = np.flatnonzero(np.append(np.diff(pts) <= 0, True)) + 1
    counts = np.diff(ends, prepend=0)
    return np.repeat(counts >= STEADY_PACKETS, counts)
