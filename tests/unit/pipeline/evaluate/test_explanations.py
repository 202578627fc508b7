"""Explanations held against what happened: verdict, event, contradictions, claims of what nobody saw."""

from __future__ import annotations

import pytest

from pipeline.evaluate.explanations import (
    Explanation,
    claimed_columns,
    judge_explanation,
    measure_explanations,
)
from pipeline.models.template import _WORDINGS
from pipeline.taxonomy import describe_class, load_taxonomies

FIGHT = "Yes, the video shows a fight. A man punches another. This is abnormal because people are hurt."
CALM = "No, people walk by. This is normal because nobody is hurt."


@pytest.mark.parametrize(
    ("label", "verdict", "answer", "faults"),
    [
        ("Fighting", True, FIGHT, ()),
        ("fight", True, FIGHT, ()),
        ("Assault", True, FIGHT, ()),
        ("Normal", False, CALM, ()),
        ("Normal", False, "People walk by.", ()),
        ("Fighting", True, "Yes, this is abnormal.", ("it does not tell of violence",)),
        ("Arson", True, FIGHT, ("it tells of violence: 'fight'", "it does not tell of fire setting")),
        ("Fighting", True, f"{FIGHT} Then a car explodes.", ("it tells of explosion: 'explodes'",)),
        (
            "Fighting", False, CALM,
            ("the verdict is normal, the video is abnormal", "it does not tell of violence"),
        ),
        (
            "Normal", True, FIGHT,
            ("the verdict is abnormal, the video is normal", "it tells of violence: 'fight'"),
        ),
        ("Fighting", None, "A fight.", ("the verdict is unreadable, the video is abnormal",)),
        ("Fighting", True, f"No, {FIGHT[5:]}", ("the verdict is abnormal, the answer says normal",)),
        (
            "Fighting", True, "Yes, two men fight. The scene is normal.",
            ("it opens with Yes and then speaks of something normal",),
        ),
        (
            "Fighting", True, "Yes, two men fight. The video shows everyday activity.",
            ("it opens with Yes and then speaks of something normal",),
        ),
        (
            "Normal", False, "No, a man is shot.",
            ("it tells of shooting: 'is shot'", "it opens with No and then tells of Shooting: 'is shot'"),
        ),
        (
            "Normal", False, "A man is shot.",
            ("it tells of shooting: 'is shot'", "its verdict is normal and then tells of Shooting: 'is shot'"),
        ),
    ],
)  # fmt: skip
def test_faults_of_an_answer(label: str, verdict: bool | None, answer: str, faults: tuple[str, ...]) -> None:
    found = judge_explanation(label, verdict, answer)
    assert found.faults == faults
    assert found.is_true is not bool(faults)


def test_any_event_of_the_video_may_be_named() -> None:
    assert judge_explanation("Robbery", True, FIGHT, others=["Fighting"]).is_true
    assert not judge_explanation("Robbery", True, FIGHT, others=["Arson"]).is_true
    assert judge_explanation("Robbery", True, "Yes, a shot is fired.", others=["Arson"]).unseen == ("shooting",)


@pytest.mark.parametrize("label", ["Biking", "Abnormal", "jaywalking"])
def test_classes_whose_words_are_not_known_are_not_judged(label: str) -> None:
    found = judge_explanation(label, True, FIGHT)
    assert (found.is_verdict_right, found.is_event_right, found.is_true, found.unseen) == (True, None, None, ())


def test_metrics() -> None:
    explanations = [
        judge_explanation("Fighting", True, FIGHT, name="a"),
        judge_explanation("Fighting", True, "Yes, two men fight and a car explodes.", name="b"),
        judge_explanation("Arson", True, FIGHT, name="c"),
        judge_explanation("Arson", False, CALM, name="d"),
        judge_explanation("Normal", False, CALM, name="e"),
        judge_explanation("Normal", True, FIGHT, name="f"),
        judge_explanation("Normal", False, "No, a car explodes.", name="g"),
        judge_explanation("Biking", True, "Yes, a cyclist.", name="h"),
    ]
    found = measure_explanations(explanations)
    assert found is not None
    assert found.explanations is not None
    assert (found.explanations.right, found.explanations.num) == (2, 7)
    assert (found.verdicts.right, found.verdicts.num) == (6, 8)
    assert found.events is not None
    assert (found.events.right, found.events.num, found.not_judged) == (2, 7, 1)
    assert (found.contradictions.right, found.contradictions.num) == (1, 8)
    assert found.unseen_claims is not None
    assert (found.unseen_claims.right, found.unseen_claims.num) == (4, 7)
    assert found.invented is not None
    assert (found.invented.right, found.invented.num) == (2, 3)
    assert {label: share.right for label, share in found.per_class.items()} == {"Arson": 0, "Fighting": 1, "Normal": 1}
    assert found.confusion == {
        "Arson": {"violence": 1, "none": 1}, "Biking": {"none": 1}, "Fighting": {"violence": 1, "several": 1},
        "Normal": {"none": 1, "violence": 1, "explosion": 1},
    }  # fmt: skip
    assert claimed_columns(found.confusion) == ["fire setting", "violence", "explosion", "several", "none"]
    assert [one.id for one in found.worst] == ["c", "d", "f", "g", "b"]


def test_the_worst_are_ten() -> None:
    found = measure_explanations([judge_explanation("Normal", True, FIGHT)] * 11)
    assert found is not None
    assert len(found.worst) == 10


def test_nothing_has_no_metrics() -> None:
    assert measure_explanations(list[Explanation]()) is None


def test_the_words_of_every_class_are_true_of_it() -> None:
    """Every phrase and reason of the taxonomies in every wording of the template, which make up training answers."""
    for taxonomy in load_taxonomies().values():
        for label in (entry.name for entry in taxonomy.classes if entry.family or entry.name == "Normal"):
            entry = describe_class(label)
            polarity = "normal" if label == "Normal" else "abnormal"
            for wording in _WORDINGS[f"judge_explain/{polarity}"]:
                for why in entry.why:
                    answer = wording.format(event=entry.phrase, scene="", why=why)
                    assert not judge_explanation(label, polarity == "abnormal", answer).faults, answer
