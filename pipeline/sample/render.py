"""From a staged shot to an encoded video: painting, light, sensor noise, clock, H.264."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime, timedelta
from fractions import Fraction
from pathlib import Path
from random import Random

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.sample.canvas import Canvas, Weights, add_disc, blend_disc
from pipeline.sample.geometry import HEIGHT, NEAR_M, WIDTH, Camera, Floats, Image
from pipeline.sample.layout import Layout
from pipeline.sample.people import Person
from pipeline.sample.plan import FPS
from pipeline.sample.shot import Element, Shot
from pipeline.sample.vehicles import Vehicle

_NOISE_PLANES = 12
_NOISE_MARGIN = 48
_STAMP_PX = 20
# One thread is not enough for equal bytes: the vector code of x264's mb-tree rounds differently from run to run.
_ENCODER = {
    "preset": "veryfast", "crf": "26", "g": str(2 * FPS),
    "x264-params": "threads=1:lookahead-threads=1:sliced-threads=0:mbtree=0:cpu-independent=1",
}  # fmt: skip


class Painter:
    """Paints the frames of one shot. Everything that stands still is painted once."""

    def __init__(self, shot: Shot, seed: int, camera_name: str) -> None:
        self.shot = shot
        self.canvas = Canvas(shot.camera, shot.night)
        rng = Random(f"{seed}:painter")
        self._rng = rng
        self._noise = _noise_bank(rng, 5.0 if shot.night else 2.6)
        self._name = camera_name
        self._clock = _clock(rng, shot)
        self._background = _background(self.canvas, shot.layout, rng)
        self._light = _light_map(shot, rng)
        self._shining = _shining(shot)
        self._still = _shrunk(self._background)
        self._written = ""
        self._ink: Image = np.zeros(0, np.uint8)
        self._cover: Weights = np.zeros(0, np.float32)
        self._tone = rng.uniform(0, math.tau)
        fixed = [v for v in shot.vehicles if _still(v)]
        self.canvas.begin(self._background)
        for vehicle in fixed:
            vehicle.draw_shadow(self.canvas, 0.0)
        self._background = self.canvas.image.copy()
        still: list[Element] = [*shot.layout.props, *fixed]
        self._sprites = [_Sprite(self.canvas, element) for element in still]
        self._movers: list[Person | Vehicle] = [*shot.people, *(v for v in shot.vehicles if v not in fixed)]

    def frame(self, index: int) -> NDArray[np.uint8]:
        """Return frame `index` as planar YUV 4:2:0, shape (HEIGHT * 3 / 2, WIDTH)."""
        time_s = index / FPS
        canvas = self.canvas
        canvas.begin(self._background)
        for stain in self.shot.stains:
            if stain.place(time_s) is not None:
                stain.draw(canvas, time_s)
        present = self._present(time_s)
        for _, element in present:
            if isinstance(element, Person | Vehicle):
                element.draw_shadow(canvas, time_s)
        for _, element in present:
            element.draw(canvas, time_s)
        picture = self._lit(time_s)
        self._stamp(picture, time_s)
        return self._sensed(picture)

    def _present(self, time_s: float) -> list[tuple[float, Element]]:
        """Return what is to be drawn now, the farthest first."""
        elements: list[Element] = [*self._sprites, *self._movers, *self.shot.effects]
        room = self.shot.layout.room
        found: list[tuple[float, Element]] = []
        for element in elements:
            place = element.place(time_s)
            if place is None or (room and not (room[0] < place[0] < room[1] and room[2] < place[1] < room[3])):
                continue
            if isinstance(element, Person | Vehicle) and self.canvas.camera.misses(place, element.reach_m):
                continue
            found.append((self.canvas.camera.depth(place), element))
        found.sort(key=lambda item: -item[0])
        return found

    def _lit(self, time_s: float) -> Image:
        """Bring the picture to the size of the video and apply lamps, flames, flash and shake."""
        canvas = self.canvas
        small = _shrunk(canvas.image)
        light = self._light
        if canvas.lights or self._shining is not None:
            light = light.copy()
        if self._shining is not None:
            # A lit window shines only as far as nothing stands in front of it.
            change = cv2.cvtColor(cv2.absdiff(small, self._still), cv2.COLOR_RGB2GRAY)
            free = cv2.bitwise_not(cv2.convertScaleAbs(change, alpha=6))
            cv2.max(light, cv2.multiply(self._shining, cv2.merge([free, free, free]), scale=1 / 255), light)
        for centre, radius, colour in canvas.lights:
            add_disc(light, centre, radius, colour)
        gain = 1 + 0.015 * math.sin(0.37 * time_s + self._tone)
        picture: Image = cv2.multiply(small, light, scale=gain / 255)
        for centre, radius, colour, alpha, kind in canvas.flames:
            blend_disc(picture, centre, radius, colour, alpha=alpha, kind=kind)
        if canvas.flash > 0.01:
            picture = cv2.addWeighted(
                picture, 1 - 0.85 * canvas.flash, np.full_like(picture, 255), 0.85 * canvas.flash, 0
            )
        if abs(canvas.shake_px[0]) + abs(canvas.shake_px[1]) > 0.2:
            move = np.array([[1, 0, canvas.shake_px[0]], [0, 1, canvas.shake_px[1]]], np.float32)
            picture = cv2.warpAffine(picture, move, (WIDTH, HEIGHT), borderMode=cv2.BORDER_REPLICATE)
        return picture

    def _stamp(self, picture: Image, time_s: float) -> None:
        """Write camera name and running clock over the picture; the writing is made once a second."""
        now = (self._clock + timedelta(seconds=time_s)).strftime("%Y-%m-%d %H:%M:%S")
        if now != self._written:
            self._written = now
            self._ink = np.zeros((_STAMP_PX, WIDTH, 3), np.uint8)
            outline = np.zeros((_STAMP_PX, WIDTH), np.uint8)
            for text, at in ((self._name, (6, 14)), (now, (WIDTH - 158, 14))):
                cv2.putText(outline, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 255, 3, cv2.LINE_AA)
                cv2.putText(self._ink, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (240, 240, 240), 1, cv2.LINE_AA)
            self._cover = np.divide(outline, 255, dtype=np.float32)
        strip = picture[:_STAMP_PX]
        strip[:] = cv2.blendLinear(strip, self._ink, 1 - self._cover, self._cover)

    def _sensed(self, picture: Image) -> NDArray[np.uint8]:
        """Turn the picture into YUV and add the sensor's noise to its luma."""
        planes: NDArray[np.uint8] = cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420)
        noise = self._noise[self._rng.randrange(_NOISE_PLANES)]
        x, y = self._rng.randrange(_NOISE_MARGIN), self._rng.randrange(_NOISE_MARGIN)
        planes[:HEIGHT] = cv2.add(planes[:HEIGHT], noise[y : y + HEIGHT, x : x + WIDTH], dtype=cv2.CV_8U)
        return planes


