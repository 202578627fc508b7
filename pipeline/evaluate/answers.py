"""How good the answers of a model are: its judgements against labels, its texts against reference texts."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.errors import DataError
from pipeline.evaluate.answers_verdict import read_verdict
from pipeline.evaluate.explanations import Explanation, ExplanationMetrics, judge_explanation, measure_explanations
from pipeline.evaluate.shares import wilson_interval
from pipeline.evaluate.text_metrics import TextMetrics
from pipeline.records import NORMAL

LEVELS = ("clip", "event", "video")
"""What an answer is about, from the smallest to the whole, as HIVAU-70k names it."""

_NAMED = 5

MeasureTexts = Callable[[Sequence[str], Sequence[str]], TextMetrics]
"""Measures answers against as many references."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A question about a piece of video and the answer that is held to be right.

    Attributes:
        id: what a prediction names it by.
        level: one of `LEVELS`.
        label: class of the event, `Normal`, or None where it is not known.
        is_anomaly: the right verdict; None where the question asks for none.
        video: path of the video, or its name where the source has no more; None where it is not known.
        span_s: the part that is meant, [start, end) in seconds; None is the whole file.
    """

    id: str
    level: str
    task: str
    question: str
    answer: str
    label: str | None
    is_anomaly: bool | None
    video: str | None = None
    span_s: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgedAnswer:
    """A prediction beside its reference; all but these two is None where no verdict was asked for.

    An answer whose verdict cannot be read has the verdict `unreadable`, and is not correct.
    """

    reference: Reference
    prediction: str
    verdict: str | None = None
    is_correct: bool | None = None
    explanation: Explanation | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """A share of right verdicts with its 95% confidence interval [low, high] after Wilson (JASA 1927)."""

    num: int
    correct: int
    unreadable: int
    accuracy: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class JudgementMetrics:
    """Verdicts against labels; an answer without a readable verdict is wrong, and positive is abnormal.

    Attributes:
        overall: of all answers.
        larger_class_accuracy: what always saying what the most labels say would reach.
        balanced_accuracy: mean of the accuracies on abnormal and on normal labels; None where one is missing.
        precision: share of those called abnormal that are; None where none is called so.
        recall: share of the abnormal ones called so; None where none is.
        f1: their harmonic mean; None where both are None.
        per_class: by label, ordered by name, those of unknown class under `abnormal` and `Normal`.
    """

    overall: Accuracy
    larger_class_accuracy: float
    balanced_accuracy: float | None
    precision: float | None
    recall: float | None
    f1: float | None
    per_class: Mapping[str, Accuracy]


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupMetrics:
    """The answers of one level, or of one level and task (`task` is None for all of them).

    Attributes:
        judgement: None where no verdict was asked for.
        text: None where texts were not measured.
        text_by_chance: what the reference answers to other questions of the group reach; None of a single answer too.
    """

    level: str
    task: str | None
    num: int
    judgement: JudgementMetrics | None
    text: TextMetrics | None
    text_by_chance: TextMetrics | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerMetrics:
    """Everything measured on the answers of one model.

    Attributes:
        num: answers measured.
        missing: references without a prediction, left out of every number.
        empty: predictions without text, which count as wrong and as texts of no words.
        contradicted: references whose own text says the opposite of their label, which counts; the ids.
        judgement: over all levels; None where no question asks for a verdict.
        explanation: how true the answers are that were asked for a verdict; None where none was.
        groups: every level, each followed by its tasks where it has several.
    """

    num: int
    missing: int
    empty: int
    contradicted: tuple[str, ...]
    judgement: JudgementMetrics | None
    explanation: ExplanationMetrics | None
    groups: tuple[GroupMetrics, ...]


@dataclass(frozen=True, eq=False, kw_only=True)
class AnswerEvaluation:
    """The metrics, and the answers they were measured on in the order of the references."""

    metrics: AnswerMetrics
    answers: Sequence[JudgedAnswer]


def evaluate_answers(
    references: Sequence[Reference],
    predictions: Mapping[str, str],
    *,
    allow_missing: bool = False,
    measure_texts: MeasureTexts | None = None,
) -> AnswerEvaluation:
    """Measure predictions, by the id of their reference.

    Args:
        references: with ids that differ.
        predictions: texts by id.
        allow_missing: leave out references without a prediction, and say how many there are.
        measure_texts: what compares texts; None measures judgements alone.

    Raises:
        DataError: there are no references, two of one id, a prediction belongs to none of them, or predictions are
            missing that may not be.
    """
    _check_ids(references, predictions, allow_missing=allow_missing)
    answers = [judge_answer(one, predictions[one.id]) for one in references if one.id in predictions]
    metrics = AnswerMetrics(
        num=len(answers),
        missing=len(references) - len(answers),
        empty=sum(not answer.prediction.strip() for answer in answers),
        contradicted=tuple(
            one.id
            for one in (answer.reference for answer in answers)
            if one.is_anomaly is not None and read_verdict(one.answer) is not one.is_anomaly
        ),
        judgement=measure_judgements(answers),
        explanation=measure_explanations([one.explanation for one in answers if one.explanation is not None]),
        groups=tuple(_measure_groups(answers, measure_texts)),
    )
    return AnswerEvaluation(metrics=metrics, answers=answers)


def judge_answer(reference: Reference, prediction: str) -> JudgedAnswer:
    """Read the verdict of a prediction, where one was asked for, and hold it and the words against the label."""
    if reference.is_anomaly is None:
        return JudgedAnswer(reference=reference, prediction=prediction)
    says = read_verdict(prediction)
    verdict = {None: "unreadable", True: "abnormal", False: "normal"}[says]
    is_correct = says is reference.is_anomaly
    label = (reference.label or "Abnormal") if reference.is_anomaly else NORMAL
    return JudgedAnswer(
        reference=reference,
        prediction=prediction,
        verdict=verdict,
        is_correct=is_correct,
        explanation=judge_explanation(label, says, prediction, name=reference.id),
    )


def measure_judgements(answers: Iterable[JudgedAnswer]) -> JudgementMetrics | None:
    """Measure the answers that were asked for a verdict; None where none was."""
    asked = [answer for answer in answers if answer.is_correct is not None]
    if not asked:
        return None
    abnormal = [answer for answer in asked if answer.reference.is_anomaly]
    normal = [answer for answer in asked if not answer.reference.is_anomaly]
    hits = sum(answer.verdict == "abnormal" for answer in abnormal)
    called = hits + sum(answer.verdict == "abnormal" for answer in normal)
    precision = hits / called if called else None
    recall = hits / len(abnormal) if abnormal else None
    classes: dict[str, list[JudgedAnswer]] = defaultdict(list)
    for answer in asked:
        classes[answer.reference.label or ("abnormal" if answer.reference.is_anomaly else "Normal")].append(answer)
    both = [_accuracy(side).accuracy for side in (abnormal, normal) if side]
    return JudgementMetrics(
        overall=_accuracy(asked),
        larger_class_accuracy=max(len(abnormal), len(normal)) / len(asked),
        balanced_accuracy=sum(both) / 2 if len(both) == 2 else None,
        precision=precision,
        recall=recall,
        f1=_harmonic_mean(precision, recall),
        per_class={label: _accuracy(classes[label]) for label in sorted(classes)},
    )


def _accuracy(answers: Sequence[JudgedAnswer]) -> Accuracy:
    correct = sum(answer.is_correct is True for answer in answers)
    low, high = wilson_interval(correct, len(answers))
    return Accuracy(
        num=len(answers),
        correct=correct,
        unreadable=sum(answer.verdict == "unreadable" for answer in answers),
        accuracy=correct / len(answers),
        low=low,
        high=high,
    )


def _harmonic_mean(precision: float | None, recall: float | None) -> float | None:
    if precision is None and recall is None:
        return None
    # Without positives on one side there is not one hit, whose F1 is 0 by definition.
    total = (precision or 0.0) + (recall or 0.0)
    return 2 * (precision or 0.0) * (recall or 0.0) / total if total else 0.0


def _measure_groups(answers: Sequence[JudgedAnswer], measure_texts: MeasureTexts | None) -> Iterable[GroupMetrics]:
    for level in LEVELS:
        of_level = [answer for answer in answers if answer.reference.level == level]
        tasks = sorted({answer.reference.task for answer in of_level})
        if len(tasks) > 1:
            yield _measure_group(level, None, of_level, measure_texts)
        for task in tasks:
            of_task = [answer for answer in of_level if answer.reference.task == task]
            yield _measure_group(level, task, of_task, measure_texts)


def _measure_group(
    level: str, task: str | None, answers: Sequence[JudgedAnswer], measure_texts: MeasureTexts | None
) -> GroupMetrics:
    text = by_chance = None
    if measure_texts is not None:
        wanted = [one.reference.answer for one in answers]
        text = measure_texts(wanted, [one.prediction for one in answers])
        # Half the group away stands another video.
        half = len(wanted) // 2
        by_chance = measure_texts(wanted, wanted[half:] + wanted[:half]) if half else None
    judgement = measure_judgements(answers)
    return GroupMetrics(
        level=level, task=task, num=len(answers), judgement=judgement, text=text, text_by_chance=by_chance
    )


def _check_ids(references: Sequence[Reference], predictions: Mapping[str, str], *, allow_missing: bool) -> None:
    if not references:
        raise DataError("there are no references to compare answers with")
    known = Counter(reference.id for reference in references)
    [(name, count)] = known.most_common(1)
    if count > 1:
        raise DataError(f"two references have the id {name!r}")
    unknown = [name for name in predictions if name not in known]
    if unknown:
        raise DataError(f"{len(unknown)} of {len(predictions)} predictions belong to no reference: {_some(unknown)}")
    missing = [name for name in known if name not in predictions]
    if missing and not (allow_missing and predictions):
        allowed = "; --allow-missing measures the others" if predictions else ""
        raise DataError(f"{len(missing)} of {len(references)} references have no prediction: {_some(missing)}{allowed}")


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(map(repr, names[:_NAMED])) + more
