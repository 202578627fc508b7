"""The packet table of a video: what the container says of every frame, without decoding any."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video import mp4
from pipeline.video.container import demux
from pipeline.video.packet_damage import damage_check

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

_MAX_REORDER = 32
"""Farthest that a frame may stand from its place in decode order; codecs in use stay under 17."""

_DEFAULT_RATE = Fraction(25)

MAX_FPS = 1000.0
"""Frame rates beyond it are taken for broken timestamps."""

_HAS_INDEX = frozenset({"mov", "mp4", "matroska", "webm", "avi"})
"""Formats whose index leads to a key packet exactly; in the others a seek lands anywhere."""

_HOLDS_NO_TIMES = frozenset({"avi", "asf", "mxf"})
"""Formats in which a frame's place tells when it is decoded, and nothing when it is shown."""

_STATES_DURATION = frozenset({"matroska", "webm", "flv"})
"""Formats without a count of frames whose header holds the duration."""

_DURATION_SLACK_S = 0.5

_PROMISES_NOTHING = frozenset({"mpegts", "mpeg"})
"""Formats of recorders, which may end anywhere."""

_RESTART_S = Fraction(1, 2)
"""Seconds by which decode times have to go back where a clock starts anew: less is a slip of the recorder."""

_MAX_PADDING_BYTES = 1 << 14

_MAX_B_FRAMES = 16
"""Longest run of frames that an encoder puts behind the one which is shown after them."""

_MAX_HELD_BACK = 4
"""Most frames that a decoder holds back until those before them have come, with encoders in use."""

_MAX_SKIPPED_BYTES = 1 << 11
"""Bytes between two packets of a format without an index in between, from which on something was passed over."""

_HOLE_FRAMES = 1.5
"""Usual intervals between two frames from which on one is missing in between."""

_PACKED = re.compile(rb"DivX\d+(?:Build|b)\d+p")
"""The mark of MPEG-4 files that put two pictures into one packet, and an empty one after it: their times are wrong."""

_Row = tuple[int | None, int | None, bool, bool, int]
"""A packet as demuxed: pts, dts, is_key, is_shown, duration."""


@dataclass(frozen=True, eq=False, kw_only=True)
class PacketTable:
    """One row per packet of the video stream, in decode order.

    Attributes:
        pts: presentation times in ticks of `time_base`, int64, shape (P,).
        is_key: packets at which decoding can start, bool, shape (P,).
        is_shown: packets whose frame is presented, bool, shape (P,); an edit list hides the others.
        last_duration: ticks that the last frame stays; 0 where the container does not say.
        nominal_rate: frames per second that the container declares; None where it declares none.
        has_timestamps: every packet has its own pts, so that frames can be told apart by it. Otherwise `pts` is made
            up from what there is, in decode order, and frames can only be counted.
        is_seekable: the container has an index that leads to the key packets.
        remarks: what of the file is not used, for people.
        is_damaged: some packet can be seen to be damaged; False where they were not looked at.
        shifts: ticks by which `pts` is later than the packet in the file says, int64, shape (P,): of joined recordings
            whose clock starts anew; None where none is.
        missing_s: seconds at the end that the container promises and that are not there.
        has_gaps: packets may be missing in between: some are damaged, or bytes were passed over that are none.
    """

    pts: NDArray[np.int64]
    is_key: NDArray[np.bool_]
    is_shown: NDArray[np.bool_]
    time_base: Fraction
    last_duration: int
    nominal_rate: Fraction | None
    has_timestamps: bool
    is_seekable: bool
    remarks: tuple[str, ...] = ()
    is_damaged: bool = False
    shifts: NDArray[np.int64] | None = None
    missing_s: float = 0.0
    has_gaps: bool = False

    @cached_property
    def order(self) -> NDArray[np.int64]:
        """Decode positions of the frames in display order, shape (num_frames,)."""
        shown = np.flatnonzero(self.is_shown)
        return shown[np.argsort(self.pts[shown], kind="stable")]

    @cached_property
    def frame_pts(self) -> NDArray[np.int64]:
        """Presentation times of the frames in display order, ticks, shape (num_frames,)."""
        return self.pts[self.order]

    @cached_property
    def group_starts(self) -> NDArray[np.int64]:
        """For each frame in display order the position of the packet at which decoding has to start for it.

        That is the last key packet which is not after the frame in either order: a frame that follows a key packet in
        the file and is shown before it needs the group of pictures before, and its own is then called open.
        """
        keys = np.union1d(0, np.flatnonzero(self.is_key))
        by_time = np.searchsorted(np.maximum.accumulate(self.pts[keys]), self.frame_pts, side="right") - 1
        by_place = np.searchsorted(keys, self.order, side="right") - 1
        starts: NDArray[np.int64] = keys[np.clip(np.minimum(by_time, by_place), 0, None)]
        return starts

    @cached_property
    def has_open_groups(self) -> bool:
        """Whether a group of pictures holds frames that need the group before it."""
        keys = np.union1d(0, np.flatnonzero(self.is_key))
        return bool((self.group_starts != keys[np.searchsorted(keys, self.order, side="right") - 1]).any())

    @property
    def num_frames(self) -> int:
        """The number of frames that are presented."""
        return len(self.order)


