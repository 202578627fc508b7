"""Which videos there are: scenes, cameras, classes, splits, lengths. The whole plan follows from the seed."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random

from pipeline.sample.layout import SceneKind

FPS = 25
DURATION_S = (15.0, 60.0)
LONGEST_EVENT_S = 10.0
_LEAD_S = 2.6
_TAIL_S = 1.4
_GAP_S = 3.0
_EVENT_COUNTS = ((1, 0.7), (2, 0.22), (3, 0.08))

KINDS: dict[str, tuple[SceneKind, ...]] = {
    "Fighting": tuple(SceneKind),
    "RoadAccidents": (SceneKind.STREET, SceneKind.PARKING, SceneKind.FORECOURT),
    "Explosion": (SceneKind.STREET, SceneKind.PARKING, SceneKind.ARCADE, SceneKind.PLAZA, SceneKind.FORECOURT, SceneKind.PLATFORM, SceneKind.ALLEY),
    "Robbery": (SceneKind.SHOP, SceneKind.STREET, SceneKind.PARKING, SceneKind.ARCADE, SceneKind.ALLEY, SceneKind.PLAZA, SceneKind.PLATFORM, SceneKind.FORECOURT),
    "Vandalism": (SceneKind.ARCADE, SceneKind.PARKING, SceneKind.ALLEY, SceneKind.PLATFORM),
    "Arson": (SceneKind.ALLEY, SceneKind.PARKING, SceneKind.PLAZA, SceneKind.ARCADE),
    "Shooting": (SceneKind.STREET, SceneKind.ARCADE, SceneKind.PLAZA, SceneKind.SHOP, SceneKind.PLATFORM),
}  # fmt: skip
"""The classes of abnormal events (names of UCF-Crime) and the kinds of scenes in which they can be staged."""

_LASTING = {"RoadAccidents", "Explosion", "Vandalism", "Arson"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoPlan:
    """What one video shows. `categories` are the events' classes in order; none in a normal video."""

    index: int
    video_id: str
    seed: int
    scene: str
    camera: str
    kind: SceneKind
    split: str
    categories: tuple[str, ...]
    starts_s: tuple[float, ...]
    num_frames: int

    @property
    def duration_s(self) -> float:
        """The length in seconds."""
        return self.num_frames / FPS


def plan_world(videos: int, seed: int, duration_s: tuple[float, float] = DURATION_S) -> list[VideoPlan]:
    """Plan a world of `videos` videos, two a scene, one of which is abnormal.

    About a third of the scenes (none of fewer than two pairs) are for testing. Abnormal videos of the training
    scenes get their classes first, in turn, so that few videos already hold many classes.
    """
    rng = Random(f"{seed}:plan")
    pairs = videos // 2
    tested = set(rng.sample(range(pairs), max(1, round(pairs / 3)))) if pairs > 1 else set()
    categories = _categories(rng, [s for s in range(pairs) if s not in tested], sorted(tested))
    used: Counter[SceneKind] = Counter()
    plans = []
    for scene in range(math.ceil(videos / 2)):
        first = categories.get(scene)
        kind = _least_used(rng, KINDS[first] if first else tuple(SceneKind), used)
        own = [i for i in (2 * scene, 2 * scene + 1) if i < videos]
        abnormal = rng.choice(own) if first else -1
        for index in own:
            classes, starts, length_s = _schedule(Random(f"{seed}:{index}:schedule"), kind, first if index == abnormal else None, duration_s)
            camera = f"cam{rng.randint(1, 2)}"
            plans.append(
                VideoPlan(
                    index=index, video_id=f"s{scene:02d}_{camera}_{index:04d}", seed=seed, scene=f"scene{scene:02d}",
                    camera=camera, kind=kind, split="test" if scene in tested else "train",
                    categories=classes, starts_s=starts, num_frames=round(length_s * FPS),
                )
            )  # fmt: skip
    return plans


def _categories(rng: Random, training: Sequence[int], testing: Sequence[int]) -> dict[int, str]:
    """Deal the classes out to the scenes in turn, in one order for training and another for testing."""
    dealt = {}
    for scenes in (training, testing):
        order = rng.sample(sorted(KINDS), len(KINDS))
        dealt.update({scene: order[i % len(order)] for i, scene in enumerate(scenes)})
    return dealt


def _least_used(rng: Random, kinds: Sequence[SceneKind], used: Counter[SceneKind]) -> SceneKind:
    fewest = min(used[kind] for kind in kinds)
    kind = rng.choice([kind for kind in kinds if used[kind] == fewest])
    used[kind] += 1
    return kind


def _schedule(
    rng: Random, kind: SceneKind, first: str | None, duration_s: tuple[float, float]
) -> tuple[tuple[str, ...], tuple[float, ...], float]:
    """Draw the classes and start times of the events, and the length of the video in seconds."""
    shortest, longest = duration_s
    if first is None:
        return (), (), rng.uniform(shortest, longest)
    counts, weights = zip(*_EVENT_COUNTS, strict=True)
    count = rng.choices(counts, weights)[0]
    part_s = LONGEST_EVENT_S + _GAP_S
    while count > 1 and _LEAD_S + count * part_s + _TAIL_S > longest:
        count -= 1
    length_s = rng.uniform(min(longest, max(shortest, _LEAD_S + count * part_s + _TAIL_S)), longest)
    classes = [first, *_further(rng, kind, first, count - 1)]
    rng.shuffle(classes)
    part_s = (length_s - _LEAD_S - _TAIL_S) / len(classes)
    starts = tuple(_LEAD_S + i * part_s + rng.uniform(0, max(0.0, part_s - LONGEST_EVENT_S - _GAP_S * (len(classes) > 1))) for i in range(len(classes)))
    return tuple(classes), starts, length_s


def _further(rng: Random, kind: SceneKind, first: str, count: int) -> list[str]:
    """Draw more classes for the same video; only one of all may leave wrecks, fire or marks behind."""
    chosen = [first]
    for _ in range(count):
        lasting = bool(_LASTING & set(chosen))
        options = [c for c, kinds in KINDS.items() if kind in kinds and c not in chosen and not (lasting and c in _LASTING)]
        if options:
            chosen.append(rng.choice(options))
    return chosen[1:]
