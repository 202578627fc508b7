"""The API as a program meets it: jobs from upload to clip, who is answered, and what is refused in which words."""

from __future__ import annotations

import http.server
import io
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import av
import pytest
from page_stub import DURATION_S, SPANS, StubDetector, save_video
from PIL import Image
from starlette.testclient import TestClient

from flows.api import addresses, uploads
from flows.api.server import working_api
from flows.api.settings import ApiSettings, api_token
from flows.page.intake import Limits
from flows.page.working import Worker
from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason

TOKEN = "0123456789abcdef"
OURS = {"Authorization": f"Bearer {TOKEN}"}
Serve = Callable[..., TestClient]


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return save_video(tmp_path_factory.mktemp("sent") / "cam.mp4").read_bytes()


@pytest.fixture
def detector() -> StubDetector:
    return StubDetector()


@pytest.fixture
def serve(detector: StubDetector) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(**changes: Any) -> TestClient:
            settings = ApiSettings(**{"token": TOKEN, "limits": Limits(max_mb=1, max_minutes=1.0)} | changes)
            app = stack.enter_context(working_api(detector, Worker(), settings))  # type: ignore[arg-type]
            return TestClient(app, base_url="http://127.0.0.1", headers=OURS, raise_server_exceptions=False)

        yield start
        detector.endless = False
        detector.going.set()


def send(client: TestClient, video: bytes, name: str = "cam.mp4") -> str:
    reply = client.post("/v1/jobs", files={"file": (name, video)})
    assert reply.status_code == 202, reply.text
    assert reply.headers["location"] == f"/v1/jobs/{reply.json()['id']}"
    return str(reply.json()["id"])


def ended(client: TestClient, job_id: str) -> dict[str, Any]:
    by = time.monotonic() + 120
    while time.monotonic() < by:
        told: dict[str, Any] = client.get(f"/v1/jobs/{job_id}").json()
        if told["status"] in ("done", "failed"):
            return told
        time.sleep(0.05)
    raise AssertionError(told)


def code_of(reply: Any) -> tuple[int, str]:
    assert set(reply.json()) == {"error"}, reply.text
    return reply.status_code, reply.json()["error"]["code"]


def test_an_upload_becomes_a_result_with_clips_and_is_gone_when_deleted(
    serve: Serve, detector: StubDetector, video: bytes
) -> None:
    client = serve()
    job_id = send(client, video, "../../etc/cam 1.mp4")
    told = ended(client, job_id)
    assert (told["status"], told["video"], told["error"]) == ("done", "cam 1.mp4", None)
    assert told["progress"] == {"step": "clips", "done": 2, "total": 2}
    assert told["expires_at"] > told["finished_at"] > told["created_at"]
    result = client.get(f"/v1/jobs/{job_id}/result").json()
    assert result["video"] == "cam 1.mp4"
    assert result["spans"] == [span.as_json() for span in SPANS]
    assert len(result["scores"]["values"]) == len(result["scores"]["times_s"]) == DURATION_S * 2
    folder = detector.seen[-1].parent
    assert not detector.seen[-1].exists(), "the video itself is kept no longer than it is needed"

    spans = client.get(f"/v1/jobs/{job_id}/spans").json()["spans"]
    for span, found in zip(spans, SPANS, strict=True):
        clip = client.get(span["clip"])
        assert clip.headers["content-type"] == "video/mp4"
        with av.open(io.BytesIO(clip.content)) as container:
            shown = sum(1 for _ in container.decode(video=0))
        assert shown == round((found.end_s - found.start_s) * 25)
        picture = Image.open(io.BytesIO(client.get(span["thumbnail"]).content))
        assert (picture.format, picture.size) == ("JPEG", (320, 240))
    part = client.get(spans[0]["clip"], headers={"Range": "bytes=0-99"})
    assert (part.status_code, len(part.content)) == (206, 100)

    assert client.delete(f"/v1/jobs/{job_id}").status_code == 204
    assert not folder.exists()
    assert code_of(client.get(spans[0]["clip"])) == (404, "no_such_job")


