"""Places under a roof: shop and station platform."""

from __future__ import annotations

from random import Random

from pipeline.sample.definitions import PALETTE
from pipeline.sample.effects import Panel
from pipeline.sample.geometry import Camera, shade
from pipeline.sample.layout import Box, Lane, Layout, Prop, SceneKind, Target, jitter, under_cameras

_GOODS = PALETTE["goods"]


def shop(rng: Random) -> Layout:
    """A convenience store: shelves, fridges, a counter with a clerk, a door at the back."""
    side = rng.choice((-1, 1))
    cameras = [
        Camera(
            eye=(-side * x, rng.uniform(2.8, 3.1), rng.uniform(0.4, 0.9)),
            target=(side * 0.5, 0.9, 6.0),
            focal_px=rng.uniform(240, 275),
        )
        for x in (rng.uniform(1.6, 2.6), rng.uniform(0.2, 1.0))
    ]
    place = Layout(kind=SceneKind.SHOP, cameras=cameras, indoor=True, room=(-4.6, 4.6, 0.5, 10.6))
    tile, plaster = jitter(rng, (196, 192, 182)), jitter(rng, (214, 208, 190))
    place.ground((-4.6, 4.6), (0, 10.6), tile)
    for i in range(-8, 9):
        place.ground((i * 0.6 - 0.01, i * 0.6 + 0.01), (0, 10.6), shade(tile, 0.86))
        place.ground((-4.6, 4.6), (i * 0.6 + 5.4, i * 0.6 + 5.42), shade(tile, 0.86))
    place.wall(10.6, (-4.6, 4.6), (0, 4), plaster)
    for x in (-4.6, 4.6):
        place.flank(x, (0, 10.6), (0, 4), shade(plaster, 0.88))
    door = -side * 3.2
    place.wall(10.58, (door - 0.6, door + 0.6), (0, 2.2), (52, 58, 62))
    fridge = side * 0.6
    for i in range(4):
        left = fridge - 1.9 + i * 1.1
        place.wall(10.57, (left, left + 1.0), (0.1, 2.1), (206, 226, 232))
        for row in range(4):
            place.wall(10.56, (left + 0.08, left + 0.92), (0.25 + row * 0.45, 0.5 + row * 0.45), rng.choice(_GOODS))
    for z in (3.2, 4.6, 6.0, 7.4):
        x = -side * 4.55
        place.flank(x, (z, z + 1.3), (0, 1.9), (150, 120, 90))
        for row in range(4):
            place.flank(x + side * 0.03, (z + 0.05, z + 1.25), (0.2 + row * 0.45, 0.5 + row * 0.45), rng.choice(_GOODS))
    place.props.append(_gondola(rng, -side * 1.6, 8.5))
    place.prop((side * 2.6, 6.2), (0.8, 1.02, 3.0), jitter(rng, (140, 98, 66)),
               Box((side * 2.6 - 0.2, side * 2.6 + 0.2), (1.02, 1.35), (5.6, 5.95), (60, 64, 70)))  # fmt: skip
    place.clerk = ((side * 3.5, 6.0), (side * 1.0, 6.0))
    place.exits = [(door, 11.4)]
    place.walks = [((door, 11.4), (door, 5.6), (side * 1.3, 5.2), (side * 1.3, 4.6), (door, 5.0), (door, 11.4))]
    place.browse = [
        ((-side * 3.7, 6.4), (-side * 4.6, 6.4)),
        ((-side * 3.6, 4.4), (-side * 4.6, 4.4)),
        ((-side * 1.6, 7.75), (-side * 1.6, 8.5)),
    ]
    place.spots = [(side * 0.2, 5.6), (-side * 0.6, 5.2), (-side * 0.9, 6.2)]
    return place


def _gondola(rng: Random, x: float, z: float) -> Prop:
    boxes = [Box((x - 1.1, x + 1.1), (0, 1.45), (z - 0.3, z + 0.3), (168, 158, 140))]
    for row in range(3):
        for i in range(6):
            left = x - 1.05 + i * 0.35
            boxes.append(
                Box((left, left + 0.3), (0.15 + row * 0.45, 0.48 + row * 0.45), (z - 0.34, z - 0.3), rng.choice(_GOODS))
            )
    return Prop((x, z), tuple(boxes), 0.9)


def platform(rng: Random) -> Layout:
    """An underground platform along a track on which trains stop."""
    edge = rng.uniform(8.4, 9.0)
    place = under_cameras(SceneKind.PLATFORM, rng, indoor=True)
    floor = jitter(rng, (168, 166, 160))
    far = edge + 3.8
    place.ground((-40, 40), (1, edge), floor)
    for i in range(-14, 15):
        place.ground((i * 0.9 - 0.015, i * 0.9 + 0.015), (1, edge), shade(floor, 0.88))
    place.ground((-40, 40), (edge - 0.75, edge - 0.5), (226, 190, 50))
    place.ground((-40, 40), (edge, far), (58, 56, 54))
    for z in (edge + 0.9, edge + 2.3):
        place.ground((-40, 40), (z, z + 0.12), (140, 136, 130))
    tiles = jitter(rng, rng.choice(((206, 202, 188), (150, 176, 170), (196, 168, 130))))
    place.wall(far, (-40, 40), (-0.5, 8), tiles)
    place.wall(far - 0.02, (-40, 40), (2.5, 3.0), rng.choice(((40, 70, 140), (150, 40, 44), (40, 110, 80))))
    for x in range(-15, 16, 5):
        place.wall(far - 0.02, (x + 0.6, x + 3.4), (0.7, 2.2), rng.choice(_GOODS))
        place.wall(far - 0.03, (x + 0.8, x + 3.2), (1.6, 2.1), (230, 226, 214))
    side = rng.choice((-1, 1))
    for pillar in (-5.4, 5.4):
        place.prop((pillar, 7.3), (0.6, 5.0, 0.6), shade(tiles, 0.9))
    machine = (side * rng.uniform(2.0, 2.4), 7.6)
    face = Box((machine[0] - 0.42, machine[0] + 0.42), (0.7, 1.75), (7.23, 7.25), (188, 214, 222))
    place.prop(machine, (1.1, 1.95, 0.7), jitter(rng, rng.choice(((180, 40, 44), (40, 80, 150), (230, 180, 40)))), face)
    panel = Panel(centre=(machine[0], 1.22, 7.22), along=(1, 0), width_m=0.84, height_m=1.05)
    place.targets = [Target(panel=panel, stand=(machine[0] - 0.2 * side, 6.35), noun="vending machine")]
    bin_at = (-side * 2.6, 7.5)
    place.prop(bin_at, (0.5, 0.9, 0.5), (70, 76, 80))
    place.fuels = [(bin_at, "litter bin")]
    place.lanes = [Lane(start=(-44, edge + 1.7), end=(44, edge + 1.7), speed_m_s=11)]
    return place
