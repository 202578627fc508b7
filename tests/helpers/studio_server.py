"""A real Label Studio server of its own for a test run: SQLite, loopback, a fresh folder."""

from __future__ import annotations

import os
import secrets
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from free_port import free_port

COMMAND = Path(
    os.environ.get(
        "LABEL_STUDIO_COMMAND", Path(__file__).resolve().parents[2] / ".venv-label-studio" / "bin" / "label-studio"
    )
)
"""The server's own environment, as `make label-studio-install` sets it up."""

START_S = 600
"""First start with all migrations on a busy machine."""

needs_studio = pytest.mark.skipif(
    not COMMAND.exists(), reason=f"no Label Studio at {COMMAND}: make label-studio-install installs it"
)

_DATABASE = "label_studio.sqlite3"


@dataclass(frozen=True, kw_only=True)
class Studio:
    """A running server and its only user; `files` is the folder that it serves, `data` where its database lies."""

    url: str
    token: str
    user: str
    password: str
    files: Path
    data: Path


@contextmanager
def running_studio(folder: Path, *, copy_of: Studio | None = None, **variables: str) -> Iterator[Studio]:
    """Start a server below `folder`, which serves `folder`/files, and stop it.

    With `copy_of` it begins with the database of that one, which saves the migrations, and knows its user and token.
    `variables` are added to its environment.
    """
    port = free_port()
    files, data = folder / "files", folder / "data"
    files.mkdir(parents=True)
    data.mkdir()
    studio = Studio(
        url=f"http://127.0.0.1:{port}",
        token=copy_of.token if copy_of else secrets.token_hex(20),
        user="annotator@example.org",
        password=copy_of.password if copy_of else secrets.token_hex(8),
        files=files,
        data=data,
    )
    if copy_of:
        with (
            closing(sqlite3.connect(copy_of.data / _DATABASE)) as original,
            closing(sqlite3.connect(data / _DATABASE)) as copy,
        ):
            original.backup(copy)
    environment = (
        os.environ
        | {
            "LABEL_STUDIO_BASE_DATA_DIR": str(data),
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
        | variables
    )
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
