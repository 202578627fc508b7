"""`holmes push`: a dataset, an adapter or a sampler to the Hugging Face Hub."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def push(
    *,
    folder: Annotated[Path, typer.Argument(help="dataset or workspace, adapter, or sampler")],
    repo: Annotated[str, typer.Argument(metavar="REPO", help="OWNER/NAME on the hub; made where there is none")],
    public: Annotated[bool, typer.Option("--public", help="make a new repository public; default: private")] = False,
    revision: Annotated[str | None, typer.Option(help="branch to write to; default: main")] = None,
    message: Annotated[str, typer.Option(help="commit message")] = "Upload with holmes push",
) -> None:
    """Upload a folder with its card to the Hugging Face Hub. Run again, it goes on where it was interrupted."""
    from flows.hub import push_folder

    kind, url = push_folder(folder, repo, private=not public, revision=revision, message=message)
    typer.echo(f"{kind}  {url}")
