"""The chat transport in its parts: journal, slots, waits, budget, and requests that are equal."""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from chat_server import ChatModel, error
from http_server import Call, HttpServer, Reply

from pipeline.config import SynthesizeConfig
from pipeline.config.language import EndpointConfig, TokenPrice
from pipeline.errors import BudgetError, RecordError, SetupError, UnavailableError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.chat.endpoint import wait_asked_for
from pipeline.models.chat.journal import Journal
from pipeline.models.chat.messages import Chat, ChatRequest, Completion, Usage
from pipeline.models.chat.runner import ChatRunner
from pipeline.models.chat.settings import ChatSettings
from pipeline.models.chat.slots import Slots
from pipeline.models.chat.synthesizer import OpenAISynthesizer

Requests = Callable[[int], Iterator[SynthesisRequest]]

KEY = "00" * 16


@pytest.fixture(autouse=True)
def _environment(no_endpoint: None) -> None:
    pass


def runner(server: HttpServer, folder: Path, **settings: Any) -> ChatRunner:
    max_tokens = settings.pop("max_tokens", 400)
    endpoint = EndpointConfig(**{"base_url": server.url, "concurrency": 4, "timeout_s": 5.0, **settings})
    return ChatRunner(
        ChatSettings(section="judge", model="m", endpoint=endpoint, max_tokens=max_tokens, retry_base_s=0.01), folder
    )


async def ask(chat: Chat, text: str) -> Completion | RecordError:
    try:
        return await chat.complete(ChatRequest(messages=[{"role": "user", "content": text}]))
    except RecordError as fault:
        return fault


# --- the journal


