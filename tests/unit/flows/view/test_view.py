"""The page's server: what it shows, and what becomes of a decision."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from dataset_fixtures import fill
from starlette.testclient import TestClient

from flows.view.items import ViewedPairs
from flows.view.server import make_app
from pipeline.review.store import stored_reviews
from pipeline.workspace import Workspace

__all__ = ["fill"]


@pytest.fixture
def space(fill: Callable[..., Workspace]) -> Workspace:
    return fill(files=True)


def client_of(space: Workspace, reviewer: str = "ada") -> Any:
    return TestClient(make_app(ViewedPairs(space, reviewer), ["testserver"]))


def test_rows_have_what_the_page_filters_by(space: Workspace) -> None:
    rows = client_of(space).get("/rows").json()
    assert len(rows) == 24
    assert {row["state"] for row in rows} == {"kept"}
    assert rows[0]["caption"]
    assert rows[0]["agreement"] is None


def test_a_decision_lands_where_reviews_are_kept(space: Workspace) -> None:
    for name, decision in (("ada", "reject"), ("bob", "accept")):
        client = client_of(space, name)
        row = client.get("/rows").json()[0]
        sent = {"pair_id": row["pair_id"], "decision": decision, "answer": row["answer"]}
        assert client.post("/decisions", json=sent).status_code == 200
    kept = [(review.pair_id, review.reviewer, review.decision) for _, review in stored_reviews(space)]
    assert kept == [(row["pair_id"], "ada", "reject"), (row["pair_id"], "bob", "accept")]
    assert client.get("/rows").json()[0]["agreement"] == "conflict"


def test_what_is_no_decision_is_refused(space: Workspace) -> None:
    client = client_of(space)
    row = client.get("/rows").json()[0]
    sent = {"pair_id": row["pair_id"], "decision": "accept", "answer": row["answer"]}
    assert client.post("/decisions", json={**sent, "answer": "an older one"}).status_code == 409
    assert client.post("/decisions", json={**sent, "decision": "edit"}).status_code == 409
    assert client.post("/decisions", json=[]).status_code == 422
    assert client.post("/decisions", content="{}", headers={"content-type": "text/plain"}).status_code == 415
    assert client.get("/rows", headers={"host": "evil.example"}).status_code == 400
    assert not list(stored_reviews(space))


def test_clips_are_served_in_parts_and_nothing_else_is(space: Workspace) -> None:
    client = client_of(space)
    pair_id = client.get("/rows").json()[0]["pair_id"]
    part = client.get(f"/clips/{pair_id}", headers={"range": "bytes=4-7"})
    assert (part.status_code, part.content) == (206, b"ftyp")
    assert client.get("/clips/..%2F..%2Fetc%2Fpasswd").status_code == 404
