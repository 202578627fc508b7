"""A piece of a camera's stream as a job of the API."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from page_stub import StubDetector, save_video
from starlette.testclient import TestClient

from flows.api import jobs
from flows.api.faults import ApiFault
from flows.api.server import working_api
from flows.api.settings import ApiSettings
from flows.api.streams import copy_packets, is_stream
from flows.page.intake import Limits
from flows.page.working import Worker
from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.video.probe import probe

CAMERA = "rtsp://me:secret@127.0.0.1:9/cam"


def asked(allow_private: bool, body: dict[str, Any]) -> tuple[int, str]:
    settings = ApiSettings(allow_private=allow_private, limits=Limits(max_mb=1, max_minutes=1.0))
    with working_api(StubDetector(), Worker(), settings) as app:  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://127.0.0.1")
        reply = client.post("/v1/jobs", json=body)
        return reply.status_code, reply.json().get("error", reply.json()).get("code", "")


@pytest.mark.parametrize(
    ("allow_private", "body", "expected"),
    [
        (False, {"url": CAMERA}, (403, "stream_refused")),
        (True, {"url": CAMERA, "seconds": 61}, (400, "invalid_request")),
        (True, {"url": CAMERA, "seconds": -1}, (400, "invalid_json")),
        (True, {"url": "http://127.0.0.1/a.mp4", "seconds": 5}, (400, "invalid_request")),
        (True, {"url": "srt://127.0.0.1/a"}, (400, "invalid_url")),
    ],
)
def test_streams_have_limits(allow_private: bool, body: dict[str, Any], expected: tuple[int, str]) -> None:
    assert asked(allow_private, body) == expected


def test_what_was_recorded_is_a_video_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def recorded(url: str, out: Path, *, seconds: float, max_mb: int) -> None:
        taken.append((url, seconds, max_mb))
        save_video(tmp_path / "cam.mp4").rename(out)

    monkeypatch.setattr(jobs, "record", recorded)
    detector = StubDetector()
    settings = ApiSettings(allow_private=True, limits=Limits(max_mb=1, max_minutes=1.0))
    with working_api(detector, Worker(), settings) as app:  # type: ignore[arg-type]
        client = TestClient(app, base_url="http://127.0.0.1")
        job_id = client.post("/v1/jobs", json={"url": CAMERA, "seconds": 12}).json()["id"]
        told = {}
        while told.get("status") not in ("done", "failed"):
            told = client.get(f"/v1/jobs/{job_id}").json()
    assert (told["status"], told["video"]) == ("done", "rtsp://127.0.0.1:9/cam")
    assert taken == [(CAMERA, 12.0, 1)]
    assert detector.seen[-1].name == "video.mkv"


def test_a_piece_begins_with_a_complete_picture_and_ends_in_time(film: Callable[[str], Path], tmp_path: Path) -> None:
    out = tmp_path / "piece.mkv"
    assert copy_packets(str(film("h264.ts")), out, seconds=1.5, max_mb=1) > 0
    facts = probe(out)
    assert facts.duration_s == pytest.approx(1.5, abs=0.15)
    assert facts.lost == ()


def test_a_camera_that_does_not_answer_is_told_without_its_password(monkeypatch: pytest.MonkeyPatch) -> None:
    from flows.api import streams

    fault = RecordError(Reason.UNREADABLE, f"{CAMERA}: Connection refused")
    monkeypatch.setattr(streams, "apart", lambda *_: fault)
    with pytest.raises(ApiFault, match=r"rtsp://127\.0\.0\.1:9/cam: Connection refused") as caught:
        streams.record(CAMERA, Path("out.mkv"), seconds=1.0, max_mb=1)
    assert "secret" not in caught.value.message
    assert is_stream(CAMERA)
