"""Evaluation of answers: where they come from, who judges them, and what is written of them."""

from __future__ import annotations

import csv
import json
import logging
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from annotation.formats.hivau_answers import read_hivau_references
from flows.commands.answer_tables import METRICS
from pipeline.config import JudgeConfig
from pipeline.config.language import TokenPrice
from pipeline.errors import DataError, RecordError, SetupError
from pipeline.evaluate.answers import AnswerEvaluation, JudgedAnswer, Reference
from pipeline.evaluate.answers_dataset import is_embedded, read_dataset_references, write_embedded_clips
from pipeline.evaluate.answers_file import answer_questions
from pipeline.evaluate.answers_judge import AnswerGrades, grade_answers
from pipeline.evaluate.probes import Probe, ProbedClip, ProbeMetrics, measure_probes, plan_probes
from pipeline.models.answering import Answerer, VideoQuestion
from pipeline.models.chat.settings import ChatSettings, chat_settings
from pipeline.records import digest
from pipeline.stages.run import Progress
from pipeline.storage import write_atomically
from pipeline.taxonomy import canonical

if TYPE_CHECKING:
    from pipeline.models.hf.answerer import HfAnswerer

logger = logging.getLogger(__name__)

ROWS = "answers.csv"
PROBES = "probes.csv"
PREDICTIONS = "predictions.jsonl"
JUDGE_JOURNAL = "judge"
CLIPS = "clips"
"""Folder of the clips of a dataset that embeds them."""

