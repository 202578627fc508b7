"""Smoke, fire, explosions, flying pieces, and the marks that events leave on walls and ground.

Every effect is a closed formula of time over numbers drawn once from a seed, so that any frame can be drawn alone.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from pipeline.sample.canvas import Canvas
from pipeline.sample.geometry import Colour, Floats, Place, clamp01, lerp, smooth

Point = tuple[float, float, float]
_GRAVITY = 9.81


def _mixed(a: Colour, b: Colour, u: float) -> Colour:
    return round(lerp(a[0], b[0], u)), round(lerp(a[1], b[1], u)), round(lerp(a[2], b[2], u))


@dataclass(slots=True, kw_only=True)
class Smoke:
    """Puffs that rise from a point between two times; the last one is gone `life_s` after the end."""

    origin: Point
    start_s: float
    end_s: float
    seed: int
    rate: float = 7.0
    life_s: float = 2.4
    rise_m_s: float = 1.1
    size_m: float = 0.9
    spread_m: float = 0.25
    colour: Colour = (70, 68, 66)
    alpha: float = 0.6
    _draws: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        count = max(1, int((self.end_s - self.start_s) * self.rate))
        self._draws = np.random.default_rng(self.seed).uniform(-1, 1, (count, 4))

    def place(self, time_s: float) -> Place | None:
        """Return the ground below the smoke while there is any."""
        alive = self.start_s <= time_s < self.end_s + self.life_s
        return (self.origin[0], self.origin[2] - 0.1) if alive else None

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw the puffs, the oldest first."""
        first = max(0, int((time_s - self.life_s - self.start_s) * self.rate))
        last = min(len(self._draws), int((time_s - self.start_s) * self.rate) + 1)
        for i in range(first, last):
            dx, dz, speed, size = self._draws[i]
            age = (time_s - self.start_s - i / self.rate) / self.life_s
            if not 0 <= age < 1:
                continue
            high = self.origin[1] + self.rise_m_s * (1 + 0.3 * speed) * age * self.life_s
            drift = self.spread_m * (1 + 2 * age)
            at = np.array([self.origin[0] + dx * drift + 0.5 * age, high, self.origin[2] + dz * self.spread_m])
            radius = self.size_m * (0.4 + 0.9 * age) * (1 + 0.25 * size)
            canvas.puff(at, radius, self.colour, self.alpha * smooth(age / 0.12) * (1 - age), 1 + i % 3)


@dataclass(slots=True, kw_only=True)
class Fire:
    """Flames on a base that grow for `grow_s`, burn, and die down before the end; with smoke above."""

    origin: Point
    start_s: float
    end_s: float
    seed: int
    size_m: float = 1.0
    grow_s: float = 3.0
    _draws: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._draws = np.random.default_rng(self.seed).uniform(-1, 1, (26, 4))

    def place(self, time_s: float) -> Place | None:
        """Return the ground in front of the fire while it burns."""
        return (self.origin[0], self.origin[2] - 0.3) if self.start_s <= time_s < self.end_s else None

    def strength(self, time_s: float) -> float:
        """Return how strong the fire is, in [0, 1]."""
        return smooth((time_s - self.start_s) / self.grow_s) * smooth((self.end_s - time_s) / 1.6)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Add flames and their light."""
        strength = self.strength(time_s)
        if strength <= 0.02:
            return
        x, y, z = self.origin
        for dx, dz, speed, phase in self._draws:
            age = (time_s * (1.3 + 0.5 * speed) + phase) % 1.0
            reach = self.size_m * (0.35 + 0.65 * strength)
            sway = 0.12 * math.sin(9 * time_s + 6 * phase)
            at = np.array([x + reach * (dx * 0.6 * (1 - 0.6 * age) + sway * age), y + 1.7 * reach * age, z + 0.3 * dz])
            colour = _mixed((255, 232, 120), (226, 64, 12), smooth(age * 1.25))
            canvas.flame(at, reach * (0.52 - 0.4 * age), colour, 0.85 * strength * (1 - age) ** 0.6, 1 + int(5 * age) % 3)
        flicker = 0.85 + 0.15 * math.sin(23 * time_s) * math.sin(13 * time_s)
        glow = round(190 * strength * flicker)
        canvas.light(np.array([x, 0.6, z - 0.3]), 4.5 * self.size_m, (glow, round(glow * 0.55), round(glow * 0.18)))


@dataclass(slots=True, kw_only=True)
class Blast:
    """A flash, then a fireball that swells, darkens and lifts; the camera shakes."""

    origin: Point
    start_s: float
    seed: int
    size_m: float = 2.6
    life_s: float = 2.2
    _draws: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        directions = rng.normal(0, 1, (34, 3))
        directions[:, 1] = np.abs(directions[:, 1]) * 1.1
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        self._draws = np.column_stack([directions * rng.uniform(0.15, 1, (34, 1)), rng.uniform(0, 1, 34)])

    def place(self, time_s: float) -> Place | None:
        """Return the ground in front of the blast while it lasts."""
        alive = self.start_s <= time_s < self.start_s + self.life_s
        return (self.origin[0], self.origin[2] - 0.5) if alive else None

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Add flash, fireball, light and shake."""
        since = time_s - self.start_s
        canvas.flash = max(canvas.flash, 0.95 * (1 - clamp01(since / 0.28)))
        shake = 3.5 * math.exp(-3 * since)
        canvas.shake_px = (shake * math.sin(61 * since), shake * math.cos(47 * since))
        age = since / self.life_s
        swell = self.size_m * (1 - math.exp(-6 * age))
        lift = 1.6 * age * self.size_m * 0.6
        fade = 1 - smooth((age - 0.45) / 0.55)
        for dx, dy, dz, phase in self._draws:
            at = np.array([self.origin[0] + dx * swell, self.origin[1] + dy * swell + lift, self.origin[2] + dz * 0.3])
            heat = clamp01(1.25 * age + 0.35 * phase + 0.25 * math.hypot(dx, dy))
            colour = _mixed((255, 244, 190), (255, 150, 36), smooth(heat / 0.45))
            colour = _mixed(colour, (120, 36, 14), smooth((heat - 0.5) / 0.5))
            canvas.flame(at, 0.55 * swell * (0.7 + 0.5 * phase), colour, 0.9 * fade, 1 + int(97 * phase) % 3)
        glow = round(230 * fade)
        canvas.light(np.array([self.origin[0], 1.0, self.origin[2]]), 9.0, (glow, round(glow * 0.7), round(glow * 0.35)))


