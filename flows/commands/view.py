"""`holmes view`: the pairs of a build in a browser."""

from __future__ import annotations

import getpass
from typing import Annotated

import typer


def view(
    *,
    workspace: Annotated[str, typer.Argument(metavar="WORKSPACE", help="workspace of a build")],
    port: Annotated[int, typer.Option(min=1, max=65535, help="port of this machine to listen on")] = 7861,
    reviewer: Annotated[str | None, typer.Option(help="your name in the reviews; default: your account's")] = None,
) -> None:
    """Show the pairs of a build beside their clips in a browser; a accepts, r rejects. The next build heeds it."""
    import uvicorn

    from flows.console import require_folder
    from flows.view.items import ViewedPairs
    from flows.view.server import make_app
    from pipeline.workspace import Workspace

    require_folder(workspace)
    app = make_app(ViewedPairs(Workspace(workspace), reviewer or getpass.getuser()), ["127.0.0.1", "localhost"])
    typer.echo(f"page  http://127.0.0.1:{port}/")
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning")
