"""`holmes serve`: the web page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.model_options import AllowPickle, Device, Dtype, ModelBase, Theta, TrustRemoteCode


def serve(
    *,
    model_path: Annotated[
        str | None, typer.Option("--model-path", help="video model or adapter: a folder, an id, or holmes-tiny")
    ] = None,
    model_base: ModelBase = None,
    sampler: Annotated[str | None, typer.Option("--sampler", help="folder of a trained sampler")] = None,
    host: Annotated[str, typer.Option(help="address to listen on; 0.0.0.0 accepts other machines")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="port to listen on")] = 7860,
    videos: Annotated[Path | None, typer.Option("--videos", help="folder of videos to choose from")] = None,
    max_mb: Annotated[int, typer.Option("--max-mb", min=1, help="largest video in MB")] = 500,
    max_minutes: Annotated[float, typer.Option("--max-minutes", min=0.01, help="longest video in minutes")] = 60.0,
    queue_size: Annotated[int, typer.Option("--queue-size", min=1, help="requests that may wait for the model")] = 16,
    theta: Theta = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Serve a web page that finds anomalies in videos, explains them and answers questions."""
    from flows.console import wait_for_the_end
    from flows.page.intake import Limits
    from flows.page.server import ServeSettings, require_gradio, served

    require_gradio()
    from pipeline.infer.detector import Detector
    from pipeline.infer.settings import DetectSettings

    settings = ServeSettings(
        host=host, port=port, videos=videos, limits=Limits(max_mb=max_mb, max_minutes=max_minutes),
        queue_size=queue_size, model=_name(model_path), sampler=_name(sampler),
    )  # fmt: skip
    detector = Detector(
        DetectSettings(
            sampler=sampler,
            model_path=model_path,
            model_base=model_base,
            theta=theta,
            device=device,
            dtype=dtype,
            trust_remote_code=trust_remote_code,
            allow_pickle=allow_pickle,
        )
    )
    with served(detector, settings) as address:
        typer.echo(f"page  {address}")
        if host not in {"127.0.0.1", "localhost", "::1"}:
            typer.echo("everyone who reaches this machine can use the page: it asks for no password", err=True)
        wait_for_the_end()
    typer.echo("stopped; uploaded videos are removed", err=True)


def _name(model: str | None) -> str:
    """Return enough of a name or path to know it by."""
    return "" if model is None else "/".join(Path(model).parts[-2:])
