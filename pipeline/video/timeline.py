"""Frames to seconds and back: the one module that converts between them.

The times are those of the container's own timestamps, so that variable frame rates, edit lists and wrong declared rates
do no harm. The first frame that is presented stands at 0.0.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.container import open_video
from pipeline.video.packet_times import MAX_FPS, separated
from pipeline.video.packets import PacketTable, read_packets

MIN_FPS = 0.01
"""Frame rates below it, and beyond `MAX_FPS`, are taken for broken timestamps."""

_BROWSER_FORMATS = frozenset({"mp4", "webm"})
_PAUSE_S, _PAUSE_FRAMES = 2.0, 10
"""A frame that is followed by the next one only after so many seconds, and so many times the usual interval, was the
last before a pause: a recorder that waits for motion. Nobody saw it stand there all the time."""

_GAP_FRAMES = 3
"""The same in a file of which packets are missing."""

_MOST = 0.9
"""Share of the intervals that makes a rate that of the camera: the others are frames that were lost."""

_ROUNDING_S = 1e-9
_DEFAULT_FRAME_S = 0.04
_WRITTEN_SLACK_S = 0.0005


@dataclass(frozen=True, eq=False)
class Timeline:
    """The presentation times of all frames of a video.

    Attributes:
        times_s: start of each frame in seconds, strictly increasing from 0.0, float64, shape (num_frames,).
        duration_s: end of the last frame, or the one that the container promises beyond it.
        fps: the nominal rate where most frames follow one another at it, whatever is missing in between; otherwise the
            mean rate measured from the times, pauses left out.
        tick_s: resolution of the container's clock.
        nominal_fps: the rate that the container declares; None where it declares none.
        start_s: when a player that starts the file at 0 shows the first frame: later than that where sound comes first.
        missing_s: seconds at the end without a frame, of a file that ends before the end which its header promises.
        has_gaps: packets may be missing in between, so that shorter pauses are losses.
    """

    times_s: NDArray[np.float64]
    duration_s: float
    fps: float
    tick_s: float
    nominal_fps: float | None
    start_s: float = 0.0
    missing_s: float = 0.0
    has_gaps: bool = False

    @property
    def recorded_end_s(self) -> float:
        """The end of the last frame."""
        return self.duration_s - self.missing_s

    @property
    def num_frames(self) -> int:
        """The number of frames that a decoder puts out."""
        return len(self.times_s)

    @cached_property
    def variable_frame_rate(self) -> bool:
        """Whether frames follow one another at intervals that rounding to the container's clock cannot explain."""
        intervals = np.diff(self.times_s)
        return bool(len(intervals) and np.ptp(intervals) > 2.01 * self.tick_s + 1e-9)

    @cached_property
    def _slack_s(self) -> float:
        # Containers round times to their clock and people write them with three decimals: a time that close before a
        # frame means that frame. A quarter of the shortest interval keeps neighbours apart.
        shortest = float(np.diff(self.times_s).min()) if self.num_frames > 1 else self.recorded_end_s
        return min(max(self.tick_s / 2, _WRITTEN_SLACK_S), shortest / 4) + 1e-9

    def time_of(self, frame_index: int) -> float:
        """Return the time at which a frame starts.

        Raises:
            IndexError: outside [0, num_frames).
        """
        if not 0 <= frame_index < self.num_frames:
            raise IndexError(f"frame {frame_index} outside [0, {self.num_frames})")
        return float(self.times_s[frame_index])

    def end_time_of(self, frame_index: int) -> float:
        """Return the time at which a frame gives way to the next one, or the recording pauses or ends.

        Raises: as `time_of`.
        """
        start_s = self.time_of(frame_index)
        end_s = self.recorded_end_s if frame_index == self.num_frames - 1 else self.time_of(frame_index + 1)
        return start_s + self._usual_s if end_s - start_s > self._pause_s else end_s

    @property
    def before_pauses(self) -> list[int]:
        """The frames after which the recording pauses, ascending."""
        pauses: list[int] = np.flatnonzero(np.diff(self.times_s) > self._pause_s).tolist()
        return pauses

    def stretches(self) -> list[tuple[int, int]]:
        """Return the frames [start_frame, end_frame) that were recorded without a pause, one after the other."""
        starts = [frame + 1 for frame in self.before_pauses]
        return list(zip([0, *starts], [*starts, self.num_frames], strict=True))

    def evenly_spaced(self, start_frame: int, end_frame: int, count: int, phase: float = 0.5) -> list[int]:
        """Return the frames shown at `phase` in [0, 1) of `count` equal parts of the recorded time of [start, end)."""
        recorded_s = self._recorded_s[start_frame : end_frame + 1]
        places_s = recorded_s[0] + (np.arange(count) + phase) * (recorded_s[-1] - recorded_s[0]) / count
        found = np.searchsorted(recorded_s, places_s + self._slack_s, side="right") - 1
        frames: list[int] = (start_frame + np.clip(found, 0, end_frame - start_frame - 1)).tolist()
        return frames

    @cached_property
    def _recorded_s(self) -> NDArray[np.float64]:
        """Seconds recorded before each frame and in all, shape (num_frames + 1,): times without the pauses."""
        times_s = np.append(self.times_s, self.recorded_end_s)
        for frame in self.before_pauses:
            times_s[frame + 1 :] -= self.times_s[frame + 1] - self.end_time_of(frame)
        return times_s

    @cached_property
    def _pause_s(self) -> float:
        return _pause_s(self._usual_s, has_gaps=self.has_gaps)

    @cached_property
    def _usual_s(self) -> float:
        return float(np.median(np.diff(self.times_s))) if self.num_frames > 1 else self.recorded_end_s

    def frame_at(self, time_s: float) -> int:
        """Return the frame shown at a time, clamped to the first and the last frame. Inverts `time_of` exactly."""
        return max(0, int(np.searchsorted(self.times_s, time_s + self._slack_s, side="right")) - 1)

    def frame_range(self, start_s: float, end_s: float) -> tuple[int, int]:
        """Return the frames [start_frame, end_frame) that start within [start_s, end_s); both equal where none does."""
        start, end = np.searchsorted(self.times_s, [start_s - self._slack_s, end_s - self._slack_s], side="left")
        return int(start), max(int(start), int(end))


