"""The `holmes` command. Results go to stdout, progress and messages to stderr.

Exit codes: 0 done; 1 the data is at fault; 2 the environment or the call is at fault. Everything heavy is imported
inside the commands, so that `holmes --help` answers at once.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import chdir, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer
import typer.core

from flows.commands.answers import eval_answers
from flows.commands.captions import eval_captions
from flows.commands.detect import detect
from flows.commands.label_studio import studio_app
from flows.commands.plan import plan
from flows.commands.prompts import prompts_app
from flows.commands.publish import attach, publish
from flows.commands.published_tables import Published, PublishedRows
from flows.commands.push import push
from flows.commands.review import review_app
from flows.commands.serve import serve
from flows.commands.suggest import suggest
from flows.commands.tiny import train_tiny
from flows.commands.train import merge, train_lora
from flows.commands.view import view
from flows.commands.webhook import webhook
from pipeline.errors import HolmesError, SetupError

if TYPE_CHECKING:
    from flows.plan import BuildSummary
    from pipeline.config import BuildConfig
    from pipeline.stages.base import StageReport


class _Interruptible(typer.core.TyperGroup):
    """The group of commands; typer itself ends at Ctrl-C without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _end_interrupted()


app = typer.Typer(
    cls=_Interruptible,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="From untrimmed videos and one click per event to an instruction dataset.",
)

eval_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Measure the detector, answers or captions against what is known."
)
app.add_typer(eval_app, name="eval")
eval_app.command("answers")(eval_answers)
eval_app.command("captions")(eval_captions)
train_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train the sampler, the explaining model or holmes-tiny."
)
app.add_typer(train_app, name="train")
train_app.command("tiny")(train_tiny)
train_app.command("lora")(train_lora)
app.command("merge")(merge)
app.add_typer(prompts_app, name="prompts")
app.add_typer(review_app, name="review")
app.command()(detect)
app.command()(serve)
app.command()(plan)
app.command()(push)
app.command()(view)
app.command()(attach)
studio_app.command("suggest")(suggest)
studio_app.command("webhook")(webhook)
app.add_typer(studio_app, name="labelstudio")

_debug = False

ConfigOption = Annotated[Path | None, typer.Option("-c", "--config", help="YAML file of settings")]
WorkspaceOption = Annotated[str | None, typer.Option("--workspace", help="folder of the build; overrides the config")]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override one setting")]


@app.callback()
def _common(
    debug: Annotated[bool, typer.Option("--debug", help="log everything and show tracebacks")] = False,
) -> None:
    global _debug  # noqa: PLW0603 - one flag of one process, read where errors are turned into messages
    _debug = debug
    from flows.console import set_up_logging

    set_up_logging(verbose=debug)


@app.command()
def sample(
    out: Annotated[Path, typer.Argument(help="folder to write")],
    videos: Annotated[int, typer.Option(min=1, help="number of videos; at least half are normal")] = 24,
    seed: Annotated[int, typer.Option(help="the same seed gives the same files")] = 0,
) -> None:
    """Render a sample world: CCTV-like videos, clicks, ground truth and captions."""
    from flows.console import shown_progress
    from pipeline.sample import make_sample

    with shown_progress() as show:
        summary = make_sample(
            out, videos=videos, seed=seed, on_progress=lambda done, total: show("sample", done, total)
        )
    typer.echo(f"{out}: {summary}")


@app.command()
def demo(
    out: Annotated[Path, typer.Option("--out", help="folder to write")] = Path("demo"),
    videos: Annotated[int | None, typer.Option(min=4, help="number of sample videos; unset: 90")] = None,
    seed: Annotated[int, typer.Option(help="seed of the sample world")] = 0,
) -> None:
    """Run the whole loop on a generated world, from clicks to explained detections. Needs no network and no GPU."""
    from flows.console import shown_progress
    from flows.demo import VIDEOS, run_demo

    with shown_progress() as show:
        run_demo(out, videos=videos or VIDEOS, seed=seed, on_progress=show, say=typer.echo)


