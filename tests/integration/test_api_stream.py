"""A camera's address as a job of the REST API: a real RTSP server, a real detector, real bytes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from cameras import rtsp_camera
from detection_fixtures import sampler_folder  # noqa: F401
from free_port import free_port
from infer_videos import write_video

from flows.api.server import listening, working_api
from flows.api.settings import ApiSettings
from flows.page.intake import Limits
from flows.page.working import Worker
from pipeline.infer.detector import Detector
from pipeline.infer.settings import DetectSettings

pytestmark = pytest.mark.integration


def done(server: str, body: dict[str, Any]) -> dict[str, Any]:
    """Submit a job and return it when it has ended, its result in it where there is one."""
    address = server.rstrip("/")
    job = httpx.post(f"{address}/v1/jobs", json=body).raise_for_status().json()
    by = time.monotonic() + 120
    while job["status"] not in ("done", "failed"):
        assert time.monotonic() < by, job
        time.sleep(0.2)
        job = httpx.get(f"{address}/v1/jobs/{job['id']}").json()
    if job["status"] == "done":
        job["result"] = httpx.get(f"{address}/v1/jobs/{job['id']}/result").raise_for_status().json()
    return job


def test_a_piece_of_a_camera_is_judged(sampler_folder: Path, tmp_path: Path) -> None:  # noqa: F811
    film = write_video(tmp_path / "cam.mp4", 14.0, ((4.0, 7.0),))
    detector = Detector(DetectSettings(sampler=str(sampler_folder)))
    settings = ApiSettings(allow_private=True, limits=Limits(max_mb=20, max_minutes=1.0))
    with (
        rtsp_camera(film) as url,
        working_api(detector, Worker(), settings) as app,
        listening(app, "127.0.0.1", free_port()) as server,
    ):
        whole = done(server, {"url": url, "seconds": 13})
        begun = done(server, {"url": url, "seconds": 3})
        gone = done(server, {"url": url.replace("/cam", "/none"), "seconds": 3})
    assert (whole["status"], "secret" in str(whole)) == ("done", False), whole
    [span] = whole["result"]["spans"]
    assert span["start_s"] == pytest.approx(4.0, abs=1.1)
    assert span["end_s"] == pytest.approx(7.0, abs=1.1)
    assert begun["status"] == "done"
    assert begun["result"]["duration_s"] == pytest.approx(3.0, abs=0.3)
    assert begun["result"]["spans"] == [], "nothing happens in the first three seconds"
    assert (gone["status"], gone["error"]["code"]) == ("failed", "fetch_failed")
    assert "secret" not in str(gone)
