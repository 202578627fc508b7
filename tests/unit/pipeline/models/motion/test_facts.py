"""Motion is measured on scenes whose truth is known: noise, texture, a ticking clock, and things that move."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.models.motion.count import count_things
from pipeline.models.motion.facts import ClipFacts, facts_of
from pipeline.models.motion.measure import find_cuts, measure
from pipeline.models.motion.tracks import Region, Track
from pipeline.models.motion.usual import usual_of
from pipeline.models.motion.words import describe, number

WIDTH, HEIGHT, RATE_HZ = 192, 144, 8

Box = tuple[float, float, float, float, float] | None
"""Centre (share of width, share of height), width and height in pixels, grey level; None while out of the picture."""

Thing = Callable[[float], Box]


def texture(seed: int) -> NDArray[np.float32]:
    rng = np.random.default_rng(seed)
    picture = cv2.GaussianBlur(rng.normal(0, 60, (HEIGHT, WIDTH)).astype(np.float32), (0, 0), 4) * 3 + 110
    picture[HEIGHT // 2 :] += 25
    return np.asarray(picture)


def scene(
    seconds: float = 10.0,
    things: Sequence[Thing] = (),
    *,
    noise: float = 4.0,
    light: Callable[[float], float] = lambda _: 0.0,
    pan: Callable[[float], int] = lambda _: 0,
    cut_s: float = np.inf,
    fire_s: float = np.inf,
    seed: int = 0,
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """Render a fixed camera's view with sensor noise and a clock, and whatever is asked for."""
    rng = np.random.default_rng(seed)
    here, elsewhere = np.tile(texture(seed + 1), (1, 3)), texture(seed + 99)
    frames = []
    for index in range(int(seconds * RATE_HZ)):
        time_s = index / RATE_HZ
        left = WIDTH + pan(time_s)
        picture = (here[:, left : left + WIDTH] if time_s < cut_s else elsewhere).copy()
        for thing in things:
            if (box := thing(time_s)) is not None:
                x, y = box[0] * WIDTH, box[1] * HEIGHT
                corner, opposite = (x - box[2] / 2, y - box[3] / 2), (x + box[2] / 2, y + box[3] / 2)
                cv2.rectangle(picture, np.intp(corner).tolist(), np.intp(opposite).tolist(), box[4], -1)
        if fire_s <= time_s < fire_s + 1:
            cv2.circle(picture, (150, 110), 16, 250.0, -1)
        picture += light(time_s) + rng.normal(0, noise, picture.shape)
        clock = f"12:0{int(time_s) // 60}:{int(time_s) % 60:02d}"
        cv2.putText(picture, clock, (110, 10), cv2.FONT_HERSHEY_SIMPLEX, 0.35, 255.0, 1)
        frames.append(np.clip(picture, 0, 255).astype(np.uint8))
    return np.stack(frames), np.arange(len(frames)) / RATE_HZ


def going(
    start: tuple[float, float],
    end: tuple[float, float],
    from_s: float = 0.0,
    to_s: float = 10.0,
    *,
    size: tuple[float, float] = (8, 20),
    grey: float = 30,
) -> Thing:
    def at(time_s: float) -> Box:
        if not from_s <= time_s < to_s:
            return None
        part = (time_s - from_s) / (to_s - from_s)
        return (start[0] + part * (end[0] - start[0]), start[1] + part * (end[1] - start[1]), *size, grey)

    return at


TWO = [going((0, 0.4), (0.9, 0.4)), going((1, 0.75), (0.2, 0.75))]
THREE = [going((0, 0.3), (0.5, 0.3)), going((0.9, 0.55), (0.2, 0.55)), going((0.5, 0.8), (0.95, 0.8))]


