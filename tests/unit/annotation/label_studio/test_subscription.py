"""A project's webhook: made once, renewed where it says something else, refused where no receiver can be."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from http_server import Reply
from studio_double import TOKEN, StudioDouble

from annotation.label_studio.click_interface import glance_config
from annotation.label_studio.client import StudioClient
from annotation.label_studio.subscription import Subscription, subscribe
from annotation.label_studio.webhook import ACTIONS, SECRET_HEADER
from pipeline.errors import SetupError

URL = "https://holmes.example.org/webhook"
SECRET = "0123456789abcdef0123456789abcdef"


@pytest.fixture
def double() -> StudioDouble:
    double = StudioDouble()
    double.add_project(glance_config(["Fighting"]))
    double.add_project(glance_config(["Fighting"]))
    return double


@pytest.fixture
def client(double: StudioDouble) -> Iterator[StudioClient]:
    with double.serve() as server:
        yield StudioClient(f"http://127.0.0.1:{server.port}", TOKEN, timeout_s=2.0)


def test_a_webhook_is_made_once_a_project_and_carries_no_data(double: StudioDouble, client: StudioClient) -> None:
    assert [subscribe(client, 1, URL, SECRET) for _ in range(3)] == [
        Subscription.MADE,
        Subscription.FOUND,
        Subscription.FOUND,
    ]
    assert subscribe(client, 2, URL, SECRET) is Subscription.MADE
    first, second = double.webhooks
    assert (first["project"], second["project"]) == (1, 2)
    assert first["headers"] == {SECRET_HEADER: SECRET}
    assert set(first["actions"]) == set(ACTIONS)
    assert (first["send_payload"], first["send_for_all_actions"], first["is_active"]) == (False, False, True)


@pytest.mark.parametrize(
    "change",
    [
        {"headers": {SECRET_HEADER: "an-old-secret-of-before"}},
        {"is_active": False},
        {"send_payload": True},
        {"actions": ["TASKS_CREATED"]},
    ],
)
def test_a_webhook_that_says_something_else_is_renewed(
    double: StudioDouble, client: StudioClient, change: dict[str, object]
) -> None:
    subscribe(client, 1, URL, SECRET)
    wanted = dict(double.webhooks[0])
    double.webhooks[0].update(change)
    assert subscribe(client, 1, URL, SECRET) is Subscription.RENEWED
    assert double.webhooks == [wanted]


def test_webhooks_of_others_are_left_alone(double: StudioDouble, client: StudioClient) -> None:
    theirs = {"id": 1, "project": 1, "url": "https://example.org/webhook", "headers": {}}
    double.webhooks.append(dict(theirs))
    assert subscribe(client, 1, URL, SECRET) is Subscription.MADE
    assert double.webhooks[0] == theirs


@pytest.mark.parametrize("url", ["holmes.example.org/webhook", "ftp://a/webhook", "http:///webhook", "http://a:9090/"])
def test_an_address_of_no_receiver_is_refused_before_the_server_is_asked(
    double: StudioDouble, client: StudioClient, url: str
) -> None:
    with pytest.raises(SetupError, match="no address of the receiver, which ends with /webhook"):
        subscribe(client, 1, url, SECRET)
    assert double.calls == []


@pytest.mark.parametrize(
    ("detail", "told"),
    [
        ("URL resolves to a reserved network address (block: 127.0.0.0/8)", "SSRF_PROTECTION_ENABLED=false"),
        ("You do not have permission to perform this action.", "refuses the token in LABEL_STUDIO_API_KEY"),
    ],
)
def test_an_address_that_the_server_does_not_call_is_told_from_a_wrong_token(
    double: StudioDouble, client: StudioClient, detail: str, told: str
) -> None:
    refusal = Reply(status=403, body=json.dumps({"detail": detail}).encode())
    double.trouble = lambda method, _path: refusal if method == "POST" else None
    with pytest.raises(SetupError, match=told) as refused:
        subscribe(client, 1, URL, SECRET)
    assert SECRET not in str(refused.value)
