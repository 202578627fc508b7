"""Drawing of world shapes into one frame, with soft smoke, flames and light sources.

The image holds the scene as full daylight would show it; lights and flames are collected while the scene is drawn and
applied after the lighting of the scene, so that they shine at night.
"""

from __future__ import annotations

from functools import cache

import cv2
import numpy as np
from numpy.typing import NDArray

from pipeline.sample.geometry import HEIGHT, NEAR_M, SUPERSAMPLE, WIDTH, Camera, Colour, Floats, Image

Weights = NDArray[np.float32]

_SHIFT = 4
_ONE = 1 << _SHIFT
_FAR_PX = 100_000


@cache
def _sprite(kind: int, size_px: int) -> Weights:
    """Return the soft disc number `kind`, alpha in [0, 1], shape (size, size); 0 is smooth, the others lumpy."""
    grid = np.linspace(-1, 1, 96, dtype=np.float32)
    radius = np.hypot(grid[:, None], grid[None, :])
    if kind:
        noise = np.random.default_rng(kind).normal(0, 1, (9, 9)).astype(np.float32)
        radius = radius + 0.16 * cv2.resize(noise, (96, 96), interpolation=cv2.INTER_CUBIC)
    edge = np.clip((1 - radius) / (0.9 if kind == 0 else 0.5), 0, 1)
    sprite: Weights = cv2.resize(edge * edge * (3 - 2 * edge), (size_px, size_px), interpolation=cv2.INTER_AREA)
    return sprite


def blend_disc(image: Image, centre: Floats, radius_px: float, colour: Colour, *, alpha: float, kind: int) -> None:
    """Lay a soft disc of a colour over the image, clipped at its borders."""
    found = _under(image, centre, radius_px, kind)
    if found is not None:
        region, sprite = found
        weight = sprite * np.float32(alpha)
        solid = np.empty_like(region)
        solid[:] = colour
        region[:] = cv2.blendLinear(region, solid, 1 - weight, weight)


def add_disc(light: Image, centre: Floats, radius_px: float, colour: Colour) -> None:
    """Add a soft disc of light to a light map, clipped at its borders."""
    found = _under(light, centre, radius_px, 0)
    if found is not None:
        region, sprite = found
        shine = cv2.merge([cv2.convertScaleAbs(sprite, alpha=channel) for channel in colour])
        region[:] = cv2.add(region, shine)


def _under(image: Image, centre: Floats, radius_px: float, kind: int) -> tuple[Image, Weights] | None:
    """Return the part of an image under a soft disc and the disc's weights there; sizes go in steps, to reuse discs."""
    size = max(2, round(radius_px / 2) * 4)
    x, y = round(float(centre[0]) - size / 2), round(float(centre[1]) - size / 2)
    left, top = max(0, x), max(0, y)
    right, bottom = min(image.shape[1], x + size), min(image.shape[0], y + size)
    if left >= right or top >= bottom or size > 4 * WIDTH * SUPERSAMPLE:
        return None
    return image[top:bottom, left:right], _sprite(kind, size)[top - y : bottom - y, left - x : right - x]