def timeline_of(packets: PacketTable, name: str) -> Timeline:
    """Turn the timestamps of a packet table into a timeline; `name` stands in messages.

    Raises:
        RecordError: BAD_TIMESTAMPS where no frame rate within [MIN_FPS, MAX_FPS] comes out.
    """
    ticks = separated(packets.frame_pts)
    tick_s = float(packets.time_base)
    # Integer ticks times an exact ratio: one rounding per time, whatever the length of the video.
    times_s = (ticks - ticks[0]) * packets.time_base.numerator / packets.time_base.denominator
    nominal = packets.nominal_rate
    last_s = float(packets.last_duration * packets.time_base)
    if len(times_s) == 1:
        last_s = last_s or (float(1 / nominal) if nominal else _DEFAULT_FRAME_S)
        fps = 1 / last_s
    else:
        intervals_s = np.diff(times_s)
        usual_s = float(np.median(intervals_s))
        pauses_s = intervals_s[intervals_s > _pause_s(usual_s, has_gaps=packets.has_gaps)]
        span_s = float(times_s[-1]) - float((pauses_s - usual_s).sum())
        fps = _frame_rate(intervals_s, span_s, nominal, tick_s)
        if not 0 < last_s <= float(intervals_s.max()):
            last_s = span_s / (len(times_s) - 1)
    if not MIN_FPS <= fps <= MAX_FPS:
        raise RecordError(
            Reason.BAD_TIMESTAMPS,
            f"{name}: the timestamps put {len(times_s)} frames into {len(times_s) / fps:.6g} s, which is "
            f"{fps:.6g} frames per second (limits {MIN_FPS:g} and {MAX_FPS:g})",
        )
    return Timeline(
        times_s=times_s,
        duration_s=float(times_s[-1]) + last_s + packets.missing_s,
        fps=fps,
        tick_s=tick_s,
        nominal_fps=float(nominal) if nominal else None,
        missing_s=packets.missing_s,
        has_gaps=packets.has_gaps,
    )


def read_timeline(path: str | Path) -> Timeline:
    """Read the timeline of a video file without decoding it.

    Raises:
        RecordError: where the file is no readable video, is truncated, or has no usable timestamps.
    """
    path = Path(path)
    with open_video(path) as (container, stream):
        packets = read_packets(container, stream, path)
        timeline = timeline_of(packets, str(path))
        # The clocks of other formats start anywhere, and no browser plays them.
        if packets.has_timestamps and _BROWSER_FORMATS & set(container.format.name.split(",")):
            return replace(timeline, start_s=max(0.0, float(packets.frame_pts[0] * packets.time_base)))
        return timeline


def _pause_s(usual_s: float, *, has_gaps: bool) -> float:
    return _GAP_FRAMES * usual_s if has_gaps else max(_PAUSE_S, _PAUSE_FRAMES * usual_s)


def _frame_rate(intervals_s: NDArray[np.float64], span_s: float, nominal: Fraction | None, tick_s: float) -> float:
    if nominal:
        usual_s = float(1 / nominal)
        # A clock as coarse as the frames cannot tell one interval from two by its rounding.
        is_nominal = np.abs(intervals_s - usual_s) <= min(tick_s, usual_s / 4) + _ROUNDING_S
        if is_nominal.mean() >= _MOST or abs(float(len(intervals_s) / nominal) - span_s) <= tick_s:
            return float(nominal)
    return len(intervals_s) / span_s
