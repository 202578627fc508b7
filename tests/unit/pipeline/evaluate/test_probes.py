"""Paired probes: what they ask, that it is always the same, and what counts as right."""

from __future__ import annotations

import pytest

from pipeline.evaluate.probes import Probe, ProbedClip, measure_probes, plan_probes
from pipeline.taxonomy import family_of

FIGHT, ARSON = Probe(event="Fighting", happens=True), Probe(event="Arson", happens=False)
LIKELY, UNLIKELY = (0.6, 0.2), (0.1, 0.3)


def test_the_second_event_is_drawn_once_and_for_all_from_what_neither_looks_like_the_first_nor_comes_with_it() -> None:
    planned = {key: plan_probes("mugging", key) for key in map(str, range(200))}
    assert planned == {key: plan_probes("Robbery", key) for key in planned}
    assert {pair and (pair[0].event, pair[0].happens, pair[1].happens) for pair in planned.values()} == {
        ("Robbery", True, False)
    }
    others = {family_of(pair[1].event) for pair in planned.values() if pair}
    # A robbery may come with blows and shots, a burglary with theft.
    assert others == {"crash", "damage", "explosion", "fire setting", "riot"}


def test_of_calm_clips_two_events_of_different_families_are_asked() -> None:
    for key in map(str, range(100)):
        pair = plan_probes("Normal", key)
        assert pair is not None
        assert not pair[0].happens
        assert not pair[1].happens
        assert family_of(pair[0].event) != family_of(pair[1].event)


@pytest.mark.parametrize("label", ["Biking", "Abnormal", "jaywalking"])
def test_classes_whose_words_are_not_known_are_not_probed(label: str) -> None:
    assert plan_probes(label, "a") is None


def test_the_question_names_the_event() -> None:
    assert FIGHT.question == "Does this video show a fight between people? Answer Yes or No."


def clip(first: tuple[float, float], second: tuple[float, float], label: str = "Fighting") -> ProbedClip:
    probes = (FIGHT, ARSON) if label == "Fighting" else (Probe(event="Riot", happens=False), ARSON)
    return ProbedClip(id="c", label=label, probes=probes, odds=(first, second))


def test_only_both_right_count() -> None:
    found = measure_probes(
        [
            clip(LIKELY, UNLIKELY),
            clip(LIKELY, LIKELY),
            clip(UNLIKELY, UNLIKELY),
            clip((0.5, 0.1), (0.4, 0.3)),
            clip(UNLIKELY, UNLIKELY, "Normal"),
            clip(UNLIKELY, LIKELY, "Normal"),
        ]
    )
    shares = {name: getattr(found, name) for name in ("pairs", "happening", "absent", "ranked", "calm")}
    assert {name: (share.right, share.num) for name, share in shares.items()} == {
        "pairs": (1, 4), "happening": (3, 4), "absent": (2, 4), "ranked": (2, 4), "calm": (1, 2),
    }  # fmt: skip
    assert {label: share.right for label, share in found.per_class.items()} == {"Fighting": 1, "Normal": 1}
    assert found.num == 6


def test_a_model_that_says_neither_is_wrong_about_what_happens_only() -> None:
    silent = clip((0.0, 0.0), (0.0, 0.0))
    assert silent.are_right == (False, True)
    assert not silent.is_ranked
    assert measure_probes([]).pairs is None
