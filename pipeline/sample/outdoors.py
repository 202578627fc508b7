"""Places under the open sky: street, parking lot, arcade, alley, plaza, petrol station."""

from __future__ import annotations

import math
from random import Random

from pipeline.sample.definitions import PALETTE
from pipeline.sample.effects import Panel
from pipeline.sample.geometry import Colour, Place, shade
from pipeline.sample.layout import Box, Lane, Layout, SceneKind, Target, jitter, under_cameras

_ASPHALT: Colour = (96, 98, 102)
_PAVING: Colour = (164, 160, 152)
_FACADES, _SIGNS = PALETTE["facades"], PALETTE["signs"]
_SHOP_GLASS: Colour = (96, 116, 128)
_FAR = 40.0


def street(rng: Random) -> Layout:
    """A road with two lanes and a crossing between two pavements, shops behind."""
    kerb = rng.uniform(7.0, 7.7)
    far, front = kerb + 5.6, kerb + 5.6 + 2.6
    place = under_cameras(SceneKind.STREET, rng)
    paving = jitter(rng, _PAVING)
    place.ground((-_FAR, _FAR), (1, front), paving)
    _slabs(place, (-12, 12), (3, kerb), 1.2, shade(paving, 0.9))
    place.ground((-_FAR, _FAR), (kerb, far), jitter(rng, _ASPHALT))
    for z in (kerb, far):
        place.ground((-_FAR, _FAR), (z - 0.12, z + 0.12), (196, 194, 188))
    crossing = rng.choice((-1, 1)) * rng.uniform(2.2, 3.4)
    for x in range(-12, 13):
        if abs(x * 2.2 - crossing) > 2.8:
            place.ground((x * 2.2, x * 2.2 + 1.1), (kerb + 2.72, kerb + 2.88), (222, 220, 208))
    for i in range(6):
        z = kerb + 0.35 + i * 0.9
        place.ground((crossing - 1.3, crossing + 1.3), (z, z + 0.45), (226, 224, 216))
    _shopfronts(place, rng, front)
    place.lanes = [
        Lane(start=(-24, kerb + 1.4), end=(24, kerb + 1.4), speed_m_s=rng.uniform(6.5, 8.5)),
        Lane(start=(24, kerb + 4.2), end=(-24, kerb + 4.2), speed_m_s=rng.uniform(6.5, 8.5)),
    ]
    near, behind = kerb - 1.2, far + 1.3
    place.walks = [
        ((-11, near), (11, near)),
        ((-15, behind), (15, behind)),
        ((-11, near), (crossing, near), (crossing, behind), (15, behind)),
    ]
    place.exits = [(-10, near - 0.3), (10, near - 0.3)]
    place.spots = [(x, near - 0.1) for x in (-2.0, -1.0, 0.0, 1.0, 2.0)]
    place.lamps = [(-5.5, far + 0.4), (5.5, far + 0.4), (0.0, kerb - 0.6)]
    bin_at = (-math.copysign(2.3, crossing), kerb - 0.45)
    place.prop(bin_at, (0.5, 0.95, 0.5), jitter(rng, (60, 84, 70)))
    place.fuels = [(bin_at, "litter bin")]
    return place