def read_packets(container: InputContainer, stream: VideoStream, path: Path, *, from_index: bool = True) -> PacketTable:
    """Read the packet table of an open file: from the index of an MP4 file where that is enough, else by demuxing.

    Afterwards the container stands at an arbitrary place.

    Args:
        container: the open file.
        stream: its video stream.
        path: the file's path.
        from_index: False demuxes in any case, and so proves that the packets are there.

    Raises:
        RecordError: TRUNCATED where none of the packets that the container promises is there, BAD_TIMESTAMPS where the
            timestamps make no order, NO_VIDEO_STREAM where there is no frame at all.
    """
    table = _from_mp4_index(container, stream, path) if from_index else None
    if table is None:
        table = _from_demux(container, stream, path)
        if table.missing_s and "mp4" in _formats(container):
            # Reading stops where the index leads nowhere, and what lies behind it is found by the index alone.
            container.seek(stream.index_entries[0].timestamp, stream=stream)
            whole = _from_mp4_index(container, stream, path)
            table = table if whole is None else replace(whole, is_damaged=True)
    if table.num_frames == 0 and table.missing_s:
        raise RecordError(Reason.TRUNCATED, f"{path}: the file ends before its first frame")
    if table.num_frames == 0:
        raise RecordError(Reason.NO_VIDEO_STREAM, f"{path}: the video stream holds no frame")
    return table


def _from_mp4_index(container: InputContainer, stream: VideoStream, path: Path) -> PacketTable | None:
    if "mp4" not in _formats(container) or stream.frames == 0 or len(stream.index_entries) != stream.frames:
        return None
    times = mp4.read_sample_times(path, stream.id)
    if times is None or len(times.pts) != stream.frames:
        return None
    # A single edit hides frames at the ends of the video only, and a file that ends early lacks the last samples.
    ends = [*stream.index_entries[:_MAX_REORDER], *stream.index_entries[-_MAX_REORDER:]]
    if any(entry.is_discard or entry.pos + entry.size > container.size for entry in ends):
        return None
    if _farthest_moved(times.pts)[1] > _MAX_REORDER:
        return None
    first = next(demux(container, stream), None)
    if first is None or first.pts is None:
        return None
    return PacketTable(
        # One packet fixes the constant that the edit list and negative offsets add to all times.
        pts=times.pts - times.pts[0] + first.pts,
        is_key=times.is_key,
        is_shown=np.ones(stream.frames, dtype=bool),
        time_base=_time_base(stream),
        last_duration=times.last_duration,
        nominal_rate=_nominal_rate(stream),
        has_timestamps=len(np.unique(times.pts)) == len(times.pts),
        is_seekable=True,
    )


