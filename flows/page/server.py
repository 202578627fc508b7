"""The page on a port of this machine, and everything that it leaves behind removed at its end."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from flows.page.gallery import list_offered
from flows.page.intake import MIB, Intake, Limits
from flows.page.visits import Visits
from pipeline.errors import SetupError

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

    from flows.page.working import Worker
    from pipeline.infer.detector import Detector

_STYLE = Path(__file__).with_name("page.css")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings:
    """How the page is served.

    Attributes:
        host: address of this machine that is listened at; 127.0.0.1 is reached from this machine only.
        videos: folder whose videos are offered.
        queue_size: how many requests may wait for the model.
        model, sampler: names shown on the page; empty where there is none.
    """

    host: str = "127.0.0.1"
    port: int = 7860
    videos: Path | None = None
    limits: Limits = field(default_factory=Limits)
    queue_size: int = 16
    model: str = ""
    sampler: str = ""


def require_gradio() -> None:
    """Import Gradio without the messages that it sends home.

    Raises:
        SetupError: it is not installed.
    """
    # Read when Gradio is imported and when a page starts.
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
    try:
        import gradio  # noqa: F401
    except ImportError as fault:
        raise SetupError(f"the page needs Gradio ({fault}): pip install 'holmes-engine[serve]'") from None


@contextmanager
def served(
    detector: Detector, settings: ServeSettings, worker: Worker | None = None, api: ASGIApp | None = None
) -> Iterator[str]:
    """Serve the page in the background and yield its address; at the end all uploads are removed.

    Args:
        detector: what the page works with.
        settings: how it is served.
        worker: who else works with the detector goes by the same one.
        api: what answers below /v1, beside the page.

    Raises:
        SetupError: Gradio is not installed, the port is taken, or the folder of videos is not there.
    """
    require_gradio()
    from starlette.middleware import Middleware

    from flows.page.confinement import OwnFilesOnly
    from flows.page.layout import PageText, build_page

    folder_of_videos, max_minutes = settings.videos, settings.limits.max_minutes
    offered = [] if folder_of_videos is None else list_offered(folder_of_videos, max_minutes=max_minutes)
    with tempfile.TemporaryDirectory(prefix="holmes-page-", ignore_cleanup_errors=True) as folder, _uploads_in(folder):
        visits = Visits(detector, Intake(Path(folder), settings.limits), offered, worker)
        text = PageText(
            model=settings.model, sampler=settings.sampler, limits=settings.limits, can_talk=detector.explains
        )
        page = build_page(visits, offered, text).queue(max_size=settings.queue_size)
        try:
            _, address, _ = page.launch(
                server_name=settings.host,
                server_port=settings.port,
                allowed_paths=[str(video.path) for video in offered],
                max_file_size=settings.limits.max_mb * MIB,
                app_kwargs={"middleware": [Middleware(_Beside, api=api), Middleware(OwnFilesOnly)]},
                theme=_theme(),
                css_paths=_STYLE,
                prevent_thread_lock=True,
                quiet=True,
                share=False,
                ssr_mode=False,
                pwa=False,
                mcp_server=False,
                enable_monitoring=False,
                run_history=False,
                footer_links=[],
            )
        except OSError as fault:
            raise SetupError(
                f"{settings.host}:{settings.port} cannot be listened at, maybe something else does; "
                f"choose another --port ({fault})"
            ) from None
        try:
            yield address
        finally:
            page.close(verbose=False)


class _Beside:
    """ASGI middleware that has the API answer what lies below its path, and the page everything else."""

    def __init__(self, app: ASGIApp, api: ASGIApp | None) -> None:
        self._page = app
        self._api = api

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_call = self._api is not None and scope["type"] == "http" and scope["path"].startswith("/v1/")
        await (self._api if self._api is not None and is_call else self._page)(scope, receive, send)


@contextmanager
def _uploads_in(folder: str) -> Iterator[None]:
    before = os.environ.get("GRADIO_TEMP_DIR")
    os.environ["GRADIO_TEMP_DIR"] = folder
    try:
        yield
    finally:
        if before is None:
            del os.environ["GRADIO_TEMP_DIR"]
        else:
            os.environ["GRADIO_TEMP_DIR"] = before


def _theme() -> object:
    import gradio as gr

    # Fonts of the reader's own machine: the page loads nothing from elsewhere.
    return gr.themes.Base(
        font=["system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "Arial", "sans-serif"],
        font_mono=["ui-monospace", "Menlo", "Consolas", "monospace"],
    )