def parking(rng: Random) -> Layout:
    """A parking lot: a row of cars behind an aisle, and one car parked lengthwise in front."""
    place = under_cameras(SceneKind.PARKING, rng)
    asphalt = jitter(rng, (112, 112, 112))
    place.ground((-_FAR, _FAR), (1, 60), asphalt)
    for i in range(-5, 6):
        place.ground((i * 2.7 - 0.06, i * 2.7 + 0.06), (13.2, 17.8), (216, 214, 204))
    place.ground((-_FAR, _FAR), (18.6, 60), jitter(rng, (104, 124, 84)))
    place.wall(19.4, (-_FAR, _FAR), (0, rng.uniform(1.2, 2.2)), jitter(rng, (92, 112, 76)))
    place.wall(26, (-_FAR, _FAR), (0, 9), jitter(rng, rng.choice(_FACADES)))
    for x in range(-14, 15, 3):
        place.wall(25.9, (x, x + 1.6), (2.6, 4.4), (84, 98, 110), lit=rng.random() < 0.4)
    side = rng.choice((-1, 1))
    parallel = (side * rng.uniform(2.0, 2.6), 8.3)
    place.ground((parallel[0] - 2.9, parallel[0] + 2.9), (7.2, 7.28), (216, 214, 204))
    for i in range(-4, 4):
        slot = ((i + 0.5) * 2.7, 15.6)
        heading = math.pi / 2 if rng.random() < 0.5 else -math.pi / 2
        (place.parked if rng.random() < 0.6 else place.free_slots).append((slot, heading))
    place.parked.append((parallel, 0.0 if rng.random() < 0.5 else math.pi))
    panel = Panel(centre=(parallel[0], 0.95, parallel[1] - 0.9), along=(1, 0), width_m=1.9, height_m=0.75)
    place.targets = [
        Target(panel=panel, stand=(parallel[0] - 0.4 * side, parallel[1] - 1.75), noun="parked car", car=parallel)
    ]
    place.fuels = [(parallel, "parked car")]
    place.lanes = [
        Lane(start=(-22, 10.6), end=(22, 10.6), speed_m_s=rng.uniform(3.6, 5)),
        Lane(start=(22, 12.4), end=(-22, 12.4), speed_m_s=rng.uniform(3.6, 5)),
    ]
    place.walks = [
        ((-10, 6.0), (10, 6.0)),
        ((-12, 9.9), (12, 9.9)),
        ((-side * 4.0, 13.0), (-side * 3.0, 9.0), (-side * 9, 5.6)),
    ]
    place.spots = [(-side * 1.4, 6.7), (-side * 2.2, 6.9), (-side * 0.5, 6.4)]
    return place


def arcade(rng: Random) -> Layout:
    """A pedestrian street along large shop windows."""
    front = rng.uniform(9.6, 10.4)
    place = under_cameras(SceneKind.ARCADE, rng)
    paving = jitter(rng, rng.choice((_PAVING, (176, 150, 128), (142, 146, 152))))
    place.ground((-_FAR, _FAR), (1, front), paving)
    _slabs(place, (-12, 12), (2, front), 0.9, shade(paving, 0.9))
    windows = _shopfronts(place, rng, front)
    nearest = min(abs(window.centre[0]) for window in windows)
    place.targets = [
        Target(panel=window, stand=(window.centre[0] - 0.2, front - 0.85), noun="shop window")
        for window in windows
        if abs(window.centre[0]) < 2.6 or abs(window.centre[0]) == nearest
    ]
    place.walks = [((-12.0, a), (12.0, b)) for a, b in ((5.8, 5.8), (6.7, 6.7), (front - 1.5,) * 2, (6.0, front - 1.4))]
    side = rng.choice((-1, 1))
    bin_at = (side * rng.uniform(2.4, 2.9), front - 2.0)
    place.prop(bin_at, (0.5, 1.0, 0.5), jitter(rng, (70, 74, 82)))
    place.fuels = [(bin_at, "litter bin")]
    planter = (-side * 4.4, front - 2.0)
    leaves = Box(
        (planter[0] - 0.5, planter[0] + 0.5), (0.6, 1.3), (planter[1] - 0.35, planter[1] + 0.35), (62, 112, 58)
    )
    place.prop(planter, (1.2, 0.6, 0.9), jitter(rng, (132, 110, 90)), leaves)
    place.lamps = [(-4, front - 1), (0, 6.5), (4, front - 1)]
    return place