def _from_demux(container: InputContainer, stream: VideoStream, path: Path) -> PacketTable:
    rows: list[_Row] = []
    ends: dict[int, int] = {}
    is_packed = is_damaged = has_gaps = False
    check = damage_check(stream)
    last_byte = 0
    # Of these formats, a packet is marked as corrupt that the end of the file cuts through: it comes last.
    cuts_last = not _formats(container).isdisjoint(_HAS_INDEX | _STATES_DURATION)
    cut_row: _Row | None = None
    for packet in demux(container):
        duration = packet.duration or 0
        has_gaps = has_gaps or 0 < last_byte < (packet.pos or 0) - _MAX_SKIPPED_BYTES
        last_byte = max(last_byte, (packet.pos or 0) + packet.size)
        if packet.stream_index == stream.index:
            is_packed = is_packed or (not rows and _PACKED.search(bytes(packet)) is not None)
            if cut_row is not None:
                rows.append(cut_row)
                is_damaged, cut_row = True, None
            row = (packet.pts, packet.dts, packet.is_keyframe, not packet.is_discard, duration)
            if packet.is_corrupt and cuts_last:
                cut_row = row
                continue
            rows.append(row)
            is_damaged = is_damaged or check(packet)
        if packet.pts is not None:
            ends[packet.stream_index] = max(ends.get(packet.stream_index, 0), packet.pts + duration)
    time_base, rate = _time_base(stream), _nominal_rate(stream)
    missing_s = _missing_s(container, stream, num_packets=len(rows), ends=ends)
    if is_packed or (not _HOLDS_NO_TIMES.isdisjoint(_formats(container)) and _is_counted_up(rows, stream)):
        rows = [(None, *row[1:]) for row in rows]
    rows, rate, remarks = _with_stated_rate(rows, stream, rate, path)
    frame_ticks = max(1, int(1 / ((rate or _DEFAULT_RATE) * time_base)))
    starts = [0] if _PROMISES_NOTHING.isdisjoint(_formats(container)) else _clock_starts(rows, time_base)
    is_key = np.array([row[2] for row in rows], dtype=bool)
    # A segment of a longer recording: what comes before its first key packet needs pictures that are elsewhere.
    is_headless = _is_headless(rows, is_key, starts)
    rows, shifts = _with_one_clock(rows, starts, is_headless, frame_ticks)
    is_shown = np.array([row[3] for row in rows], dtype=bool)
    rows = _without_jumps(rows, is_shown & ~is_headless, remarks)
    pts, has_timestamps = _presentation_times(rows, is_shown & ~is_headless, frame_ticks, path)
    if missing_s and is_shown.any() and stream.codec_context.has_b_frames:
        behind_hole = _behind_hole(pts, is_shown) if has_timestamps else _may_be_behind_hole(len(pts))
        missing_s += float((pts[is_shown].max() - pts[is_shown & ~behind_hole].max()) * time_base)
        is_shown &= ~behind_hole
    if missing_s:
        remarks.append(f"the file ends early: the last {missing_s:.2f} s that its header promises are missing")
    if has_timestamps and is_headless.any():
        is_shown &= ~is_headless
        remarks.append(f"{is_headless.sum()} frames before a complete picture cannot be decoded and are left out")
    for start in starts[1:]:
        at_s = float((pts[start:][is_shown[start:]].min() - pts[is_shown].min()) * time_base)
        remarks.append(f"joined recordings: the clock starts anew at {at_s:.2f} s, and the times go on")
    remarks += _remarks_on_bytes(container, stream, path, last_byte)
    return PacketTable(
        pts=pts,
        is_key=is_key,
        is_shown=is_shown,
        time_base=time_base,
        last_duration=rows[-1][4] if rows else 0,
        nominal_rate=rate,
        has_timestamps=has_timestamps,
        shifts=shifts if has_timestamps else None,
        is_seekable=has_timestamps and not _HAS_INDEX.isdisjoint(_formats(container)),
        remarks=tuple(remarks),
        is_damaged=is_damaged,
        has_gaps=is_damaged or (has_gaps and not _STATES_DURATION.isdisjoint(_formats(container))),
        missing_s=missing_s,
    )


