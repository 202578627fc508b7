"""Captions held claim by claim against sentences about their clips and against the classes of these."""

from __future__ import annotations

import pytest

from pipeline.evaluate.captions import CaptionedClip, CheckedCaption, check_captions, measure_captions
from pipeline.models.human import TimedSentence
from pipeline.quality.described import Claim

FIGHT = TimedSentence(10.0, 16.0, "A man in a red jacket punches a woman in blue.")
SCENE = TimedSentence(
    0.0, 60.0, "The place is a street in daylight. In it are the man in a red jacket, the woman in blue."
)


def clip(text: str, start_s: float = 10.0, end_s: float = 16.0, label: str | None = None) -> CaptionedClip:
    return CaptionedClip(id="c", video="v", start_s=start_s, end_s=end_s, text=text, label=label)


def check(one: CaptionedClip, *sentences: TimedSentence) -> CheckedCaption:
    [checked] = check_captions([one], {"v": sentences})
    assert checked is not None
    return checked


def named(claims: frozenset[Claim]) -> list[str]:
    return [f"{claim.kind}: {claim}" for claim in sorted(claims)]


def test_claims_are_judged_where_something_known_bears_on_them() -> None:
    found = check(clip("A man in a red coat robs a man in a green coat. A white car stands in a shop."), FIGHT)
    assert named(found.right) == ["colour: red clothes", "number: 2 people", "who: man"]
    # Nothing is known of the place or of a car.
    assert named(found.wrong) == ["colour: green clothes", "event: theft"]
    assert named(found.missed) == ["colour: blue clothes", "event: violence", "who: woman"]


def test_only_what_is_about_the_clip_has_to_be_told() -> None:
    found = check(clip("A man walks in a street at night.", 30.0, 36.0), FIGHT, SCENE)
    assert found.known == (SCENE.text,)
    assert named(found.right) == ["place: street", "who: man"]
    assert named(found.wrong) == ["light: night"]
    assert found.missed == frozenset()
    assert found.is_calm


@pytest.mark.parametrize(
    ("span_s", "label", "wrong", "is_calm"),
    [
        ((10.0, 16.0), None, ["event: explosion"], False),
        # A sentence about a small part of a clip makes nothing wrong that may happen in the rest of it.
        ((0.0, 16.0), None, [], None),
        ((0.0, 16.0), "Fighting", ["event: explosion"], False),
        ((0.0, 16.0), "Biking", [], None),
        ((30.0, 40.0), "Normal", ["event: explosion"], True),
        ((30.0, 40.0), "Explosion", [], False),
    ],
)
def test_silence_about_an_event_is_known_only_of_what_is_covered_or_labelled(
    span_s: tuple[float, float], label: str | None, wrong: list[str], is_calm: bool | None
) -> None:
    found = check(clip("A car explodes.", *span_s, label=label), FIGHT)
    assert (named(found.wrong), found.is_calm) == (wrong, is_calm)


def test_of_some_clips_nothing_is_known() -> None:
    captions = [clip("A car explodes.", 30.0, 40.0), clip("x", label="Biking"), clip("Calm.", label="Normal")]
    checked = check_captions(captions, {"other": [FIGHT]})
    assert [one is None for one in checked] == [True, True, False]
    found = measure_captions(checked)
    assert (found.num, found.without_reference) == (1, 2)


def test_metrics() -> None:
    captions = [
        clip("A man in a red jacket punches a woman in blue in a shop at night."),
        clip("A man in a green jacket walks in a street.", label="Fighting"),
        clip("A man walks.", 30.0, 36.0),
        clip("A car explodes.", 30.0, 36.0, label="Normal"),
    ]
    found = measure_captions(check_captions(captions, {"v": [FIGHT, SCENE]}))
    assert found.faultless is not None
    assert (found.faultless.right, found.faultless.num) == (1, 4)
    assert found.invented is not None
    assert (found.invented.right, found.invented.num) == (1, 2)
    assert found.silent is not None
    assert (found.silent.right, found.silent.num) == (1, 2)
    right = {kind: (one.said, share.right, share.num) for kind, one in found.kinds.items() if (share := one.right)}
    assert right == {
        "event": (2, 1, 2), "place": (2, 1, 2), "light": (1, 0, 1), "who": (4, 4, 4), "colour": (3, 2, 3),
        "number": (1, 1, 1),
    }  # fmt: skip
    told = {kind: (share.right, share.num) for kind, one in found.kinds.items() if (share := one.told)}
    assert told == {"event": (1, 2), "who": (3, 4), "number": (1, 2), "colour": (2, 4)}
    assert found.kinds["colour"].wrong == {"green clothes": 1}
    assert [one.clip.text[:12] for one in found.worst] == ["A man in a r", "A man in a g", "A car explod"]
    assert [len(one.wrong) for one in found.worst] == [2, 1, 1]


def test_nothing_has_no_shares() -> None:
    found = measure_captions([])
    assert (found.num, found.faultless, found.kinds["event"].right, found.worst) == (0, None, None, ())
