"""Times of packets as they ought to be: what is done about those that jump, stand still, begin anew or are missing."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records import Reason

MAX_FPS = 1000.0
"""Frame rates beyond it are taken for broken timestamps."""

MAX_REORDER = 32
"""Farthest that a frame may stand from its place in decode order; codecs in use stay under 17."""

_RESTART_S = Fraction(1, 2)
"""Seconds by which decode times have to go back where a clock starts anew: less is a slip of the recorder."""

MAX_B_FRAMES = 16
"""Longest run of frames that an encoder puts behind the one which is shown after them."""

MAX_HELD_BACK = 4
"""Most frames that a decoder holds back until those before them have come, with encoders in use."""

_HOLE_FRAMES = 1.5
"""Usual intervals between two frames from which on one is missing in between."""

_FEW_UNTIMED = 1 / 16
"""Share of the packets that may be without a time for one that has lost its start, where every start holds a time."""

_LEAP_FRAMES = 3
"""Usual intervals between two packets from which on more than the one in between is missing."""

Row = tuple[int | None, int | None, bool, bool, int]
"""A packet as demuxed: pts, dts, is_key, is_shown, duration."""


def clock_starts(rows: Sequence[Row], time_base: Fraction) -> list[int]:
    """Return the positions of the packets at which a clock starts: the first, and those where recordings are joined."""
    dts = [row[1] for row in rows]
    back = _RESTART_S / time_base
    restarts = [
        place
        for place, (before, after) in enumerate(pairwise(dts), start=1)
        if before is not None and after is not None and after < before - back
    ]
    return [0, *restarts]


def with_one_clock(
    rows: list[Row], starts: Sequence[int], is_headless: NDArray[np.bool_], frame_ticks: int
) -> list[Row]:
    """Return the packets with the clock of the first recording going on through all."""
    if len(starts) == 1 or any(row[0] is None or row[1] is None for row in rows):
        return rows
    pts = np.array([row[0] for row in rows], dtype=np.int64)
    shifts = np.zeros(len(rows), dtype=np.int64)
    is_timed = ~is_headless
    for start, stop in pairwise([*starts[1:], len(rows)]):
        if is_timed[:start].any() and is_timed[start:stop].any():
            end = int((pts + shifts)[:start][is_timed[:start]].max()) + frame_ticks
            shifts[start:stop] = end - int(pts[start:stop][is_timed[start:stop]].min())
    # Frames are told apart by their times: those that are not shown get times that no other has.
    hidden = np.flatnonzero(is_headless)
    shifts[hidden] = int((pts + shifts)[is_timed].min(initial=0)) - 1 - hidden - pts[hidden]
    moved = zip(rows, (pts + shifts).tolist(), shifts.tolist(), strict=True)
    return [(time, (row[1] or 0) + shift, *row[2:]) for row, time, shift in moved]


def headless_packets(rows: Sequence[Row], is_key: NDArray[np.bool_], starts: Sequence[int]) -> NDArray[np.bool_]:
    """Return which packets need a picture that stands before the first key packet of their recording, shape (P,)."""
    headless = np.zeros(len(rows), dtype=bool)
    if any(row[0] is None for row in rows):
        return headless
    pts = np.array([row[0] for row in rows], dtype=np.int64)
    for start, stop in pairwise([*starts, len(pts)]):
        keys = start + np.flatnonzero(is_key[start:stop])
        if len(keys) and keys[0] > start:
            headless[start:stop] = (np.arange(start, stop) < keys[0]) | (pts[start:stop] < pts[keys[0]])
    return headless


def with_untimed_hidden(rows: list[Row], *, is_damaged: bool) -> list[Row]:
    """Return packets of which the few without a display time are not shown: what is left of one that lost its start.

    Where nothing `is_damaged`, others have to be missing beside each of them.
    """
    timed = [row[0] for row in rows if row[0] is not None]
    if not 0 < len(rows) - len(timed) <= _FEW_UNTIMED * len(rows):
        return rows
    places = np.array([place for place, row in enumerate(rows) if None not in row[:2]])
    dts = np.array([rows[place][1] for place in places.tolist()], dtype=np.int64)
    gaps = np.diff(dts)[np.diff(places) > 1] if len(places) > 1 else dts[:0]
    if not is_damaged and not (gaps > _LEAP_FRAMES * np.median(np.diff(dts))).all():
        return rows
    first, before = min(timed), None
    hidden: list[Row] = []
    for place, row in enumerate(rows):
        before = before if row[1] is None else row[1]
        hidden.append((first - 1 - place, before, False, False, 0) if row[0] is None else row)
    return hidden


def without_jumps(rows: list[Row], is_shown: NDArray[np.bool_], remarks: list[str]) -> list[Row]:
    """Return packets without display times where these jump and those of decoding never step back.

    Joined recordings step back in both. What is done is added to `remarks`.
    """
    pts, dts = [row[0] for row in rows], [row[1] for row in rows]
    if None in pts or None in dts or not (np.diff(np.array(dts, dtype=np.int64)) > 0).all():
        return rows
    if farthest_moved(np.array(pts, dtype=np.int64)[is_shown])[1] <= MAX_REORDER:
        return rows
    remarks.append("its display times are broken: frames follow at the times at which they are decoded")
    return [(None, *row[1:]) for row in rows]


def presentation_times(
    rows: Sequence[Row], is_shown: NDArray[np.bool_], frame_ticks: int, path: Path
) -> tuple[NDArray[np.int64], bool]:
    """Return the pts of packets and whether each is its own; made up from dts, or from the frame rate, where not.

    In AVI files and bare streams a packet may have no pts, in damaged recordings two packets may share one. Decode
    times in sequence are then the times at which the frames come out of a decoder.
    """
    pts, dts = [row[0] for row in rows], [row[1] for row in rows]
    times = pts if None not in pts else dts
    if None in times:
        return _spread(times, frame_ticks), False
    ticks = np.array(times, dtype=np.int64)
    shown = ticks[is_shown]
    _check_order(shown, path)
    if times is pts and len(np.unique(shown)) == len(shown):
        return ticks, True
    return np.sort(ticks), False


def even_times(rows: Sequence[Row], interval: Fraction) -> NDArray[np.int64] | None:
    """Return times for all packets, ascending, where those that have one lie on the steps of a steady rate; else None.

    A format may stamp only some pictures, and a time that libavformat makes up of such is off by frames. The others
    take the steps that are free, which have to be no more than they; the last ones those behind. Where it makes up
    times for all, some share one, and there have to be as many steps as packets.

    Args:
        rows: the packets in decode order, whose first is shown first.
        interval: ticks from one frame to the next.
    """
    known = np.array([row[0] for row in rows if row[0] is not None], dtype=np.int64)
    if len(known) < 2 or rows[0][0] != known.min():
        return None
    steps = (known - known.min()) * interval.denominator / interval.numerator
    places = np.rint(steps).astype(np.int64)
    is_steady = np.abs(steps - places).max() * float(interval) <= 1
    num_behind = len(rows) - 1 - int(places.max())
    are_all_timed, are_apart = len(known) == len(rows), len(np.unique(places)) == len(places)
    if not is_steady or not (num_behind == 0 if are_all_timed else are_apart and 0 <= num_behind <= MAX_REORDER):
        return None
    even = np.arange(len(rows)) * interval.numerator / interval.denominator
    ticks: NDArray[np.int64] = known.min() + np.rint(even).astype(np.int64)
    return ticks


def _spread(times: Sequence[int | None], frame_ticks: int) -> NDArray[np.int64]:
    """Return times for all packets: those without lie evenly between those with one, or all at the frame rate.

    Where some are missing in between, that is before one with a time: the others follow the one before at usual steps.
    """
    places = np.array([place for place, time in enumerate(times) if time is not None])
    known = np.array([time for time in times if time is not None])
    everywhere = np.arange(len(times), dtype=np.int64)
    ascends = np.diff(np.maximum.accumulate(known), prepend=known.min(initial=0) - 1) > 0
    places, known = places[ascends], known[ascends]
    if len(known) < 2 or (~ascends).sum() > _FEW_UNTIMED * len(ascends):
        return everywhere * frame_ticks
    gaps = np.diff(places)
    steps = np.diff(known) / gaps
    usual = float(np.median(steps))
    holes = np.flatnonzero((np.diff(known) > (gaps + _HOLE_FRAMES - 1) * usual) & (gaps > 1))
    knots = np.append(places, places[holes + 1] - 1)
    ticks_at = np.append(known, known[holes] + (gaps[holes] - 1) * usual)
    order = np.argsort(knots)
    step = (known[-1] - known[0]) / (places[-1] - places[0])
    beyond = np.clip(everywhere - places[-1], 0, None) - np.clip(places[0] - everywhere, 0, None)
    ticks: NDArray[np.int64] = np.rint(np.interp(everywhere, knots[order], ticks_at[order]) + beyond * step).astype(
        np.int64
    )
    return ticks


def separated(ticks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Spread frames that share a timestamp evenly over the time until the next one; others stay where they are."""
    distinct, first, counts = np.unique(ticks, return_index=True, return_counts=True)
    if len(distinct) == len(ticks):
        return ticks.astype(np.float64)
    gaps = np.append(np.diff(distinct), 1 if len(distinct) == 1 else int(np.median(np.diff(distinct))))
    place = np.arange(len(ticks)) - np.repeat(first, counts)
    return np.repeat(distinct, counts) + place * np.repeat(gaps / counts, counts)