def _remarks_on_bytes(container: InputContainer, stream: VideoStream, path: Path, last_byte: int) -> list[str]:
    """Say which bytes of a file are not used; `last_byte` ends the last packet."""
    formats = _formats(container)
    remarks = []
    if "mp4" in formats and not stream.frames and mp4.is_cut_off(path):
        remarks.append("the file ends in the middle of a fragment")
    if "mp4" in formats and (behind := mp4.bytes_of_second_file(path)):
        remarks.append(f"its last {behind} bytes are a second MP4 file, which players do not show: split the two")
    if not _PROMISES_NOTHING.isdisjoint(formats) and container.size - last_byte > _MAX_PADDING_BYTES:
        remarks.append(f"its last {container.size - last_byte} bytes hold no video")
    return remarks


def _clock_starts(rows: Sequence[_Row], time_base: Fraction) -> list[int]:
    """Return the positions of the packets at which a clock starts: the first, and those where recordings are joined."""
    dts = [row[1] for row in rows]
    back = _RESTART_S / time_base
    restarts = [
        place
        for place, (before, after) in enumerate(pairwise(dts), start=1)
        if before is not None and after is not None and after < before - back
    ]
    return [0, *restarts]


def _with_one_clock(
    rows: list[_Row], starts: Sequence[int], is_headless: NDArray[np.bool_], frame_ticks: int
) -> tuple[list[_Row], NDArray[np.int64] | None]:
    """Return the packets with the clock of the first recording going on through all, and what was added to each."""
    if len(starts) == 1 or any(row[0] is None or row[1] is None for row in rows):
        return rows, None
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
    return [(time, (row[1] or 0) + shift, *row[2:]) for row, time, shift in moved], shifts


def _is_headless(rows: Sequence[_Row], is_key: NDArray[np.bool_], starts: Sequence[int]) -> NDArray[np.bool_]:
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


def _is_counted_up(rows: Sequence[_Row], stream: VideoStream) -> bool:
    """Tell whether display times follow decoding although the codec shows frames in another order.

    Where a format holds no display times, libavformat makes them up, and knows the order of H.264 too late.
    """
    pts = [row[0] for row in rows if row[0] is not None]
    follows_decoding = len(pts) == len(rows) and all(before < after for before, after in pairwise(pts))
    return stream.codec_context.has_b_frames and follows_decoding


def _without_jumps(rows: list[_Row], is_shown: NDArray[np.bool_], remarks: list[str]) -> list[_Row]:
    """Return packets without display times where these jump and those of decoding never step back.

    Joined recordings step back in both. What is done is added to `remarks`.
    """
    pts, dts = [row[0] for row in rows], [row[1] for row in rows]
    if None in pts or None in dts or not (np.diff(np.array(dts, dtype=np.int64)) > 0).all():
        return rows
    if _farthest_moved(np.array(pts, dtype=np.int64)[is_shown])[1] <= _MAX_REORDER:
        return rows
    remarks.append("its display times are broken: frames follow at the times at which they are decoded")
    return [(None, *row[1:]) for row in rows]