class Canvas:
    """One frame in the making. `night` is 0 by day and 1 in darkness; drawables use it for their lamps."""

    def __init__(self, camera: Camera, night: float = 0.0) -> None:
        self.camera = camera
        self.night = night
        self.image: Image = np.zeros((HEIGHT * SUPERSAMPLE, WIDTH * SUPERSAMPLE, 3), np.uint8)
        self.begin(self.image)

    def begin(self, background: Image) -> None:
        """Start a frame from a background of the size of the image."""
        np.copyto(self.image, background)
        self.lights: list[tuple[Floats, float, Colour]] = []
        self.flames: list[tuple[Floats, float, Colour, float, int]] = []
        self.flash = 0.0
        self.shake_px = (0.0, 0.0)

    def polygon(self, points: Floats, colour: Colour) -> None:
        """Fill a flat polygon of world points, shape (n, 3), cut off at the camera."""
        seen = self.camera.view(points)
        if seen[:, 2].min() < NEAR_M:
            seen = _clip_near(seen)
            if len(seen) < 3:
                return
        self.polygon_px(self.camera.pixels(seen), colour)

    def polygon_px(self, points: Floats, colour: Colour) -> None:
        """Fill a polygon given in pixels, shape (n, 2)."""
        cv2.fillPoly(self.image, [_fixed(points)], colour, cv2.LINE_8, _SHIFT)

    def line(self, points: Floats, width_m: float, colour: Colour) -> None:
        """Draw a polyline of world points, shape (n, 3), as thick as `width_m` is at its first point."""
        pixels, depths = self.camera.project(points)
        if depths.min() < NEAR_M:
            return
        width = max(1, round(width_m * self.camera.scale(float(depths[0]))))
        cv2.polylines(self.image, [_fixed(pixels)], False, colour, width, cv2.LINE_8, _SHIFT)

    def limb_px(self, a: Floats, b: Floats, width_px: float, colour: Colour) -> None:
        """Draw a thick line with round ends between two pixels."""
        start = (int(a[0] * _ONE), int(a[1] * _ONE))
        end = (int(b[0] * _ONE), int(b[1] * _ONE))
        cv2.line(self.image, start, end, colour, max(1, round(width_px)), cv2.LINE_8, _SHIFT)

    def disc_px(self, centre: Floats, radius_px: float, colour: Colour) -> None:
        """Fill a circle given in pixels."""
        at = (int(centre[0] * _ONE), int(centre[1] * _ONE))
        cv2.circle(self.image, at, max(1, int(radius_px * _ONE)), colour, -1, cv2.LINE_8, _SHIFT)

    def darken(self, points: Floats, keep: float) -> None:
        """Darken the image inside a convex polygon of world points to a fraction `keep`: a shadow."""
        pixels, depths = self.camera.project(points)
        if depths.min() < NEAR_M:
            return
        fixed = _fixed(pixels)
        x, y, width, height = cv2.boundingRect(fixed >> _SHIFT)
        left, top = max(0, x), max(0, y)
        region = self.image[top : max(top, y + height + 1), left : max(left, x + width + 1)]
        if not region.size:
            return
        mask = np.zeros(region.shape[:2], np.uint8)
        cv2.fillConvexPoly(mask, fixed - np.array([left, top], np.int32) * _ONE, 255, cv2.LINE_8, _SHIFT)
        cv2.copyTo(cv2.convertScaleAbs(region, alpha=keep), mask, region)

    def puff(self, at: Floats, radius_m: float, colour: Colour, alpha: float, kind: int) -> None:
        """Lay a soft puff of smoke or dust, which takes the light of the scene, around a world point, shape (3,)."""
        if seen := self._disc(at, radius_m):
            blend_disc(self.image, *seen, colour, alpha=alpha, kind=kind)

    def flame(self, at: Floats, radius_m: float, colour: Colour, alpha: float, kind: int = 0) -> None:
        """Lay a soft disc that shines by itself around a world point, shape (3,)."""
        if seen := self._disc(at, radius_m):
            self.flames.append((seen[0] / SUPERSAMPLE, seen[1] / SUPERSAMPLE, colour, alpha, kind))

    def light(self, at: Floats, radius_m: float, colour: Colour) -> None:
        """Light up the surroundings of a world point, shape (3,), within about a radius."""
        if seen := self._disc(at, radius_m):
            self.lights.append((seen[0] / SUPERSAMPLE, seen[1] / SUPERSAMPLE, colour))

    def _disc(self, at: Floats, radius_m: float) -> tuple[Floats, float] | None:
        """Return centre and radius in pixels of a ball around a world point, None where it is too near."""
        pixels, depths = self.camera.project(at[None])
        return (pixels[0], radius_m * self.camera.scale(float(depths[0]))) if depths[0] > NEAR_M else None


def _fixed(pixels: Floats) -> NDArray[np.int32]:
    """Return pixels as OpenCV takes them, in sixteenths."""
    return (np.clip(pixels, -_FAR_PX, _FAR_PX) * _ONE).astype(np.int32)


def _clip_near(seen: Floats) -> Floats:
    """Cut a polygon in camera space off at the near plane (Sutherland-Hodgman for one plane)."""
    kept = []
    for a, b in zip(seen, np.roll(seen, -1, axis=0), strict=True):
        if a[2] >= NEAR_M:
            kept.append(a)
        if (a[2] >= NEAR_M) != (b[2] >= NEAR_M):
            kept.append(a + (b - a) * ((NEAR_M - a[2]) / (b[2] - a[2])))
    return np.array(kept)