def test_a_torn_line_is_left_aside_and_the_next_one_stands_on_its_own(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(KEY, "m", "first", Usage(prompt_tokens=3, completion_tokens=2))
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole + whole[: len(whole) // 2])
    other = "11" * 16
    with Journal(tmp_path) as journal:
        assert journal.find(KEY) == "first"
        journal.append(other, "m", "second ü \ud83d", None)
        assert journal.find(other) == "second ü \ud83d"
    with Journal(tmp_path) as journal:
        assert (journal.find(KEY), journal.find(other)) == ("first", "second ü \ud83d")
        assert journal.paid == {"m": Usage(prompt_tokens=3, completion_tokens=2)}
        assert journal.find("22" * 16) is None


def test_two_processes_never_write_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(SetupError, match="in use by another process"), Journal(tmp_path):
        pass


def test_a_failed_response_counts_and_is_never_found(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.append(KEY, "m", "{}", Usage(prompt_tokens=3, completion_tokens=0), status=500)
        assert journal.find(KEY) is None
        assert journal.paid["m"].prompt_tokens == 3


def _write_until_killed(folder: Path, ready: Any) -> None:
    with Journal(folder) as journal:
        for number in range(1_000_000):
            journal.append(f"{number:032x}", "m", f"body {number}", None)
            if number == 500:
                ready.set()


def test_a_killed_process_loses_nothing_that_it_wrote(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    process = context.Process(target=_write_until_killed, args=(tmp_path, ready))
    process.start()
    assert ready.wait(60)
    process.kill()
    process.join()
    with Journal(tmp_path) as journal:
        assert len(journal) > 500
        for number in range(len(journal)):
            assert journal.find(f"{number:032x}") == f"body {number}"


# --- slots and waits


async def test_slots_shrink_once_a_round_and_grow_by_four_a_round() -> None:
    slots = Slots(16)
    moments = [await slots.acquire() for _ in range(16)]
    for moment in moments:
        slots.refuse(moment)
    assert slots.limit == 11
    for _ in range(16):
        slots.release()
    for _ in range(12):
        slots.succeed()
    assert slots.limit == 14
    for _ in range(500):
        slots.succeed()
    assert slots.limit == 16


async def test_a_place_is_given_in_turn_and_a_waiter_that_gives_up_takes_none() -> None:
    slots = Slots(1)
    await slots.acquire()
    order: list[int] = []

    async def wait(number: int) -> None:
        await slots.acquire()
        order.append(number)
        slots.release()

    tasks = [asyncio.create_task(wait(number)) for number in range(3)]
    await asyncio.sleep(0)
    tasks[1].cancel()
    slots.release()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert order == [0, 2]


@pytest.mark.parametrize(
    ("headers", "wait_s"),
    [
        ({}, None),
        ({"retry-after": "2.5"}, 2.5),
        ({"retry-after": "-1"}, 0.0),
        ({"retry-after": "soon"}, None),
        ({"retry-after-ms": "40", "retry-after": "9"}, 0.04),
        ({"retry-after": formatdate(1000, usegmt=True), "date": formatdate(970, usegmt=True)}, 30.0),
        ({"retry-after": formatdate(1000, usegmt=True)}, 0.0),
    ],
)
def test_every_form_of_retry_after_is_read(headers: dict[str, str], wait_s: float | None) -> None:
    assert wait_asked_for(headers) == wait_s


def test_refusals_for_the_rate_slow_down_and_lose_nothing(tmp_path: Path) -> None:
    in_flight, most = 0, 6
    lock = threading.Lock()
    model = ChatModel(latency_s=0.01)

    def handle(call: Call) -> Reply:
        nonlocal in_flight
        with lock:
            if in_flight >= most:
                return error(429, "too many")
            in_flight += 1
        reply = model.handle(call)

        def sent() -> None:
            nonlocal in_flight
            with lock:
                in_flight -= 1

        reply.sent = sent
        return reply

    with HttpServer(handle) as server:
        made = runner(server, tmp_path, concurrency=32, max_retries=2)
        results = list(made.run(map(str, range(200)), ask))
    assert all(isinstance(result, Completion) for result in results)
    assert made.account.retries < 200


def test_an_endpoint_that_asks_for_an_hour_is_not_waited_for(tmp_path: Path) -> None:
    with HttpServer(lambda _: error(429, "quota", {"Retry-After": "3600"})) as server:
        made = runner(server, tmp_path)
        with pytest.raises(UnavailableError, match="come back in 3600 s"):
            list(made.run(["a"], ask))
        assert made.account.requests == 1


# --- requests


def test_equal_requests_are_paid_once_within_a_run_and_across_runs(tmp_path: Path) -> None:
    model = ChatModel(latency_s=0.02)
    with HttpServer(model.handle) as server:
        made = runner(server, tmp_path)
        results = list(made.run(["a", "b", "a", "a", "b", "c"], ask))
        again = list(runner(server, tmp_path).run(["c", "a"], ask))
    assert model.books.calls.total() == 3
    assert results[0] == results[2] == results[3] == again[1]
    assert made.account.shared + made.account.from_journal == 3


def test_a_message_of_parts_goes_out_as_it_is_and_is_known_again(tmp_path: Path) -> None:
    bodies: list[dict[str, Any]] = []
    model = ChatModel()

    def handle(call: Call) -> Reply:
        bodies.append(json.loads(call.body))
        return model.handle(call)

    parts = [
        {"type": "text", "text": "What happens?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
        {"type": "video_url", "video_url": {"url": "data:video/mp4;base64,AAAA"}},
    ]

    async def look(chat: Chat, _: int) -> Completion:
        return await chat.complete(ChatRequest(messages=[{"role": "user", "content": parts}]))

    with HttpServer(handle) as server:
        for _ in range(2):
            list(runner(server, tmp_path).run([0], look))
    assert [body["messages"][0]["content"] for body in bodies] == [parts]


def test_a_repair_is_found_again_whatever_words_the_parser_has_for_the_fault() -> None:
    settings = ChatSettings(section="s", model="m")
    first = ChatRequest(messages=[{"role": "user", "content": "fault in old words"}], stands_for="repair of x")
    later = ChatRequest(messages=[{"role": "user", "content": "fault in new words"}], stands_for="repair of x")
    assert first.key(settings) == later.key(settings)
    assert first.key(settings) != ChatRequest(messages=first.messages).key(settings)
    assert first.key(settings) != first.key(ChatSettings(section="s", model="m", max_tokens=9))
    assert first.key(settings) == first.key(
        ChatSettings(section="t", model="m", endpoint=EndpointConfig(concurrency=1))
    )


# --- the budget


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        ({"max_requests": 7}, r"judge\.max_requests=7"),
        ({"max_total_tokens": 1000}, r"judge\.max_total_tokens=1000"),
        ({"max_cost": 0.001}, r"judge\.max_cost=0\.001.* cost 0\.000"),
    ],
)
def test_a_budget_is_never_exceeded_and_the_next_run_goes_on(budget: dict[str, Any], said: str, tmp_path: Path) -> None:
    model = ChatModel(latency_s=0.005)
    items = [f"item {number}" for number in range(30)]
    price = TokenPrice(input=1.0, output=1.0)
    results: list[Any] = []
    with HttpServer(model.handle) as server:
        for _ in range(30):
            made = runner(server, tmp_path, **budget, prices={"m": price}, max_tokens=100)
            results = []
            try:
                results.extend(made.run(items, ask))
                break
            except BudgetError as fault:
                assert made.account.answers > 0
                with pytest.raises(BudgetError, match=said):
                    raise fault from None
            finally:
                spent = made.spent()
                assert spent.requests <= budget.get("max_requests", 30)
                assert spent.prompt_tokens + spent.completion_tokens <= budget.get("max_total_tokens", 1000)
                assert spent.cost is not None
                assert spent.cost <= 0.001
    assert len(results) == 30
    assert model.books.calls.total() == 30
    assert spent.workspace_prompt_tokens == model.books.prompt_tokens


def test_a_budget_of_tokens_needs_an_endpoint_that_counts_them(tmp_path: Path) -> None:
    with HttpServer(ChatModel(billed=False).handle) as server:
        made = runner(server, tmp_path, max_total_tokens=100_000)
        with pytest.raises(SetupError, match="tells no usage"):
            list(made.run(["a", "b"], ask))
        assert [isinstance(result, Completion) for result in runner(server, tmp_path).run(["a", "b"], ask)] == [
            True
        ] * 2


def test_a_limit_of_cost_needs_a_price(tmp_path: Path) -> None:
    config = SynthesizeConfig(backend="openai", model="m", base_url="http://127.0.0.1:1/v1", max_cost=1)
    with pytest.raises(SetupError, match=r"needs the price of m: synthesize\.prices"):
        OpenAISynthesizer(config, tmp_path)


def test_a_parser_that_becomes_better_needs_no_new_call(
    tmp_path: Path, requests: Requests, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ChatModel(share=1.0, kinds=("prose",))
    with HttpServer(model.handle) as server:
        config = SynthesizeConfig(backend="openai", model="m", base_url=server.url)
        faults = list(OpenAISynthesizer(config, tmp_path).synthesize(requests(3)))
        assert model.books.calls.total() == 6
        for fault in faults:
            assert isinstance(fault, RecordError)
            key = fault.detail.rpartition(" ")[2]
            with Journal(tmp_path) as journal:
                assert "Sure, here is what I think" in str(journal.find(key))
        from pipeline.models.chat import asking
        from pipeline.models.replies import CaptionReply

        monkeypatch.setattr(asking, "parse_object", lambda kind, text: CaptionReply(caption=text))
        again = list(OpenAISynthesizer(config, tmp_path).synthesize(requests(3)))
    assert all(isinstance(draft, Draft) for draft in again)
    assert model.books.calls.total() == 6
