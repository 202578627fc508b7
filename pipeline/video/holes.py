"""Whether pictures are missing where the times of a stream leap: a camera that pauses goes on with a key packet."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.video.container import demux, open_video
from pipeline.video.packet_times import Row
from pipeline.video.picture_order import HevcPictureOrder, PictureOrder

if TYPE_CHECKING:
    from av.packet import Packet
    from av.stream import Stream

_HOLE_FRAMES = 3
"""Usual intervals between two frames from which on the times leap."""

_STEADY_SHARE, _STEADY_SLACK = 0.9, 0.5
"""Of the intervals of a camera that leaves out no frame of its own accord: how many are how near to the usual one."""

_LONGEST_SKIP_S = 1.0
"""Seconds that such a camera may still skip, as browsers do when they record."""

_SKIPS_NOTHING = frozenset({"mpeg1video", "mpeg2video"})
"""Codecs whose pictures come at the rate that the stream states."""


def lacks_pictures(path: Path, rows: Sequence[Row]) -> bool:
    """Tell whether packets are missing before one that needs those before it.

    H.264 and HEVC count their pictures, and MPEG-1 and 2 leave none out; of other codecs a long leap in steady times
    tells. A camera of uneven rate may have skipped pictures that nothing has changed in.

    Args:
        path: the file, which is read once more where its times leap.
        rows: its packets in decode order.
    """
    leaps, intervals, usual = _leaps(rows)
    if not leaps:
        return False
    with open_video(path) as (container, stream):
        name = stream.codec_context.name
        if name in _SKIPS_NOTHING:
            return True
        # What goes on with a key packet may have paused.
        behind = {place for first, last, _ in leaps for place in range(first, last + 1) if not rows[place][2]}
        if name not in {"h264", "hevc"}:
            is_usual = np.abs(intervals - usual) <= _STEADY_SLACK * usual
            longest = max((ticks for _, last, ticks in leaps if last in behind), default=0.0)
            longest_s = float(longest * (stream.time_base or 0))
            return bool(is_usual.mean() >= _STEADY_SHARE) and longest_s > _LONGEST_SKIP_S
        header, packets = stream.codec_context.extradata or b"", demux(container, stream)
        if name == "hevc":
            return _leaves_places(HevcPictureOrder(header), packets)
        return bool(behind) and _leaves_numbers(PictureOrder(header), packets, behind)


def _leaps(rows: Sequence[Row]) -> tuple[list[tuple[int, int, float]], NDArray[np.float64], float]:
    """Return where times leap: the first and the last packet that may be the first behind, and by how many ticks.

    And the intervals between all frames, and the usual one. Where packets have no time of their own, they lie between
    two that have one.
    """
    known = [(place, row[0]) for place, row in enumerate(rows) if row[0] is not None]
    if len(known) == len(rows) > 1:
        pts = np.array([time for _, time in known], dtype=np.int64)
        in_time = np.sort(pts)
        intervals = np.diff(in_time).astype(np.float64)
        usual = float(np.median(intervals))
        at = np.flatnonzero(intervals > _HOLE_FRAMES * usual)
        firsts = np.searchsorted(np.maximum.accumulate(pts), in_time[at + 1])
        return list(zip(firsts.tolist(), firsts.tolist(), intervals[at].tolist(), strict=True)), intervals, usual
    places = np.array([place for place, row in enumerate(rows) if row[1] is not None], dtype=np.int64)
    dts = np.array([row[1] for row in rows if row[1] is not None], dtype=np.int64)
    if len(dts) < 2:
        return [], np.zeros(0), 0.0
    gaps = np.diff(places)
    usual = float(np.median(np.diff(dts) / gaps))
    intervals = np.diff(dts) - (gaps - 1) * usual
    at = np.flatnonzero(intervals > _HOLE_FRAMES * usual)
    return (
        list(zip((places[at] + 1).tolist(), places[at + 1].tolist(), intervals[at].tolist(), strict=True)),
        intervals,
        usual,
    )


def _leaves_places(order: HevcPictureOrder, packets: Iterable[Packet[Stream]]) -> bool:
    """Tell whether places are left free in the order of pictures that count from the same beginning."""
    places = [order.place_of(memoryview(packet)) for packet in packets]
    periods, counts = np.array(sorted(place for place in places if place is not None), dtype=np.int64).reshape(-1, 2).T
    steps = np.diff(counts)[np.diff(periods) == 0]
    return bool(len(steps)) and bool(steps.max() > _HOLE_FRAMES * np.median(steps))


def _leaves_numbers(order: PictureOrder, packets: Iterable[Packet[Stream]], behind: Collection[int]) -> bool:
    """Tell whether the numbers of pictures leap to a packet whose place is one of `behind`."""
    before: tuple[int, int] | None = None
    for place, packet in enumerate(packets):
        if not (packet.is_keyframe or place in behind or place + 1 in behind):
            continue
        order.place_of(memoryview(packet))
        if place in behind and _skips(before, order.reference):
            return True
        before = order.reference
    return False


def _skips(before: tuple[int, int] | None, after: tuple[int, int] | None) -> bool:
    """Tell whether two pictures in a row have neither the same nor consecutive numbers, none of which is left out."""
    if before is None or after is None:
        return False
    (first, _), (second, count) = before, after
    return (second - first) % count > 1