def _shrunk(image: Image) -> Image:
    small: Image = cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA)
    return small


def encode(path: Path, frames: Iterator[NDArray[np.uint8]]) -> None:
    """Write YUV 4:2:0 frames as an H.264 mp4 whose bytes depend on the frames alone."""
    with av.open(str(path), "w", format="mp4", options={"movflags": "+faststart", "fflags": "+bitexact"}) as container:
        stream = container.add_stream("libx264", rate=FPS, options=_ENCODER)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        stream.codec_context.thread_count = 1
        stream.codec_context.time_base = Fraction(1, FPS)
        for index, planes in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
            frame.pts = index
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


class _Sprite:
    """Something that never moves, painted once and laid over the frame where nearer things are painted after it."""

    def __init__(self, canvas: Canvas, element: Element) -> None:
        self._at = element.place(0.0)
        on_black, on_white = (_painted(canvas, element, tone) for tone in (0, 255))
        mask = (on_black == on_white).all(axis=2)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        self.empty = rows.size == 0
        if self.empty:
            return
        self._box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        self._patch = np.ascontiguousarray(on_black[self._box])
        self._mask = np.ascontiguousarray(mask[self._box]).astype(np.uint8) * 255

    def place(self, time_s: float) -> tuple[float, float] | None:  # noqa: ARG002 - it never moves
        """Return where it stands, or None where it is out of view."""
        return None if self.empty else self._at

    def draw(self, canvas: Canvas, time_s: float) -> None:  # noqa: ARG002
        """Lay it over the image."""
        cv2.copyTo(self._patch, self._mask, canvas.image[self._box])


def _painted(canvas: Canvas, element: Element, tone: int) -> Image:
    canvas.begin(np.full_like(canvas.image, tone))
    element.draw(canvas, 0.0)
    return canvas.image.copy()


def _still(vehicle: Vehicle) -> bool:
    """Tell whether a vehicle looks the same in all frames."""
    changes = (vehicle.crash_s, vehicle.shaken_s[0], vehicle.burnt_s[0])
    return vehicle.track.stays and vehicle.track.now_s < 0 and all(map(math.isinf, changes))


