"""What becomes of a Label Studio server that is down, slow, confused, or changes under one's hands."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

import pytest
from http_server import Reply
from studio_double import TOKEN, StudioDouble, refusal

from annotation.label_studio.click_interface import glance_config
from annotation.label_studio.client import TASKS_A_PAGE, StudioClient
from pipeline.errors import SetupError, UnavailableError


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("label_studio_sdk.core.http_client.INITIAL_RETRY_DELAY_SECONDS", 0.001)


@pytest.fixture
def double() -> StudioDouble:
    double = StudioDouble()
    double.add_project(glance_config(["Fighting"]))
    return double


@pytest.fixture
def client(double: StudioDouble) -> Iterator[StudioClient]:
    with double.serve() as server:
        yield StudioClient(f"http://127.0.0.1:{server.port}", TOKEN, timeout_s=2.0)


def test_address_and_token_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LABEL_STUDIO_URL", raising=False)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "with blank")
    with pytest.raises(SetupError, match="LABEL_STUDIO_URL is not set"):
        StudioClient()
    monkeypatch.setenv("LABEL_STUDIO_URL", "localhost:8080")
    with pytest.raises(SetupError, match="'localhost:8080' is no http"):
        StudioClient()
    monkeypatch.setenv("LABEL_STUDIO_URL", "http://localhost:8080/")
    with pytest.raises(SetupError, match="LABEL_STUDIO_API_KEY: not a token") as refused:
        StudioClient()
    assert "with blank" not in str(refused.value)
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", "")
    with pytest.raises(SetupError, match="LABEL_STUDIO_API_KEY is not set"):
        StudioClient()
    monkeypatch.setenv("LABEL_STUDIO_API_KEY", TOKEN)
    assert StudioClient().url == "http://localhost:8080"


def test_a_server_that_is_down() -> None:
    with pytest.raises(UnavailableError, match=r"127\.0\.0\.1:9 cannot be reached to open project 1"):
        StudioClient("http://127.0.0.1:9", TOKEN, read_retries=0).project(1)


def test_a_wrong_token_is_told_and_never_shown(double: StudioDouble) -> None:
    wrong = "f" * 40
    with double.serve() as server, pytest.raises(SetupError, match="refuses the token in LABEL_STUDIO_API_KEY") as told:
        StudioClient(f"http://127.0.0.1:{server.port}", wrong).project(1)
    assert wrong not in str(told.value)


def test_failures_of_the_server_are_asked_again_a_bounded_number_of_times(
    double: StudioDouble, client: StudioClient
) -> None:
    failures = iter([Reply(status=503), Reply(status=500), None, *[Reply(status=502)] * 9])
    double.trouble = lambda _method, _path: next(failures)
    assert client.project(1).id == 1
    assert len(double.calls) == 3
    with pytest.raises(UnavailableError, match="fails \\(HTTP 502\\): asked to open project 1"):
        client.project(1)
    assert len(double.calls) == 6


def test_what_writes_is_never_sent_twice(double: StudioDouble, client: StudioClient) -> None:
    double.trouble = lambda method, _path: Reply(status=503) if method == "POST" else None
    with pytest.raises(UnavailableError, match="import 1 tasks"):
        client.add_tasks(1, [{"data": {}}])
    assert double.calls == [("POST", "/api/projects/1/import")]


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (Reply(wire="hang"), "is too slow"),
        (Reply(wire="reset"), "cannot be reached"),
        (Reply(wire="cut", body=b"{" * 99), "cannot be reached"),
        (Reply(body=b"<html>login</html>"), "HTTP 200|cannot be read"),
        (Reply(body=b"[1, 2]"), "cannot be read"),
        (Reply(body=b"null"), "cannot be read"),
        (Reply(body=b'{"id": 1}'), "cannot be read"),
        (Reply(status=418, body=b'{"detail": "tea"}'), r"refuses to open project 1 \(HTTP 418\); it says: tea$"),
        (Reply(status=403, body=b'{"detail": "Not yours."}'), r"not allowed to open project 1; it says: Not yours\.$"),
        (Reply(status=404, body=b'{"detail": "No Project."}'), r"nothing there \(HTTP 404\).*; it says: No Project\.$"),
        (Reply(status=500, body=b'{"detail": "no such table"}'), r"fails \(HTTP 500\).*; it says: no such table$"),
        (Reply(status=400, body=b"<h1>\n" * 200), r"\(HTTP 400\); it says: (<h1> )+<?h?1?>?\.\.\.$"),
        (Reply(status=400), r"\(HTTP 400\)$"),
        (
            refusal(400, title=["Too long.", "Too odd."], non_field_errors=[{"row": {"3": ["No data."]}}, None]),
            r"\(HTTP 400\); it says: title: Too long\., Too odd\.; row: 3: No data\.$",
        ),
    ],
)
def test_every_odd_answer_is_a_clear_error(double: StudioDouble, reply: Reply, told: str) -> None:
    double.trouble = lambda _method, _path: reply
    with double.serve() as server:
        client = StudioClient(f"http://127.0.0.1:{server.port}", TOKEN, timeout_s=0.3, read_retries=0)
        with pytest.raises(SetupError, match=told):
            client.project(1)


def test_an_export_that_is_refused_is_told_in_the_words_of_the_server(
    double: StudioDouble, client: StudioClient
) -> None:
    double.trouble = lambda _method, path: (
        refusal(400, export_type=['"XML" is no choice.']) if "/export" in path else None
    )
    with pytest.raises(SetupError, match=r'as XML \(HTTP 400\); it says: export_type: "XML" is no choice\.$'):
        client.export(1, "XML")


def test_thousands_of_tasks_come_page_by_page(double: StudioDouble, client: StudioClient) -> None:
    for number in range(2_600):
        double.add_task(1, {"video_id": str(number)})
    assert [task.data["video_id"] for task in client.tasks(1)] == [str(number) for number in range(2_600)]
    assert len(double.calls) == math.ceil(2_600 / TASKS_A_PAGE)


def test_a_task_deleted_during_the_listing_hides_no_other(double: StudioDouble, client: StudioClient) -> None:
    for number in range(2 * TASKS_A_PAGE + 1):
        double.add_task(1, {"video_id": str(number)})
    listing = client.tasks(1)
    seen = [next(listing).data["video_id"]]
    del double.tasks[1][0]
    seen += [task.data["video_id"] for task in listing]
    assert sorted(map(int, seen)) == list(range(2 * TASKS_A_PAGE + 1))


def test_a_project_that_never_rests_is_told(double: StudioDouble, client: StudioClient) -> None:
    for number in range(TASKS_A_PAGE + 1):
        double.add_task(1, {"video_id": str(number)})

    def restless(_method: str, _path: str) -> None:
        double.add_task(1, {"video_id": "late"})

    double.trouble = restless
    with pytest.raises(UnavailableError, match="changed during each of 5 listings"):
        list(client.tasks(1))


def test_an_export_asks_for_its_tasks_only(double: StudioDouble, client: StudioClient) -> None:
    numbers = [double.add_task(1, {"video_id": str(number)}) for number in range(5)]
    tasks: list[dict[str, Any]] = json.loads(client.export(1, "JSON", numbers[1:3]))
    assert [task["id"] for task in tasks] == numbers[1:3]
