"""`holmes train tiny`: the bundled video model, made again from nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train_tiny(
    out: Annotated[Path, typer.Argument(help="folder to write; empty, or left by an interrupted run")],
    *,
    videos: Annotated[
        int | None, typer.Option(min=2, help="videos to learn from; else as many as the recipe's")
    ] = None,
    vision_steps: Annotated[int | None, typer.Option(min=1, help="training steps of the vision tower")] = None,
    language_steps: Annotated[
        int | None, typer.Option(min=1, help="training steps of projector and language model")
    ] = None,
    seed: Annotated[int, typer.Option(help="seed of weights and batches; the scenes never change")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")] = "auto",
    threads: Annotated[int, typer.Option(min=0, help="torch threads; 0: one per core")] = 0,
) -> None:
    """Train holmes-tiny, the bundled video model, from generated scenes alone; after a break it goes on."""
    from flows.console import shown_progress
    from pipeline.tiny.recipe import Recipe, make_tiny

    sizes = {"videos": videos, "vision_steps": vision_steps, "language_steps": language_steps}
    recipe = Recipe(**{name: size for name, size in sizes.items() if size is not None}, seed=seed)
    with shown_progress() as show:
        model = make_tiny(out, recipe, threads=threads, device=device, on_progress=show)
    typer.echo(
        f"{out}: {model.parameters:,} parameters; loss {model.vision_loss:.3f} (vision), {model.language_loss:.3f}"
    )
