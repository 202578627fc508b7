"""`holmes labelstudio`: projects on a Label Studio server, and what people did there."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from pipeline.errors import SetupError

studio_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Have people click in Label Studio; LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY name the server and the token.",
)

WorkspaceArgument = Annotated[str, typer.Argument(metavar="WORKSPACE", help="workspace of a build")]
ProjectOption = Annotated[
    int | None, typer.Option("--project", help="number of a project; by default the one made for this workspace")
]


@studio_app.command("init-glance")
def init_glance(
    *,
    workspace: WorkspaceArgument,
    document_root: Annotated[
        Path | None,
        typer.Option(
            "--document-root",
            envvar="LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT",
            help="folder of local files that the server serves; the videos lie in folders below it",
        ),
    ] = None,
    url_prefix: Annotated[
        str | None, typer.Option("--url-prefix", help="address of --video-root: https://... or s3://bucket/folder")
    ] = None,
    video_root: Annotated[
        Path | None, typer.Option("--video-root", help="folder of videos that --url-prefix stands for")
    ] = None,
    project: ProjectOption = None,
    title: Annotated[str | None, typer.Option(help="title of a new project")] = None,
    taxonomy: Annotated[
        str, typer.Option(help="classes to offer: auto, or the name of a file in datasets/taxonomies")
    ] = "auto",
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="YAML file of settings: ingest its videos first")
    ] = None,
) -> None:
    """Make a project for clicks from the videos of a workspace; run again, it adds only new videos."""
    from annotation.studio_client import StudioClient
    from annotation.studio_project import Serving, init_glances
    from flows.console import shown_progress
    from pipeline.workspace import Workspace

    client = StudioClient()
    # a root given by the environment yields to an address given by hand
    serving = Serving(document_root=None if url_prefix else document_root, url_prefix=url_prefix, video_root=video_root)
    with shown_progress() as show:
        if config is not None:
            from flows.plan import run_step
            from pipeline.config import load_config

            settings = load_config(config, [], workspace)
            opened = Workspace(workspace)
            with opened.locked():
                run_step("ingest", opened, settings, show)
        else:
            _existing(workspace)
            opened, settings = Workspace(workspace), None
        summary = init_glances(
            opened,
            client,
            serving,
            project_id=project,
            title=title,
            taxonomy=taxonomy,
            reading=settings.video if settings else None,
            on_progress=lambda done, total: show("tasks", done, total),
        )
    for video_id, fault in summary.skipped:
        typer.echo(f"{video_id}: {fault}", err=True)
    typer.echo(str(summary))


@studio_app.command("pull")
def pull(
    *,
    workspace: WorkspaceArgument,
    project: ProjectOption = None,
    form: Annotated[
        str, typer.Option("--form", help="JSON, the full form; or JSON_MIN, CSV or TSV as the server writes them")
    ] = "JSON",
    tolerance_s: Annotated[
        float, typer.Option("--tolerance", min=0, metavar="SECONDS", help="clicks this close mean one event")
    ] = 1.0,
) -> None:
    """Fetch what people clicked into WORKSPACE/labelstudio, for the setting `glances`; tell how far they agree."""
    from annotation.studio_client import StudioClient
    from annotation.studio_pull import pull_form, pull_glances
    from flows.console import shown_progress
    from pipeline.workspace import Workspace

    _existing(workspace)
    client = StudioClient()
    if form != "JSON":
        typer.echo(pull_form(Workspace(workspace), client, form, project_id=project))
        return
    with shown_progress() as show:
        summary = pull_glances(
            Workspace(workspace),
            client,
            project_id=project,
            tolerance_s=tolerance_s,
            on_progress=lambda done, total: show("pull", done, total),
        )
    for fault in summary.faults:
        typer.echo(str(fault), err=True)
    typer.echo(str(summary))


def _existing(workspace: str) -> None:
    if "://" not in workspace and not Path(workspace).is_dir():
        raise SetupError(f"{workspace}: no such folder")