@dataclass(slots=True, kw_only=True)
class Debris:
    """Pieces thrown from a point that fall, slide and lie there until `end_s`."""

    origin: Point
    start_s: float
    end_s: float
    seed: int
    colours: tuple[Colour, ...]
    count: int = 26
    speed_m_s: float = 4.0
    size_m: float = 0.09
    _draws: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        turn = rng.uniform(0, math.tau, self.count)
        speed = rng.uniform(0.2, 1.0, self.count) * self.speed_m_s
        self._draws = np.column_stack(
            [np.cos(turn) * speed, rng.uniform(0.3, 1.2, self.count) * self.speed_m_s * 0.8, np.sin(turn) * speed * 0.6,
             rng.uniform(0.4, 1.4, self.count) * self.size_m]
        )  # fmt: skip

    def place(self, time_s: float) -> Place | None:
        """Return the ground that the pieces fly over."""
        return (self.origin[0], self.origin[2] - 0.6) if self.start_s <= time_s < self.end_s else None

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw the pieces."""
        since = time_s - self.start_s
        rise = self._draws[:, 1]
        landing = (rise + np.sqrt(rise * rise + 2 * _GRAVITY * self.origin[1])) / _GRAVITY
        flown = np.minimum(since, landing) + 0.12 * np.clip(since - landing, 0, 1)
        high = np.maximum(0.03, self.origin[1] + rise * since - 0.5 * _GRAVITY * since * since)
        high[since > landing] = 0.03
        points = np.stack(
            [self.origin[0] + self._draws[:, 0] * flown, high, self.origin[2] + self._draws[:, 2] * flown], axis=1
        )
        pixels, depths = canvas.camera.project(points)
        for i, (pixel, depth) in enumerate(zip(pixels, depths, strict=True)):
            radius = max(1.0, float(self._draws[i, 3]) * canvas.camera.scale(float(depth)))
            spin = 7 * min(since, float(landing[i])) + i
            edge = np.array([math.cos(spin), math.sin(spin)]) * radius
            canvas.polygon_px(np.array([pixel - edge, pixel + edge[::-1] * 0.6, pixel + edge]), self.colours[i % len(self.colours)])


@dataclass(slots=True, kw_only=True)
class MuzzleFlashes:
    """A bright flash at the muzzle of a gun at every shot."""

    at: Point
    shots_s: tuple[float, ...]

    def place(self, time_s: float) -> Place | None:
        """Return the ground under the muzzle while it flashes."""
        return (self.at[0], self.at[2] - 0.4) if self._since(time_s) < 0.13 else None

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Add the flash and its light."""
        strength = 1 - self._since(time_s) / 0.16
        muzzle = np.array(self.at)
        canvas.flame(muzzle, 0.62 * strength + 0.15, (255, 190, 70), 0.95)
        canvas.flame(muzzle, 0.34 * strength + 0.1, (255, 252, 226), 1.0)
        canvas.light(muzzle, 3.2, (150, 130, 90))

    def _since(self, time_s: float) -> float:
        return min((time_s - shot for shot in self.shots_s if shot <= time_s), default=math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """An upright plane: a piece of wall, window or car side. `along` is a unit direction on the ground."""

    centre: Point
    along: Place
    width_m: float
    height_m: float

    def at(self, across: float, up: float) -> Point:
        """Return the point at fractions in [-1, 1] of half the width and half the height."""
        aside = across * self.width_m / 2
        x, y, z = self.centre
        return x + aside * self.along[0], y + up * self.height_m / 2, z + aside * self.along[1]


@dataclass(slots=True, kw_only=True)
class Cracks:
    """Stars of cracks in a panel, one a blow, that stay; after the last blow the pane has a hole."""

    panel: Panel
    blows: tuple[tuple[float, float, float], ...]
    colour: Colour = (226, 236, 240)
    hole_s: float = math.inf

    def place(self, time_s: float) -> Place | None:
        """Return the ground below the panel from the first blow on."""
        return (self.panel.centre[0], self.panel.centre[2] - 0.02) if time_s >= self.blows[0][0] else None

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw the cracks so far."""
        half = min(self.panel.width_m, self.panel.height_m * 1.4) * 0.42
        for i, (blow_s, across, up) in enumerate(self.blows):
            if time_s < blow_s:
                break
            grown = 0.5 + 0.5 * smooth((time_s - blow_s) / 0.1)
            rays = []
            for k in range(9):
                turn = math.tau * k / 9 + 0.7 * i + 0.25 * math.sin(5 * k + i)
                reach = half * grown * (0.6 + 0.4 * math.sin(3.1 * k + i) ** 2)
                aside, high = math.cos(turn) * reach / (self.panel.width_m / 2), math.sin(turn) * reach / (self.panel.height_m / 2)
                rays.append((max(-1.0, min(1.0, across + aside)), max(-1.0, min(1.0, up + high))))
                canvas.line(np.array([self.panel.at(across, up), self.panel.at(*rays[-1])]), 0.025, self.colour)
            ring = np.array([self.panel.at(lerp(across, a, 0.5), lerp(up, b, 0.5)) for a, b in [*rays, rays[0]]])
            canvas.line(ring, 0.02, self.colour)
        if time_s >= self.hole_s:
            _, across, up = self.blows[-1]
            hole = [(0.42, 0.1), (0.2, 0.5), (-0.1, 0.3), (-0.4, 0.55), (-0.45, -0.1), (-0.25, -0.6), (0.1, -0.35), (0.35, -0.5)]
            canvas.polygon(np.array([self.panel.at(0.5 * across + a, 0.5 * up + b) for a, b in hole]), (14, 16, 20))


@dataclass(slots=True, kw_only=True)
class Paint:
    """A scrawl that grows on a wall between two times and stays."""

    panel: Panel
    start_s: float
    end_s: float
    seed: int
    colour: Colour
    _scrawl: Floats = field(init=False, repr=False)

    def __post_init__(self) -> None:
        rng = np.random.default_rng(self.seed)
        along = np.linspace(-0.92, 0.92, 120)
        waves = sum(rng.uniform(0.4, 1) * np.sin(rng.uniform(5, 13) * along + rng.uniform(0, 6)) for _ in range(3))
        loops = 0.07 * np.sin(40 * along)
        self._scrawl = np.array([self.panel.at(a + b, w) for a, b, w in zip(along, loops, 0.42 * waves, strict=True)])

    def place(self, time_s: float) -> Place | None:
        """Return the ground below the wall from the first stroke on."""
        return (self.panel.centre[0], self.panel.centre[2]) if time_s >= self.start_s else None

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw the scrawl so far, and the mist of the can where it is."""
        drawn = clamp01((time_s - self.start_s) / (self.end_s - self.start_s))
        count = max(2, int(drawn * len(self._scrawl)))
        canvas.line(self._scrawl[:count], 0.11, self.colour)
        if drawn < 1:
            canvas.puff(self._scrawl[count - 1], 0.3, self.colour, 0.55, 1)


@dataclass(slots=True, kw_only=True)
class Stain:
    """A dark, wet or scorched patch on the ground that spreads from `start_s` on and stays."""

    origin: Place
    start_s: float
    radius_m: float
    spread_s: float = 1.0
    keep: float = 0.45

    def place(self, time_s: float) -> Place | None:
        """Return where the patch is, once it is there."""
        return self.origin if time_s >= self.start_s else None

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Darken the ground."""
        turn = np.linspace(0, math.tau, 18, endpoint=False)
        reach = self.radius_m * smooth((time_s - self.start_s) / self.spread_s) * (1 + 0.12 * np.sin(3 * turn) + 0.08 * np.sin(7 * turn))
        if reach.max() < 0.02:
            return
        points = np.stack([self.origin[0] + reach * np.cos(turn), np.zeros(18), self.origin[1] + reach * np.sin(turn)], axis=1)
        canvas.darken(points, self.keep)
