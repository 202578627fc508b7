"""`holmes attach`, and `holmes export --without-footage`: a dataset that may be handed on though its videos may not."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from pipeline.errors import SetupError

_NAMED = 20


def publish(dataset: Path, out: Path) -> None:
    """Write a dataset without its footage and say what it holds."""
    from flows.console import shown_progress
    from pipeline.config import VideoConfig
    from pipeline.dataset.publication import publish as write

    with shown_progress() as show:
        published = write(dataset, out, VideoConfig(), show)
    typer.echo(f"{out}: {published}")


def attach(
    dataset: Annotated[Path, typer.Argument(help="folder that export --without-footage wrote")],
    videos: Annotated[list[str], typer.Option("--videos", help="folder of your copies of the videos; may be repeated")],
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="folder to write; unset: the dataset's name and -attached")
    ] = None,
    match: Annotated[
        Literal["checksum", "content"],
        typer.Option("--match", help="content: take copies that differ where they show what the original does"),
    ] = "checksum",
) -> None:
    """Make a dataset without footage whole again from your own copies of its videos."""
    from flows.console import shown_progress
    from pipeline.config import VideoConfig
    from pipeline.stages.attach import attach as run

    if not dataset.is_dir():
        raise SetupError(f"{dataset}: no such folder")
    target = out or dataset.resolve().with_name(f"{dataset.resolve().name}-attached")
    with shown_progress() as show:
        found = run(dataset, videos, target, VideoConfig(), match=match, on_progress=show)
    for taken in found.by_content:
        typer.echo(f"by content: {taken}")
    for fault in found.left_out[:_NAMED]:
        typer.echo(f"left out: {fault.record_id}: {fault.reason}: {fault.detail}", err=True)
    more = len(found.left_out) - _NAMED
    if more > 0:
        typer.echo(f"left out: {more} more, all of them in {found.dataset / 'rejected.parquet'}", err=True)
    typer.echo(f"{found.dataset}: {found}")
