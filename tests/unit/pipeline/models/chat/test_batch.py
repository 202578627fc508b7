"""Synthesis through the Batch API of a server on the loopback: submit, poll, collect, and go on after any kill."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchModel
from http_server import HttpServer

from pipeline.config import SynthesizeConfig
from pipeline.errors import BudgetError, RecordError, SetupError, UnavailableError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.chat import batch as batch_module
from pipeline.models.chat.synthesizer import OpenAISynthesizer
from pipeline.records import Reason

Requests = Callable[[int], Iterator[SynthesisRequest]]


@pytest.fixture(autouse=True)
def _environment(no_endpoint: None) -> None:
    pass


def synthesizer(server: HttpServer, folder: Path, **settings: Any) -> OpenAISynthesizer:
    settings = {"model": "m", "transport": "batch", "poll_s": 0.01, "max_retries": 0, **settings}
    return OpenAISynthesizer(SynthesizeConfig(backend="openai", base_url=server.url, **settings), folder)


def test_a_batch_and_a_second_one_for_repairs_answer_everything(tmp_path: Path, requests: Requests) -> None:
    model = BatchModel(faults={3: "prose", 4: "wrong_verdict", 7: 500})
    with HttpServer(model.handle) as server:
        synth = synthesizer(server, tmp_path)
        results = list(synth.synthesize(requests(20)))
    assert len(model.batches) == 2
    reasons = [result.reason if isinstance(result, RecordError) else None for result in results]
    assert [place for place, reason in enumerate(reasons) if reason] == [4, 7]
    assert (reasons[4], reasons[7]) == (Reason.WRONG_VERDICT, Reason.REQUEST_FAILED)
    assert isinstance(results[3], Draft)
    assert len({result.answer for result in results if isinstance(result, Draft)}) == 18
    spent, books = synth.spent(), model.books
    assert spent.requests == books.calls.total() == 21
    assert (spent.prompt_tokens, spent.completion_tokens) == (books.prompt_tokens, books.completion_tokens)
    assert max(books.answered.values()) == 1


def test_what_was_answered_is_not_asked_again_by_either_transport(tmp_path: Path, requests: Requests) -> None:
    model = BatchModel()
    with HttpServer(model.handle) as server:
        first = list(synthesizer(server, tmp_path).synthesize(requests(10)))
        again = list(synthesizer(server, tmp_path, batch_requests=3).synthesize(requests(10)))
        by_chat = list(synthesizer(server, tmp_path, transport="chat").synthesize(requests(10)))
    assert first == again == by_chat
    assert len(model.batches) == 1


@pytest.mark.parametrize("moment", ["uploaded", "submitted", "polled", "collecting"])
def test_a_run_that_is_killed_is_gone_on_with_and_no_batch_is_submitted_twice(
    moment: str, tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    desk = batch_module.BatchDesk
    model = BatchModel(looks=1)
    with HttpServer(model.handle) as server:
        with monkeypatch.context() as patch:
            if moment == "uploaded":
                patch.setattr(desk, "_submit", die)
            elif moment == "submitted":
                model._lose_create = 0
            elif moment == "polled":
                patch.setattr(desk, "_wait", die)
            else:
                take = desk._take
                calls = iter(range(100))
                patch.setattr(desk, "_take", lambda *args: take(*args) if next(calls) < 4 else die())
            with pytest.raises((KeyboardInterrupt, UnavailableError)):
                list(synthesizer(server, tmp_path).synthesize(requests(10)))
        results = list(synthesizer(server, tmp_path).synthesize(requests(10)))
    assert len(model.batches) == 1
    assert all(isinstance(result, Draft) for result in results)
    assert max(model.books.answered.values()) == 1


def test_a_batch_that_was_never_submitted_is_submitted_anew(tmp_path: Path, requests: Requests) -> None:
    model = BatchModel()
    note = {"name": "abc-0", "requests": 10, "batch_id": None, "is_settled": False}
    (tmp_path / "batches.jsonl").write_text(json.dumps(note) + '\n{"name": "ab')
    with HttpServer(model.handle) as server:
        assert len(list(synthesizer(server, tmp_path).synthesize(requests(10)))) == 10
        lines = (tmp_path / "batches.jsonl").read_text().splitlines()
        assert json.loads(lines[2]) == {**note, "is_settled": True}
    assert [batch["metadata"]["holmes"] for batch in model.batches] != ["abc-0"]


def test_what_an_expired_batch_left_open_fails_and_is_asked_for_by_the_next_run(
    tmp_path: Path, requests: Requests
) -> None:
    model = BatchModel(expired=0.3)
    with HttpServer(model.handle) as server:
        first = list(synthesizer(server, tmp_path).synthesize(requests(10)))
        faults = [result for result in first if isinstance(result, RecordError)]
        assert len(faults) == 3
        assert "expired" in faults[0].detail
        assert {fault.reason for fault in faults} == {Reason.REQUEST_FAILED}
        second = list(synthesizer(server, tmp_path).synthesize(requests(10)))
    assert all(isinstance(result, Draft) for result in second)
    assert model.books.calls.total() == 10


def test_a_budget_sends_what_fits_and_the_next_run_the_rest(tmp_path: Path, requests: Requests) -> None:
    model = BatchModel()
    with HttpServer(model.handle) as server:
        results = []
        with pytest.raises(BudgetError, match=r"synthesize\.max_requests=6: .*spent in this run: 6 requests"):
            results += [result for result in synthesizer(server, tmp_path, max_requests=6).synthesize(requests(10))]  # noqa: C416
        rest = list(synthesizer(server, tmp_path, max_requests=6).synthesize(requests(10)))
    assert len(rest) == 10
    assert model.books.calls.total() == 10


@pytest.mark.parametrize(
    ("status", "said"), [(401, "OPENAI_API_KEY"), (404, "transport=chat"), (400, "bad file"), (503, "run again")]
)
def test_a_refused_batch_is_one_clear_message(status: int, said: str, tmp_path: Path, requests: Requests) -> None:
    model = BatchModel(refuses=(status, "bad file"))
    with HttpServer(model.handle) as server, pytest.raises(SetupError, match=said):
        list(synthesizer(server, tmp_path).synthesize(requests(2)))
