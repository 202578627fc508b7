"""What a request may have cost counts until it is known: after timeouts, over batches, for pictures, after a kill."""

from __future__ import annotations

import base64
import io
import json
import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchModel
from chat_server import ChatModel, complete, error
from http_server import Call, HttpServer, Reply
from PIL import Image
from synthesis_fixtures import _requests

from pipeline.config import SynthesizeConfig
from pipeline.config.language import EndpointConfig, TokenPrice
from pipeline.errors import BudgetError, RecordError, SetupError, UnavailableError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.chat.batch import BatchDesk
from pipeline.models.chat.messages import Chat, ChatRequest, Completion, Usage, read_usage
from pipeline.models.chat.runner import ChatRunner
from pipeline.models.chat.settings import ChatSettings
from pipeline.models.chat.synthesizer import OpenAISynthesizer
from pipeline.models.chat.tab import UNFINISHED

Requests = Callable[[int], Iterator[SynthesisRequest]]

PRICE = TokenPrice(input=1000.0, output=1000.0)


@pytest.fixture(autouse=True)
def _environment(no_endpoint: None) -> None:
    pass


def runner(url: str, folder: Path, **limits: Any) -> ChatRunner:
    config = EndpointConfig(**{"base_url": url, "concurrency": 2, "max_retries": 0, "timeout_s": 5.0, **limits})
    return ChatRunner(
        ChatSettings(section="judge", model="m", endpoint=config, max_tokens=100, retry_base_s=0.01), folder
    )


async def ask(chat: Chat, text: str) -> Completion | RecordError:
    try:
        return await chat.complete(ChatRequest(messages=[{"role": "user", "content": text}]))
    except RecordError as fault:
        return fault


def spoiling(spoilt: Reply) -> Callable[[Call], Reply]:
    """Answer what does not say "spoil"; send the others `spoilt`."""
    model = ChatModel()
    return lambda call: spoilt if b"spoil" in call.body else model.handle(call)


def mixed(count: int) -> list[str]:
    """One good item, then spoilt ones with a good one in twenty, so that no endpoint seems dead."""
    return [f"{'good' if number % 20 == 0 else 'spoil'} {number}" for number in range(count)]


@pytest.mark.parametrize(
    "spoilt",
    [Reply(wire="reset"), Reply(wire="cut"), error(500, "oops"), error(504, "upstream"), Reply(body=b"<html>")],
    ids=["lost", "cut", "crash", "gateway", "no completion"],
)
def test_what_ended_without_a_word_counts_with_the_most_that_it_can_have_cost(spoilt: Reply, tmp_path: Path) -> None:
    with HttpServer(spoiling(spoilt)) as server:
        # at most 77 + 100 tokens a request, a thousandth each
        made = runner(server.url, tmp_path, max_cost=1.0, prices={"m": PRICE})
        with pytest.raises(
            BudgetError, match=r"judge\.max_cost=1\.0: .*; 5 more told no usage and count with the most"
        ):
            list(made.run(mixed(1000), ask))
    assert made.spent().requests <= 7


def test_a_timeout_counts_too_and_a_limit_of_tokens_is_kept_like_one_of_cost(tmp_path: Path) -> None:
    with HttpServer(spoiling(Reply(wire="hang"))) as server:
        made = runner(server.url, tmp_path, max_total_tokens=500, timeout_s=0.2)
        with pytest.raises(BudgetError, match="more told no usage"):
            list(made.run(mixed(1000), ask))
    assert made.spent().requests <= 4


@pytest.mark.parametrize("status", [400, 429, 503])
def test_what_an_endpoint_refuses_costs_nothing(status: int, tmp_path: Path) -> None:
    with HttpServer(spoiling(error(status, "not this one"))) as server:
        made = runner(server.url, tmp_path, max_cost=1.0, prices={"m": PRICE})
        assert len(list(made.run(mixed(60), ask))) == 60