def alley(rng: Random) -> Layout:
    """A passage between two brick walls, with dumpsters."""
    half = rng.uniform(3.0, 3.5)
    place = under_cameras(SceneKind.ALLEY, rng)
    brick = jitter(rng, rng.choice(((146, 90, 74), (158, 142, 122), (124, 120, 118))))
    place.wall(34, (-_FAR, _FAR), (0, 20), jitter(rng, (176, 184, 194)), lit=True)
    place.ground((-half, half), (1, 34), jitter(rng, (112, 110, 108)))
    place.ground((-0.2, 0.2), (1, 34), (92, 90, 88))
    for side in (-1, 1):
        tone = shade(brick, 0.94 if side < 0 else 1.04)
        place.flank(side * half, (1, 34), (0, 10), tone)
        for i in range(1, 16):
            place.flank(side * (half - 0.01), (1, 34), (i * 0.34, i * 0.34 + 0.03), shade(tone, 0.86))
        for z in (3.6, 12.5, 17, 22):
            place.flank(side * (half - 0.02), (z, z + 1.1), (0, 2.1), jitter(rng, (78, 84, 92)))
        for z in (11, 14, 18, 23):
            place.flank(side * (half - 0.02), (z, z + 1.3), (2.4, 3.8), (74, 86, 98), lit=rng.random() < 0.35)
        panel = Panel(centre=(side * (half - 0.03), 1.4, 7.0), along=(0, 1), width_m=3.0, height_m=1.7)
        place.targets.append(Target(panel=panel, stand=(side * (half - 0.75), 6.7), noun="wall", paintable=True))
    side = rng.choice((-1, 1))
    dumpster = (side * (half - 0.8), 9.6)
    lid = Box((dumpster[0] - 0.8, dumpster[0] + 0.8), (1.15, 1.25), (9.1, 10.1), (48, 52, 50))
    place.prop(dumpster, (1.5, 1.15, 1.0), jitter(rng, rng.choice(((44, 96, 66), (44, 70, 116), (120, 60, 40)))), lid)
    place.prop((-side * (half - 0.4), 11.5), (0.6, 0.5, 0.6), (150, 120, 80))
    place.fuels = [(dumpster, "dumpster")]
    return place


def plaza(rng: Random) -> Layout:
    """A wide paved square with a fountain, benches and a kiosk in front of a public building."""
    place = under_cameras(SceneKind.PLAZA, rng)
    stone = jitter(rng, rng.choice(((178, 172, 160), (160, 152, 150), (186, 166, 140))))
    place.ground((-_FAR, _FAR), (1, 24), stone)
    for i in range(-8, 9):
        for j in range(1, 14):
            if (i + j) % 2:
                place.ground((i * 1.5, i * 1.5 + 1.5), (j * 1.5 + 2, j * 1.5 + 3.5), shade(stone, 0.93))
    place.wall(22, (-_FAR, _FAR), (0, 14), jitter(rng, rng.choice(_FACADES)))
    for x in range(-15, 16, 3):
        place.wall(21.9, (x, x + 0.8), (0, 8), shade(stone, 1.08))
        place.wall(21.9, (x + 1.2, x + 2.4), (1.0, 3.2), (78, 92, 106), lit=rng.random() < 0.4)
    side = rng.choice((-1, 1))
    middle = (side * 1.8, 14.0)
    water = Box((middle[0] - 1.1, middle[0] + 1.1), (0.5, 0.56), (13.1, 14.9), (104, 150, 176))
    column = Box((middle[0] - 0.25, middle[0] + 0.25), (0.5, 1.7), (13.8, 14.2), (172, 168, 160))
    place.prop(middle, (2.8, 0.5, 2.2), (158, 154, 146), water, column)
    kiosk = (-side * 4.6, 13.4)
    roof = Box((kiosk[0] - 1.2, kiosk[0] + 1.2), (2.2, 2.5), (12.3, 14.5), jitter(rng, rng.choice(_SIGNS)))
    place.prop(kiosk, (2.0, 2.2, 1.8), (206, 200, 184), roof)
    bench = (side * 3.4, 9.7)
    place.prop(bench, (1.6, 0.45, 0.5), (134, 92, 56))
    bin_at = (-side * rng.uniform(2.0, 2.5), 10.2)
    place.prop(bin_at, (0.5, 0.95, 0.5), (66, 70, 74))
    place.fuels = [(bin_at, "litter bin")]
    return place