def may_be_behind_hole(num_packets: int) -> NDArray[np.bool_]:
    """Return the last frames of counted ones: which of them lack one before them cannot be told, shape (P,)."""
    return np.arange(num_packets) >= max(1, num_packets - MAX_HELD_BACK)


def behind_hole(pts: NDArray[np.int64], is_shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which frames of a file that ends early are shown after one that is missing, shape (P,).

    A frame may stand in the file before others that are shown before it. One that has lost these would take the number
    of another frame.
    """
    shown = np.sort(pts[is_shown])
    intervals = np.diff(shown)
    holes = np.flatnonzero(intervals > _HOLE_FRAMES * np.median(intervals)) if len(intervals) else intervals
    holes = holes[holes >= len(intervals) - MAX_B_FRAMES]
    return is_shown & (pts > shown[holes[0]]) if len(holes) else np.zeros(len(pts), dtype=bool)


def _check_order(pts: NDArray[np.int64], path: Path) -> None:
    """Find timestamps that start again, as in joined recordings: sorting them would mix frames of different moments."""
    frame, places = farthest_moved(pts)
    if places > MAX_REORDER:
        raise RecordError(
            Reason.BAD_TIMESTAMPS,
            f"{path}: timestamps jump: frame {frame} in time order stands {places} packets from there in the file "
            f"(limit {MAX_REORDER}); joined recordings have to be remuxed first",
        )


def farthest_moved(pts: NDArray[np.int64]) -> tuple[int, int]:
    """Return the frame in time order that stands farthest from its place in the file, and by how many packets."""
    moved = np.abs(np.argsort(pts, kind="stable") - np.arange(len(pts)))
    return (int(moved.argmax()), int(moved.max())) if len(moved) else (0, 0)


def with_stated_rate(
    rows: list[Row], stated: Fraction | None, rate: Fraction | None, time_base: Fraction, path: Path
) -> tuple[list[Row], Fraction | None, list[str]]:
    """Return packets, rate and remarks: without times, at the rate that the codec states, where time stands still.

    A broken table of times leaves the frames and their order intact.

    Raises:
        RecordError: BAD_TIMESTAMPS where frames are hidden by such times.
    """
    dts = [row[1] for row in rows if row[1] is not None]
    span_s = float((dts[-1] - dts[0]) * time_base) if dts else 0.0
    if not stated or not 0 < stated <= MAX_FPS or len(dts) < 2 or len(dts) - 1 <= MAX_FPS * span_s:
        return rows, rate, []
    if not all(row[3] for row in rows):
        raise RecordError(
            Reason.BAD_TIMESTAMPS,
            f"{path}: the times of its {len(rows)} packets stand still, and an edit list hides frames by them",
        )
    remark = f"its times are broken: frames follow at {float(stated):g} a second, as its codec says"
    return [(None, None, *row[2:4], 0) for row in rows], Fraction(stated), [remark]