@app.command()
def build(
    config: ConfigOption = None,
    workspace: WorkspaceOption = None,
    set_: SetOption = None,
    on: Annotated[
        Literal["local", "ray"] | None, typer.Option("--on", help="this machine, or a Ray cluster; overrides engine")
    ] = None,
    ray_address: Annotated[
        str | None, typer.Option("--ray-address", metavar="HOST:PORT", help="the cluster; overrides ray.address")
    ] = None,
) -> None:
    """Build the instruction dataset. A second run makes only what is missing."""
    from flows.console import shown_progress
    from flows.plan import build as run_build

    chosen = [f"engine={on}"] if on else []
    if ray_address:
        chosen.append(f'ray.address="{ray_address}"')
    settings = _load(config, workspace, [*(set_ or []), *chosen])
    with shown_progress() as show:
        summary = run_build(settings, show)
    _print_summary(summary)


@app.command()
def score(config: ConfigOption = None, workspace: WorkspaceOption = None, set_: SetOption = None) -> None:
    """Score the videos of a config by sampler.weights, or by the workspace's own sampler. Builds nothing else."""
    from flows.console import shown_progress
    from flows.plan import score as run_score

    settings = _load(config, workspace, set_)
    with shown_progress() as show:
        reports = run_score(settings, show)
    _print_stages(reports, settings.workspace)
    typer.echo(f"scores   {settings.workspace}/scores")
    if not reports[-1].rows:
        raise typer.Exit(1)


@app.command()
def status(
    workspace: Annotated[str, typer.Argument(help="workspace of a build")],
    config: ConfigOption = None,
    set_: SetOption = None,
    *,
    rejected: Annotated[bool, typer.Option("--rejected", help="list every rejected record with its reason")] = False,
) -> None:
    """Show stages, counts, rejects by reason, and what would run."""
    from flows.commands.plan import left_of
    from flows.plan import PLAN, read_run_config
    from flows.plan import status as read_status
    from pipeline.records import told_spans
    from pipeline.workspace import Workspace

    _existing(Path(workspace))
    opened = Workspace(workspace)
    if rejected:
        for step in PLAN:
            for record in step.table(opened).rejected():
                typer.echo(f"{step.name:<11}{record.record_id}: {record.reason}: {record.detail}")
        return
    if config:
        settings, folder = _load(config, workspace, set_), Path()
    else:
        settings, folder = read_run_config(opened, set_ or [])
    with chdir(folder):
        stages = read_status(opened, settings)
        left = list(left_of(settings, opened)) if any(stage.to_do != 0 for stage in stages) else []
    typer.echo(f"{'stage':<11}{'rows':>9}{'rejected':>10}  to do")
    for stage in stages:
        to_do = "after the stage before" if stage.to_do is None else str(stage.to_do or "nothing")
        typer.echo(f"{stage.stage:<11}{stage.rows:>9}{sum(stage.rejected.values()):>10}  {to_do}")
        for reason, count in stage.rejected.items():
            typer.echo(f"{'':<11}{'':>9}{count:>10}  {reason}")
    for line in left:
        typer.echo(line)
    for video in opened.videos.records():
        if video.lost:
            typer.echo(f"{video.video_id}: no picture: {told_spans(video.lost_spans)}")


@app.command()
def validate(path: Annotated[Path, typer.Argument(help="workspace or dataset folder")]) -> None:
    """Check a dataset's invariants; list what fails, exit 1. Names conflicts left in and what gives labels away."""
    from pipeline.dataset.conflicts import kept_conflicts
    from pipeline.dataset.layout import dataset_folder_of
    from pipeline.dataset.shortcuts import find_shortcuts
    from pipeline.dataset.validate import validate_dataset

    _existing(path)
    findings = validate_dataset(path)
    for finding in findings:
        typer.echo(str(finding))
    if findings:
        typer.echo(f"{path}: {len(findings)} findings", err=True)
        raise typer.Exit(1)
    for shortcut in find_shortcuts(dataset_folder_of(path)):
        typer.echo(f"shortcut: {shortcut}")
    for conflict in kept_conflicts(dataset_folder_of(path)):
        typer.echo(f"conflict: {conflict}")
    typer.echo(f"{path}: valid")


