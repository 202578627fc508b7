"""People: what they wear and carry, and how they are drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

import numpy as np

from pipeline.sample.canvas import Canvas
from pipeline.sample.definitions import COLOURS, PALETTE
from pipeline.sample.geometry import Colour, Floats, Place, placed, shade
from pipeline.sample.pose import CHEST, FALL, HEAD, LEFT_ARM, LEFT_LEG, PELVIS, RIGHT_ARM, RIGHT_LEG, joints
from pipeline.sample.tracks import PersonTrack
from pipeline.sample.words import with_article

CLOTHES = COLOURS["clothes"]

_TURN = np.linspace(0, math.tau, 12, endpoint=False)
_CIRCLE = (np.cos(_TURN), np.sin(_TURN))


class Item(StrEnum):
    """Things that a person carries."""

    BAG = "bag"
    BACKPACK = "backpack"
    SUITCASE = "suitcase"
    BAT = "bat"
    GUN = "gun"
    SPRAY_CAN = "spray_can"
    CANISTER = "canister"
    PHONE = "phone"
    ROD = "rod"


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """A person's looks; `garment` and `colour` are words for the upper body."""

    woman: bool
    colour: str
    garment: str
    height_m: float
    build: float
    trousers: Colour
    skin: Colour
    hair: Colour
    hooded: bool = False
    cap: Colour | None = None

    @property
    def noun(self) -> str:
        """Man or woman."""
        return "woman" if self.woman else "man"

    @property
    def words(self) -> str:
        """The person in words, without an article: 'man in a red jacket'."""
        return f"{self.noun} in {with_article(self.colour)} {self.garment}"


def random_look(rng: Random, *, avoid: tuple[str, ...] = (), hooded: bool = False) -> Look:
    """Draw a person's looks; its clothes have none of the colours in `avoid`."""
    woman = not hooded and rng.random() < 0.45
    garment = "hoodie" if hooded else rng.choice(("top", "coat", "jacket") if woman else ("jacket", "shirt", "sweater"))
    colours = [name for name in CLOTHES if name not in avoid]
    return Look(
        woman=woman, colour=rng.choice(colours), garment=garment,
        height_m=rng.uniform(1.58, 1.74) if woman else rng.uniform(1.68, 1.9), build=rng.uniform(0.88, 1.18),
        trousers=rng.choice(PALETTE["trousers"]), skin=rng.choice(PALETTE["skin"]), hair=rng.choice(PALETTE["hair"]),
        hooded=hooded,
        cap=CLOTHES[rng.choice(tuple(CLOTHES))] if not hooded and not woman and rng.random() < 0.2 else None,
    )  # fmt: skip