@pytest.mark.parametrize("given", [None, "Bearer wrong", f"Basic {TOKEN}", f"Bearer {TOKEN}x"])
def test_who_does_not_know_the_token_gets_nothing(serve: Serve, given: str | None) -> None:
    client = serve()
    client.headers.clear()
    if given:
        client.headers["Authorization"] = given
    for method, path in (
        ("GET", "/v1/jobs"),
        ("POST", "/v1/jobs"),
        ("DELETE", "/v1/jobs/x"),
        ("GET", "/v1/jobs/x/result"),
    ):
        reply = client.request(method, path)
        assert code_of(reply) == (401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert client.get("/v1/health").json() == {"status": "ok", "queued": 0, "running": 0}


def test_without_a_token_only_this_machine_is_answered(serve: Serve) -> None:
    client = serve(token=None)
    client.headers.clear()
    assert client.get("/v1/jobs").json() == {"jobs": []}
    assert client.get("/v1/jobs", headers={"Origin": "http://127.0.0.1"}).status_code == 200
    for headers in ({"Host": "rebound.example"}, {"Origin": "https://elsewhere.example"}, {"Origin": "null"}):
        assert code_of(client.get("/v1/jobs", headers=headers)) == (403, "foreign_site")


def test_an_upload_of_unknown_length_ends_at_the_limit(serve: Serve) -> None:
    def endless() -> Iterator[bytes]:
        yield b'--x\r\nContent-Disposition: form-data; name="file"; filename="a.mp4"\r\n\r\n'
        for _ in range(64):
            yield b"\0" * (1 << 16)

    reply = serve().post("/v1/jobs", content=endless(), headers={"Content-Type": "multipart/form-data; boundary=x"})
    assert code_of(reply) == (413, "too_large")
    assert "1 MB" in reply.json()["error"]["message"]


def test_a_port_of_the_network_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HOLMES_API_TOKEN", raising=False)
    assert api_token("127.0.0.1") is None
    with pytest.raises(SetupError, match=r"0\.0\.0\.0 is reached from other machines"):
        api_token("0.0.0.0")  # noqa: S104
    monkeypatch.setenv("HOLMES_API_TOKEN", "short")
    with pytest.raises(SetupError, match="5 characters, at least 16"):
        api_token("127.0.0.1")
    monkeypatch.setenv("HOLMES_API_TOKEN", f" {TOKEN}\n")
    assert api_token("0.0.0.0") == TOKEN  # noqa: S104


def test_a_full_queue_says_when_to_come_again(serve: Serve, detector: StubDetector, video: bytes) -> None:
    detector.going.clear()
    client = serve(queue_size=1, concurrent_jobs=1)
    first = send(client, video)
    while client.get(f"/v1/jobs/{first}").json()["status"] == "queued":
        time.sleep(0.02)
    second = send(client, video)
    told = client.get(f"/v1/jobs/{second}").json()
    assert (told["status"], told["queue_position"]) == ("queued", 0)
    reply = client.post("/v1/jobs", files={"file": ("cam.mp4", video)})
    assert code_of(reply) == (429, "queue_full")
    assert int(reply.headers["retry-after"]) >= 1
    assert client.get("/v1/health").json() == {"status": "ok", "queued": 1, "running": 1}
    assert code_of(client.get(f"/v1/jobs/{second}/result")) == (409, "not_done")
    client.delete(f"/v1/jobs/{second}")
    assert send(client, video)


def test_a_job_that_is_deleted_stops_the_work(serve: Serve, detector: StubDetector, video: bytes) -> None:
    detector.endless = True
    client = serve(concurrent_jobs=1)
    job_id = send(client, video)
    while client.get(f"/v1/jobs/{job_id}").json()["progress"] != {"step": "score", "done": 1, "total": 2}:
        time.sleep(0.02)
    client.delete(f"/v1/jobs/{job_id}")
    detector.endless = False
    assert ended(client, send(client, video))["status"] == "done"
    assert [job["status"] for job in client.get("/v1/jobs").json()["jobs"]] == ["done"]


@pytest.mark.parametrize(
    ("changes", "body", "expected"),
    [
        ({}, {"files": {"file": ("cam.mp4", b"\0" * (1 << 21))}}, (413, "too_large")),
        ({}, {"files": {"file": ("cam.mp4", b"")}}, (400, "empty_file")),
        ({}, {"files": {"file": ("notes.txt", b"text")}}, (415, "not_a_video")),
        ({}, {"files": {"other": ("cam.mp4", b"text")}}, (400, "invalid_form")),
        ({}, {"files": [("file", ("a.mp4", b"1")), ("file", ("b.mp4", b"2"))]}, (400, "invalid_request")),
        ({}, {"content": b"x", "headers": {"Content-Type": "multipart/form-data"}}, (400, "invalid_request")),
        ({}, {"content": b"x", "headers": {"Content-Type": "video/mp4"}}, (415, "unsupported_type")),
        ({}, {"content": b"{", "headers": {"Content-Type": "application/json"}}, (400, "invalid_json")),
        ({}, {"json": {"url": "https://example.org/a.mp4", "token": 1}}, (400, "invalid_json")),
        ({}, {"json": {"url": "x" * 20_000}}, (413, "too_large")),
        ({}, {"json": {"url": "file:///etc/passwd"}}, (400, "invalid_url")),
        ({}, {"json": {"url": "rtsp://127.0.0.1/cam"}}, (403, "stream_refused")),
        ({}, {"json": {"url": "http://[::1"}}, (400, "invalid_url")),
        ({}, {"json": {"url": "http://127.0.0.1/a.mp4"}}, (403, "private_address")),
        ({}, {"json": {"url": "http://user:pw@169.254.169.254/latest"}}, (403, "private_address")),
        ({}, {"json": {"url": "http://2130706433/a.mp4"}}, (403, "private_address")),
        ({}, {"json": {"url": "http://[::ffff:10.0.0.1]/a.mp4"}}, (403, "private_address")),
    ],
)  # fmt: skip
def test_what_is_not_taken_is_refused_at_once(
    serve: Serve, changes: dict[str, Any], body: dict[str, Any], expected: tuple[int, str]
) -> None:
    client = serve(**changes)
    assert code_of(client.post("/v1/jobs", **body)) == expected
    assert client.get("/v1/jobs").json() == {"jobs": []}


@pytest.mark.parametrize("place", ["nothing", "..%2f..%2fetc%2fpasswd", "%00", "x" * 5000])
def test_no_path_leads_anywhere_else(serve: Serve, place: str) -> None:
    client = serve()
    for path in (f"/v1/jobs/{place}", f"/v1/jobs/{place}/result", f"/v1/jobs/{place}/spans/0/clip.mp4"):
        assert code_of(client.get(path))[0] == 404
    assert code_of(client.get("/v1/elsewhere")) == (404, "not_found")
    assert code_of(client.put("/v1/jobs")) == (405, "method_not_allowed")


def test_a_span_is_one_of_those_that_there_are(serve: Serve, video: bytes) -> None:
    client = serve()
    job_id = send(client, video)
    ended(client, job_id)
    assert code_of(client.get(f"/v1/jobs/{job_id}/spans/2/clip.mp4")) == (404, "no_such_span")
    assert code_of(client.get(f"/v1/jobs/{job_id}/spans/-1/thumbnail.jpg")) == (404, "no_such_span")
    assert code_of(client.get(f"/v1/jobs/{job_id}/spans/one/clip.mp4")) == (422, "invalid_request")


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        (RecordError(Reason.DECODE_FAILED, "frame 3 of 200 is damaged"), "decode_failed", "frame 3"),
        (SetupError("the features are of another kind"), "not_set_up", "another kind"),
        (ZeroDivisionError(), "internal", "ZeroDivisionError"),
    ],
)
def test_why_a_job_failed_is_told(
    serve: Serve, detector: StubDetector, video: bytes, *, fault: Exception, code: str, words: str
) -> None:
    detector.fault = fault
    client = serve()
    told = ended(client, send(client, video))
    assert (told["status"], told["error"]["code"]) == ("failed", code)
    assert words in told["error"]["message"]
    reply = client.get(f"/v1/jobs/{told['id']}/result")
    assert code_of(reply) == (409, "job_failed")
    assert words in reply.json()["error"]["message"]


