"""Staging of one video: its place, its events, and ordinary life around them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from pipeline.sample import crashes, damage, indoors, outdoors, violence
from pipeline.sample.harmless import stage_harmless
from pipeline.sample.layout import Layout, SceneKind
from pipeline.sample.life import populate
from pipeline.sample.plan import VideoPlan
from pipeline.sample.shot import Event, Shot

_NIGHT_SHARE = 0.4

_PLACES: dict[SceneKind, Callable[[Random], Layout]] = {
    SceneKind.STREET: outdoors.street,
    SceneKind.PARKING: outdoors.parking,
    SceneKind.ARCADE: outdoors.arcade,
    SceneKind.ALLEY: outdoors.alley,
    SceneKind.PLAZA: outdoors.plaza,
    SceneKind.SHOP: indoors.shop,
    SceneKind.PLATFORM: indoors.platform,
    SceneKind.FORECOURT: outdoors.forecourt,
}

_EVENTS: dict[str, Callable[[Shot, float], Event]] = {
    "Fighting": violence.fighting,
    "RoadAccidents": crashes.road_accident,
    "Explosion": damage.explosion,
    "Robbery": violence.robbery,
    "Vandalism": damage.vandalism,
    "Arson": damage.arson,
    "Shooting": violence.shooting,
}


def stage(plan: VideoPlan) -> Shot:
    """Put everything that a video shows on its stage. The place depends on the scene, all else on the video."""
    layout = _PLACES[plan.kind](Random(f"{plan.seed}:{plan.scene}"))
    rng = Random(f"{plan.seed}:{plan.index}:shot")
    camera = layout.cameras[int(plan.camera[3:]) - 1]
    night = 0.0 if layout.indoor or rng.random() > _NIGHT_SHARE else 1.0
    shot = Shot(layout, camera, plan.duration_s, night, rng)
    for category, start_s in zip(plan.categories, plan.starts_s, strict=True):
        shot.events.append(_EVENTS[category](shot, start_s))
    stage_harmless(shot)
    populate(shot)
    return shot
