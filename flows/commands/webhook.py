"""`holmes labelstudio webhook`: look when Label Studio says that something changed, and every so often anyway."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.label_studio import ProjectOption
from flows.commands.review import WorkspaceArgument

if TYPE_CHECKING:
    from annotation.label_studio.client import StudioClient
    from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)


def webhook(
    *,
    workspace: WorkspaceArgument,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 accepts other machines")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="port to listen on; 0 takes a free one")] = 9090,
    project: ProjectOption = None,
    deployment: Annotated[
        str | None,
        typer.Option(
            "--deployment",
            metavar="FLOW/NAME",
            help="instead of pulling: start this Prefect deployment, or wake its runs that wait for reviews",
        ),
    ] = None,
    register: Annotated[
        str | None,
        typer.Option("--register", metavar="URL", help="have the project call this address, which must lead here"),
    ] = None,
    poll_every_s: Annotated[
        float, typer.Option("--poll-every", min=1, metavar="SECONDS", help="pull after this long without a call")
    ] = 600.0,
    quiet_s: Annotated[
        float, typer.Option("--quiet", min=0, metavar="SECONDS", help="pull once no call has come for this long")
    ] = 2.0,
    max_delay_s: Annotated[
        float, typer.Option("--max-delay", min=0, metavar="SECONDS", help="but no later than this after the first call")
    ] = 30.0,
) -> None:
    """Receive Label Studio's webhooks and pull after each burst; calls must carry HOLMES_WEBHOOK_SECRET."""
    from annotation.label_studio.client import StudioClient
    from annotation.label_studio.hints import Hints, Lookout
    from annotation.label_studio.pull import noted_projects
    from annotation.label_studio.subscription import subscribe
    from annotation.label_studio.webhook import SECRET_VARIABLE, receiving, webhook_secret
    from flows.console import require_folder, wait_for_the_end
    from pipeline.workspace import Workspace

    require_folder(workspace)
    secret = webhook_secret()
    hints = Hints(quiet_s=quiet_s, max_delay_s=max_delay_s, poll_every_s=poll_every_s)
    if deployment:
        from flows.awaiting import check_deployment

        check_deployment(deployment)
        look = partial(_hint, deployment, workspace, project)
    else:
        look = partial(_pull, Workspace(workspace), StudioClient(), project)
    lookout = Lookout(hints, look)
    with receiving(host, port, secret, lookout.hint) as address:
        typer.echo(f"webhook  {address}")
        if register:
            client = StudioClient()
            noted = (project,) if project is not None else noted_projects(Workspace(workspace), client)
            for number in filter(None, noted):
                done = subscribe(client, number, register, secret)
                typer.echo(f"project {number} of {client.url} calls {register}: {done}")
        if host not in {"127.0.0.1", "localhost", "::1"}:
            typer.echo(f"everyone who knows the secret in {SECRET_VARIABLE} can cause a look", err=True)
        with lookout.looking():
            wait_for_the_end()
    typer.echo("stopped", err=True)


def _pull(workspace: Workspace, client: StudioClient, project: int | None) -> None:
    from annotation.label_studio.pull import pull_all

    for pulled in pull_all(workspace, client, project_id=project):
        for remark in pulled.remarks:
            logger.warning("%s", remark)
        logger.info("%s", pulled)


def _hint(deployment: str, workspace: str, project: int | None) -> None:
    from flows.awaiting import hint_deployment

    # a worker may run elsewhere than here
    where = workspace if "://" in workspace else str(Path(workspace).resolve())
    logger.info("%s", hint_deployment(deployment, where, project))
