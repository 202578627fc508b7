"""`holmes train tiny`: the bundled video model, made again from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_tiny(
    out: Annotated[Path, typer.Argument(help="folder to write; empty, or left by an interrupted run")],
    *,
    videos: Annotated[int, typer.Option(min=2, help="videos of the generated world to learn from")] = 2400,
    vision_steps: Annotated[int, typer.Option(min=1, help="training steps of the vision tower")] = 2400,
    language_steps: Annotated[int, typer.Option(min=1, help="training steps of projector and language model")] = 1500,
    seed: Annotated[int, typer.Option(help="seed of weights and batches; the scenes never change")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="torch threads; 0: one per core")] = 0,
) -> None:
    """Train holmes-tiny, the bundled video model, from generated scenes alone; after a break it goes on."""
    from flows.console import shown_progress
    from pipeline.tiny.recipe import Recipe, make_tiny

    recipe = Recipe(videos=videos, vision_steps=vision_steps, language_steps=language_steps, seed=seed)
    with shown_progress() as show:
        model = make_tiny(out, recipe, threads=threads, device=device, on_progress=show)
    typer.echo(
        f"{out}: {model.parameters:,} parameters; loss {model.vision_loss:.3f} (vision), {model.language_loss:.3f}"
    )