def struggling(since_s: float = 0.0, to_s: float = np.inf, size: float = 18) -> Thing:
    def at(time_s: float) -> Box:
        rng = np.random.default_rng(int(time_s * RATE_HZ))
        shaking = rng.normal(0, 0.015, 2)
        box = (0.5 + shaking[0], 0.6 + shaking[1], *(size + rng.integers(-size // 3, size // 3, 2)), 20.0)
        return box if since_s <= time_s < to_s else None

    return at


def facts(start_s: float = 0.0, end_s: float = 10.0, **rendered: Any) -> ClipFacts:
    measured = measure(*scene(**rendered))
    return facts_of(measured, usual_of([measured]), start_s, end_s)


def said(start_s: float = 0.0, end_s: float = 10.0, **rendered: Any) -> str:
    return describe(facts(start_s, end_s, **rendered), seed="clip")


def street(extra: Sequence[Thing]) -> list[Thing]:
    """A minute of things that cross at one pace, and `extra`."""
    lanes = (0.4, 0.55, 0.7)
    walkers = [going((-0.05, lanes[i % 3]), (1.05, lanes[i % 3]), 4 * i, 4 * i + 10) for i in range(12)]
    return [*walkers, *extra]


@pytest.mark.parametrize("noise", [0.0, 4.0, 8.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_noise_and_a_clock_are_no_motion(noise: float, seed: int) -> None:
    found = facts(noise=noise, seed=seed)
    assert (found.most, found.movers, found.stirring, found.moments) == (0, (), (), ())


def test_light_that_changes_slowly_is_no_motion() -> None:
    found = facts(light=lambda time_s: 5 * time_s)
    assert (found.most, found.moments) == (0, ())


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [
        ((-0.05, 0.6), (1.05, 0.6), "across most of the view to the right"),
        ((1.05, 0.6), (-0.05, 0.6), "across most of the view to the left"),
        ((0.2, 0.3), (0.7, 0.85), "from the upper left to the lower right"),
        ((0.4, 1.1), (0.4, 0.25), "from the lower centre to the upper centre"),
    ],
)
def test_one_thing_and_its_way(start: tuple[float, float], end: tuple[float, float], expected: str) -> None:
    found = facts(things=[going(start, end)])
    assert (found.most, found.exact, len(found.movers)) == (1, True, 1)
    assert expected in describe(found, seed="clip")


@pytest.mark.parametrize(
    ("things", "expected"),
    [
        (TWO, "Two things"),
        (THREE, "Three things"),
        ([going((0.05 + 0.1 * i, 0.25 + 0.15 * i), (0.5 + 0.1 * i, 0.25 + 0.15 * i)) for i in range(5)], "Several"),
        ([going((0.02 + 0.09 * i, 0.2 + 0.14 * (i % 5)), (0.3 + 0.09 * i, 0.2 + 0.14 * (i % 5))) for i in range(10)],
         "Many things"),
    ],
)  # fmt: skip
def test_things_are_counted_as_far_as_they_can_be(things: list[Thing], expected: str) -> None:
    assert said(things=things).startswith(expected)


def test_opposite_ways_are_told() -> None:
    text = said(things=TWO)
    assert "one towards the right and one towards the left" in text or "one towards the left and one towards" in text


def test_motion_in_place() -> None:
    found = facts(things=[struggling()])
    assert (found.movers, found.most) == ((), 1)
    assert re.match("Something moves vigorously in the centre", describe(found, seed="clip"))


@pytest.mark.slow
def test_speed_is_compared_with_the_rest_of_the_video() -> None:
    runner = going((1.05, 0.9), (-0.05, 0.9), 27, 30)
    minute = scene(60, street([runner]))
    measured = measure(*minute)
    usual = usual_of([measured])
    with_runner = describe(facts_of(measured, usual, 24, 34), seed="clip")
    assert "to the left" in with_runner
    assert "much faster" in with_runner
    without = describe(facts_of(measured, usual, 8, 18), seed="clip")
    assert "faster" not in without
    assert "usual" in without


@pytest.mark.slow
def test_size_is_compared_with_the_rest_of_the_video() -> None:
    large = going((1.2, 0.85), (-0.2, 0.85), 26, 32, size=(60, 30), grey=230)
    text = said(24, 34, seconds=60, things=street([large]))
    assert "far larger than most things that move here" in text
    assert "bright burst" not in text


@pytest.mark.parametrize(
    ("rendered", "kind", "at_s"),
    [
        ({"light": lambda t: 60.0 if 4 <= t < 4.4 else 0.0}, "flash", 4.0),
        ({"light": lambda t: -60.0 if 4 <= t < 4.4 else 0.0}, "dip", 4.0),
        ({"light": lambda t: -40.0 if t >= 6 else 0.0}, "darker", 6.0),
        ({"light": lambda t: 40.0 if t >= 6 else 0.0}, "brighter", 6.0),
        ({"fire_s": 5.0}, "glare", 5.0),
        ({"cut_s": 4.0}, "cut", 4.0),
        ({"seconds": 40, "things": [struggling(6.0, 10.0, size=48)]}, "surge", 6.0),
    ],
)
def test_sudden_moments_and_their_times(rendered: dict[str, Any], kind: str, at_s: float) -> None:
    found = facts(**rendered)
    assert [moment.kind for moment in found.moments] == [kind]
    assert found.moments[0].at_s == pytest.approx(at_s, abs=0.3)


def test_a_cut_to_a_room_with_the_same_light_is_one() -> None:
    light = np.linspace(-60, 60, HEIGHT)[:, None]
    first, second = (np.clip(texture(seed) + light, 0, 255).astype(np.uint8) for seed in (1, 2))
    assert find_cuts(np.stack([first] * 20 + [second] * 20)) == [20]
    assert not find_cuts(np.stack([first] * 20 + [second] * 4 + [first] * 20)), "something close, for half a second"


def test_times_count_from_the_start_of_the_clip() -> None:
    assert "about four seconds into the clip" in said(
        10, 20, seconds=30, light=lambda time_s: 60.0 if 14 <= time_s < 14.4 else 0.0
    )


def test_a_missing_stretch_is_a_jump() -> None:
    frames, _ = scene(
        20, [going((0, 0.4), (0.9, 0.4), 0, 20, size=(30, 40)), going((0.9, 0.8), (0, 0.8), 0, 20, size=(30, 40))]
    )
    joined = np.concatenate([frames[:40], frames[100:]])
    measured = measure(joined, np.arange(len(joined)) / RATE_HZ)
    found = facts_of(measured, usual_of([measured]), 0, 10)
    assert [(moment.kind, moment.at_s) for moment in found.moments] == [("jump", 5.0)]


@pytest.mark.parametrize(("pace", "expected"), [(10, "slides to the left"), (-10, "slides to the right")])
def test_a_camera_that_turns_is_no_crowd(pace: int, expected: str) -> None:
    text = said(pan=lambda time_s: int(pace * time_s) - 5 * pace)
    assert expected in text
    assert "thing" not in text


def test_wordings_vary_with_the_seed_and_hold_still_for_one() -> None:
    found = facts(things=[going((-0.05, 0.6), (1.05, 0.6))])
    texts = {describe(found, seed=str(seed)) for seed in range(20)}
    assert len(texts) > 2
    assert describe(found, seed="a") == describe(found, seed="a")


def test_sentences_are_whole() -> None:
    for text in (said(things=TWO), said(cut_s=5), said(things=[struggling()])):
        for sentence in text.split(". "):
            assert re.match(r"^[A-Z][a-z ,]+\.?$", sentence), sentence
        assert text.endswith(".")
        assert 5 <= len(text.split()) <= 60


@pytest.mark.parametrize(("value", "word"), [(0, "no"), (7, "seven"), (19, "nineteen"), (24, "twenty"), (58, "fifty")])
def test_numbers_are_words(value: int, word: str) -> None:
    assert number(value) == word


@pytest.mark.parametrize("count", [1, 2, 3, 4])
def test_a_few_frames_are_enough_to_say_little(count: int) -> None:
    frames, times_s = scene(1)
    measured = measure(frames[:count], times_s[:count])
    assert facts_of(measured, usual_of([measured]), 0, 1).most == 0


def region(left: float, top: float, width: float = 0.04, height: float = 0.1, speed: float = 0.05) -> Region:
    return Region(
        x=left + width / 2, y=top + height / 2, left=left, top=top, right=left + width, bottom=top + height,
        area=width * height, changing=0.5, velocity_x=speed, velocity_y=0.0,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("regions", "count"),
    [
        ([region(0.1, 0.3), region(0.5, 0.3)], 2),
        # a person in two halves
        ([region(0.1, 0.3, height=0.05), region(0.1, 0.4, height=0.06)], 1),
        # two who pass one another
        ([region(0.1, 0.3), region(0.15, 0.3, speed=-0.05)], 2),
        # the windows of a train, seen aslant
        ([region(0.1 + 0.1 * n, 0.3 + 0.01 * n, speed=0.3) for n in range(6)], 1),
        # walkers of one size who do not stand in a row
        ([region(0.1 + 0.1 * n, 0.2 + 0.05 * (n % 4)) for n in range(6)], 6),
    ],
)
def test_parts_of_one_thing_count_once(regions: list[Region], count: int) -> None:
    times_s = np.arange(3) / RATE_HZ
    tracks = [Track(times_s=times_s, regions=(r, r, r), aspect=0.75, contacts=0) for r in regions]
    assert count_things(tracks, times_s).tolist() == [count] * 3


def test_those_who_pass_in_front_of_a_standing_train_are_seen() -> None:
    def train(time_s: float) -> Box:
        arrived = min(1.0, max(0.0, (time_s - 10) / 2))
        return (-0.6 + 1.1 * arrived, 0.4, 200, 60, 200.0) if time_s < 22 else None

    walker = going((-0.05, 0.5), (1.05, 0.5), 13, 21)
    found = facts(12.5, 21.5, seconds=40, things=[train, walker])
    assert (found.most, [mover.end[0] > mover.start[0] for mover in found.movers]) == (1, [True])
    assert not any(stirring.area > 0.15 for stirring in found.stirring)