def test_nothing_is_charged_where_nobody_was_there(tmp_path: Path) -> None:
    budget = {"max_cost": 1.0, "prices": {"m": PRICE}, "max_retries": 8}
    with pytest.raises(SetupError, match="is an OpenAI-compatible server running"):
        list(runner("http://127.0.0.1:9/v1", tmp_path, **budget).run(["a"], ask))


@pytest.mark.parametrize(
    ("usage", "completion_tokens"),
    [
        ({"prompt_tokens": 10, "completion_tokens": 5}, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, 5),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 65}, 55),
    ],
)
def test_thinking_counts_where_only_the_total_tells_of_it(usage: dict[str, int], completion_tokens: int) -> None:
    assert read_usage(json.dumps({"usage": usage})) == Usage(prompt_tokens=10, completion_tokens=completion_tokens)


# --- pictures and videos


def picture(side: int) -> dict[str, Any]:
    file = io.BytesIO()
    Image.new("RGB", (side, side)).save(file, "JPEG")
    return {
        "type": "image_url",
        "image_url": {"url": f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"},
    }


def video(size: int) -> dict[str, Any]:
    return {
        "type": "video_url",
        "video_url": {"url": f"data:video/mp4;base64,{base64.b64encode(bytes(size)).decode()}"},
    }


async def look(chat: Chat, part: dict[str, Any]) -> Completion:
    return await chat.complete(ChatRequest(messages=[{"role": "user", "content": [part]}]))


@pytest.mark.parametrize(
    ("parts", "per_size"),
    [
        ([picture(side) for side in (56, 1400, 1401, 1402)], 1 / 200),
        ([video(size) for size in (999, 99_999, 99_998, 99_997)], 0.02),
    ],
    ids=["pictures", "videos"],
)
def test_what_is_shown_is_reserved_for_by_its_size_and_by_what_the_first_has_cost(
    parts: list[dict[str, Any]], per_size: float, tmp_path: Path
) -> None:
    """A small one first: three large ones after it cost a hundred times as much, of which the limit bears one."""
    paid: list[int] = []

    def handle(call: Call) -> Reply:
        body = json.loads(call.body)
        (part,) = body["messages"][0]["content"]
        data = base64.b64decode(part[part["type"]]["url"].partition(",")[2])
        if part["type"] == "image_url":
            with Image.open(io.BytesIO(data)) as shown:
                size = shown.width * shown.height
        else:
            size = len(data)
        answer = complete(body, "x")
        answer["usage"] = {"prompt_tokens": int(size * per_size), "completion_tokens": 5}
        paid.append(answer["usage"]["prompt_tokens"] + 5)
        return Reply(body=json.dumps(answer).encode(), delay_s=0.05)

    limit = 14_000 if per_size < 0.01 else 3_000
    with HttpServer(handle) as server, pytest.raises(BudgetError):
        list(runner(server.url, tmp_path, max_total_tokens=limit, concurrency=4).run(parts, look))
    assert len(paid) == 2
    assert limit / 2 < sum(paid) <= limit


# --- batches


def batches(url: str, folder: Path, **settings: Any) -> OpenAISynthesizer:
    settings = {"model": "m", "transport": "batch", "poll_s": 0.01, "max_retries": 0, **settings}
    return OpenAISynthesizer(SynthesizeConfig(backend="openai", base_url=url, **settings), folder)


def test_a_batch_that_tells_no_usage_is_collected_and_then_stops_a_run_with_a_limit(
    tmp_path: Path, requests: Requests
) -> None:
    model = BatchModel(billed=False)
    with HttpServer(model.handle) as server:
        with pytest.raises(SetupError, match="tells no usage"):
            list(batches(server.url, tmp_path, max_total_tokens=50_000).synthesize(requests(4)))
        assert all(isinstance(draft, Draft) for draft in batches(server.url, tmp_path).synthesize(requests(4)))
    assert len(model.batches) == 1


@pytest.mark.parametrize("status", [400, 429, 503])
def test_refused_lines_of_a_batch_cost_nothing(status: int, tmp_path: Path, requests: Requests) -> None:
    with HttpServer(BatchModel(faults={0: status}).handle) as server:
        assert len(list(batches(server.url, tmp_path, max_total_tokens=10_000).synthesize(requests(10)))) == 10


def test_a_line_that_a_batch_of_an_earlier_run_refused_is_sent_once_more_and_not_twice(
    tmp_path: Path, requests: Requests
) -> None:
    model = BatchModel(refused_field="temperature", lose_create=0)
    with HttpServer(model.handle) as server:
        with pytest.raises(UnavailableError):
            list(batches(server.url, tmp_path).synthesize(requests(4)))
        results = list(batches(server.url, tmp_path).synthesize(requests(4)))
    assert all(isinstance(result, Draft) for result in results)
    assert [len(model.files[batch["input_file_id"]].splitlines()) for batch in model.batches] == [4, 4]


def test_crashed_lines_of_a_batch_count_with_the_most_that_they_can_have_cost(
    tmp_path: Path, requests: Requests
) -> None:
    with HttpServer(BatchModel(faults={0: 500}).handle) as server, pytest.raises(BudgetError, match="told no usage"):
        list(batches(server.url, tmp_path, max_total_tokens=7_000).synthesize(requests(10)))


def _collect_until_killed(url: str, folder: Path, collected: int) -> None:
    take, calls = BatchDesk._take, iter(range(100))

    def take_or_die(*arguments: Any) -> None:
        if next(calls) >= collected:
            os.kill(os.getpid(), signal.SIGKILL)
        take(*arguments)

    BatchDesk._take = take_or_die  # type: ignore[method-assign]
    list(batches(url, folder, max_requests=10).synthesize(_requests(10)))


@pytest.mark.parametrize("collected", [0, 4])
def test_a_batch_of_a_killed_run_is_counted_once(collected: int, tmp_path: Path, requests: Requests) -> None:
    model = BatchModel(looks=1)
    with HttpServer(model.handle) as server:
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_collect_until_killed, args=(server.url, tmp_path, collected))
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        assert (tmp_path / UNFINISHED).exists()
        synth = batches(server.url, tmp_path, max_requests=10)
        results = list(synth.synthesize(requests(10)))
    assert all(isinstance(result, Draft) for result in results)
    assert len(model.batches) == 1
    assert synth.spent().requests >= 10 - collected
    assert not (tmp_path / UNFINISHED).exists()


