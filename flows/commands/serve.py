"""`holmes serve`: the web page, and the REST API."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.commands.model_options import AllowPickle, Device, Dtype, ModelBase, Theta, TrustRemoteCode
from pipeline.errors import SetupError

if TYPE_CHECKING:
    from flows.api.settings import ApiSettings
    from flows.page.server import ServeSettings
    from pipeline.infer.detector import Detector


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
    api: Annotated[bool, typer.Option("--api", help="answer programs below /v1 too: a REST API")] = False,
    page: Annotated[bool, typer.Option("--page/--no-page", help="whether the page is served")] = True,
    api_jobs: Annotated[int, typer.Option("--api-jobs", min=1, help="jobs of the API worked on at a time")] = 2,
    keep_minutes: Annotated[
        float, typer.Option("--keep-minutes", min=0.1, help="minutes for which finished jobs of the API are kept")
    ] = 60.0,
    allow_private_urls: Annotated[
        bool, typer.Option("--allow-private-urls", help="let the API fetch videos from private networks")
    ] = False,
    theta: Theta = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    trust_remote_code: TrustRemoteCode = False,
    allow_pickle: AllowPickle = False,
) -> None:
    """Serve a web page, and a REST API with --api, that find anomalies in videos and explain them."""
    from flows.api.settings import LOOPBACK_HOSTS, ApiSettings, api_token
    from flows.console import wait_for_the_end
    from flows.page.intake import Limits
    from flows.page.server import ServeSettings, require_gradio

    if not (page or api):
        raise SetupError("--no-page without --api: nothing is left to serve")
    if page:
        require_gradio()
    from pipeline.infer.detector import Detector
    from pipeline.infer.settings import DetectSettings

    limits = Limits(max_mb=max_mb, max_minutes=max_minutes)
    of_page = ServeSettings(
        host=host, port=port, videos=videos, limits=limits, queue_size=queue_size,
        model=_name(model_path), sampler=_name(sampler),
    )  # fmt: skip
    of_api = None
    if api:
        of_api = ApiSettings(
            limits=limits, queue_size=queue_size, concurrent_jobs=api_jobs, keep_s=keep_minutes * 60,
            allow_private=allow_private_urls, token=api_token(host),
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
    with _serving(detector, of_page if page else None, of_api, host, port) as address:
        if page:
            typer.echo(f"page  {address}")
            if host not in LOOPBACK_HOSTS:
                typer.echo("everyone who reaches this machine can use the page: it asks for no password", err=True)
        if api:
            typer.echo(f"api   {address}v1/")
        wait_for_the_end()
    typer.echo("stopped; uploaded videos are removed", err=True)


@contextmanager
def _serving(
    detector: Detector, page: ServeSettings | None, api: ApiSettings | None, host: str, port: int
) -> Iterator[str]:
    """Serve the page, the API or both, one model between them, and yield the address."""
    from flows.api.server import listening, working_api
    from flows.page.server import served
    from flows.page.working import Worker

    worker = Worker()
    with ExitStack() as stack:
        app = None if api is None else stack.enter_context(working_api(detector, worker, api))
        if page is not None:
            yield stack.enter_context(served(detector, page, worker, app))
        elif app is not None:
            yield stack.enter_context(listening(app, host, port))


def _name(model: str | None) -> str:
    """Return enough of a name or path to know it by."""
    return "" if model is None else "/".join(Path(model).parts[-2:])
