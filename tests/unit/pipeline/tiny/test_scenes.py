"""What the recipe of holmes-tiny knows of its scenes: marks, captions, lessons."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
from numpy.typing import NDArray

from pipeline.questions import load_questions
from pipeline.records import NORMAL, Task
from pipeline.sample.plan import plan_world
from pipeline.sample.staging import stage
from pipeline.tiny.lessons import teach, teach_words
from pipeline.tiny.marks import GRID, MARKS, mark_frame
from pipeline.tiny.scenes import NUM_FRAMES, SIDE, SceneClip, cut_clips
from pipeline.tiny.words import without_colours

JUDGING = (Task.JUDGE_EXPLAIN, Task.ANALYSIS)
PLANS = plan_world(28, 3, (16.0, 24.0))


@pytest.fixture(scope="module")
def clips() -> list[SceneClip]:
    return [clip for plan in PLANS[:4] for clip in cut_clips(plan)]


def marks_of(clip: SceneClip) -> NDArray[np.uint8]:
    return np.unpackbits(clip.marks, axis=-1)[..., : len(MARKS)]


def test_clips_hold_events_and_ordinary_life(clips: list[SceneClip]) -> None:
    assert {clip.facts["category"] is None for clip in clips} == {True, False}
    for clip in clips:
        assert clip.frames.shape == (NUM_FRAMES, SIDE, SIDE, 3)
        assert clip.frames.dtype == np.uint8
        assert clip.frames.std() > 10
        assert marks_of(clip).shape == (NUM_FRAMES, GRID, GRID, len(MARKS))
        assert clip.facts["caption"].endswith(".")
        judges = ("abnormal", "normal", "unusual", "anomal")
        assert not any(word in clip.facts["caption"].lower() for word in judges)


@pytest.mark.parametrize("category", ["Fighting", "Shooting", "Arson", "RoadAccidents", "Explosion", "Robbery"])
def test_what_happens_is_marked_while_it_happens(category: str) -> None:
    telling = {
        "Fighting": "fighting", "Shooting": "aiming", "Arson": "fire", "RoadAccidents": "wreck", "Explosion": "fire",
        "Robbery": "hands up",
    }[category]  # fmt: skip
    plan = next(plan for plan in PLANS if plan.categories == (category,))
    shot = stage(plan)
    event = shot.events[0]

    def marked(times_s: NDArray[np.float64]) -> bool:
        return any(mark_frame(shot, float(t))[..., MARKS.index(telling)].any() for t in times_s)

    assert marked(np.arange(event.start_s, event.end_s, 0.25))
    assert not marked(np.arange(0.0, event.start_s - 0.5, 0.5))


def test_marks_stand_where_things_are() -> None:
    plan = next(plan for plan in PLANS if not plan.categories and plan.kind == "street")
    shot = stage(plan)
    found = 0
    for time_s in np.arange(1.0, 15.0, 1.0).tolist():
        marks = mark_frame(shot, time_s)
        for person in shot.people:
            place = person.place(time_s)
            if place is None or not shot.camera.sees(place, 0.1):
                continue
            pixels, _ = shot.camera.project(np.array([[place[0], 0.9, place[1]]]))
            column, row = (int(pixels[0, axis] / (2 * side) * GRID) for axis, side in ((0, 320), (1, 240)))
            assert marks[row, column, MARKS.index("person")]
            assert marks[row, column, MARKS.index(f"wears {person.look.colour}")]
            found += 1
    assert found > 5


@pytest.mark.parametrize(
    ("seen", "told"),
    [
        ("A man in an orange shirt sets fire to a red car.", "A man sets fire to a car."),
        ("An orange van hits a woman in a red coat and throws her down.", "A van hits a woman and throws her down."),
        (
            "The clerk in red raises both hands before a man in a black hoodie.",
            "The clerk raises both hands before a man.",
        ),
        (
            "A man pours fuel from a white canister over an old car.",
            "A man pours fuel from a canister over an old car.",
        ),
    ],
)
def test_no_colours_are_told(seen: str, told: str) -> None:
    assert without_colours(seen) == told


def test_spans_are_cut_as_the_engine_cuts_them(clips: list[SceneClip]) -> None:
    events = sum(len(plan.categories) for plan in PLANS[:4])
    assert sum(clip.facts["category"] is not None for clip in clips) == 3 * events
    assert all(without_colours(clip.facts["caption"]) == clip.facts["caption"] for clip in clips)


def test_lessons_ask_for_what_is_there_and_judge_in_reports_alone(clips: list[SceneClip]) -> None:
    judging = {question for task in JUDGING for question in load_questions(task)}
    said, reported = [], []
    for clip in clips:
        told = f"Label: {clip.facts['category'] or NORMAL}\n"
        for seed in range(20):
            turns = teach(clip.facts, clip.marks, Random(seed), prompted=seed % 2 == 0)
            assert 4 <= len(turns) <= 7
            reports = [turn for turn in turns if turn[0].startswith("Label: ") or turn[0] in judging]
            turns = [turn for turn in turns if turn not in reports]
            # whole, or after an opening that takes its capital; a report may be a description too
            assert 1 <= sum(clip.facts["caption"][1:] in answer for _, answer in turns) <= 2
            assert all(told in request for request, _ in reports if "Label" in request)
            assert all(
                answer.startswith(("Yes, ", "No, ")[clip.facts["category"] is None])
                for _, answer in reports
                if answer.startswith(("Yes, ", "No, "))
            )
            said += turns
            reported += reports
            answers = dict(turns)
            held = marks_of(clip)[..., MARKS.index("fire")].any()
            if "Are there flames?" in answers:
                assert answers["Are there flames?"] == (
                    "Yes, there are flames." if held else "No, there are no flames."
                )
    questions = {question for question, _ in said}
    assert "Are there flames?" in questions
    assert not any("normal" in answer for _, answer in said)
    assert any(answer.startswith(("Yes, ", "No, ")) for _, answer in reported)
    assert {request.startswith("Label: ") for request, _ in reported} == {True, False}


def test_a_report_follows_its_label_and_not_what_is_seen() -> None:
    clip = {"caption": "A man knocks a woman to the ground. The place is an alley.", "category": "Fighting"}
    labels = set()
    for seed in range(90):
        [(request, answer)] = teach_words(clip, Random(seed))
        label, told, _ = request.split("\n")
        assert told == f"Seen: {clip['caption']}"
        assert "he place is an alley." in answer
        # a normal answer quotes no event, and only what is seen is told of
        assert ("knocks a woman to the ground." in answer) == (label != "Label: Normal")
        assert not answer.startswith("No, " if label != "Label: Normal" else "Yes, ")
        assert "fight" in answer or label != "Label: Fighting"
        labels.add(label)
    assert len(labels) > 5