_REPLY_TOKENS = 300
_NAMED = 5
"""Faults named in the log; the JSON names them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Questions:
    """The references, and what they were read from.

    Attributes:
        references: in the order in which they are measured.
        read_from: paths and split, for people.
        videos: folder that the paths of their videos are relative to.
        dataset: the dataset and its split, where they are rows of one.
    """

    references: Sequence[Reference]
    read_from: Mapping[str, str]
    videos: Path | None = None
    dataset: tuple[Path, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Answers:
    """Texts by the id of their reference, what gave them, and why the model gave none to others."""

    texts: Mapping[str, str]
    given_by: Mapping[str, str]
    faults: Mapping[str, str] = field(default_factory=dict)


def read_questions(dataset: Path | None, split: str, file: Path | None, videos: Path | None) -> Questions:
    """Read the references of a dataset's split or of a file of HIVAU-70k.

    Raises:
        SetupError: both are named, or none.
        DataError: as the readers.
    """
    if file is not None and dataset is None:
        return Questions(references=read_hivau_references(file), read_from={"references": str(file)}, videos=videos)
    if dataset is not None and file is None:
        read_from = {"references": str(dataset), "split": split}
        references = read_dataset_references(dataset, split)
        return Questions(references=references, read_from=read_from, dataset=(dataset, split))
    raise SetupError("name the right answers: either --dataset FOLDER or --references FILE")


def ask_model(answerer: Answerer, questions: Questions, out: Path, on_progress: Progress) -> Answers:
    """Have a model answer every question; `predictions.jsonl` in `out` keeps what it says, for this run and others.

    Raises:
        SetupError: the model cannot be loaded, or the file holds answers of another one.
    """
    asked = _asked(questions, out)
    texts: dict[str, str] = {}
    faults: dict[str, str] = {}
    for done, (question, answer) in enumerate(answer_questions(answerer, asked, out / PREDICTIONS), start=1):
        if isinstance(answer, str):
            texts[question.id] = answer
        else:
            faults[question.id] = f"{answer.reason}: {answer.detail}"
        on_progress("answer", done, len(asked))
    for name, fault in list(faults.items())[:_NAMED]:
        logger.warning("no answer to %s: %s", name, fault)
    return Answers(texts=texts, given_by={"model": answerer.name, "predictions": str(out / PREDICTIONS)}, faults=faults)


@dataclass(frozen=True, slots=True, kw_only=True)
class Probes:
    """What a model says to paired probes of the clips whose class is known, and why it said nothing to others."""

    clips: Sequence[ProbedClip]
    metrics: ProbeMetrics
    faults: Mapping[str, str]

    def as_json(self) -> dict[str, Any]:
        """Return the metrics and the faults."""
        return {**asdict(self.metrics), "unanswered": dict(self.faults)}


def probe_model(answerer: HfAnswerer, questions: Questions, out: Path, on_progress: Progress) -> Probes:
    """Ask a model of every clip once whether what happens there happens, and whether something else does.

    Raises:
        DataError: no clip has a class whose words are known.
        SetupError: the model cannot be loaded.
    """
    planned: dict[tuple[Path, tuple[float, float] | None], tuple[Reference, VideoQuestion, tuple[Probe, Probe]]] = {}
    for reference, asked in zip(questions.references, _asked(questions, out), strict=True):
        probes = None if reference.label is None else plan_probes(reference.label, reference.id)
        if probes is not None:
            planned.setdefault((asked.path, asked.span_s), (reference, asked, probes))
    if not planned:
        raise DataError("--probes: no reference has a label whose class the taxonomies have words for")
    every = [replace(asked, question=probe.question) for _, asked, probes in planned.values() for probe in probes]
    odds: defaultdict[str, list[tuple[float, float]]] = defaultdict(list)
    faults: dict[str, str] = {}
    for done, (question, found) in enumerate(answerer.odds(every), start=1):
        if isinstance(found, RecordError):
            faults[question.id] = f"{found.reason}: {found.detail}"
        else:
            odds[question.id].append(found)
        on_progress("probe", done, len(every))
    for name, fault in list(faults.items())[:_NAMED]:
        logger.warning("no answer to the probes of %s: %s", name, fault)
    clips = [
        ProbedClip(
            id=one.id, label=canonical(one.label or "") or "", probes=probes, odds=(odds[one.id][0], odds[one.id][1])
        )
        for one, _, probes in planned.values()
        if one.id not in faults
    ]
    return Probes(clips=clips, metrics=measure_probes(clips), faults=faults)


def judge_settings(
    model: str, base_url: str | None, max_tokens: int | None, price: tuple[float, float] | None, max_cost: float | None
) -> ChatSettings:
    """Return how a language model is asked to score answers, and what it may cost.

    Raises:
        SetupError: one of the values is out of its range.
    """
    try:
        prices = {} if price is None else {model: TokenPrice(input=price[0], output=price[1])}
        config = JudgeConfig(
            model=model, base_url=base_url, max_tokens=_REPLY_TOKENS, max_total_tokens=max_tokens, max_cost=max_cost,
            prices=prices,
        )  # fmt: skip
    except ValidationError as fault:
        told = "; ".join(f"{'.'.join(map(str, one['loc']))}: {one['msg']}" for one in fault.errors())
        raise SetupError(f"judge: {told}") from None
    return chat_settings("judge", config)


def judge_with(settings: ChatSettings, evaluation: AnswerEvaluation, out: Path, most_answers: int) -> AnswerGrades:
    """Have a language model score answers; its replies are kept in `out`. Raises: as `grade_answers`."""
    grades = grade_answers(evaluation.answers, settings, out / JUDGE_JOURNAL, most_answers)
    for name, fault in list(grades.failures.items())[:_NAMED]:
        logger.warning("no scores for %s: %s", name, fault)
    return grades


@dataclass(frozen=True, kw_only=True)
class AnswerReport:
    """An evaluation, what it was made on, and, where asked for, a language model's scores and a model's probes."""

    evaluation: AnswerEvaluation
    questions: Questions
    answers: Answers
    grades: AnswerGrades | None = None
    probes: Probes | None = None

    def as_json(self) -> dict[str, Any]:
        """Return everything that the command prints as one object."""
        measured = [answer.reference for answer in self.evaluation.answers]
        # What runs must share to be compared: the questions and what is held to be right, whatever folder they are in.
        shared = [[one.id, one.question, one.answer, one.label, one.is_anomaly] for one in measured]
        return {
            **self.questions.read_from,
            **self.answers.given_by,
            "references_hash": digest(shared)[:16],
            **asdict(self.evaluation.metrics),
            "unanswered": dict(self.answers.faults),
            "probes": None if self.probes is None else self.probes.as_json(),
            "judge": None if self.grades is None else _summary(self.grades),
        }

    def write(self, folder: Path) -> None:
        """Write `metrics.json`, `answers.csv` with a row for every answer, `probes.csv` with one for every probe."""
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(folder / METRICS, (json.dumps(self.as_json(), indent=2, ensure_ascii=False) + "\n").encode())
        scores = {} if self.grades is None else self.grades.scores
        score_columns = _SCORE_COLUMNS if scores else ()
        with (folder / ROWS).open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file, lineterminator="\n")
            rows.writerow([*_COLUMNS, *score_columns])
            for answer in self.evaluation.answers:
                given = scores.get(answer.reference.id)
                rows.writerow([*_row(answer), *(getattr(given, name, "") for name in score_columns)])
        if self.probes is not None:
            with (folder / PROBES).open("w", encoding="utf-8", newline="") as file:
                rows = csv.writer(file, lineterminator="\n")
                rows.writerow(_PROBE_COLUMNS)
                rows.writerows(row for clip in self.probes.clips for row in _probe_rows(clip))


_COLUMNS = (
    "id", "level", "task", "label", "expected", "verdict", "correct", "claimed", "explanation", "faults", "video",
    "question", "reference", "prediction",
)  # fmt: skip
_PROBE_COLUMNS = ("id", "label", "event", "happens", "question", "yes", "no", "right")
_YES_NO = {None: "", True: "yes", False: "no"}
_TRUTH = {None: "not judged", True: "true", False: "false"}
_SCORE_COLUMNS = ("reasonability", "detail", "consistency", "reason")


def _asked(questions: Questions, out: Path) -> list[VideoQuestion]:
    """Return the references as questions about files; clips that a dataset embeds are written to `out`."""
    videos = questions.videos
    if questions.dataset is not None and any(is_embedded(one.video or "") for one in questions.references):
        videos = out / CLIPS
        write_embedded_clips(*questions.dataset, videos)
    return [_question(one, videos) for one in questions.references]


def _question(reference: Reference, videos: Path | None) -> VideoQuestion:
    if reference.video is None:
        raise SetupError(f"{reference.id}: the reference names no video")
    path = Path(reference.video)
    if not path.is_absolute():
        if videos is None:
            raise SetupError(f"{reference.video}: --videos FOLDER is needed, which this path is relative to")
        path = videos / path
        # Raw annotations name videos without their suffix.
        if not path.suffix or not path.is_file():
            named = path.with_name(f"{path.name}.mp4")
            path = named if named.is_file() else path
    return VideoQuestion(id=reference.id, question=reference.question, path=path, span_s=reference.span_s)


def _summary(grades: AnswerGrades) -> dict[str, Any]:
    shown = ("requests", "from_journal", "prompt_tokens", "completion_tokens", "cost")
    return {
        "model": grades.spent.model,
        "means": grades.means(),
        "num": len(grades.scores),
        "failed": len(grades.failures),
        "drawn": grades.drawn,
        **{name: getattr(grades.spent, name) for name in shown},
    }


def _probe_rows(clip: ProbedClip) -> Iterator[list[str]]:
    for probe, (yes, no), is_right in zip(clip.probes, clip.odds, clip.are_right, strict=True):
        odds = (f"{yes:.6f}", f"{no:.6f}")
        yield [clip.id, clip.label, probe.event, _YES_NO[probe.happens], probe.question, *odds, _YES_NO[is_right]]


def _row(answer: JudgedAnswer) -> list[str]:
    one = answer.reference
    expected = "" if one.is_anomaly is None else "abnormal" if one.is_anomaly else "normal"
    found = answer.explanation
    told = ("", "", "") if found is None else (found.claimed, _TRUTH[found.is_true], "; ".join(found.faults))
    return [
        one.id, one.level, one.task, one.label or "", expected, answer.verdict or "", _YES_NO[answer.is_correct], *told,
        Path(one.video or "").name, one.question, one.answer, answer.prediction,
    ]  # fmt: skip
