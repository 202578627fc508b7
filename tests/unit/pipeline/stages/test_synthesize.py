"""Synthesis against a server that fails in every way it can: nothing lost, nothing doubled, every token booked."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import CONTENT, COPIES, WIRE, ChatModel
from http_server import HttpServer

from pipeline.config import SynthesizeConfig
from pipeline.errors import BudgetError, RecordError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.chat.synthesizer import OpenAISynthesizer
from pipeline.records import Reason, Task
from pipeline.stages.base import StageReport
from pipeline.stages.run import run_stage
from pipeline.stages.synthesize import SynthesizeStage
from pipeline.workspace import Workspace

Requests = Callable[[int], Iterator[SynthesisRequest]]


@pytest.fixture(autouse=True)
def _environment(no_endpoint: None) -> None:
    pass


def synthesizer(server: HttpServer, folder: Path, **settings: Any) -> OpenAISynthesizer:
    settings = {"model": "m", "timeout_s": 20.0, "concurrency": 32, **settings}
    return OpenAISynthesizer(SynthesizeConfig(backend="openai", base_url=server.url, **settings), folder)


def is_passing(result: Draft | RecordError) -> bool:
    return isinstance(result, RecordError) and result.reason is Reason.REQUEST_FAILED


@pytest.mark.slow
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


def test_a_stage_that_its_budget_stops_keeps_what_is_done_and_the_report_tells_what_it_cost(
    workspace: Workspace, requests: Requests
) -> None:
    clips = [request.clip for request in requests(12)]
    captions = [request.caption for request in requests(12)]
    names = [clip.clip_id for clip in clips]
    workspace.clips.commit(names, list(zip(names, clips, strict=True)), [], "f")
    workspace.captions.commit(names, list(zip(names, captions, strict=True)), [], "f")
    model = ChatModel()
    with HttpServer(model.handle) as server:

        def run() -> StageReport:
            synth = synthesizer(server, workspace.journal_folder("synthesize"), max_requests=7)
            return run_stage(SynthesizeStage(workspace, synth, [Task.JUDGE_EXPLAIN], 0), workspace.pairs)

        with pytest.raises(BudgetError, match=r"synthesize\.max_requests=7.* 7 requests, \d+ prompt and \d+ comp"):
            run()
        assert workspace.pairs.num_rows == 7
        report = run()
        assert report.rows == 12
        assert report.spent is not None
        assert (report.spent.requests, report.spent.answers) == (5, 5)
        assert report.spent.workspace_prompt_tokens == model.books.prompt_tokens
        assert model.books.calls.total() == 12
        nothing = run()
    assert nothing.made == 0
    assert nothing.spent is not None
    assert (nothing.spent.requests, nothing.spent.workspace_prompt_tokens) == (0, model.books.prompt_tokens)
