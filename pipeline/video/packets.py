"""The packet table of a video: what the container says of every frame, without decoding any."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video import asf, avi, dhav, flv, matroska, mp4
from pipeline.video.container import demux, open_video
from pipeline.video.display_order import STEADY_PACKETS, DisplayOrder, have_wrong_times, order_of
from pipeline.video.holes import lacks_pictures
from pipeline.video.packet_damage import damage_check
from pipeline.video.packet_times import (
    MAX_REORDER,
    Row,
    behind_hole,
    clock_starts,
    even_times,
    farthest_moved,
    headless_packets,
    may_be_behind_hole,
    presentation_times,
    separated,
    with_one_clock,
    with_stated_rate,
    with_untimed_hidden,
    without_jumps,
)

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.stream import Stream
    from av.video.stream import VideoStream

_DEFAULT_RATE = Fraction(25)

_HAS_INDEX = frozenset({"mov", "mp4", "matroska", "webm", "avi"})
"""Formats whose index leads to a key packet exactly; in the others a seek lands anywhere."""

_WAITS_FOR_KEY = frozenset({"h264", "hevc"})
"""Codecs whose decoder puts out nothing before the first key packet, so that frames are counted from there."""

_HOLDS_NO_TIMES = frozenset({"avi", "asf", "mxf", "mpegvideo"})
"""Formats in which a frame's place tells when it is decoded, and nothing when it is shown."""

_LEAVES_NO_SPACE = frozenset({"matroska", "webm", "flv"})
"""Formats in which a packet follows soon behind the one before."""

_STATES_DURATION = _LEAVES_NO_SPACE | {"asf"}
"""Formats without a count of frames whose header holds the duration."""

_DURATION_SLACK_S = 0.5
_END_SLACK_S = 0.1
"""How far before the promised end the last packet may end: of a file that is cut short, and of one that is not."""

_PROMISES_NOTHING = frozenset({"mpegts", "mpeg"})
"""Formats of recorders, which may end anywhere."""

NO_STAMP = -(1 << 63)
"""Stands for the time of a packet without one, as in libavformat."""

_MAX_PADDING_BYTES = 1 << 14

_FEW_PACKETS, _MANY_PACKETS, _MOST_PACKETS = 12, 32, 256
"""How many packets are looked at to see whether the times of an index are right: always, on suspicion, at most."""

_MAX_SKIPPED_BYTES = 1 << 11
"""Bytes between two packets of a format without an index in between, from which on something was passed over."""


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
        stamps: what each packet in the file says of its `stamp`, int64, shape (P,), `NO_STAMP` for those that say
            nothing; None where that is `pts`, or where there are no timestamps.
        stamp: the time by which a packet in the file is told from others: dts in formats that hold no other.
        missing_s: seconds at the end that the container promises and that are not there.
        has_gaps: packets may be missing in between: some are damaged, bytes were passed over that are none, or there
            are fewer than the header states.
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
    stamps: NDArray[np.int64] | None = None
    stamp: Literal["pts", "dts"] = "pts"
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
    ends = [*stream.index_entries[:MAX_REORDER], *stream.index_entries[-MAX_REORDER:]]
    is_partial = any(entry.is_discard or entry.pos + entry.size > container.size for entry in ends)
    if is_partial or farthest_moved(times.pts)[1] > MAX_REORDER:
        return None
    first = next(demux(container, stream), None)
    if first is None or first.pts is None:
        return None
    # One packet fixes the constant that the edit list and negative offsets add to all times.
    pts = times.pts - times.pts[0] + first.pts
    are_unique = len(np.unique(times.pts)) == len(times.pts)
    # Of pictures that share a time, the demuxer's way finds the order.
    if order_of(stream) and (not are_unique or _are_wrong(times, pts, container, stream)):
        return None
    return PacketTable(
        pts=pts,
        is_key=times.is_key,
        is_shown=np.ones(stream.frames, dtype=bool),
        time_base=_time_base(stream),
        last_duration=times.last_duration,
        nominal_rate=_nominal_rate(stream),
        has_timestamps=are_unique,
        is_seekable=True,
    )