@app.command("import")
def import_(
    format_: Annotated[str, typer.Argument(metavar="FORMAT", help="auto, or the name of a format")],
    file: Annotated[Path, typer.Argument(help="annotation file, or folder of frame masks")],
    out: Annotated[Path, typer.Option("-o", "--out", help="Parquet file to write")],
    frame_rate: Annotated[
        float | None, typer.Option("--frame-rate", help="frame rate of a Label Studio project whose tasks lack it")
    ] = None,
) -> None:
    """Convert an annotation file of any known format to Parquet: one row per glance or span."""
    from annotation.formats.parquet import import_to_parquet

    summary = import_to_parquet(file, format_, out, frame_rate=frame_rate)
    for fault in summary.faults:
        typer.echo(f"{fault.place}: {fault.reason}: {fault.detail}", err=True)
    typer.echo(f"{file}: {summary}")
    if not summary.rows:
        raise typer.Exit(1)


@app.command()
def export(
    *,
    dataset: Annotated[Path, typer.Argument(help="dataset folder of a build; hivau: or described spans")],
    format_: Annotated[
        str | None,
        typer.Option(
            "--format", help="llava, sharegpt, llamafactory, swift, messages, webdataset, hivau, or package:name"
        ),
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="file or folder to write")],
    without_footage: Annotated[
        bool,
        typer.Option("--without-footage", help="all but the pictures, for holmes attach"),
    ] = False,
) -> None:
    """Write a dataset in another training format, or without its footage."""
    from pipeline.dataset.formats import export_format

    if format_ == "hivau" and dataset.is_file():
        from annotation.formats.hivau_file import convert_to_hivau

        typer.echo(f"{out}: {convert_to_hivau(dataset, out)} videos")
        return
    _existing(dataset)
    if without_footage == (format_ is not None):
        raise SetupError("export: one of --format and --without-footage is needed")
    if format_ is None:
        publish(dataset, out)
        return
    typer.echo(f"{out}: {export_format(dataset, format_, out)} rows")


@train_app.command("sampler")
def train_sampler(config: ConfigOption = None, workspace: WorkspaceOption = None, set_: SetOption = None) -> None:
    """Train the temporal sampler on the clicks. An interrupted run resumes at its last validation."""
    from flows.console import shown_progress
    from flows.plan import train

    settings = _load(config, workspace, set_)
    with shown_progress() as show:
        folder, validation = train(settings, show)
    columns = f"{'head':<12}{'supervision':<13}{'pooling':<11}"
    typer.echo(f"{columns}{'context':<9}{'glance AUC':>10}{'step':>7}{'smoothing':>11}  used")
    for tried in validation["tried"]:
        typer.echo(
            # Samplers trained before there were other heads name none.
            f"{tried.get('head', 'network'):<12}{tried['supervision']:<13}{tried['pooling']:<11}{tried['context']:<9}"
            f"{tried['glance_auc']:>10.4f}"
            f"{tried['step']:>7}{tried['smoothing_s']:>9.1f} s  {'yes' if tried['used'] else 'no'}"
        )
    typer.echo(f"sampler  {folder}")


@eval_app.command("detector")
def eval_detector(
    *,
    workspace: Annotated[str, typer.Option("--workspace", help="workspace with scores")],
    ground_truth: Annotated[
        Path | None,
        typer.Option(
            "--ground-truth",
            help="file of events in any format that `import` reads, or folder of frame masks; default: those of the "
            "published datasets in the workspace, each for its own videos",
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="folder for curves and score plots")] = None,
    split: Annotated[
        str | None, typer.Option("--split", help="split to evaluate, or all; default: test if any video is in it")
    ] = None,
    theta: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="smoothed score at which a span starts; default: the sampler's own, else 0.8"),
    ] = None,
    published: PublishedRows = Published.AUTO,
) -> None:
    """Measure anomaly scores and event proposals: AUC, AP, false alarms, tIoU."""
    import json

    from flows.commands.evaluate import metrics_table
    from flows.commands.published_tables import beside_detector, table_lines, tables_as_json
    from flows.commands.truth_files import evaluate_all, truths_of
    from pipeline.workspace import Workspace

    _existing(Path(workspace))
    space = Workspace(workspace)
    truths = truths_of(space, ground_truth)
    objects: dict[str, Any] = {}
    for truth, found in evaluate_all(space, truths, split=split, theta=theta):
        name = truth.dataset or truth.path.name
        if out is not None:
            found.write(out / name if len(truths) > 1 else out)
        metrics = found.evaluation.metrics
        beside = beside_detector(published, metrics, [video.video_id for video in found.evaluation.videos])
        objects[name] = {**found.as_json(), "published": tables_as_json(beside)}
        if not as_json:
            above = [] if truth.dataset is None else [f"{name}, by {truth.path}"]
            below = [line for one in beside.values() for line in table_lines(*one)]
            for line in (*above, *metrics_table(metrics, found.basis), *below):
                typer.echo(line)
    if as_json:
        typer.echo(json.dumps(objects if len(truths) > 1 else objects.popitem()[1], ensure_ascii=False))