# --- kills


def _run_until_killed(url: str, folder: Path, limits: dict[str, Any]) -> None:
    list(runner(url, folder, **limits).run(map(str, range(100)), ask))


@pytest.mark.slow
@pytest.mark.parametrize(
    "limits", [{"max_requests": 9}, {"max_total_tokens": 1000}, {"max_cost": 1.0, "prices": {"m": PRICE}}]
)
def test_a_run_that_goes_on_after_a_kill_goes_on_with_the_same_budget(limits: dict[str, Any], tmp_path: Path) -> None:
    model = ChatModel(latency_s=0.15)
    context = multiprocessing.get_context("spawn")
    with HttpServer(model.handle) as server:
        before = 0
        for wanted in (2, 4):
            process = context.Process(target=_run_until_killed, args=(server.url, tmp_path, limits))
            process.start()
            while model.books.calls.total() < wanted:
                assert process.is_alive()
                time.sleep(0.01)
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
            before = model.books.calls.total()
        made = runner(server.url, tmp_path, **limits)
        with pytest.raises(BudgetError, match="requests of a run that was killed count as well"):
            list(made.run(map(str, range(100)), ask))
        calls, paid = model.books.calls.total(), model.books.prompt_tokens + model.books.completion_tokens
        assert calls > before
        assert calls <= limits.get("max_requests", 100)
        assert paid <= limits.get("max_total_tokens", 1000)
        # that run has ended by itself: the next one has the budget anew
        with pytest.raises(BudgetError) as caught:
            list(runner(server.url, tmp_path, **limits).run(map(str, range(100)), ask))
        assert "killed" not in str(caught.value)
        assert model.books.calls.total() > calls