def _are_wrong(times: mp4.SampleTimes, pts: NDArray[np.int64], container: InputContainer, stream: VideoStream) -> bool:
    """Tell whether the pictures of a stream contradict its times where these look least like those of B-frames.

    That is at the start, and in the longest stretch of pictures that all wait as long.
    """
    ends = np.flatnonzero(np.append(np.diff(times.delays) != 0, True)) + 1
    counts = np.diff(ends, prepend=0)
    longest = int(counts.argmax())
    looks_at = [(0, _FEW_PACKETS)]
    if counts[longest] >= STEADY_PACKETS:
        middle = int(ends[longest] - counts[longest] // 2)
        key = int(np.flatnonzero(times.is_key[: middle + 1]).max(initial=0))
        looks_at += [(0, _MANY_PACKETS), (key, min(middle - key, _MOST_PACKETS) + _MANY_PACKETS)]
    for start, count in looks_at:
        container.seek(int(pts[start]), stream=stream)
        order = order_of(stream)
        if order is not None and have_wrong_times(islice(demux(container, stream), count), order):
            return True
    return False


@dataclass(frozen=True, slots=True)
class _Demuxed:
    """What reading all packets of a file tells: those of the video stream, where they lie, the end of each stream.

    `by_index` has them at the times of an index that says otherwise than they do.
    """

    rows: list[Row]
    by_index: list[Row] | None
    positions: list[int]
    ends: dict[int, int]
    order: DisplayOrder
    last_byte: int
    is_damaged: bool
    has_gaps: bool


def _demuxed(container: InputContainer, stream: VideoStream, *, is_thorough: bool = False) -> _Demuxed:
    rows: list[Row] = []
    positions: list[int] = []
    ends: dict[int, int] = {}
    is_damaged = has_gaps = False
    check = damage_check(stream)
    holds_times = _HOLDS_NO_TIMES.isdisjoint(_formats(container))
    order = DisplayOrder(stream, holds_times=holds_times, is_thorough=is_thorough)
    last_byte = 0
    indexed = avi.index_times(stream) if "avi" in _formats(container) else {}
    # Of these formats, a packet is marked as corrupt that the end of the file cuts through: it comes last.
    cuts_last = not _formats(container).isdisjoint(_HAS_INDEX | _STATES_DURATION)
    cut_row: Row | None = None
    for packet in demux(container):
        duration = packet.duration or 0
        has_gaps = has_gaps or 0 < last_byte < (packet.pos or 0) - _MAX_SKIPPED_BYTES
        last_byte = max(last_byte, (packet.pos or 0) + packet.size)
        if packet.stream_index == stream.index:
            if cut_row is not None:
                rows.append(cut_row)
                is_damaged, cut_row = True, None
            row = (packet.pts, packet.dts, packet.is_keyframe, not packet.is_discard, duration)
            order.add(packet)
            positions.append(packet.pos or 0)
            if packet.is_corrupt and cuts_last:
                cut_row = row
                continue
            rows.append(row)
            is_damaged = is_damaged or check(packet)
        if packet.pts is not None:
            ends[packet.stream_index] = max(ends.get(packet.stream_index, 0), packet.pts + duration)
    by_index = avi.rows_by_index(rows, positions[: len(rows)], indexed) if indexed else None
    if by_index is not None:
        ends[stream.index] = max((row[1] or 0) + row[4] for row in by_index)
    return _Demuxed(rows, by_index, positions, ends, order, last_byte, is_damaged, has_gaps)


def _from_demux(container: InputContainer, stream: VideoStream, path: Path) -> PacketTable:
    found = _demuxed(container, stream)
    if found.order.is_doubtful(found.rows):
        with open_video(path) as (again, same):
            found = _demuxed(again, same, is_thorough=True)
    time_base, rate = _time_base(stream), _nominal_rate(stream)
    missing_s = _missing_s(container, stream, path, num_packets=len(found.rows), ends=found.ends)
    interval = 1 / (rate * time_base) if rate else None
    ends_in_picture = _ends_in_picture(container, path)
    if ends_in_picture:
        missing_s = float(1 / (rate or _DEFAULT_RATE))
    rows, lacks_some = _timed(container, path, found, interval, is_cut=missing_s > 0)
    rows, rate, remarks = with_stated_rate(rows, stream.codec_context.framerate, rate, time_base, path)
    frame_ticks = max(1, int(1 / ((rate or _DEFAULT_RATE) * time_base)))
    starts = [0] if _PROMISES_NOTHING.isdisjoint(_formats(container)) else clock_starts(rows, time_base)
    skips_bytes = found.has_gaps and not _LEAVES_NO_SPACE.isdisjoint(_formats(container))
    has_gaps = found.is_damaged or skips_bytes or lacks_some or _lacks_middle(container, stream, path, found)
    rows = found.order.corrected(rows, starts, remarks, has_gaps=has_gaps)
    by_dts = found.order.is_made_up(found.rows)
    is_key = np.array([row[2] for row in rows], dtype=bool)
    # A segment of a longer recording: what comes before its first key packet needs pictures that are elsewhere.
    is_headless = headless_packets(rows, is_key, starts)
    is_counted = stream.codec_context.name in _WAITS_FOR_KEY and any(row[0] is None for row in rows)
    if is_counted and is_key.any():
        is_headless = found.order.headless(is_key)
    rows = with_one_clock(rows, starts, is_headless, frame_ticks)
    is_shown = np.array([row[3] for row in rows], dtype=bool)
    rows = without_jumps(rows, is_shown & ~is_headless, remarks)
    # Counted frames that are left out leave no hole in the times of the others.
    is_timed = ~is_headless | (not is_counted)
    timed = [row for row, counts in zip(rows, is_timed.tolist(), strict=True) if counts]
    times, has_timestamps = presentation_times(timed, (is_shown & ~is_headless)[is_timed], frame_ticks, path)
    even = even_times(timed, 1 / (rate * time_base)) if rate and not has_timestamps else None
    pts: NDArray[np.int64] = np.full(len(rows), times.min(initial=0))
    pts[is_timed] = times if even is None else even
    if has_gaps and not has_timestamps and (shown_at := _in_slots(pts, is_timed, found, path)) is not None:
        # Counted, each picture that is lost would leave its number to the next.
        pts, has_timestamps = shown_at, True
    if missing_s and is_shown.any() and stream.codec_context.has_b_frames:
        is_behind = behind_hole(pts, is_shown) if has_timestamps else may_be_behind_hole(len(pts))
        missing_s += float((pts[is_shown].max() - pts[is_shown & ~is_behind].max()) * time_base)
        is_shown &= ~is_behind
    if missing_s:
        which = "at least the last {:.2f} s" if ends_in_picture else "the last {:.2f} s that its header promises"
        remarks.append(f"the file ends early: {which.format(missing_s)} are missing")
    if (has_timestamps or is_counted) and is_headless.any():
        is_shown &= ~is_headless
        remarks.append(f"{is_headless.sum()} frames before a complete picture cannot be decoded and are left out")
    for start in starts[1:]:
        at_s = float((pts[start:][is_shown[start:]].min() - pts[is_shown].min()) * time_base)
        remarks.append(f"joined recordings: the clock starts anew at {at_s:.2f} s, and the times go on")
    remarks += _remarks_on_bytes(container, stream, path, found.last_byte)
    return PacketTable(
        pts=pts,
        is_key=is_key,
        is_shown=is_shown,
        time_base=time_base,
        last_duration=rows[-1][4] if rows else 0,
        nominal_rate=rate,
        has_timestamps=has_timestamps,
        stamps=_stamps(found.rows, by_dts) if has_timestamps else None,
        stamp="dts" if by_dts else "pts",
        # Behind a seek to where an index says otherwise, packets have other times than those that were read.
        is_seekable=has_timestamps and found.by_index is None and not _HAS_INDEX.isdisjoint(_formats(container)),
        remarks=tuple(remarks),
        is_damaged=found.is_damaged,
        has_gaps=has_gaps,
        missing_s=missing_s,
    )


def _timed(
    container: InputContainer, path: Path, found: _Demuxed, interval: Fraction | None, *, is_cut: bool
) -> tuple[list[Row], bool]:
    """Return the packets with the times that their format holds, and whether these tell that some are missing."""
    rows, formats = found.order.timed(found.by_index or found.rows, is_cut=is_cut), _formats(container)
    if "dhav" in formats and (clock := dhav.read_clock(path, found.positions)) is not None:
        times, lacks_some = clock
        return [(time, time, *row[2:4], 0) for row, time in zip(rows, times.tolist(), strict=True)], lacks_some
    if "mpegts" in formats and (interval is None or even_times(rows, interval) is None):
        timed = with_untimed_hidden(rows, is_damaged=found.is_damaged)
        return timed, timed is not rows
    return rows, found.by_index is not None


def _in_slots(
    pts: NDArray[np.int64], is_timed: NDArray[np.bool_], found: _Demuxed, path: Path
) -> NDArray[np.int64] | None:
    """Return times of which each packet has its own, in the order that the pictures state; None where they do not."""
    slots = found.order.slots(len(pts))
    if slots is None:
        with open_video(path) as (again, same):
            slots = _demuxed(again, same, is_thorough=True).order.slots(len(pts))
    if slots is None or not is_timed.any():
        return None
    times: NDArray[np.int64] = np.rint(separated(np.sort(pts[is_timed]))).astype(np.int64)
    if len(np.unique(times)) < len(times):
        return None
    # Those that are not shown get times that no other has.
    shown_at: NDArray[np.int64] = times[0] - 1 - np.arange(len(pts), dtype=np.int64)
    shown_at[is_timed] = times[np.argsort(np.argsort(slots[is_timed]))]
    return shown_at


def _stamps(rows: Sequence[Row], place: int) -> NDArray[np.int64]:
    return np.array([NO_STAMP if row[place] is None else row[place] for row in rows], dtype=np.int64)


def _remarks_on_bytes(container: InputContainer, stream: VideoStream, path: Path, last_byte: int) -> list[str]:
    """Say which bytes of a file are not used; `last_byte` ends the last packet."""
    formats = _formats(container)
    remarks = []
    if container.size < (size := path.stat().st_size):
        remarks.append(
            f"its last {size - container.size} bytes begin with a broken header of a fragment, and are not read"
        )
    elif "mp4" in formats and not stream.frames and mp4.is_cut_off(path):
        remarks.append("the file ends in the middle of a fragment")
    if "mp4" in formats and (behind := mp4.bytes_of_second_file(path)):
        remarks.append(f"its last {behind} bytes are a second MP4 file, which players do not show: split the two")
    if not _PROMISES_NOTHING.isdisjoint(formats) and container.size - last_byte > _MAX_PADDING_BYTES:
        remarks.append(f"its last {container.size - last_byte} bytes hold no video")
    return remarks


def _stated_s(container: InputContainer, path: Path) -> float | None:
    """Return the duration that the header states; of FLV files libavformat makes one up, of ASF files it keeps none."""
    if not _formats(container).isdisjoint({"flv", "asf"}):
        return flv.duration_s(path) or asf.duration_s(path)
    return None if container.duration is None else container.duration / 1e6


def _missing_s(
    container: InputContainer, stream: VideoStream, path: Path, *, num_packets: int, ends: dict[int, int]
) -> float:
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
    promised_s = None if formats.isdisjoint(_STATES_DURATION) else _stated_s(container, path)
    if promised_s is None:
        return 0.0
    ends_s = {place: float(end * _time_base(container.streams[place])) for place, end in ends.items()}
    # A picture that ends before its sound does is no missing end. What ends far beyond was made up from foreign bytes.
    if any(abs(end_s - promised_s) <= _DURATION_SLACK_S for end_s in ends_s.values()):
        return 0.0
    return max(0.0, promised_s - ends_s.get(stream.index, 0.0))


def _ends_in_picture(container: InputContainer, path: Path) -> bool:
    """Tell whether a file of which no duration is stated, as one that is written live, ends within a picture."""
    if _formats(container).isdisjoint(_STATES_DURATION) or _stated_s(container, path) is not None:
        return False
    return matroska.ends_in_pictures(path) or flv.ends_in_picture(path)


def _lacks_middle(container: InputContainer, stream: VideoStream, path: Path, found: _Demuxed) -> bool:
    """Tell whether a file lacks some of what its format counts, though it is there to its end."""
    formats = _formats(container)
    if "mp4" in formats:
        return not stream.frames and mp4.lacks_fragments(path)
    if not formats.isdisjoint(_PROMISES_NOTHING):
        return lacks_pictures(path, found.rows)
    if formats.isdisjoint(_STATES_DURATION):
        return False
    if flv.is_broken(path) or matroska.is_broken(path) or asf.is_broken(path) or lacks_pictures(path, found.rows):
        return True
    stated_s = _stated_s(container, path)
    if stated_s is None or not (matroska.is_short(path) or flv.is_short(path) or asf.is_short(path)):
        return False
    ends_s = [float(end * _time_base(container.streams[place])) for place, end in found.ends.items()]
    return max(ends_s, default=0.0) >= stated_s - _END_SLACK_S


def _formats(container: InputContainer) -> frozenset[str]:
    return frozenset(container.format.name.split(","))


def _time_base(stream: Stream) -> Fraction:
    return stream.time_base or Fraction(1, 90_000)


def _nominal_rate(stream: VideoStream) -> Fraction | None:
    return stream.guessed_rate or stream.average_rate or None
