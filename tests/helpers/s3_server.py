"""A real S3 server of its own for tests, empty."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec
import pytest

from pipeline.storage import MIRRORS

BUCKET = "s3://footage"


@contextmanager
def running_s3(mirrors: Path, address: str = "127.0.0.1") -> Iterator[str]:
    """Start the server, point the environment at it, mirrors of it below `mirrors`, and yield its address."""
    from moto.server import ThreadedMotoServer

    running = ThreadedMotoServer(ip_address=address, port=0)
    running.start()
    host, port = running.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "someone")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "secret")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv(MIRRORS, str(mirrors))
        fsspec.filesystem("s3").clear_instance_cache()
        yield f"http://{host}:{port}"
    running.stop()
