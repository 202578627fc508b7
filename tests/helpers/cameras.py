"""Cameras on this machine: real servers that play a film to whoever asks."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from free_port import free_port

SYSTEM_PYTHON = "/usr/bin/python3"
_BINDINGS = "import gi; gi.require_version('GstRtspServer', '1.0')"


@contextmanager
def listening(port: int, *command: str) -> Iterator[None]:
    """Run a server, from when it listens at a port; it is not connected to, for it may take one caller only."""
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            by = time.monotonic() + 60
            while port not in {held.laddr.port for held in psutil.Process(process.pid).net_connections() if held.laddr}:
                assert process.poll() is None, f"{command[0]} ended"
                assert time.monotonic() < by, f"{command[0]} does not listen"
                time.sleep(0.1)
            yield
        finally:
            process.kill()


@contextmanager
def rtsp_camera(film: Path) -> Iterator[str]:
    """Serve a film by GStreamer's RTSP server."""
    if not Path(SYSTEM_PYTHON).exists() or subprocess.run([SYSTEM_PYTHON, "-c", _BINDINGS], check=False).returncode:
        pytest.skip("GStreamer's RTSP server is not installed: gir1.2-gst-rtsp-server-1.0, gstreamer1.0-plugins-good")
    port, script = free_port(), Path(__file__).with_name("rtsp_camera.py")
    with listening(port, SYSTEM_PYTHON, str(script), str(port), str(film)):
        yield f"rtsp://viewer:secret@127.0.0.1:{port}/cam"


@contextmanager
def tcp_camera(film: Path) -> Iterator[str]:
    """Serve a film by FFmpeg as a transport stream over TCP, at its own speed."""
    if shutil.which("ffmpeg") is None:
        pytest.skip("ffmpeg is not installed")
    port = free_port()
    out = f"tcp://127.0.0.1:{port}?listen=1"
    with listening(port, "ffmpeg", "-v", "error", "-re", "-i", str(film), "-c", "copy", "-f", "mpegts", out):
        yield f"tcp://127.0.0.1:{port}"
