"""Synthesis against a server that fails in every way it can: nothing lost, nothing doubled, every token booked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import CONTENT, COPIES, WIRE, ChatModel
from http_server import HttpServer

from pipeline.config import SynthesizeConfig
from pipeline.errors import RecordError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.openai_synthesizer import OpenAISynthesizer
from pipeline.records import Reason

Requests = Callable[[int], Iterator[SynthesisRequest]]


@pytest.fixture(autouse=True)
def _environment(no_endpoint: None) -> None:
    pass


def synthesizer(server: HttpServer, folder: Path, **settings: Any) -> OpenAISynthesizer:
    settings = {"model": "m", "timeout_s": 1.0, "concurrency": 32, **settings}
    return OpenAISynthesizer(SynthesizeConfig(backend="openai", base_url=server.url, **settings), folder)


def is_passing(result: Draft | RecordError) -> bool:
    return isinstance(result, RecordError) and result.reason is Reason.REQUEST_FAILED


def test_at_a_third_of_faults_every_request_ends_once_and_every_token_is_booked(
    tmp_path: Path, requests: Requests
) -> None:
    model = ChatModel(share=0.3, seed=1)
    books = model.books
    with HttpServer(model.handle) as server:
        synth = synthesizer(server, tmp_path)
        results = list(synth.synthesize(requests(300)))
        spent = synth.spent()
        made = [result for result in results if isinstance(result, Draft)]
        faults = [result for result in results if isinstance(result, RecordError)]
        assert len(made) + len(faults) == 300
        assert len({draft.answer for draft in made}) == len(made) > 200
        assert {fault.reason for fault in faults} >= {Reason.BAD_RESPONSE, Reason.WRONG_VERDICT}
        assert {*WIRE, *CONTENT} < set(books.faults)
        assert (spent.prompt_tokens, spent.completion_tokens) == (books.prompt_tokens, books.completion_tokens)
        assert spent.requests == books.calls.total()
        assert spent.answers == books.answered.total()
        assert max(books.answered.values()) == 1

        again = synthesizer(server, tmp_path)
        calls = books.calls.copy()
        second = list(again.synthesize(requests(300)))
        kept = [(old, new) for old, new in zip(results, second, strict=True) if not is_passing(old)]
        assert [str(old) for old, _ in kept] == [str(new) for _, new in kept]
        sent_again = books.calls - calls
        assert not [name for name in sent_again if books.answered[name] > 1]
        assert again.spent().workspace_prompt_tokens == books.prompt_tokens
        assert again.spent().from_journal >= len(kept)


def test_a_copy_of_a_response_is_never_taken_for_the_next_answer(tmp_path: Path, requests: Requests) -> None:
    model = ChatModel(share=0.3, kinds=COPIES, seed=2, latency_s=0.004)
    with HttpServer(model.handle) as server:
        results = list(synthesizer(server, tmp_path, concurrency=8).synthesize(requests(200)))
    assert model.books.faults["twice_late"] > 10
    drafts = [result for result in results if isinstance(result, Draft)]
    assert len(drafts) == 200
    assert len({draft.raw_response for draft in drafts}) == 200
