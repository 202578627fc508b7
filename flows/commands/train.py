"""`holmes train lora` and `holmes merge`: an adapter is trained, and becomes a model of its own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.model_options import AllowPickle, Device, Dtype, ModelBase, TrustRemoteCode

ConfigOption = Annotated[Path | None, typer.Option("-c", "--config", help="YAML file of settings")]
WorkspaceOption = Annotated[
    str | None, typer.Option("--workspace", help="folder with the dataset; overrides the config")
]
SetOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="override one setting")]


def train_lora(config: ConfigOption = None, workspace: WorkspaceOption = None, set_: SetOption = None) -> None:
    """Train a video MLLM on the dataset. An interrupted run resumes at its newest checkpoint.

    Only lora, video and workspace of the config are used. On several GPUs: accelerate launch -m flows.cli train lora
    """
    from flows.console import shown_progress
    from pipeline.config import load_config
    from pipeline.train.lora import train_lora as train
    from pipeline.workspace import Workspace

    settings = load_config(config, set_ or [], workspace, needs_videos=False)
    with shown_progress() as show:
        trained = train(Workspace(settings.workspace), settings.lora, settings.video, show)
    if not trained.is_main:
        return
    for name, value in trained.metrics.items():
        typer.echo(f"{name.partition('/')[2].replace('_', ' '):<20}{value:>8.4f}")
    typer.echo(f"adapter  {trained.folder}{'' if trained.steps else '  (up to date)'}")


def merge(
    *,
    adapter: Annotated[Path, typer.Argument(help="adapter folder made by train lora")],
    out: Annotated[Path, typer.Option("-o", "--out", help="folder to write")],
    model_base: ModelBase = None,
    check: Annotated[
        bool, typer.Option("--check", help="then compare answers of adapter and merged model; exit 1 where they differ")
    ] = False,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Merge base and adapter into one model that transformers loads alone."""
    from pipeline.models.hf.merge import merge_adapter

    merged = merge_adapter(
        str(adapter), model_base, out, dtype=dtype, trust_remote_code=trust_remote_code, allow_pickle=allow_pickle
    )
    typer.echo(f"model  {merged}")
    if not check:
        return
    from pipeline.errors import DataError
    from pipeline.models.hf.merge_check import MOST_DIFFERENCE, compare_merged
    from pipeline.models.hf.model import find_source

    source = find_source(
        str(adapter), model_base, setting="ADAPTER", dtype=dtype, trust_remote_code=trust_remote_code,
        allow_pickle=allow_pickle,
    )  # fmt: skip
    compared = compare_merged(source, merged, device=device)
    typer.echo(f"check  {compared}")
    if not compared.is_alike:
        raise DataError(f"{merged}: it judges otherwise than {adapter}: {compared} (at most {MOST_DIFFERENCE:g})")
