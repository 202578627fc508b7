"""`holmes eval captions`: what captions claim, against human sentences or facts, claim by claim."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import SetupError


def eval_captions(
    *,
    workspace: Annotated[str | None, typer.Option("--workspace", help="workspace with captions of its clips")] = None,
    captions: Annotated[
        Path | None,
        typer.Option("--captions", help="instead: CSV of video_id,start_s,end_s,caption, or any file of sentences"),
    ] = None,
    reference: Annotated[
        list[Path] | None,
        typer.Option("--reference", help="what is known: sentences of people or facts about spans of the videos"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object instead of a table")] = False,
    out: Annotated[Path | None, typer.Option("--out", help="folder for metrics.json and captions.csv")] = None,
) -> None:
    """Measure captions: the events, places, light, people, numbers and colours that they claim, true or not."""
    if (workspace is None) == (captions is None):
        raise SetupError("name the captions to measure: either --workspace W or --captions FILE")
    if captions is not None and not reference:
        raise SetupError("--captions needs --reference FILE, what is known of the videos")
    if workspace is not None and "://" not in workspace and not Path(workspace).is_dir():
        raise SetupError(f"{workspace}: no such folder")

    from flows.commands.caption_evaluation import CaptionReport, caption_table, captions_of_file, captions_of_workspace

    files = reference or []
    if workspace is not None:
        report = CaptionReport.of(*captions_of_workspace(workspace, files), captions=workspace, reference=files)
    elif captions is not None:
        report = CaptionReport.of(*captions_of_file(captions, files), captions=str(captions), reference=files)
    if out is not None:
        report.write(out)
    found = report.as_json()
    typer.echo(json.dumps(found, ensure_ascii=False) if as_json else "\n".join(caption_table(found)))