def test_a_video_that_is_too_long_or_none_fails_with_value_and_limit(serve: Serve, video: bytes) -> None:
    client = serve(limits=Limits(max_mb=1, max_minutes=0.1))
    long = ended(client, send(client, video))
    assert long["error"] == {
        "code": "video_refused", "message": "cam.mp4: 0.1 minutes are more than the 0.1 that are taken here"
    }  # fmt: skip
    broken = ended(client, send(client, b"#EXTM3U\nfile:///etc/passwd\n", "list.mp4"))
    assert broken["error"]["code"] == "video_refused"
    assert broken["error"]["message"].startswith("list.mp4: no video format is recognised")


def test_finished_jobs_are_kept_for_a_while(serve: Serve, video: bytes) -> None:
    client = serve(keep_s=1.0)
    job_id = send(client, video)
    ended(client, job_id)
    time.sleep(1.1)
    assert code_of(client.get(f"/v1/jobs/{job_id}")) == (404, "no_such_job")
    client = serve(keep_jobs=1)
    first, second = send(client, video), send(client, video)
    ended(client, second)
    ended(client, first) if client.get(f"/v1/jobs/{first}").is_success else None
    assert len(client.get("/v1/jobs").json()["jobs"]) == 1


@contextmanager
def web(folder: Path) -> Iterator[str]:
    class Handler(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path.startswith("/to/"):
                self.send_response(302)
                self.send_header("Location", self.path.removeprefix("/to/"))
                self.end_headers()
            else:
                super().do_GET()

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_a_video_is_fetched_where_the_operator_allows_its_network(
    serve: Serve, detector: StubDetector, video: bytes, tmp_path: Path
) -> None:
    (tmp_path / "cam.mp4").write_bytes(video)
    (tmp_path / "large.mp4").write_bytes(b"\0" * (3 << 19))
    with web(tmp_path) as address:
        client = serve(allow_private=True)

        def fetched(path: str) -> dict[str, Any]:
            reply = client.post("/v1/jobs", json={"url": f"{address.replace('//', '//me:pw@')}/{path}"})
            assert reply.status_code == 202, reply.text
            return ended(client, reply.json()["id"])

        told = fetched("to//cam.mp4?night=1")
        assert (told["status"], told["video"]) == ("done", f"{address}/to//cam.mp4?night=1")
        assert detector.seen[-1].suffix == ".mp4"
        for path, code, words in (
            ("none.mp4", "fetch_failed", "answers 404"),
            ("large.mp4", "too_large", "1.5 MB, at most 1 MB"),
            ("to/ftp://127.0.0.1/cam.mp4", "invalid_url", "http, https"),
            ("to/" * 7 + "/cam.mp4", "fetch_failed", "more than 5 redirects"),
        ):
            error = fetched(path)["error"]
            assert error["code"] == code
            assert words in error["message"]
            assert "pw" not in error["message"]


def test_neither_a_redirect_nor_a_second_answer_leads_into_the_network(
    serve: Serve, video: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cam.mp4").write_bytes(video)
    asked: list[str] = []
    with web(tmp_path) as address:
        port = int(address.rpartition(":")[2])

        def getaddrinfo(host: str, port: int, **_: Any) -> list[Any]:
            """Public at first, then not: what a name server of the attacker's says."""
            asked.append(host)
            public = host == "cam.example" and asked.count(host) == 1
            return [(2, 1, 6, "", ("93.184.215.14" if public else "127.0.0.1", port))]

        monkeypatch.setattr(addresses.socket, "getaddrinfo", getaddrinfo)
        client = serve()
        reply = client.post("/v1/jobs", json={"url": f"http://cam.example:{port}/cam.mp4"})
        assert reply.status_code == 202
        assert ended(client, reply.json()["id"])["error"]["code"] == "private_address"
        assert asked == ["cam.example", "cam.example"]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True), ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True), ("10.1.2.3", False),
        ("0.0.0.0", False), ("100.64.0.1", False), ("224.0.0.1", False), ("255.255.255.255", False), ("::", False),  # noqa: S104
        ("fd00::1", False), ("fe80::1", False), ("::ffff:192.168.0.1", False), ("64:ff9b::7f00:1", False),
        ("2002:7f00:1::", False), ("64:ff9b::5db8:d70e", True),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    import ipaddress

    assert addresses.is_public(ipaddress.ip_address(address)) is public


