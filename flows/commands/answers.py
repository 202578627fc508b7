"""`holmes eval answers`: what a model says of videos, against labels and reference answers."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Annotated

import typer

from flows.commands.model_options import AllowPickle, Device, ModelBase, TrustRemoteCode
from flows.commands.published_tables import Published, PublishedRows
from pipeline.errors import SetupError
from pipeline.evaluate.text_metrics import Meteor, check_text_metrics, measure_texts


def eval_answers(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[NAME=RUN]...", help="with --compare: the runs")] = None,
    *,
    predictions: Annotated[
        Path | None, typer.Option("--predictions", help="JSONL, CSV or Parquet with id and prediction (or answer)")
    ] = None,
    model_path: Annotated[
        str | None, typer.Option("--model-path", help="have this video model or adapter answer the questions")
    ] = None,
    model_base: ModelBase = None,
    dataset: Annotated[Path | None, typer.Option("--dataset", help="dataset or workspace with the questions")] = None,
    split: Annotated[str, typer.Option("--split", help="split of the dataset")] = "test",
    references: Annotated[
        Path | None, typer.Option("--references", help="HIVAU-70k instead of a dataset: instructions or raw JSON")
    ] = None,
    videos: Annotated[
        Path | None, typer.Option("--videos", help="with --references and --model-path: folder of the videos")
    ] = None,
    compare: Annotated[bool, typer.Option("--compare", help="show runs side by side: NAME=metrics.json ...")] = False,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="measure the answers there are; count references without one")
    ] = False,
    text: Annotated[bool, typer.Option("--text/--no-text", help="measure BLEU, CIDEr, METEOR and ROUGE-L")] = True,
    meteor: Annotated[
        Meteor, typer.Option("--meteor", help="stem: exact and stem matches; java: METEOR 1.5, needs a Java runtime")
    ] = Meteor.STEM,
    published: PublishedRows = Published.AUTO,
    probes: Annotated[
        bool,
        typer.Option("--probes", help="with --model-path: ask of each clip as well whether two events happen in it"),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="folder for metrics.json, answers.csv and a model's predictions.jsonl")
    ] = None,
    num_frames: Annotated[
        int | None, typer.Option("--num-frames", min=1, help="frames shown; default: as in training, else 16")
    ] = None,
    max_side: Annotated[
        int | None,
        typer.Option("--max-side", min=16, help="longest side of the frames; default: as in training, else 448"),
    ] = None,
    max_new_tokens: Annotated[int, typer.Option("--max-new-tokens", min=1, help="longest answer in tokens")] = 128,
    batch_size: Annotated[int, typer.Option("--batch-size", min=1, help="questions answered together at most")] = 16,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option("--dtype", help="auto, float32, bfloat16 or float16")] = "auto",
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
    judge_model: Annotated[
        str | None, typer.Option("--judge-model", help="have this language model score the answers from 0 to 5 as well")
    ] = None,
    judge_base_url: Annotated[
        str | None, typer.Option("--judge-base-url", help="its OpenAI-compatible endpoint; default: OPENAI_BASE_URL")
    ] = None,
    judge_answers: Annotated[
        int, typer.Option("--judge-answers", min=1, help="answers it scores at most, drawn by id")
    ] = 500,
    judge_max_tokens: Annotated[
        int | None, typer.Option("--judge-max-tokens", min=1, help="prompt and completion tokens it may use")
    ] = None,
    judge_price: Annotated[
        tuple[float, float] | None,
        typer.Option("--judge-price", metavar="IN OUT", help="price of a million prompt and completion tokens"),
    ] = None,
    judge_max_cost: Annotated[
        float | None, typer.Option("--judge-max-cost", help="what it may cost at most, in the currency of the prices")
    ] = None,
) -> None:
    """Measure answers: judgements, truth of explanations, BLEU, CIDEr, METEOR and ROUGE-L, by level, task and class."""
    from flows.commands.answer_tables import answer_table, compare_table, read_runs

    if compare:
        if not runs:
            raise SetupError("--compare needs runs: NAME=metrics.json ...")
        found = read_runs(runs)
        typer.echo(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(compare_table(found)))
        return
    if runs:
        raise SetupError(f"{' '.join(runs)}: runs are named with --compare alone")
    _check_sources(predictions, model_path, judge_model, out, probes=probes)
    if text:
        check_text_metrics(meteor)

    from annotation.formats.answer_rows import read_predictions
    from flows.commands.answer_evaluation import (
        AnswerReport,
        Answers,
        ask_model,
        judge_settings,
        judge_with,
        probe_model,
        read_questions,
    )
    from flows.commands.published_tables import beside_answers, table_lines, tables_as_json
    from flows.console import shown_progress
    from pipeline.evaluate.answers import evaluate_answers

    judge = None
    if judge_model is not None:
        judge = judge_settings(judge_model, judge_base_url, judge_max_tokens, judge_price, judge_max_cost)
    questions = read_questions(dataset, split, references, videos)
    probed = None
    if predictions is not None:
        answers = Answers(texts=read_predictions(predictions), given_by={"predictions": str(predictions)})
    elif model_path is not None and out is not None:
        from pipeline.models.hf.answerer import AnswerSettings, HfAnswerer

        settings = AnswerSettings(
            model_path=model_path,
            model_base=model_base,
            num_frames=num_frames,
            max_side=max_side,
            max_new_tokens=max_new_tokens,
            batch_size=batch_size,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        )
        answerer = HfAnswerer(settings)
        with shown_progress() as show:
            answers = ask_model(answerer, questions, out, show)
            if probes:
                probed = probe_model(answerer, questions, out, show)
    evaluation = evaluate_answers(
        questions.references,
        answers.texts,
        allow_missing=allow_missing,
        measure_texts=functools.partial(measure_texts, meteor=meteor) if text else None,
    )
    grades = judge_with(judge, evaluation, out, judge_answers) if judge is not None and out is not None else None
    report = AnswerReport(evaluation=evaluation, questions=questions, answers=answers, grades=grades, probes=probed)
    if out is not None:
        report.write(out)
    metrics = report.as_json()
    beside = beside_answers(published, evaluation.metrics, [answer.reference for answer in evaluation.answers])
    if as_json:
        typer.echo(json.dumps({**metrics, "published": tables_as_json(beside)}, ensure_ascii=False))
        return
    typer.echo("\n".join([*answer_table(metrics), *(line for one in beside.values() for line in table_lines(*one))]))


def _check_sources(
    predictions: Path | None, model_path: str | None, judge_model: str | None, out: Path | None, *, probes: bool
) -> None:
    if (predictions is None) == (model_path is None):
        raise SetupError("name the answers to measure: either --predictions FILE or --model-path MODEL")
    if out is None and (model_path or judge_model):
        raise SetupError("--model-path and --judge-model need --out FOLDER, where what they say is kept")
    if probes and model_path is None:
        raise SetupError("--probes asks a model: name it with --model-path")