def _presentation_times(
    rows: Sequence[_Row], is_shown: NDArray[np.bool_], frame_ticks: int, path: Path
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


def _spread(times: Sequence[int | None], frame_ticks: int) -> NDArray[np.int64]:
    """Return times for all packets: those without lie evenly between those with one, or all at the frame rate."""
    places = np.array([place for place, time in enumerate(times) if time is not None])
    known = np.array([time for time in times if time is not None])
    everywhere = np.arange(len(times), dtype=np.int64)
    if len(known) < 2 or (np.diff(known) <= 0).any():
        return everywhere * frame_ticks
    step = (known[-1] - known[0]) / (places[-1] - places[0])
    beyond = np.clip(everywhere - places[-1], 0, None) - np.clip(places[0] - everywhere, 0, None)
    ticks: NDArray[np.int64] = np.rint(np.interp(everywhere, places, known) + beyond * step).astype(np.int64)
    return ticks


def _missing_s(container: InputContainer, stream: VideoStream, *, num_packets: int, ends: dict[int, int]) -> float:
    """Return the seconds that the header promises beyond what was demuxed, as far as the format promises anything.

    MPEG-TS, MPEG-PS and bare streams promise nothing: a recording of that kind may end anywhere.
    """
    formats = _formats(container)
    if "mp4" in formats:
        index = stream.index_entries
        if num_packets >= len(index):
            return 0.0
        last = index[max(0, num_packets - 1)]
        return float((index[-1].timestamp - last.timestamp) * _time_base(stream))
    if "avi" in formats:
        # The header counts dropped frames, for which there are no packets, but whose ticks are left free.
        found = max(num_packets, ends.get(stream.index, 0))
        return float(max(0, stream.frames - found) / (_nominal_rate(stream) or _DEFAULT_RATE))
    if container.duration is None or formats.isdisjoint(_STATES_DURATION):
        return 0.0
    ends_s = {place: float(end * _time_base(container.streams[place])) for place, end in ends.items()}
    promised_s = container.duration / 1e6
    # A picture that ends before its sound does is no missing end.
    if max(ends_s.values(), default=0.0) >= promised_s - _DURATION_SLACK_S:
        return 0.0
    return promised_s - ends_s.get(stream.index, 0.0)


def _may_be_behind_hole(num_packets: int) -> NDArray[np.bool_]:
    """Return the last frames of counted ones: which of them lack one before them cannot be told, shape (P,)."""
    return np.arange(num_packets) >= max(1, num_packets - _MAX_HELD_BACK)


def _behind_hole(pts: NDArray[np.int64], is_shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return which frames of a file that ends early are shown after one that is missing, shape (P,).

    A frame may stand in the file before others that are shown before it. One that has lost these would take the number
    of another frame.
    """
    shown = np.sort(pts[is_shown])
    intervals = np.diff(shown)
    holes = np.flatnonzero(intervals > _HOLE_FRAMES * np.median(intervals)) if len(intervals) else intervals
    holes = holes[holes >= len(intervals) - _MAX_B_FRAMES]
    return is_shown & (pts > shown[holes[0]]) if len(holes) else np.zeros(len(pts), dtype=bool)


def _check_order(pts: NDArray[np.int64], path: Path) -> None:
    """Find timestamps that start again, as in joined recordings: sorting them would mix frames of different moments."""
    frame, places = _farthest_moved(pts)
    if places > _MAX_REORDER:
        raise RecordError(
            Reason.BAD_TIMESTAMPS,
            f"{path}: timestamps jump: frame {frame} in time order stands {places} packets from there in the file "
            f"(limit {_MAX_REORDER}); joined recordings have to be remuxed first",
        )


def _farthest_moved(pts: NDArray[np.int64]) -> tuple[int, int]:
    """Return the frame in time order that stands farthest from its place in the file, and by how many packets."""
    moved = np.abs(np.argsort(pts, kind="stable") - np.arange(len(pts)))
    return (int(moved.argmax()), int(moved.max())) if len(moved) else (0, 0)


def _with_stated_rate(
    rows: list[_Row], stream: VideoStream, rate: Fraction | None, path: Path
) -> tuple[list[_Row], Fraction | None, list[str]]:
    """Return packets, rate and remarks: without times, at the rate that the codec states, where time stands still.

    A broken table of times leaves the frames and their order intact.

    Raises:
        RecordError: BAD_TIMESTAMPS where frames are hidden by such times.
    """
    stated = stream.codec_context.framerate
    dts = [row[1] for row in rows if row[1] is not None]
    span_s = float((dts[-1] - dts[0]) * _time_base(stream)) if dts else 0.0
    if not stated or not 0 < stated <= MAX_FPS or len(dts) < 2 or len(dts) - 1 <= MAX_FPS * span_s:
        return rows, rate, []
    if not all(row[3] for row in rows):
        raise RecordError(
            Reason.BAD_TIMESTAMPS,
            f"{path}: the times of its {len(rows)} packets stand still, and an edit list hides frames by them",
        )
    remark = f"its times are broken: frames follow at {float(stated):g} a second, as its codec says"
    return [(None, None, *row[2:4], 0) for row in rows], Fraction(stated), [remark]


def _formats(container: InputContainer) -> frozenset[str]:
    return frozenset(container.format.name.split(","))


def _time_base(stream: Stream) -> Fraction:
    return stream.time_base or Fraction(1, 90_000)


def _nominal_rate(stream: VideoStream) -> Fraction | None:
    return stream.guessed_rate or stream.average_rate or None
