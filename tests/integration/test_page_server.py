"""The page as a stranger meets it over HTTP: what is served, what is not, and what is refused in words."""

from __future__ import annotations

import json
import socket
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from free_port import free_port
from page_stub import StubDetector, save_video
from typer.testing import CliRunner

from flows.cli import app
from flows.page.intake import Limits
from flows.page.server import ServeSettings, served
from pipeline.errors import SetupError

pytestmark = pytest.mark.integration


class Stranger:
    """Speaks to a page as its own front end does, with whatever it likes in the requests."""

    def __init__(self, address: str) -> None:
        self.web = httpx.Client(base_url=address, timeout=30)
        self.session = uuid.uuid4().hex
        config = self.web.get("/config").json()
        self.functions = {function["api_name"]: function["id"] for function in config["dependencies"]}

    def get(self, path: str) -> tuple[int, bytes]:
        reply = self.web.get(path)
        return reply.status_code, reply.content

    def upload(self, name: str, content: bytes) -> tuple[int, Any]:
        reply = self.web.post("/gradio_api/upload", files={"files": (name, content)})
        return reply.status_code, reply.json()[0] if reply.is_success else reply.text

    def join(self, name: str, *data: Any, event: Any = None) -> httpx.Response:
        """Ask for a call, and do not wait for it."""
        asked = {"data": data, "fn_index": self.functions[name], "session_hash": self.session, "event_data": event}
        return self.web.post("/gradio_api/queue/join", json=asked)

    def call(self, name: str, *data: Any, event: Any = None) -> Any:
        """Return the last message about a call: what it made, or why it did not."""
        reply = self.join(name, *data, event=event)
        if not reply.is_success:
            return {"success": False, "reply": reply.text}
        last: Any = None
        with self.web.stream("GET", f"/gradio_api/queue/data?session_hash={self.session}") as stream:
            for line in stream.iter_lines():
                message = json.loads(line.removeprefix("data:") or "{}")
                if message.get("msg") in {"process_completed", "unexpected_error"}:
                    last = message
        return last


def file_data(path: str, **more: Any) -> dict[str, Any]:
    return {"path": path, "meta": {"_type": "gradio.FileData"}, **more}


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("offered")
    save_video(folder / "offered.mp4")
    (folder / "secret.txt").write_text("secret")
    return folder


@pytest.fixture(scope="module")
def detector() -> StubDetector:
    return StubDetector()


@pytest.fixture(scope="module")
def address(detector: StubDetector, videos: Path) -> Iterator[str]:
    settings = ServeSettings(
        port=free_port(), videos=videos, limits=Limits(max_mb=1, max_minutes=1.0), queue_size=2, model="stub"
    )
    with served(detector, settings) as address:
        yield address


def text_of(message: Any) -> str:
    return json.dumps(message)


def test_an_uploaded_video_is_analysed_and_gone_with_its_page(
    address: str, detector: StubDetector, videos: Path
) -> None:
    stranger = Stranger(address)
    status, path = stranger.upload("cam.mp4", (videos / "offered.mp4").read_bytes())
    assert status == 200
    taken = stranger.call("take_upload", file_data(path))
    assert taken["success"], taken
    assert "cam.mp4" in text_of(taken)
    found = stranger.call("detect", None)
    assert "Yes, a square turns red." in text_of(found)
    seen = detector.seen[-1]
    assert seen.is_file()
    assert stranger.get(f"/gradio_api/file={seen}")[0] == 200
    assert stranger.call("leave")["success"]
    assert not seen.parent.exists()
    assert stranger.get(f"/gradio_api/file={seen}")[0] == 403


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "../../../../etc/passwd",
        "..%2f..%2f..%2fetc/passwd",
        "file:///etc/passwd",
        "http://127.0.0.1:9/cam.mp4",
    ],
)
def test_no_other_file_is_served_or_analysed(address: str, detector: StubDetector, path: str) -> None:
    stranger, seen = Stranger(address), len(detector.seen)
    status, content = stranger.get(f"/gradio_api/file={path}")
    assert status >= 400
    assert b"root:" not in content
    refused = stranger.call("take_upload", file_data(path))
    assert not refused["success"], refused
    assert "root:" not in text_of(refused)
    stranger.call("detect", None)
    assert len(detector.seen) == seen


