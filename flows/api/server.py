"""The API on a port of this machine, beside the page or by itself."""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from flows.api.jobs import Jobs
from pipeline.errors import SetupError

if TYPE_CHECKING:
    import uvicorn
    from starlette.types import ASGIApp

    from flows.api.settings import ApiSettings
    from flows.page.working import Worker
    from pipeline.infer.detector import Detector

_START_S = 30.0


@contextmanager
def working_api(detector: Detector, worker: Worker, settings: ApiSettings) -> Iterator[ASGIApp]:
    """Work on jobs while inside and yield the API, not yet served; at the end all files of jobs are removed.

    Raises:
        SetupError: FastAPI is not installed.
    """
    try:
        import python_multipart  # noqa: F401

        from flows.api.app import make_api
    except ImportError as fault:
        raise SetupError(f"the API needs FastAPI ({fault}): pip install 'holmes-engine[api]'") from None
    with tempfile.TemporaryDirectory(prefix="holmes-api-", ignore_cleanup_errors=True) as folder:
        jobs = Jobs(detector, worker, Path(folder), settings)
        with jobs.working():
            yield make_api(jobs)


@contextmanager
def listening(app: ASGIApp, host: str, port: int) -> Iterator[str]:
    """Serve an application in the background and yield its address.

    Raises:
        SetupError: nobody can listen there.
    """
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host=host, port=port, log_level="warning"))
    thread = threading.Thread(target=_run, args=(server,), name="api", daemon=True)
    thread.start()
    started_by = time.monotonic() + _START_S
    while not server.started:
        if not thread.is_alive() or time.monotonic() > started_by:
            raise SetupError(f"{host}:{port} cannot be listened at, maybe something else does; choose another --port")
        time.sleep(0.02)
    try:
        yield f"http://{f'[{host}]' if ':' in host else host}:{port}/"
    finally:
        server.should_exit = True
        thread.join(_START_S)


def _run(server: uvicorn.Server) -> None:
    try:
        server.run()
    except SystemExit:
        return  # how it says, after the log has the reason, that it could not start
