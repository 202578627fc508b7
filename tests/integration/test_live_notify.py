"""`holmes detect --live ... --notify` from a camera's stream to the webhook: real servers, real bytes."""

from __future__ import annotations

import io
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import av
import psutil
import pytest
from detection_fixtures import sampler_folder  # noqa: F401
from infer_videos import RATE, write_video
from page_stub import free_port
from PIL import Image
from typer.testing import CliRunner
from webhook_receiver import event_of, parts_of, receiving

from flows.cli import app
from flows.notify import SECRET, sign

pytestmark = pytest.mark.integration

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
    port, script = free_port(), Path(__file__).parents[1] / "helpers" / "rtsp_camera.py"
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


@pytest.mark.parametrize("camera", [rtsp_camera, tcp_camera])
def test_spans_of_a_stream_reach_the_webhook(
    camera: object,
    sampler_folder: Path,  # noqa: F811
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(SECRET, "key")
    film = write_video(tmp_path / "cam.mp4", 14.0, ((4.0, 7.0),))
    with receiving() as receiver, camera(film) as url:  # type: ignore[operator]
        ran = CliRunner().invoke(
            app, ["detect", "--live", url, "--sampler", str(sampler_folder), "--notify", receiver.url]
        )
    assert ran.exit_code == 0, ran.output
    [(headers, body)] = receiver.calls
    assert headers["X-Holmes-Signature"] == sign("key", headers["X-Holmes-Timestamp"], body)
    event, parts = event_of(headers, body), parts_of(headers, body)
    assert "secret" not in event["stream"]
    assert event["span"]["start_s"] == pytest.approx(4.0, abs=1.1)
    assert event["span"]["end_s"] == pytest.approx(7.0, abs=1.1)
    length_s = event["span"]["end_s"] - event["span"]["start_s"]
    with av.open(io.BytesIO(parts["clip"][1])) as clip:
        assert clip.duration == pytest.approx(length_s * 1e6, abs=1.5e6 / RATE)
        assert sum(1 for _ in clip.decode(video=0)) == pytest.approx(length_s * RATE, abs=1.5)
    with Image.open(io.BytesIO(parts["thumbnail"][1])) as still:
        assert still.format == "JPEG"
