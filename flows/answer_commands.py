"""`holmes eval answers`: what a model says of videos, against labels and reference answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from pipeline.errors import SetupError
from pipeline.evaluate.text_metrics import Meteor

if TYPE_CHECKING:
    from pipeline.evaluate.answers import Reference


def eval_answers(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[NAME=RUN]...", help="with --compare: the runs")] = None,
    *,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="JSONL, CSV or Parquet with id and prediction (or answer)")
    ] = None,
    dataset: Annotated[Path | None, typer.Option("--dataset", help="dataset or workspace with the questions")] = None,
    split: Annotated[str, typer.Option("--split", help="split of the dataset")] = "test",
    references: Annotated[
        Path | None, typer.Option("--references", help="HIVAU-70k instead of a dataset: instructions or raw JSON")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="show runs side by side: NAME=metrics.json ...")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="measure what there is, and count references without an answer")
    ] = False,
    text: Annotated[bool, typer.Option("--text/--no-text", help="measure BLEU, CIDEr, METEOR and ROUGE-L")] = True,
    meteor: Annotated[
        Meteor, typer.Option("--meteor", help="stem: exact and stem matches; java: METEOR 1.5, needs a Java runtime")
    ] = Meteor.STEM,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="folder for metrics.json and answers.csv")] = None,
) -> None:
    """Measure answers: judgement accuracy, BLEU, CIDEr, METEOR and ROUGE-L, by level, task and class."""
    from flows.answers import AnswerReport, answer_table, compare_table, read_runs

    if compare:
        if not runs:
            raise SetupError("--compare needs runs: NAME=metrics.json ...")
        found = read_runs(runs)
        typer.echo(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(compare_table(found)))
        return
    if runs:
        raise SetupError(f"{' '.join(runs)}: runs are named with --compare alone")
    if predictions is None:
        raise SetupError("name the answers to measure: --predictions FILE")

    from annotation.answer_rows import read_predictions
    from pipeline.evaluate.answers import evaluate_answers
    from pipeline.evaluate.text_metrics import check_text_metrics, measure_texts

    if text:
        check_text_metrics(meteor)
    asked, made_on = _references(dataset, split, references)
    report = AnswerReport(
        evaluation=evaluate_answers(
            asked,
            read_predictions(predictions),
            allow_missing=allow_missing,
            measure_texts=(lambda wanted, given: measure_texts(wanted, given, meteor)) if text else None,
        ),
        made_on=made_on | {"predictions": str(predictions)},
    )
    if out is not None:
        report.write(out)
    metrics = report.as_json()
    typer.echo(json.dumps(metrics, ensure_ascii=False) if as_json else "\n".join(answer_table(metrics)))


def _references(dataset: Path | None, split: str, file: Path | None) -> tuple[list[Reference], dict[str, str]]:
    """Return the references and what they were read from."""
    if file is not None and dataset is None:
        from annotation.hivau_answers import read_hivau_references

        return read_hivau_references(file), {"references": str(file)}
    if dataset is not None and file is None:
        from pipeline.evaluate.answers_dataset import read_dataset_references

        return read_dataset_references(dataset, split), {"references": str(dataset), "split": split}
    raise SetupError("name the right answers: either --dataset FOLDER or --references FILE")