@app.command("config")
def config_() -> None:
    """Print every setting with its default and its meaning, as a config file."""
    from pipeline.config import describe_config

    for line in describe_config():
        typer.echo(line)


@app.command()
def doctor(
    config: ConfigOption = None,
    set_: SetOption = None,
    probe: Annotated[bool, typer.Option(help="caption a few clips of noise, to tell how long a build takes")] = True,
) -> None:
    """Show what is installed and reachable, what a config needs, and how fast its captioner is."""
    from flows.doctor import examine

    settings = _load(config, None, set_) if config or set_ else None
    healthy = True
    for check in examine(settings, probes=probe):
        typer.echo(f"{'ok ' if check.ok else 'BAD'} {check.name:<25} {check.detail}")
        healthy = healthy and (check.ok or not check.required)
    if not healthy:
        raise typer.Exit(2)


def main() -> None:
    """Run the command; turn failures into one message and an exit code."""
    try:
        with _failures_explained():
            app()
    except KeyboardInterrupt:
        _end_interrupted()


def _end_interrupted() -> NoReturn:
    typer.echo("holmes: interrupted; what was finished is kept", err=True)
    sys.exit(130)


@contextmanager
def _failures_explained() -> Iterator[None]:
    try:
        yield
    except HolmesError as fault:
        _fail(fault, str(fault), fault.exit_code)
    except MemoryError as fault:
        _fail(fault, "out of memory; fewer workers (video.workers) need less", SetupError.exit_code)
    except OSError as fault:
        from pipeline.storage import describe_os_error

        name = f"{fault.filename}: " if fault.filename else ""
        _fail(fault, f"{name}{describe_os_error(fault)}", SetupError.exit_code)
    except Exception as fault:  # noqa: BLE001 - the last resort: a defect of ours, told in one line
        _fail(fault, f"defect: {type(fault).__name__}: {fault}; --debug shows where", SetupError.exit_code)


def _fail(fault: BaseException, message: str, exit_code: int) -> NoReturn:
    if _debug:
        logging.getLogger(__name__).error("failed", exc_info=fault)
    typer.echo(f"holmes: {message}", err=True)
    sys.exit(exit_code)


def _load(config: Path | None, workspace: str | None, overrides: list[str] | None) -> BuildConfig:
    from pipeline.config import load_config

    return load_config(config, overrides or [], workspace)


def _existing(path: Path) -> None:
    if "://" not in str(path) and not path.is_dir():
        raise SetupError(f"{path}: no such folder")


def _print_summary(summary: BuildSummary) -> None:
    _print_stages(summary.stages, summary.workspace)
    typer.echo(f"dataset  {summary.dataset}")
    typer.echo(f"report   {summary.report}")


def _print_stages(stages: Sequence[StageReport], workspace: str) -> None:
    from flows.left_out import left_out

    typer.echo(f"{'stage':<11}{'made':>8}{'kept':>8}{'rows':>8}{'rejected':>10}{'seconds':>9}")
    for stage in stages:
        rejected = sum(stage.rejected.values())
        typer.echo(f"{stage.stage:<11}{stage.made:>8}{stage.kept:>8}{stage.rows:>8}{rejected:>10}{stage.seconds:>9.1f}")
    for stage in stages:
        if stage.spent is not None:
            typer.echo(f"{stage.stage:<11}{stage.spent}")
    for sentence in left_out(stages, workspace):
        typer.echo(sentence)


if __name__ == "__main__":
    main()
