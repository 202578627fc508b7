"""`holmes labelstudio suggest`: a trained sampler clicks first, and people confirm, the least certain video first."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.label_studio import ProjectOption
from flows.commands.review import WorkspaceArgument
from pipeline.errors import SetupError

if TYPE_CHECKING:
    from pipeline.config import BuildConfig
    from pipeline.stages.run import Progress
    from pipeline.workspace import Workspace


def suggest(
    *,
    workspace: WorkspaceArgument,
    sampler: Annotated[
        Path | None, typer.Option("--sampler", help="folder of a trained sampler; default: WORKSPACE/models/sampler")
    ] = None,
    project: ProjectOption = None,
    config: Annotated[
        Path | None,
        typer.Option("-c", "--config", help="YAML file of settings; default: those of the workspace's latest build"),
    ] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override one setting")] = None,
    order: Annotated[
        bool, typer.Option("--order/--keep-order", help="make the project serve the least certain video first")
    ] = True,
    as_json: Annotated[
        bool, typer.Option("--json", help="print the open tasks, least certain first: one JSON object a line")
    ] = False,
) -> None:
    """Send the sampler's peaks to Label Studio for people to confirm. A second run with the same sampler adds nothing.

    Makes the features of videos that have none. A prediction counts only once a person submits it.
    """
    from annotation.label_studio.client import StudioClient
    from annotation.label_studio.suggest import suggest_glances
    from flows.console import require_folder, shown_progress
    from pipeline.stages.score import WorkspaceScorer
    from pipeline.workspace import Workspace

    require_folder(workspace)
    client = StudioClient()
    opened = Workspace(workspace)
    folder = sampler or opened.storage.local_path("models/sampler")
    settings = _settings(opened, folder, config, set_ or [])
    with shown_progress() as show:
        _make_features(opened, settings, show)
        summary = suggest_glances(
            opened,
            client,
            WorkspaceScorer(opened, folder, settings.sampler.device),
            proposal=settings.clips.proposal,
            min_s=settings.clips.min_s,
            project_id=project,
            set_order=order,
            reading=settings.video,
            on_progress=lambda done, total: show("suggest", done, total),
        )
    for video_id, fault in summary.skipped:
        typer.echo(f"{video_id}: {fault}", err=True)
    if as_json:
        for task in summary.open_tasks:
            typer.echo(json.dumps(asdict(task), ensure_ascii=False))
    typer.echo(str(summary), err=as_json)


def _settings(workspace: Workspace, sampler: Path, config: Path | None, overrides: list[str]) -> BuildConfig:
    """Return the settings of the features: as given, as the latest build had them, or as the sampler wants them."""
    from flows.plan import read_run_config
    from pipeline.config import apply_override, load_config, parse_config
    from pipeline.sampler.model_io import read_config

    if config is not None:
        return load_config(config, overrides, workspace.url, needs_videos=False)
    if workspace.read_json("run.json") is not None:
        return read_run_config(workspace, overrides)[0]
    trained = read_config(sampler)
    if trained is None:
        raise SetupError(f"{sampler}: no trained sampler there: holmes train sampler or holmes build makes one")
    values = {"features": {name: trained[name] for name in ("encoder", "stride_frames")}, "workspace": workspace.url}
    for override in overrides:
        apply_override(values, override)
    return parse_config(values, origin=str(sampler), needs_videos=False)


def _make_features(workspace: Workspace, settings: BuildConfig, show: Progress) -> None:
    """Make the features of videos that have none.

    Raises:
        SetupError: those that are there were made with other settings, and would have to be made again.
    """
    from flows.plan import run_step
    from pipeline.stages.features import FeaturesStage
    from pipeline.stages.run import pending_units

    stage = FeaturesStage(workspace, settings.features, settings.video)
    with workspace.locked():
        made, total = workspace.features.num_rows, workspace.videos.num_rows
        if pending_units(stage, workspace.features)[1] > total - made:
            said = f"{workspace.url}: the features of {made} video(s) were made with other settings"
            raise SetupError(f"{said}: name the file of those with -c")
        run_step("features", workspace, settings, show)
