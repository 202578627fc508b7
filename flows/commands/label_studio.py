"""`holmes labelstudio`: projects on a Label Studio server, and what people did there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.review import AllOption, SampleOption, SeedOption, UndecidedOption, WorkspaceArgument

if TYPE_CHECKING:
    from annotation.label_studio.serving import Serving

studio_app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help=(
        "Annotate and review in Label Studio. LABEL_STUDIO_URL and LABEL_STUDIO_API_KEY give the server and the token."
    ),
)

ProjectOption = Annotated[
    int | None, typer.Option("--project", help="project number; default: the one made for this workspace")
]
RootOption = Annotated[
    Path | None,
    typer.Option(
        "--document-root",
        envvar="LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT",
        help="folder of local files that the server serves; videos must lie in folders below it",
    ),
]
PrefixOption = Annotated[
    str | None, typer.Option("--url-prefix", help="address of --video-root: https://... or s3://bucket/folder")
]
VideoRootOption = Annotated[Path | None, typer.Option("--video-root", help="folder that --url-prefix corresponds to")]
TitleOption = Annotated[str | None, typer.Option(help="title of a new project")]


@studio_app.command("init-glance")
def init_glance(
    *,
    workspace: WorkspaceArgument,
    document_root: RootOption = None,
    url_prefix: PrefixOption = None,
    video_root: VideoRootOption = None,
    project: ProjectOption = None,
    title: TitleOption = None,
    taxonomy: Annotated[
        str, typer.Option(help="classes to offer: auto, or the name of a file in datasets/taxonomies")
    ] = "auto",
    config: Annotated[
        Path | None, typer.Option("-c", "--config", help="YAML file of settings: ingest its videos first")
    ] = None,
) -> None:
    """Make a project for clicks from the videos of a workspace. A second run adds only new videos."""
    from annotation.label_studio.click_project import init_glances
    from annotation.label_studio.client import StudioClient
    from flows.console import require_folder, shown_progress
    from pipeline.workspace import Workspace

    client = StudioClient()
    serving = _serving(document_root, url_prefix, video_root)
    with shown_progress() as show:
        if config is not None:
            from flows.plan import run_step
            from pipeline.config import load_config

            settings = load_config(config, [], workspace)
            opened = Workspace(workspace)
            with opened.locked():
                run_step("ingest", opened, settings, show)
        else:
            require_folder(workspace)
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


@studio_app.command("init-review")
def init_review(
    *,
    workspace: WorkspaceArgument,
    sample: SampleOption = 100.0,
    double: Annotated[
        float, typer.Option("--double", metavar="PERCENT", help="share of these that two people review, in percent")
    ] = 0.0,
    seed: SeedOption = 0,
    only_undecided: UndecidedOption = False,
    all_: AllOption = False,
    document_root: RootOption = None,
    url_prefix: PrefixOption = None,
    video_root: VideoRootOption = None,
    project: ProjectOption = None,
    title: TitleOption = None,
) -> None:
    """Make a project for reviews from the answers of a build. A second run adds only new answers."""
    from annotation.label_studio.client import StudioClient
    from annotation.label_studio.review_project import open_reviews
    from flows.console import require_folder, shown_progress
    from pipeline.review.items import Selection
    from pipeline.workspace import Workspace

    client = StudioClient()
    require_folder(workspace)
    with shown_progress() as show:
        opened = open_reviews(
            Workspace(workspace),
            client,
            _serving(document_root, url_prefix, video_root),
            selection=Selection(unchecked=all_, only_undecided=only_undecided, sample_percent=sample, seed=seed),
            double_percent=double,
            project_id=project,
            title=title,
            on_progress=lambda done, total: show("tasks", done, total),
        )
    for pair_id, fault in opened.skipped:
        typer.echo(f"{pair_id}: {fault}", err=True)
    typer.echo(str(opened))


@studio_app.command("pull")
def pull(
    *,
    workspace: WorkspaceArgument,
    project: ProjectOption = None,
    form: Annotated[
        str, typer.Option("--form", help="JSON, the complete form; clicks also as JSON_MIN, CSV or TSV")
    ] = "JSON",
    tolerance_s: Annotated[
        float, typer.Option("--tolerance", min=0, metavar="SECONDS", help="clicks this close count as one event")
    ] = 1.0,
    as_json: Annotated[bool, typer.Option("--json", help="print the figures as one JSON object")] = False,
) -> None:
    """Fetch clicks and reviews from the workspace's projects, or from the one named.

    Clicks go to WORKSPACE/labelstudio, for the setting `glances`. Decisions about answers are kept for the next build.
    """
    from annotation.label_studio.click_pull import pull_form
    from annotation.label_studio.client import StudioClient
    from annotation.label_studio.pull import pull_all
    from flows.console import require_folder, shown_progress
    from pipeline.workspace import Workspace

    require_folder(workspace)
    client = StudioClient()
    if form != "JSON":
        typer.echo(pull_form(Workspace(workspace), client, form, project_id=project))
        return
    with shown_progress() as show:
        pulled = pull_all(
            Workspace(workspace),
            client,
            project_id=project,
            tolerance_s=tolerance_s,
            on_progress=lambda done, total: show("pull", done, total),
        )
    for one in pulled:
        for remark in one.remarks:
            typer.echo(remark, err=True)
        if not as_json:
            typer.echo(str(one))
    if as_json:
        typer.echo(
            json.dumps({key: value for one in pulled for key, value in one.figures().items()}, ensure_ascii=False)
        )


def _serving(document_root: Path | None, url_prefix: str | None, video_root: Path | None) -> Serving:
    from annotation.label_studio.serving import Serving

    # a root given by the environment yields to an address given by hand
    return Serving(document_root=None if url_prefix else document_root, url_prefix=url_prefix, video_root=video_root)
