"""The pinhole camera over a ground plane, and small interpolations.

World: x to the right, y up, z away from the camera, in metres; the ground is y = 0. A place on the ground is (x, z);
a heading h looks along (cos h, sin h). Pixels are those of the drawing, `SUPERSAMPLE` times finer than the video.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 320, 240
SUPERSAMPLE = 2
NEAR_M = 0.5

Place = tuple[float, float]
Colour = tuple[int, int, int]
Floats = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass(frozen=True, slots=True, kw_only=True)
class Camera:
    """A fixed camera at `eye` = (x, y, z) that looks at `target`; `focal_px` counts pixels of the video."""

    eye: tuple[float, float, float]
    target: tuple[float, float, float]
    focal_px: float
    _axes: Floats = field(init=False, repr=False)
    right: Place = field(init=False, repr=False)
    """The direction on the ground that runs from left to right across the picture, of length 1."""

    def __post_init__(self) -> None:
        forward = np.subtract(self.target, self.eye)
        forward /= np.linalg.norm(forward)
        right = np.array([forward[2], 0.0, -forward[0]])
        right /= np.linalg.norm(right)
        object.__setattr__(self, "_axes", np.stack([right, np.cross(forward, right), forward], axis=1))
        object.__setattr__(self, "right", (float(right[0]), float(right[2])))

    def view(self, points: Floats) -> Floats:
        """Turn world points, shape (n, 3), into camera space: right, up, depth."""
        seen: Floats = (points - np.asarray(self.eye)) @ self._axes
        return seen

    def pixels(self, seen: Floats) -> Floats:
        """Project camera-space points in front of the camera to pixels, shape (n, 2)."""
        scale = self.focal_px * SUPERSAMPLE / np.maximum(seen[:, 2], NEAR_M)
        pixels = np.empty((len(seen), 2))
        pixels[:, 0] = WIDTH * SUPERSAMPLE / 2 + seen[:, 0] * scale
        pixels[:, 1] = HEIGHT * SUPERSAMPLE / 2 - seen[:, 1] * scale
        return pixels

    def project(self, points: Floats) -> tuple[Floats, Floats]:
        """Return the pixels, shape (n, 2), and the depths in metres, shape (n,), of world points."""
        seen = self.view(points)
        return self.pixels(seen), seen[:, 2]

    def depth(self, place: Place) -> float:
        """Return how far away along the line of sight a place on the ground lies, in metres."""
        axis = self._axes[:, 2]
        return float((place[0] - self.eye[0]) * axis[0] - self.eye[1] * axis[1] + (place[1] - self.eye[2]) * axis[2])

    def scale(self, depth_m: float) -> float:
        """Return the pixels that one metre takes at a depth."""
        return self.focal_px * SUPERSAMPLE / max(depth_m, NEAR_M)

    def misses(self, place: Place, reach_m: float) -> bool:
        """Tell whether everything within `reach_m` of a place on the ground is beyond the picture's left or right."""
        x, z = place[0] - self.eye[0], place[1] - self.eye[2]
        aside = abs(x * self.right[0] + z * self.right[1])
        return (aside - 1.1 * reach_m) * self.focal_px > WIDTH / 2 * max(self.depth(place) + reach_m, NEAR_M)

    def glimpses(self, place: Place) -> bool:
        """Tell whether at least the shoulders of a person on `place` are in the picture."""
        pixels, depths = self.project(np.array([[place[0], 1.4, place[1]]]))
        x, y = pixels[0]
        return bool(depths[0] > NEAR_M and 0 < x < WIDTH * SUPERSAMPLE and 0 < y < HEIGHT * SUPERSAMPLE)

    def sees(self, place: Place, margin: float = 0.06) -> bool:
        """Tell whether a person on `place` stands wholly in the picture, less a margin (fraction of its width)."""
        x, z = place
        (feet, head), depths = self.project(np.array([[x, 0.0, z], [x, 1.8, z]]))
        wide, high = WIDTH * SUPERSAMPLE, HEIGHT * SUPERSAMPLE
        inside = margin * wide < feet[0] < (1 - margin) * wide and feet[1] < 0.98 * high and head[1] > 0.02 * high
        return bool(depths[0] > NEAR_M and inside)


def lerp(a: float, b: float, u: float) -> float:
    """Return the value a fraction `u` of the way from `a` to `b`."""
    return a + (b - a) * u


def between(a: Place, b: Place, u: float) -> Place:
    """Return the place a fraction `u` of the way from `a` to `b`; beyond both where u leaves [0, 1]."""
    return lerp(a[0], b[0], u), lerp(a[1], b[1], u)


def shifted(place: Place, heading: float, ahead_m: float, left_m: float = 0.0) -> Place:
    """Return the place so many metres ahead and to the left of one who stands on `place` and looks along `heading`."""
    ahead, aside = math.cos(heading), math.sin(heading)
    return place[0] + ahead_m * ahead - left_m * aside, place[1] + ahead_m * aside + left_m * ahead


def placed(local: Floats, place: Place, heading: float) -> Floats:
    """Return points given as (ahead, left, up), shape (n, 3), in the world of one who stands on `place`."""
    cos, sin = math.cos(heading), math.sin(heading)
    world = np.empty_like(local)
    world[:, 0] = place[0] + local[:, 0] * cos - local[:, 1] * sin
    world[:, 1] = local[:, 2]
    world[:, 2] = place[1] + local[:, 0] * sin + local[:, 1] * cos
    return world


def heading_to(a: Place, b: Place) -> float:
    """Return the heading that looks from `a` to `b`."""
    return math.atan2(b[1] - a[1], b[0] - a[0])


def turned(a: float, b: float, u: float) -> float:
    """Return the heading a fraction `u` of the shorter way from heading `a` to heading `b`."""
    return a + math.remainder(b - a, math.tau) * u


def clamp01(u: float) -> float:
    """Return `u` limited to [0, 1]."""
    return min(1.0, max(0.0, u))


def smooth(u: float) -> float:
    """Return the smoothstep of `u` limited to [0, 1]."""
    u = clamp01(u)
    return u * u * (3 - 2 * u)


def shade(colour: Colour, factor: float) -> Colour:
    """Return a colour made darker (factor below 1) or brighter."""
    r, g, b = (min(255, max(0, round(c * factor))) for c in colour)
    return r, g, b