def forecourt(rng: Random) -> Layout:
    """A petrol station: two lanes beside an island with pumps, a shop behind."""
    place = under_cameras(SceneKind.FORECOURT, rng)
    concrete = jitter(rng, (158, 158, 156))
    place.ground((-_FAR, _FAR), (1, 16), concrete)
    _slabs(place, (-12, 12), (3, 16), 3.0, shade(concrete, 0.88))
    brand = rng.choice(_SIGNS)
    place.wall(16, (-_FAR, _FAR), (0, 4), (206, 206, 200))
    place.wall(15.95, (-_FAR, _FAR), (2.5, 3.2), brand, lit=True)
    for x in range(-9, 9, 3):
        place.wall(15.95, (x + 0.2, x + 2.7), (0.5, 2.2), _SHOP_GLASS, lit=True)
    place.ground((-4.2, 4.2), (9.9, 10.9), (192, 188, 176))
    for pump in (-2.4, 2.4):
        screen = Box((pump - 0.3, pump + 0.3), (1.0, 1.4), (10.12, 10.16), (40, 48, 52))
        place.prop((pump, 10.4), (0.8, 1.7, 0.5), brand, screen)
    for pillar in (-5.2, 5.2):
        place.prop((pillar, 10.4), (0.35, 5.0, 0.35), (214, 214, 210))
    place.lanes = [
        Lane(start=(-22, 8.6), end=(22, 8.6), speed_m_s=rng.uniform(4.5, 6)),
        Lane(start=(22, 12.5), end=(-22, 12.5), speed_m_s=rng.uniform(4.5, 6)),
    ]
    place.fuels = [((rng.choice((-2.4, 2.4)), 10.4), "petrol pump")]
    return place


def _slabs(place: Layout, x: tuple[float, float], z: tuple[float, float], size_m: float, colour: Colour) -> None:
    for i in range(int((x[1] - x[0]) / size_m) + 1):
        left = x[0] + i * size_m
        place.ground((left - 0.02, left + 0.02), z, colour)
    for i in range(int((z[1] - z[0]) / size_m) + 1):
        near = z[0] + i * size_m
        place.ground(x, (near - 0.02, near + 0.02), colour)


def _shopfronts(place: Layout, rng: Random, front: float) -> list[Panel]:
    """Build a row of shops along z = `front` and return their windows."""
    windows: list[Panel] = []
    x = -16.0
    while x < 16:
        width = rng.uniform(4.2, 5.6)
        colour = jitter(rng, rng.choice(_FACADES))
        place.wall(front, (x, x + width), (0, 12), colour)
        left, right = x + 1.45, x + width - 0.3
        glass: tuple[Place, Place] = ((left, right), (0.55, 2.35))
        place.wall(front - 0.02, (left - 0.08, right + 0.08), (0.47, 2.43), shade(colour, 0.6))
        place.wall(front - 0.03, *glass, jitter(rng, _SHOP_GLASS), lit=rng.random() < 0.7)
        for i, good in enumerate(rng.sample(_SIGNS, 3)):
            at = left + (i + 0.5) * (right - left) / 3
            place.wall(front - 0.035, (at - 0.22, at + 0.22), (0.58, rng.uniform(1.0, 1.5)), shade(good, 0.75))
        place.wall(front - 0.02, (x + 0.3, x + 1.2), (0, 2.2), jitter(rng, (84, 66, 54)))
        place.wall(front - 0.03, (x + 0.1, x + width - 0.1), (2.6, 3.2), rng.choice(_SIGNS), lit=rng.random() < 0.5)
        for i in range(2):
            at = x + 0.8 + i * width / 2
            place.wall(front - 0.02, (at, at + 1.1), (3.8, 5.2), (78, 90, 102), lit=rng.random() < 0.3)
        windows.append(
            Panel(centre=((left + right) / 2, 1.45, front - 0.04), along=(1, 0), width_m=right - left, height_m=1.8)
        )
        x += width
    return windows
