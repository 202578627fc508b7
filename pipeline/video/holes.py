"""Whether pictures are missing where the times of a stream leap: a camera that pauses goes on with a key packet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.video.container import demux, open_video
from pipeline.video.packet_times import Row
from pipeline.video.picture_order import PictureOrder

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

    H.264 counts its pictures, and MPEG-1 and 2 leave none out; of other codecs a long leap in steady times tells. A
    camera of uneven rate may have skipped pictures that nothing has changed in.

    Args:
        path: the file, which is read once more where the times of H.264 leap.
        rows: its packets in decode order.
    """
    pts = np.array([row[0] for row in rows if row[0] is not None], dtype=np.int64)
    if len(pts) < len(rows) or len(pts) < 2:
        return False
    in_time = np.sort(pts)
    intervals = np.diff(in_time)
    usual = float(np.median(intervals))
    leaps = np.flatnonzero(intervals > _HOLE_FRAMES * usual)
    firsts = np.searchsorted(np.maximum.accumulate(pts), in_time[leaps + 1])
    lengths = {
        place: length for place, length in zip(firsts.tolist(), intervals[leaps], strict=True) if not rows[place][2]
    }
    if not lengths:
        return False
    with open_video(path) as (container, stream):
        if stream.codec_context.name != "h264":
            is_usual = np.abs(intervals - usual) <= _STEADY_SLACK * usual
            longest_s = float(max(lengths.values()) * (stream.time_base or 0))
            may_skip = stream.codec_context.name not in _SKIPS_NOTHING
            return bool(is_usual.mean() >= _STEADY_SHARE) and longest_s > _LONGEST_SKIP_S * may_skip
        order = PictureOrder(stream.codec_context.extradata or b"")
        before: tuple[int, int] | None = None
        for place, packet in enumerate(demux(container, stream)):
            if not (packet.is_keyframe or place in lengths or place + 1 in lengths):
                continue
            order.place_of(memoryview(packet))
            if place in lengths and _skips(before, order.reference):
                return True
            before = order.reference
    return False


def _skips(before: tuple[int, int] | None, after: tuple[int, int] | None) -> bool:
    """Tell whether two pictures in a row have neither the same nor consecutive numbers, none of which is left out."""
    if before is None or after is None:
        return False
    (first, _), (second, count) = before, after
    return (second - first) % count > 1