def _background(canvas: Canvas, layout: Layout, rng: Random) -> Image:
    """Paint the surfaces of a place, with grain and stains so that nothing is flat."""
    canvas.begin(np.full_like(canvas.image, (168, 186, 204)))
    for surface in layout.surfaces:
        canvas.polygon(surface.points, surface.colour)
    noise = np.random.default_rng(rng.getrandbits(32))
    height, width = canvas.image.shape[:2]
    grain = noise.normal(1, 0.035, (height, width)).astype(np.float32)
    blotches = noise.normal(1, 0.03, (12, 16)).astype(np.float32)
    texture = grain * cv2.resize(blotches, (width, height), interpolation=cv2.INTER_CUBIC)
    painted: Image = np.clip(canvas.image * texture[:, :, None], 0, 255).astype(np.uint8)
    return painted


def _light_map(shot: Shot, rng: Random) -> Image:
    """Return how much of daylight reaches each pixel, shape (HEIGHT, WIDTH, 3), 255 for all of it."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float32)
    vignette = 1 - rng.uniform(0.1, 0.3) * (((x / WIDTH - 0.5) ** 2 + (y / HEIGHT - 0.5) ** 2) / 0.5)
    if not shot.night:
        tint = (
            (0.97, 0.96, 0.9)
            if shot.layout.indoor
            else rng.choice(((1.0, 0.98, 0.93), (0.88, 0.9, 0.94), (0.94, 0.95, 0.96)))
        )
        by_day: Image = np.clip(vignette[:, :, None] * np.array(tint) * 252, 0, 255).astype(np.uint8)
        return by_day
    ambient = np.array((0.33, 0.36, 0.46)) * rng.uniform(0.85, 1.15)
    light = np.broadcast_to(ambient, (HEIGHT, WIDTH, 3)).copy()
    ground = _ground_below(shot.camera)
    warm = np.array(rng.choice(((1.0, 0.82, 0.55), (0.9, 0.9, 0.85), (1.0, 0.9, 0.7))))
    for lamp in shot.layout.lamps:
        gap = (ground[:, :, 0] - lamp[0]) ** 2 + (ground[:, :, 1] - lamp[1]) ** 2
        light += 0.62 * np.exp(-gap / (2 * 2.9**2))[:, :, None] * warm
    by_night: Image = np.clip(light * vignette[:, :, None] * 255, 0, 255).astype(np.uint8)
    return by_night


def _shining(shot: Shot) -> Image | None:
    """Return the light of lit surfaces, like a light map; None by day or where nothing is lit."""
    if not shot.night or not any(surface.lit for surface in shot.layout.surfaces):
        return None
    canvas = Canvas(shot.camera)
    for surface in shot.layout.surfaces:
        canvas.polygon(surface.points, (216, 204, 170) if surface.lit else (0, 0, 0))
    return _shrunk(canvas.image)


def _ground_below(camera: Camera) -> Floats:
    """Return where the ray of each pixel meets the ground, shape (HEIGHT, WIDTH, 2), at most 30 m away."""
    y, x = np.mgrid[0:HEIGHT, 0:WIDTH].astype(np.float64)
    view = np.stack([(x - WIDTH / 2) / camera.focal_px, (HEIGHT / 2 - y) / camera.focal_px, np.ones_like(x)], axis=2)
    # Camera axes are the rows that `view` yields for the world's own axes, taken from the eye.
    axes = camera.view(np.asarray(camera.eye) + np.eye(3))
    rays = view @ axes.T
    reach = np.where(rays[:, :, 1] < -1e-3, -camera.eye[1] / np.minimum(rays[:, :, 1], -1e-3), 30.0)
    reach = np.clip(reach, NEAR_M, 30.0)[:, :, None]
    ground: Floats = np.array([camera.eye[0], camera.eye[2]]) + rays[:, :, [0, 2]] * reach
    return ground


def _noise_bank(rng: Random, sigma: float) -> NDArray[np.int8]:
    """Return planes of sensor noise, larger than the picture, of which each frame takes a random cut."""
    shape = (_NOISE_PLANES, HEIGHT + _NOISE_MARGIN, WIDTH + _NOISE_MARGIN)
    return np.random.default_rng(rng.getrandbits(32)).normal(0, sigma, shape).round().clip(-40, 40).astype(np.int8)


def _clock(rng: Random, shot: Shot) -> datetime:
    """Return the time of day at which the video starts, dark or light as it is in the picture."""
    hour = rng.choice((20, 21, 22, 23, 0, 1, 2, 3, 4)) if shot.night else rng.randint(9, 16)
    day = datetime(2025, 1, 1) + timedelta(days=rng.randrange(365))
    return day.replace(hour=hour, minute=rng.randrange(60), second=rng.randrange(60))