@dataclass(slots=True)
class Person:
    """Someone in the scene. `carries` lists (item, colour, from, until) in seconds."""

    look: Look
    track: PersonTrack
    carries: list[tuple[Item, Colour, float, float]] = field(default_factory=list)
    radius_m: float = 0.4
    reach_m: float = 2.2

    def hold(self, item: Item, colour: Colour = (60, 50, 46), start_s: float = -1e9, end_s: float = 1e9) -> None:
        """Carry an item for a time."""
        self.carries.append((item, colour, start_s, end_s))

    def place(self, time_s: float) -> Place | None:
        """Return where the person is, or None where it is absent."""
        return self.track.place(time_s)

    def draw_shadow(self, canvas: Canvas, time_s: float) -> None:
        """Darken the ground under the person."""
        stance = self.track.stance(time_s)
        if stance is None:
            return
        lying = math.sin(stance.pose[FALL])
        ahead, left = -0.85 * lying + (0.34 + 0.5 * abs(lying)) * _CIRCLE[0], 0.3 * _CIRCLE[1]
        outline = np.stack([ahead, left, np.zeros(len(left))], axis=1)
        canvas.darken(placed(outline, stance.place, stance.heading), 0.62)

    def draw(self, canvas: Canvas, time_s: float) -> None:
        """Draw the person, the side away from the camera first."""
        stance = self.track.stance(time_s)
        if stance is None:
            return
        points, depths, scale = self._project(canvas, stance.place, stance.heading, stance.pose)
        if depths.min() < 1.0:
            return
        held = [(item, colour) for item, colour, start_s, end_s in self.carries if start_s <= time_s < end_s]
        left_far = bool(depths[LEFT_ARM[0]] > depths[RIGHT_ARM[0]])
        left, right = (LEFT_ARM, LEFT_LEG), (RIGHT_ARM, RIGHT_LEG)
        far, near = (left, right) if left_far else (right, left)
        self._arm(canvas, points, far[0], scale, 0.72)
        if not left_far:
            self._items(canvas, points, held, scale)
        back_view = self._faces_away(canvas, stance.heading)
        if not back_view:
            self._backpack(canvas, points, held, scale)
        self._leg(canvas, points, far[1], scale, 0.8)
        self._leg(canvas, points, near[1], scale, 1.0)
        self._torso(canvas, points, scale)
        self._head(canvas, points, scale, back_view)
        if back_view:
            self._backpack(canvas, points, held, scale)
        self._arm(canvas, points, near[0], scale, 0.9)
        if left_far:
            self._items(canvas, points, held, scale)

    def _project(self, canvas: Canvas, place: Place, heading: float, pose: Floats) -> tuple[Floats, Floats, float]:
        points, depths = canvas.camera.project(placed(joints(pose, self.look.height_m), place, heading))
        return points, depths, canvas.camera.scale(float(depths[0])) * self.look.height_m

    @staticmethod
    def _faces_away(canvas: Canvas, heading: float) -> bool:
        right = canvas.camera.right
        return math.cos(heading) * -right[1] + math.sin(heading) * right[0] > 0.25

    def _arm(self, canvas: Canvas, points: Floats, chain: tuple[int, int, int], scale: float, light: float) -> None:
        shoulder, elbow, hand = (points[i] for i in chain)
        width = 0.052 * scale * self.look.build
        sleeve = shade(CLOTHES[self.look.colour], light)
        edge = shade(CLOTHES[self.look.colour], light * 0.55)
        bare = self.look.garment in ("top", "shirt")
        canvas.limb_px(shoulder, elbow, width + 2, edge)
        canvas.limb_px(elbow, hand, width * 0.85 + 2, edge)
        canvas.limb_px(shoulder, elbow, width, sleeve)
        canvas.limb_px(elbow, hand, width * 0.85, shade(self.look.skin, light) if bare else sleeve)
        canvas.disc_px(hand, 0.028 * scale, shade(self.look.skin, light))

    def _leg(
        self, canvas: Canvas, points: Floats, chain: tuple[int, int, int, int], scale: float, light: float
    ) -> None:
        hip, knee, foot, toe = (points[i] for i in chain)
        width = 0.072 * scale * self.look.build
        cloth = shade(self.look.trousers, light)
        canvas.limb_px(hip, knee, width, cloth)
        canvas.limb_px(knee, foot, width * 0.78, cloth)
        canvas.limb_px(foot, toe, 0.045 * scale, shade((40, 36, 34), light))

    def _torso(self, canvas: Canvas, points: Floats, scale: float) -> None:
        colour = CLOTHES[self.look.colour]
        width = 0.1 * scale * self.look.build
        left, right, hip_l, hip_r = points[LEFT_ARM[0]], points[RIGHT_ARM[0]], points[LEFT_LEG[0]], points[RIGHT_LEG[0]]
        if self.look.garment == "coat":
            for leg in (LEFT_LEG, RIGHT_LEG):
                canvas.limb_px(
                    points[leg[0]], points[leg[0]] * 0.35 + points[leg[1]] * 0.65, width * 1.05, shade(colour, 0.92)
                )
        else:
            canvas.limb_px(hip_l, hip_r, width, self.look.trousers)
        belly = points[PELVIS] * 0.8 + points[CHEST] * 0.2
        canvas.limb_px(left, hip_l * 0.75 + left * 0.25, width, shade(colour, 0.94))
        canvas.limb_px(right, hip_r * 0.75 + right * 0.25, width, shade(colour, 0.94))
        canvas.limb_px(points[CHEST], belly, width * 1.25, colour)

    def _head(self, canvas: Canvas, points: Floats, scale: float, back_view: bool) -> None:
        neck, head = points[CHEST], points[HEAD]
        up = (head - neck) / max(1.0, float(np.hypot(*(head - neck))))
        radius = 0.066 * scale
        canvas.limb_px(neck, head, 0.05 * scale, shade(self.look.skin, 0.85))
        if self.look.hooded:
            canvas.disc_px(head, radius * 1.15, shade(CLOTHES[self.look.colour], 0.8))
            if not back_view:
                canvas.disc_px(head - up * radius * 0.15, radius * 0.7, shade(self.look.skin, 0.75))
            return
        top = self.look.cap or self.look.hair
        if self.look.woman:
            canvas.limb_px(head, head - up * radius * 1.3, radius * 2.1, self.look.hair)
        canvas.disc_px(head + up * radius * 0.18, radius * 1.08, top)
        if not back_view:
            canvas.disc_px(head - up * radius * 0.22, radius * 0.86, self.look.skin)

    def _backpack(self, canvas: Canvas, points: Floats, held: list[tuple[Item, Colour]], scale: float) -> None:
        for item, colour in held:
            if item is Item.BACKPACK:
                back = points[CHEST] * 0.7 + points[PELVIS] * 0.3
                canvas.limb_px(points[CHEST], back, 0.17 * scale, colour)

    def _items(self, canvas: Canvas, points: Floats, held: list[tuple[Item, Colour]], scale: float) -> None:
        elbow, hand = points[RIGHT_ARM[1]], points[RIGHT_ARM[2]]
        reach = (hand - elbow) / max(1.0, float(np.hypot(*(hand - elbow))))
        down = np.array([0.0, 1.0])
        for item, colour in held:
            if item in (Item.BAG, Item.SUITCASE, Item.CANISTER):
                drop, width = {Item.BAG: (0.1, 0.13), Item.SUITCASE: (0.2, 0.17), Item.CANISTER: (0.08, 0.13)}[item]
                canvas.limb_px(hand, hand + down * drop * scale * 0.6, 0.02 * scale, shade(colour, 0.6))
                low = hand + down * drop * scale
                canvas.limb_px(low, low + down * 0.06 * scale, width * scale + 2, shade(colour, 0.5))
                canvas.limb_px(low, low + down * 0.06 * scale, width * scale, colour)
            elif item is Item.BAT:
                canvas.limb_px(hand, hand + reach * 0.2 * scale, 0.03 * scale, shade(colour, 0.8))
                canvas.limb_px(hand + reach * 0.18 * scale, hand + reach * 0.44 * scale, 0.05 * scale, colour)
            elif item is Item.ROD:
                along = np.array([math.copysign(0.5, reach[0]), -0.85]) * scale
                canvas.limb_px(hand - along * 0.25, hand + along * 0.55, 0.035 * scale, colour)
            elif item is Item.GUN:
                canvas.limb_px(hand, hand + reach * 0.11 * scale, 0.038 * scale, (18, 18, 20))
                canvas.limb_px(hand, hand + down * 0.045 * scale, 0.03 * scale, (18, 18, 20))
            elif item in (Item.SPRAY_CAN, Item.PHONE):
                canvas.limb_px(hand - down * 0.03 * scale, hand + down * 0.02 * scale, 0.035 * scale, colour)
