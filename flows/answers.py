"""Evaluation of answers: where references and predictions come from, and what is shown and written of them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from annotation.source import Source
from pipeline.errors import DataError
from pipeline.evaluate.answers import Accuracy, AnswerEvaluation, JudgedAnswer, Reference
from pipeline.records import digest
from pipeline.storage import write_atomically

METRICS = "metrics.json"
ROWS = "answers.csv"
PREDICTIONS = "predictions.jsonl"

Metrics = Mapping[str, Any]
"""The object that `holmes eval answers --json` prints."""


@dataclass(frozen=True, kw_only=True)
class AnswerReport:
    """An evaluation, what it was made on, and what a language model says of the answers where one was asked.

    Attributes:
        made_on: paths, split and model, for people.
        unanswered: why the model gave no answer, by id of the reference.
        judge: mean scores and spending; None where nobody was asked.
        scores: of each judged answer, by id.
    """

    evaluation: AnswerEvaluation
    made_on: Mapping[str, str]
    unanswered: Mapping[str, str] = field(default_factory=dict)
    judge: Mapping[str, Any] | None = None
    scores: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return everything that the command prints as one object."""
        return {
            **self.made_on,
            # What runs must share to be compared: the questions and what is held to be right.
            "references_hash": references_hash([answer.reference for answer in self.evaluation.answers]),
            **self.evaluation.metrics.as_json(),
            "unanswered": dict(self.unanswered),
            "judge": self.judge,
        }

    def write(self, folder: Path) -> None:
        """Write `metrics.json`, and `answers.csv` with a row for every answer, into `folder`."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / METRICS, (json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n").encode())
        with (folder / ROWS).open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            names = list(dict.fromkeys(name for scores in self.scores.values() for name in scores))
            rows.writerow([*_COLUMNS, *names])
            for answer in self.evaluation.answers:
                scores = self.scores.get(answer.reference.id, {})
                rows.writerow([*_row(answer), *(scores.get(name, "") for name in names)])


_COLUMNS = (
    "id", "level", "task", "label", "expected", "verdict", "correct", "video", "question", "reference", "prediction",
)  # fmt: skip


def references_hash(references: Sequence[Reference]) -> str:
    """Hash what the references say, whatever folder they were read from."""
    return digest([[one.id, one.question, one.answer, one.label, one.is_anomaly] for one in references])[:16]


def answer_table(metrics: Metrics) -> Iterator[str]:
    """Yield the lines of a table of one run, for people."""
    yield (
        f"{metrics['num']} answers, {metrics['empty']} empty; {metrics['missing']} references without one; "
        f"{len(metrics['contradicted'])} references contradict their label"
    )
    judgement = metrics["judgement"]
    if judgement is not None:
        yield ""
        yield f"{'judgement':<24}{'answers':>8}{'right':>8}{'unreadable':>12}{'accuracy':>10}   95% interval"
        yield _accuracy_line("all", judgement["overall"])
        for label, accuracy in judgement["per_class"].items():
            yield _accuracy_line(label, accuracy)
        yield f"{'always the larger class':<24}{_number(judgement['larger_class_accuracy']):>38}"
        yield (
            f"balanced accuracy {_number(judgement['balanced_accuracy'])}; abnormal: "
            f"precision {_number(judgement['precision'])}, recall {_number(judgement['recall'])}, "
            f"F1 {_number(judgement['f1'])}"
        )
    if any(group["text"] for group in metrics["groups"]):
        yield ""
        yield f"{'texts':<24}{'answers':>8}{'judged':>8}" + "".join(f"{title:>9}" for _, title in _TEXT_COLUMNS)
    for group in metrics["groups"]:
        text = group["text"]
        if text is not None:
            name = group["level"] if group["task"] is None else f"{group['level']}, {group['task']}"
            right = group["judgement"] and group["judgement"]["overall"]["accuracy"]
            numbers = "".join(f"{_number(text[key], 3):>9}" for key, _ in _TEXT_COLUMNS)
            yield f"{name:<24}{group['num']:>8}{_number(right, 3):>8}{numbers}"
    if (variant := _meteor_of(metrics)) is not None:
        yield _METEOR_NOTES[variant]
    if metrics["judge"] is not None:
        yield ""
        yield judge_line(metrics["judge"])


def judge_line(judge: Metrics) -> str:
    """Say in a line what a language model thinks of the answers."""
    means = ", ".join(f"{name} {_number(value, 2)}" for name, value in judge["means"].items())
    money = "" if judge["cost"] is None else f", cost {judge['cost']:,.4f}"
    return (
        f"{judge['model']} scored {judge['num']} answers from 0 to 5: {means}; {judge['failed']} failed; "
        f"{judge['requests']} requests{money}"
    )


def read_runs(named: Sequence[str]) -> dict[str, Metrics]:
    """Read runs to compare, each `NAME=FILE`, the file a metrics.json or what --json printed.

    Raises:
        DataError: a file is none of that, or the runs were not measured on the same references in the same way.
    """
    runs: dict[str, Metrics] = {}
    for entry in named:
        name, _, file = entry.rpartition("=")
        path = Path(file) / METRICS if Path(file).is_dir() else Path(file)
        metrics = Source(path).json
        if not isinstance(metrics, dict) or not {"references_hash", "groups", "judgement"} <= metrics.keys():
            raise DataError(f"{path}: not the metrics of `holmes eval answers`")
        runs[name or path.parent.name or path.stem] = metrics
    if len(runs) < len(named):
        raise DataError(f"two runs have one name: {', '.join(named)}; name them: NAME=FILE")
    for what, value_of in (("references", _references_of), ("METEOR", _meteor_of)):
        found = {name: value_of(run) for name, run in runs.items()}
        if len(set(found.values())) > 1:
            told = ", ".join(f"{name}: {value}" for name, value in found.items())
            raise DataError(f"the runs cannot be compared, their {what} differ: {told}")
    return runs


def compare_table(runs: Mapping[str, Metrics]) -> Iterator[str]:
    """Yield the lines of a table with a row for every run: judgement accuracy, then the texts level by level."""
    width = max(24, *(len(name) + 2 for name in runs))
    yield f"{'judgement':<{width}}{'answers':>8}{'right':>8}{'unreadable':>12}{'accuracy':>10}   95% interval"
    for name, run in runs.items():
        if run["judgement"] is None:
            yield f"{name:<{width}}{'no verdicts asked for':>8}"
        else:
            yield _accuracy_line(name, run["judgement"]["overall"], width)
    levels = dict.fromkeys(
        group["level"] for run in runs.values() for group in run["groups"] if group["text"] is not None
    )
    for level in levels:
        yield ""
        yield f"{f'texts, {level}':<{width}}{'answers':>8}" + "".join(f"{title:>9}" for _, title in _TEXT_COLUMNS)
        for name, run in runs.items():
            group = next((one for one in run["groups"] if one["level"] == level), None)
            if group is not None and group["text"] is not None:
                numbers = "".join(f"{_number(group['text'][key], 3):>9}" for key, _ in _TEXT_COLUMNS)
                yield f"{name:<{width}}{group['num']:>8}{numbers}"
    variant = next((found for run in runs.values() if (found := _meteor_of(run)) is not None), None)
    if variant is not None:
        yield _METEOR_NOTES[variant]
    judged = {name: run["judge"] for name, run in runs.items() if run.get("judge")}
    if judged:
        yield ""
        yield from (f"{name}: {judge_line(judge)}" for name, judge in judged.items())


_TEXT_COLUMNS = (
    ("bleu", "BLEU"), ("bleu_4", "BLEU-4"), ("cider", "CIDEr"), ("meteor", "METEOR"), ("rouge_l", "ROUGE-L"),
)  # fmt: skip
_METEOR_NOTES = {
    "stem": "BLEU: sum of BLEU-1 to BLEU-4. METEOR: exact and stem matches, no synonyms (NLTK)",
    "java": "BLEU: sum of BLEU-1 to BLEU-4. METEOR: 1.5 (Java)",
}


def _accuracy_line(name: str, accuracy: Mapping[str, Any], width: int = 24) -> str:
    found = Accuracy(**accuracy)
    return (
        f"{name:<{width}}{found.num:>8}{found.correct:>8}{found.unreadable:>12}{found.accuracy:>10.4f}"
        f"   {found.low:.4f} to {found.high:.4f}"
    )


def _references_of(run: Metrics) -> str:
    return str(run["references_hash"])


def _meteor_of(run: Metrics) -> str | None:
    return next((group["text"]["meteor_variant"] for group in run["groups"] if group["text"] is not None), None)


def _row(answer: JudgedAnswer) -> list[str]:
    one = answer.reference
    expected = "" if one.is_anomaly is None else "abnormal" if one.is_anomaly else "normal"
    correct = "" if answer.is_correct is None else "yes" if answer.is_correct else "no"
    return [
        one.id, one.level, one.task, one.label or "", expected, answer.verdict or "", correct,
        Path(one.video or "").name, one.question, one.answer, answer.prediction,
    ]  # fmt: skip


def _number(value: float | None, digits: int = 4) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