def test_names_are_shown_without_their_folders() -> None:
    assert uploads.plain_name("C:\\cams\\a\nb.mp4") == "ab.mp4"
    assert uploads.plain_name("../..") == ".."
    assert uploads.plain_name("/") == "video"
    assert len(uploads.plain_name("x" * 999 + ".mp4")) == 200


def test_the_description_names_every_route_and_its_refusals(serve: Serve) -> None:
    client = serve()
    client.headers.clear()
    told = client.get("/v1/openapi.json").json()
    assert told["openapi"].startswith("3.1")
    assert {path: set(methods) for path, methods in told["paths"].items()} == {
        "/v1/health": {"get"},
        "/v1/jobs": {"get", "post"},
        "/v1/jobs/{job_id}": {"get", "delete"},
        "/v1/jobs/{job_id}/result": {"get"},
        "/v1/jobs/{job_id}/spans": {"get"},
        "/v1/jobs/{job_id}/spans/{number}/clip.mp4": {"get"},
        "/v1/jobs/{job_id}/spans/{number}/thumbnail.jpg": {"get"},
    }
    submit = told["paths"]["/v1/jobs"]["post"]
    assert set(submit["requestBody"]["content"]) == {"multipart/form-data", "application/json"}
    assert {"202", "400", "401", "403", "408", "413", "415", "429"} <= set(submit["responses"])
    assert submit["security"] == [{"HTTPBearer": []}]
