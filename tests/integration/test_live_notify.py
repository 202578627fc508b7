"""`holmes detect --live ... --notify` from a camera's stream to the webhook: real servers, real bytes."""

from __future__ import annotations

import io
from pathlib import Path

import av
import pytest
from cameras import rtsp_camera, tcp_camera
from detection_fixtures import sampler_folder  # noqa: F401
from infer_videos import RATE, write_video
from PIL import Image
from typer.testing import CliRunner
from webhook_receiver import event_of, parts_of, receiving

from flows.cli import app
from flows.notify import SECRET, sign

pytestmark = pytest.mark.integration


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
