"""A server with a real language model for a test run, as `make llm` sets it up; see llama_model.py."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from free_port import free_port
from llama_model import MODEL

_REPOSITORY = Path(__file__).resolve().parents[2]
PYTHON = Path(os.environ.get("LLM_PYTHON", _REPOSITORY / ".venv-llm" / "bin" / "python"))
"""The server's own environment."""

FOLDER = Path(os.environ.get("LLM_FOLDER", _REPOSITORY / ".llm"))
"""Where its model lies."""

START_S = 300
"""The model is read from a cold disk on a busy machine."""

needs_llm = pytest.mark.skipif(
    not (PYTHON.exists() and (FOLDER / MODEL).exists()),
    reason=f"no {PYTHON} or no {FOLDER / MODEL}: make llm fetches the server and the model",
)


@contextmanager
def running_llm(folder: Path) -> Iterator[str]:
    """Start the server, its log below `folder`, yield its base URL, and stop it."""
    port = free_port()
    log = folder / "llm.log"
    script = Path(__file__).with_name("llama_model.py")
    command = [str(PYTHON), str(script), "serve", str(FOLDER), "--port", str(port)]
    if threads := os.environ.get("LLM_THREADS"):
        command += ["--threads", threads]
    with log.open("w") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file)
        try:
            _wait(f"http://127.0.0.1:{port}/health", process, log)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            process.kill()
            process.wait(30)


def _wait(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    end = time.monotonic() + START_S
    while time.monotonic() < end and process.poll() is None:
        try:
            if httpx.get(url, timeout=5).status_code == httpx.codes.OK:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    raise RuntimeError(f"the language model's server does not start: {log.read_text()[-2000:]}")
