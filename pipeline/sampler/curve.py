"""The anomaly scores of one video over time."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import RecordError
from pipeline.features.base import num_snippets, snippet_edges
from pipeline.records import Reason, Scores, Video
from pipeline.sampler.smoothing import REACH, gaussian
from pipeline.storage import Storage

LONG_LOSS_S = 1.0
"""Seconds without a picture from which on what lies on either side has nothing to do with the other."""


@dataclass(frozen=True, eq=False)
class ScoreCurve:
    """Anomaly scores of a video by snippet, and what follows from them by frame.

    Attributes:
        scores: float, shape (T,), in [0, 1]; snippet t covers the frames [t * stride_frames, (t + 1) * stride_frames),
            the last one as many as are left.
        stride_frames: frames of a snippet; 0 where the snippets are T equal parts of the video.
        num_frames: frames of the video; T = ceil(num_frames / stride_frames), or any T up to it of equal parts.
        fps: mean frame rate of the video.
        lost: frames [start, end) for which there is no picture for long, ascending: both are the same where the
            recording pauses. What lies on either side does not meet, and nothing is found inside.

    Raises:
        ValueError: if T, a score or the rate is not so.
    """

    scores: NDArray[np.floating]
    stride_frames: int
    num_frames: int
    fps: float
    lost: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if self.num_frames < 1 or self.stride_frames < 0 or self.fps <= 0:
            raise ValueError(
                f"num_frames={self.num_frames}, stride_frames={self.stride_frames} and fps={self.fps:g}: "
                "the stride must not be negative, the others must be positive"
            )
        if not self.stride_frames:
            if self.scores.ndim != 1 or not 1 <= len(self.scores) <= self.num_frames:
                raise ValueError(f"scores of shape {self.scores.shape} for parts of {self.num_frames} frames")
        elif self.scores.shape != (expected := (num_snippets(self.num_frames, self.stride_frames),)):
            raise ValueError(
                f"scores of shape {self.scores.shape}; {self.num_frames} frames in snippets of {self.stride_frames} "
                f"make {expected}"
            )
        # A NaN fails this comparison too.
        if not ((self.scores >= 0) & (self.scores <= 1)).all():
            raise ValueError(f"scores from {self.scores.min():g} to {self.scores.max():g}; each must lie in [0, 1]")

    @cached_property
    def edges(self) -> NDArray[np.int64]:
        """Return the frames at which snippets begin, and the end of the last one: shape (T + 1,)."""
        return snippet_edges(self.num_frames, len(self.scores), self.stride_frames)

    @cached_property
    def parts(self) -> list[tuple[int, int]]:
        """Return the frames [start, end) before, in and after each of `lost`, none of them empty."""
        bounds = sorted({0, self.num_frames, *(min(frame, self.num_frames) for span in self.lost for frame in span)})
        return list(pairwise(bounds))

    def part_of(self, frame: int) -> tuple[int, int]:
        """Return that of the `parts` in which a frame lies."""
        return next(part for part in self.parts if part[0] <= frame < part[1])

    def by_frame(self) -> NDArray[np.floating]:
        """Return for each frame the score of its snippet, as frame-level evaluation takes it: shape (num_frames,)."""
        return np.repeat(self.scores, np.diff(self.edges))

    def mean(self, start_frame: int, end_frame: int) -> float:
        """Return the mean score of the frames [start_frame, end_frame), which must not be empty."""
        covered = np.diff(np.clip(self.edges, start_frame, end_frame))
        return float(np.dot(self.scores.astype(np.float64), covered) / (end_frame - start_frame))

    def smoothed(self, sigma_s: float) -> NDArray[np.float64]:
        """Return a smooth score for each frame: shape (num_frames,).

        The scores stand at the middles of their snippets, lines lead from one to the next, and a Gaussian of
        `sigma_s` seconds smooths them; beyond the ends, and those of the `parts`, the first and the last value go on.
        Where there is no picture the score is 0. The scores of one width are made once, and cannot be written to.
        """
        if sigma_s not in self._known:
            smooth: NDArray[np.float64] = np.zeros(self.num_frames)
            for start, end in self.parts:
                if (start, end) not in self.lost:
                    smooth[start:end] = self._smoothed(start, end, sigma_s * self.fps)
            smooth.flags.writeable = False
            self._known[sigma_s] = smooth
        return self._known[sigma_s]

    @cached_property
    def _known(self) -> dict[float, NDArray[np.float64]]:
        return {}

    def _smoothed(self, start: int, end: int, sigma: float) -> NDArray[np.float64]:
        """Return the smooth scores of the frames [start, end) alone; `sigma` in frames."""
        first = int(np.searchsorted(self.edges, start, side="right")) - 1
        last = int(np.searchsorted(self.edges, end))
        middles = np.clip((self.edges[first:last] + self.edges[first + 1 : last + 1] - 1) / 2, start, end - 1)
        values = np.interp(np.arange(start, end), middles, self.scores[first:last].astype(np.float64))
        radius = round(REACH * sigma)
        return values if radius < 1 else gaussian(values, sigma, radius)


def read_curve(storage: Storage, video: Video, scores: Scores, long_loss_s: float = LONG_LOSS_S) -> ScoreCurve:
    """Read the scores of a video from the workspace whose files `storage` holds.

    A loss of `long_loss_s` or more parts what lies on either side.

    Raises:
        RecordError: NO_SCORES where the file is missing, unreadable, or does not fit the video.
    """
    data = storage.read(scores.path)
    if data is None:
        raise RecordError(Reason.NO_SCORES, f"{storage.path(scores.path)}: no such file")
    try:
        values = np.load(io.BytesIO(data), allow_pickle=False)
        lost = video.long_losses(long_loss_s)
        return ScoreCurve(values, scores.stride_frames, video.num_frames, video.fps, lost)
    except (ValueError, EOFError, TypeError) as fault:
        raise RecordError(
            Reason.NO_SCORES, f"{storage.path(scores.path)}: not the scores of {video.video_id}: {fault}"
        ) from None