def test_nothing_is_fetched_from_elsewhere(address: str) -> None:
    stranger = Stranger(address)
    for path in ("http://example.com/cam.mp4", "HTTPS://example.com/", "ftp://example.com/"):
        assert stranger.get(f"/gradio_api/file={path}") == (403, b"only files of this page are served")
        for name, data in (("take_upload", [file_data(path)]), ("ask", [None, {"deep": [file_data(path)]}])):
            reply = stranger.join(name, *data)
            assert (reply.status_code, reply.text) == (403, "only files that were uploaded here are taken")
    escaped = json.dumps({"data": [file_data("http://example.com/")]}).replace("http", "\\u0068ttp")
    assert stranger.web.post("/gradio_api/queue/join", content=escaped).status_code == 403
    assert stranger.join("ask", None, "x" * (1 << 20)).status_code == 413


def test_of_the_offered_folder_only_its_videos_are_served(address: str, videos: Path) -> None:
    stranger = Stranger(address)
    assert stranger.get(f"/gradio_api/file={videos}/offered.mp4")[0] == 200
    assert stranger.get(f"/gradio_api/file={videos}/secret.txt")[0] == 403
    assert stranger.get(f"/gradio_api/file={videos}")[0] == 403


@pytest.mark.parametrize("index", ["../secret.txt", "/etc/passwd", 7, -1, None])
def test_only_offered_videos_can_be_chosen(address: str, detector: StubDetector, index: Any) -> None:
    stranger, seen = Stranger(address), len(detector.seen)
    told = stranger.call("take_example", event={"index": index})
    assert "there is no such video here" in text_of(told)
    stranger.call("detect", None)
    assert len(detector.seen) == seen


def test_an_upload_name_cannot_leave_the_folder(address: str, detector: StubDetector, videos: Path) -> None:
    stranger = Stranger(address)
    status, path = stranger.upload("../../../escaped.mp4", (videos / "offered.mp4").read_bytes())
    assert status == 200
    assert stranger.call("take_upload", file_data(path, orig_name="../../x.mp4"))["success"]
    stranger.call("detect", None)
    assert detector.seen[-1].parent.parent == Path(path).parents[1]
    stranger.call("leave")


def test_what_is_no_video_is_told_in_words(address: str) -> None:
    stranger = Stranger(address)
    _, path = stranger.upload("<img src=x onerror=alert(1)>.mp4", b"no video at all" * 100)
    told = text_of(stranger.call("take_upload", file_data(path)))
    assert "h-notice" in told
    assert "Traceback" not in told
    assert "<img" not in told
    assert str(Path(path).parent) not in told


def test_a_large_upload_is_cut_off(address: str) -> None:
    status, told = Stranger(address).upload("large.mp4", b"\0" * (2 << 20))
    assert (status, "maximum allowed size" in told) == (413, True)


def test_who_comes_when_too_many_wait_is_refused(address: str, detector: StubDetector) -> None:
    strangers = [Stranger(address) for _ in range(5)]
    for stranger in strangers:
        assert stranger.call("take_example", event={"index": 0})["success"]
    detector.going.clear()
    try:
        replies = [stranger.join("detect", None) for stranger in strangers]
    finally:
        detector.going.set()
    assert [reply.status_code for reply in replies[:2]] == [200, 200]
    assert replies[-1].status_code == 503
    assert "full" in replies[-1].text


def test_a_port_that_is_taken_is_named(detector: StubDetector) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(SetupError, match=f"127.0.0.1:{port} cannot be listened at"):
            served(detector, ServeSettings(port=port)).__enter__()


def test_without_gradio_the_command_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gradio", None)
    done = CliRunner().invoke(app, ["serve", "--sampler", "sampler"])
    assert isinstance(done.exception, SetupError)
    assert "pip install 'holmes-engine[serve]'" in str(done.exception)
