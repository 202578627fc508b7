"""A real Label Studio server of its own for a test run: SQLite, loopback, a fresh folder."""

from __future__ import annotations

import os
import secrets
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

COMMAND = Path(
    os.environ.get(
        "LABEL_STUDIO_COMMAND", Path(__file__).resolve().parents[2] / ".venv-label-studio" / "bin" / "label-studio"
    )
)
"""The server's own environment, as `make label-studio` sets it up."""

START_S = 600
"""First start with all migrations on a busy machine."""


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A running server and its only user."""

    url: str
    token: str
    user: str
    password: str
    files: Path


@contextmanager
def running_studio(folder: Path) -> Iterator[Studio]:
    """Start a server below `folder`, which serves `folder`/files, and stop it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    files = folder / "files"
    files.mkdir(parents=True)
    studio = Studio(
        url=f"http://127.0.0.1:{port}",
        token=secrets.token_hex(20),
        user="annotator@example.org",
        password=secrets.token_hex(8),
        files=files,
    )
    environment = os.environ | {
        "LABEL_STUDIO_BASE_DATA_DIR": str(folder / "data"),
        "LABEL_STUDIO_USERNAME": studio.user,
        "LABEL_STUDIO_PASSWORD": studio.password,
        "LABEL_STUDIO_USER_TOKEN": studio.token,
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(files),
        "COLLECT_ANALYTICS": "false",
        "LATEST_VERSION_CHECK": "false",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    command = [str(COMMAND), "start", "--no-browser", "--internal-host", "127.0.0.1", "--port", str(port)]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        try:
            _wait(studio.url, process, folder / "server.log")
            yield studio
        finally:
            process.terminate()
            process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(f"{url}/health", timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            time.sleep(1)
    raise RuntimeError(f"Label Studio does not start: {log.read_text()[-2000:]}")
