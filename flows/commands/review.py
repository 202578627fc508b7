"""`holmes review`: pairs leave as review items, and come back as decisions about them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

review_app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Have people check the answers of a build.")

WorkspaceArgument = Annotated[str, typer.Argument(metavar="WORKSPACE", help="workspace of a build")]
SampleOption = Annotated[
    float, typer.Option("--sample", metavar="PERCENT", help="share of the pairs to draw, in percent")
]
SeedOption = Annotated[int, typer.Option(help="the same seed draws the same pairs")]
UndecidedOption = Annotated[bool, typer.Option("--only-undecided", help="leave out pairs that people have decided")]
AllOption = Annotated[bool, typer.Option("--all", help="also pairs that the rules dropped")]


@review_app.command("export")
def export_(
    *,
    workspace: WorkspaceArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help=".csv, .jsonl or .parquet file to write")],
    sample: SampleOption = 100.0,
    seed: SeedOption = 0,
    only_undecided: UndecidedOption = False,
    all_: AllOption = False,
) -> None:
    """Write pairs for review: fill in decision (accept, edit, reject) and, for edits, edited_answer."""
    from flows.console import require_folder
    from pipeline.review.items import Selection, export_items
    from pipeline.workspace import Workspace

    require_folder(workspace)
    selection = Selection(unchecked=all_, only_undecided=only_undecided, sample_percent=sample, seed=seed)
    typer.echo(f"{out}: {export_items(Workspace(workspace), selection, out)} pairs to review")


@review_app.command("import")
def import_(
    workspace: WorkspaceArgument,
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="review files, or exports of Label Studio")],
    as_json: Annotated[bool, typer.Option("--json", help="print the reviewers' figures as one JSON object")] = False,
) -> None:
    """Keep the decisions of reviewed files for the next build; list wrong rows and exit with 1."""
    from annotation.label_studio.review_pull import import_review_files
    from flows.console import require_folder
    from pipeline.workspace import Workspace

    require_folder(workspace)
    done = import_review_files(Workspace(workspace), files)
    for remark in done.remarks:
        typer.echo(remark, err=True)
    typer.echo(json.dumps(done.figures(), ensure_ascii=False) if as_json else str(done))
    if done.imported.faults:
        raise typer.Exit(1)
