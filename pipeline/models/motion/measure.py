"""What moves in front of a camera, measured: one pass over small grey frames.

The picture is split into shots at its cuts. In each shot a sliding median of the frames is the background; what
differs from it by more than the sensor noise is foreground, its connected regions are followed over time by
`pipeline.models.motion.tracks`, and dense optical flow (DIS, Kroeger et al., ECCV 2016) tells how each region and
the camera itself move. A region counts as a moving thing only if it travels: noise, a ticking clock overlay and
foliage change the picture too, but go nowhere.

Lengths are fractions of the picture's width on both axes, so that speeds compare across directions; areas are
fractions of the picture's area.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.models.motion.tracks import Region, Track, follow
from pipeline.video.shots import is_cut, layout_of

Grey = NDArray[np.uint8]
Floats = NDArray[np.float64]

_BACKGROUND_REACH_S = 20.0
_BACKGROUND_SAMPLES = 31
_MIN_REGION_AREA = 0.0008
WIDE_AREA = 0.15
"""Share of the picture from which a region is no single thing among others, but fills the view."""
WIDE_FRESH = 0.17
"""Share of a wide region that must be fresh for it to be in motion, as smoke is; a standing train is not."""
_MIN_CONTRAST = 12.0  # grey levels; below it lie compression and shadows
_NOISE_FACTOR = 4.5
_GLOW = 40.0  # grey levels
_FLOODED = 0.55  # foreground share from which a frame shows a change of light, not things
_GIVEN_BACK = 6  # frames for which what a flash or something close takes from the picture may be gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurements:
    """What was measured in one stretch of video; arrays have one entry per frame, in time order.

    `energy` is the share of pixels that changed since the frame before, brightness changes of the whole picture
    taken out. `cells` holds the mean grey level of a 3 x 4 grid, shape (T, 3, 4), `glow` the share of each of its cells
    that is far brighter than the background. `camera` is the motion of the whole
    picture as (right, down, zoom), in widths per second and relative growth per second; `camera_moves` says where it
    can be trusted and is not zero. `cuts_s` are the times of the first frames of new shots.
    """

    times_s: Floats
    energy: Floats
    brightness: Floats
    cells: Floats
    glow: Floats
    camera: Floats
    camera_moves: NDArray[np.bool_]
    cuts_s: tuple[float, ...]
    tracks: tuple[Track, ...]


def measure(frames: Grey, times_s: Floats) -> Measurements:
    """Measure grey `frames`, shape (T, H, W), shown at `times_s`, shape (T,), increasing."""
    import cv2

    smooth = np.stack([cv2.GaussianBlur(frame, (3, 3), 0) for frame in frames])
    cuts = find_cuts(smooth)
    noise = _noise_level(smooth)
    shots: list[_Shot] = []
    tracks: list[Track] = []
    for start, end in zip([0, *cuts], [*cuts, len(frames)], strict=True):
        shot = _Shot(smooth[start:end], times_s[start:end], noise)
        tracks += shot.tracks()
        shots.append(shot)
    return Measurements(
        times_s=times_s,
        energy=np.concatenate([shot.energy for shot in shots]),
        brightness=smooth.mean(axis=(1, 2)),
        cells=np.stack([_cell_means(frame) for frame in smooth]),
        glow=np.concatenate([shot.glow for shot in shots]),
        camera=np.concatenate([shot.camera for shot in shots]),
        camera_moves=np.concatenate([shot.camera_moves for shot in shots]),
        cuts_s=tuple(float(times_s[cut]) for cut in cuts),
        tracks=tuple(tracks),
    )


def find_cuts(frames: Grey) -> list[int]:
    """Return the indices of frames that start a new shot, in frames some tenths of a second apart.

    A new shot shows another scene than the pictures before, and goes on to: a flash and a passing car give back what
    they take. Where every picture differs from the next the camera moves.
    """
    layouts = [layout_of(frame) for frame in frames]
    differs = [False, *(is_cut(now, last) for last, now in pairwise(layouts))]
    cuts: list[int] = []
    for index in np.flatnonzero(differs).tolist():
        if any(differs[index - 1 : index]) or any(differs[index + 1 : index + 2]):
            continue
        before = layouts[max(cuts[-1] if cuts else 0, index - _GIVEN_BACK) : index]
        later = layouts[min(len(layouts) - 1, index + _GIVEN_BACK)]
        if is_cut(layouts[index], *before) and is_cut(later, before[-1]):
            cuts.append(index)
    return cuts


def _noise_level(frames: Grey) -> float:
    """Standard deviation of the sensor noise, from the differences of neighbouring frames, in grey levels."""
    if len(frames) < 2:
        return 0.0
    picks = np.unique(np.linspace(0, len(frames) - 2, min(24, len(frames) - 1)).astype(int))
    differences = np.abs(frames[picks + 1].astype(np.int16) - frames[picks])
    # The 75th percentile and not the median: codecs freeze still blocks, and most differences are exactly zero.
    return float(np.percentile(differences, 75) / (1.15 * np.sqrt(2)))


def _cell_means(picture: NDArray[Any]) -> Floats:
    """Return the means of a grid of 3 rows and 4 columns."""
    import cv2

    return np.asarray(cv2.resize(picture.astype(np.float32), (4, 3), interpolation=cv2.INTER_AREA), dtype=np.float64)


class _Shot:
    """The measurements of one shot; those per frame are ready after `tracks()`."""

    def __init__(self, frames: Grey, times_s: Floats, noise: float) -> None:
        self.frames = frames
        self.times_s = times_s
        self.threshold = max(_MIN_CONTRAST, _NOISE_FACTOR * noise)
        self.energy = np.zeros(len(frames))
        self.glow = np.zeros((len(frames), 3, 4))
        self.camera = np.zeros((len(frames), 3))
        self.camera_moves = np.zeros(len(frames), dtype=bool)

    def tracks(self) -> list[Track]:
        if len(self.frames) < 4:
            return []
        height, width = self.frames.shape[1:]
        return follow(self._regions(), self.times_s, aspect=height / width)

    def _regions(self) -> Iterator[list[Region]]:
        import cv2

        optical_flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_ULTRAFAST)
        # The default stops at a quarter of the resolution, where a pedestrian is two pixels wide.
        optical_flow.setFinestScale(1)
        background = _Background(self.frames, self.times_s)
        grid = _TexturedGrid(self.frames[0])
        previous = self.frames[0]
        for index, frame in enumerate(self.frames):
            source = previous if index else frame
            target = frame if index else self.frames[1]
            step_s = float(self.times_s[max(index, 1)] - self.times_s[max(index, 1) - 1])
            flow = optical_flow.calc(source, target, None)
            changed = np.abs(_offset_free(target, source)) > self.threshold
            self.energy[index] = changed.mean()
            self.camera[index], self.camera_moves[index] = grid.camera_motion(flow, step_s)
            above = _offset_free(frame, background.at(index))
            foreground = np.abs(above) > self.threshold
            self.glow[index] = _cell_means(above > _GLOW)
            previous = frame
            if foreground.mean() > _FLOODED or self.camera_moves[index]:
                yield []
            else:
                yield list(_connected(foreground, changed, partial(self._fresh, index), flow, step_s))

    def _fresh(self, index: int) -> NDArray[np.bool_]:
        """Where the picture differs both from about a second before and from a second after."""
        earlier, later = np.searchsorted(self.times_s, self.times_s[index] + np.array([-1.0, 1.0]))
        now, ends = self.frames[index], (max(earlier, 0), min(later, len(self.frames) - 1))
        # At either end of a shot one of the two is the frame itself: the other has to do.
        differences = [np.abs(_offset_free(now, self.frames[end])) > self.threshold for end in ends if end != index]
        return np.asarray(np.logical_and.reduce(differences))


class _Background:
    """The sliding median of a shot, renewed every quarter of its reach."""

    def __init__(self, frames: Grey, times_s: Floats) -> None:
        self._frames, self._times_s = frames, times_s
        self._median: Grey | None = None
        self._renew_s = float("-inf")

    def at(self, index: int) -> Grey:
        now = float(self._times_s[index])
        if self._median is None or now >= self._renew_s:
            reach = _BACKGROUND_REACH_S
            # At either end the window is shifted inwards, so that every median sees the same length of time.
            middle = min(
                max(now + reach / 4, self._times_s[0] + reach), max(self._times_s[-1] - reach, self._times_s[0])
            )
            first, last = np.searchsorted(self._times_s, [middle - reach, middle + reach])
            picks = np.unique(np.linspace(first, min(last, len(self._frames) - 1), _BACKGROUND_SAMPLES).astype(int))
            self._median = np.median(self._frames[picks], axis=0).astype(np.uint8)
            self._renew_s = now + reach / 2
        return self._median


class _TexturedGrid:
    """Points with enough texture for optical flow to be trusted, as witnesses of the camera's own motion."""

    _AGREEING = 0.7
    _MIN_POINTS = 24

    def __init__(self, frame: Grey) -> None:
        import cv2

        height, width = frame.shape
        self._width = width
        gradient = cv2.magnitude(
            cv2.Sobel(frame, cv2.CV_32F, 1, 0, scale=0.25), cv2.Sobel(frame, cv2.CV_32F, 0, 1, scale=0.25)
        )
        step = max(4, width // 24)
        y, x = np.mgrid[step // 2 : height : step, step // 2 : width : step]
        textured = cv2.dilate(gradient, np.ones((step, step)))[y, x] > 12
        self._y, self._x = y[textured], x[textured]
        self._dx, self._dy = self._x - width / 2, self._y - height / 2

    def camera_motion(self, flow: NDArray[np.float32], step_s: float) -> tuple[Floats, bool]:
        """Return (right, down, zoom) of the picture per second, and whether most of the picture moves that way."""
        if len(self._x) < self._MIN_POINTS or step_s <= 0:
            return np.zeros(3), False
        u, v = flow[self._y, self._x].astype(np.float64).T
        right, down = np.median(u), np.median(v)
        radius = self._dx**2 + self._dy**2
        far = radius > np.percentile(radius, 40)
        zoom = np.median((((u - right) * self._dx + (v - down) * self._dy) / radius)[far])
        residual = np.hypot(u - right - zoom * self._dx, v - down - zoom * self._dy)
        motion = np.hypot(right + zoom * self._dx, down + zoom * self._dy)
        agreeing = np.mean(residual < 0.3 + 0.3 * motion)
        moves = bool(agreeing > self._AGREEING and np.median(motion) > 0.35)
        return np.array([right / self._width, down / self._width, zoom]) / step_s, moves


def _offset_free(frame: Grey, reference: Grey) -> NDArray[np.float32]:
    """Difference in grey levels, without the change of brightness that the whole picture shares."""
    difference = frame.astype(np.float32) - reference
    # A quarter of the pixels is plenty for a median, which otherwise would cost more than the flow.
    shared = np.median(difference[::2, ::2])
    return np.asarray(difference - shared, dtype=np.float32)


def _connected(
    foreground: NDArray[np.bool_],
    changed: NDArray[np.bool_],
    fresh: Callable[[], NDArray[np.bool_]],
    flow: NDArray[np.float32],
    step_s: float,
) -> Iterator[Region]:
    """Find the connected regions of foreground.

    What is wide but not fresh, such as a train that stopped, is background to those who pass in front of it: there
    the fresh part alone is taken.
    """
    import cv2

    width = foreground.shape[1]
    labels, stats, centroids = _components(foreground)
    wide = [label for label in range(1, len(stats)) if stats[label, cv2.CC_STAT_AREA] >= WIDE_AREA * foreground.size]
    freshness = fresh() if wide else foreground
    if standing := [label for label in wide if freshness[labels == label].mean() < WIDE_FRESH]:
        labels, stats, centroids = _components(foreground & (freshness | ~np.isin(labels, standing)))
    for label in range(1, len(stats)):
        left, top, box_width, box_height, area = (int(value) for value in stats[label])
        if area < _MIN_REGION_AREA * foreground.size:
            continue
        box = np.s_[top : top + box_height, left : left + box_width]
        inside: Any = labels[box] == label
        # Where nothing changed, the flow is that of the background between a thing's parts.
        witnesses = inside & changed[box] if (inside & changed[box]).sum() >= 8 else inside
        velocity = np.median(flow[box][witnesses], axis=0) / (width * step_s) if step_s > 0 else np.zeros(2)
        yield Region(
            x=float(centroids[label][0]) / width,
            y=float(centroids[label][1]) / width,
            left=left / width,
            top=top / width,
            right=(left + box_width) / width,
            bottom=(top + box_height) / width,
            area=area / foreground.size,
            changing=float(changed[box][inside].mean()),
            velocity_x=float(velocity[0]),
            velocity_y=float(velocity[1]),
        )


def _components(mask: NDArray[np.bool_]) -> tuple[NDArray[np.int32], NDArray[np.int32], Floats]:
    """Label the connected parts of `mask`, specks removed and gaps closed: labels, stats and centroids of OpenCV."""
    import cv2

    clean = cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, np.ones((2, 2), np.uint8))
    clean = cv2.morphologyEx(clean, cv2.MORPH_CLOSE, np.ones((5, 3), np.uint8))
    _, labels, stats, centroids = cv2.connectedComponentsWithStats(clean, connectivity=8)
    return labels, stats, centroids
