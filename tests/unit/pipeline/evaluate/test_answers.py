"""Judgements against labels: hand-made counts, intervals of a second implementation, and what belongs to what."""

from __future__ import annotations

import pytest

from pipeline.errors import DataError
from pipeline.evaluate.answers import Reference, evaluate_answers
from pipeline.evaluate.shares import wilson_interval

YES, NO, MUMBLE = "Yes, it is.", "No, it is not.", "A man walks."


def reference(name: str, label: str | None, *, task: str = "judge_explain", level: str = "clip") -> Reference:
    asks = task == "judge_explain"
    is_anomaly = (label != "Normal") if asks else None
    answer = ("Yes, so." if is_anomaly else "No, so.") if asks else "A man walks."
    return Reference(
        id=name, level=level, task=task, question="?", answer=answer, label=label, is_anomaly=is_anomaly
    )  # fmt: skip


REFERENCES = [
    reference("f1", "Fighting"), reference("f2", "Fighting"), reference("f3", "Fighting"), reference("a1", "Arson"),
    reference("n1", "Normal"), reference("n2", "Normal"), reference("d1", "Arson", task="description"),
]  # fmt: skip
PREDICTIONS = {"f1": YES, "f2": NO, "f3": MUMBLE, "a1": YES, "n1": YES, "n2": NO, "d1": ""}


def test_counts_by_hand() -> None:
    found = evaluate_answers(REFERENCES, PREDICTIONS)
    judgement = found.metrics.judgement
    assert judgement is not None
    overall = judgement.overall
    assert (overall.num, overall.correct, overall.unreadable) == (6, 3, 1)
    assert overall.accuracy == 0.5
    # abnormal: 2 of 4 found; called abnormal: f1, a1, n1
    assert judgement.recall == 0.5
    assert judgement.precision == pytest.approx(2 / 3)
    assert judgement.f1 == pytest.approx(2 * (2 / 3) * 0.5 / (2 / 3 + 0.5))
    assert judgement.balanced_accuracy == 0.5
    assert judgement.larger_class_accuracy == pytest.approx(4 / 6)
    classes = {label: (one.num, one.correct, one.unreadable) for label, one in judgement.per_class.items()}
    assert classes == {"Arson": (1, 1, 0), "Fighting": (3, 1, 1), "Normal": (2, 1, 0)}
    assert (found.metrics.num, found.metrics.empty, found.metrics.missing) == (7, 1, 0)
    assert [answer.verdict for answer in found.answers] == [
        "abnormal", "normal", "unreadable", "abnormal", "abnormal", "normal", None,
    ]  # fmt: skip


def test_agrees_with_scikit_learn() -> None:
    from sklearn.metrics import balanced_accuracy_score, f1_score, precision_score, recall_score

    asked = REFERENCES[:6]
    true = [one.is_anomaly for one in asked]
    # an unreadable answer is wrong: it counts as the verdict that is not true
    given = [PREDICTIONS[one.id] == YES if PREDICTIONS[one.id] != MUMBLE else not one.is_anomaly for one in asked]
    judgement = evaluate_answers(asked, {one.id: PREDICTIONS[one.id] for one in asked}).metrics.judgement
    assert judgement is not None
    assert judgement.precision == pytest.approx(precision_score(true, given))
    assert judgement.recall == pytest.approx(recall_score(true, given))
    assert judgement.f1 == pytest.approx(f1_score(true, given))
    assert judgement.balanced_accuracy == pytest.approx(balanced_accuracy_score(true, given))


@pytest.mark.parametrize(("correct", "num"), [(0, 5), (5, 5), (1, 1), (70, 86), (5000, 10_000)])
def test_wilson_is_the_interval_of_the_score_test(correct: int, num: int) -> None:
    from scipy.stats import binomtest

    expected = binomtest(correct, num).proportion_ci(0.95, method="wilson")
    assert wilson_interval(correct, num) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_all_right_and_all_wrong_have_bounds_of_one_and_zero() -> None:
    assert wilson_interval(5, 5)[1] == 1.0
    assert wilson_interval(0, 5)[0] == 0.0
    with pytest.raises(ValueError, match="nothing"):
        wilson_interval(0, 0)


def test_what_is_undefined_is_none() -> None:
    only_normal = evaluate_answers([REFERENCES[4]], {"n1": NO}).metrics.judgement
    assert only_normal is not None
    assert (only_normal.precision, only_normal.recall, only_normal.f1) == (None, None, None)
    assert only_normal.balanced_accuracy is None
    no_hit = evaluate_answers(REFERENCES[:1], {"f1": NO}).metrics.judgement
    assert no_hit is not None
    assert (no_hit.precision, no_hit.recall, no_hit.f1) == (None, 0.0, 0.0)
    assert evaluate_answers([REFERENCES[6]], {"d1": "x"}).metrics.judgement is None


def test_groups_by_level_and_task() -> None:
    references = [*REFERENCES, reference("v1", "Arson", level="video")]
    seen: list[tuple[list[str], list[str]]] = []

    def spy(wanted: list[str], given: list[str]) -> None:
        seen.append((list(wanted), list(given)))

    groups = evaluate_answers(references, PREDICTIONS | {"v1": YES}, measure_texts=spy).metrics.groups  # type: ignore[arg-type]
    assert [(group.level, group.task, group.num) for group in groups] == [
        ("clip", None, 7), ("clip", "description", 1), ("clip", "judge_explain", 6), ("video", "judge_explain", 1),
    ]  # fmt: skip
    # first the predictions, then the references to others of the group; one alone has no other
    assert seen[0][1][:2] == [YES, NO]
    answers = [one.answer for one in REFERENCES]
    assert seen[1] == (answers, answers[3:] + answers[:3])
    assert seen[2] == (["A man walks."], [""])
    assert seen[3][0] == answers[:6]
    assert groups[1].judgement is None
    assert groups[3].judgement is not None
    assert groups[3].judgement.overall.accuracy == 1.0


def test_a_reference_against_its_own_label_is_named_and_the_label_counts() -> None:
    odd = Reference(
        id="odd", level="event", task="summary", question="?", answer="There is no anomaly.", label="Arson",
        is_anomaly=True,
    )  # fmt: skip
    found = evaluate_answers([odd], {"odd": YES})
    assert found.metrics.contradicted == ("odd",)
    assert found.answers[0].is_correct is True


def test_unknown_missing_and_repeated_ids() -> None:
    with pytest.raises(DataError, match=r"1 of 2 predictions belong to no reference: 'x9'"):
        evaluate_answers(REFERENCES[:1], {"f1": YES, "x9": NO})
    with pytest.raises(DataError, match=r"2 of 3 references have no prediction: 'f2', 'f3'; --allow-missing"):
        evaluate_answers(REFERENCES[:3], {"f1": YES})
    with pytest.raises(DataError, match=r"two references have the id 'f1'"):
        evaluate_answers([REFERENCES[0], REFERENCES[0]], {"f1": YES})
    with pytest.raises(DataError, match="no references"):
        evaluate_answers([], {})
    with pytest.raises(DataError, match="2 of 2 references have no prediction"):
        evaluate_answers(REFERENCES[:2], {}, allow_missing=True)


def test_missing_answers_may_be_left_out_and_are_counted() -> None:
    found = evaluate_answers(REFERENCES[:3], {"f1": YES}, allow_missing=True).metrics
    assert (found.num, found.missing) == (1, 2)
    assert found.judgement is not None
    assert found.judgement.overall.num == 1
