"""What servers that call themselves OpenAI-compatible really send, to captions, synthesis and judge alike."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from batch_server import BatchModel
from http_server import Call, HttpServer, Reply
from synthesis_fixtures import _requests as requests_for

from pipeline.config import CaptionConfig, JudgeConfig, SynthesizeConfig, VideoConfig
from pipeline.errors import RecordError, SetupError, UnavailableError
from pipeline.models.base import CaptionRequest, Draft, SynthesisRequest
from pipeline.models.chat.captioner import OpenAICaptioner
from pipeline.models.chat.quality_judge import QualityJudge, Scores
from pipeline.models.chat.synthesizer import OpenAISynthesizer
from pipeline.records import Caption, EventClip, InstructionPair, Reason, Video

DRAFT = json.dumps({"judgement": "abnormal", "description": "Two men fight.", "analysis": "This is a danger."})
SCORES = json.dumps({"support": 5, "relevance": 5, "clarity": 5, "conflict": "none", "reason": "Nothing."})
SENTENCE = "Two men fight beside a car."

Says = Callable[[dict[str, Any]], Any]
Outcome = Draft | Caption | Scores | RecordError


@pytest.fixture(autouse=True)
def _environment(no_endpoint: None) -> None:
    pass


class Server:
    """Says to each request what `says` returns: a message, a whole body, or a `Reply`; keeps what it was sent."""

    def __init__(self, says: Says) -> None:
        self.says = says
        self.calls: list[Call] = []
        self._lock = threading.Lock()

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(call.body) for call in self.calls]

    def handle(self, call: Call) -> Reply:
        with self._lock:
            self.calls.append(call)
        said = self.says(json.loads(call.body))
        return said if isinstance(said, Reply) else Reply(body=json.dumps(said).encode())


def saying(finish_reason: str = "stop", **message: Any) -> dict[str, Any]:
    """Return a completion; its id is the same for all."""
    choice = {"index": 0, "finish_reason": finish_reason, "message": {"role": "assistant", **message}}
    usage = {"prompt_tokens": 10, "completion_tokens": 5}
    return {"id": "chatcmpl-0", "object": "chat.completion", "created": 0, "choices": [choice], "usage": usage}


def refusing(status: int, body: object) -> Reply:
    return Reply(status=status, body=body.encode() if isinstance(body, str) else json.dumps(body).encode())


def drafts(url: str, folder: Path, count: int = 1, **settings: Any) -> list[Draft | RecordError]:
    settings = {"model": "m", "base_url": url, "max_retries": 0, "timeout_s": 5.0, **settings}
    return list(OpenAISynthesizer(SynthesizeConfig(backend="openai", **settings), folder).synthesize(fights(count)))


def fights(count: int) -> Iterator[SynthesisRequest]:
    """Yield requests to judge and explain abnormal clips."""
    return (request for number, request in enumerate(requests_for(8 * count)) if number % 8 == 0)


def ask_synthesizer(url: str, folder: Path, film: Path) -> Outcome:
    return drafts(url, folder)[0]


def ask_captioner(url: str, folder: Path, film: Path) -> Outcome:
    video = Video(
        video_id="film", path=str(film), sha256="", fps=25.0, num_frames=100, duration_s=4.0, width=128, height=64,
        codec="h264", label=None, split=None, source="test",
    )  # fmt: skip
    clip = EventClip(
        clip_id="c", video_id="film", start_s=0.0, end_s=1.0, start_frame=0, end_frame=25, glance_time_s=None,
        label="Normal", anomaly_score=None, method="window",
    )  # fmt: skip
    config = CaptionConfig(backend="openai", model="m", base_url=url, num_frames=2, max_retries=0, timeout_s=5.0)
    (caption,) = OpenAICaptioner(config, VideoConfig(workers=1), folder).caption(
        [CaptionRequest(clip=clip, video=video)]
    )
    return caption


def ask_judge(url: str, folder: Path, film: Path) -> Outcome:
    judge = QualityJudge(JudgeConfig(backend="openai", model="m", base_url=url, max_retries=0, timeout_s=5.0), folder)
    pair = InstructionPair(
        pair_id="p", clip_id="c", task="judge_explain", question="?", answer="Yes.", label="Fighting", llm="m",
        prompt_hash="", raw_response="",
    )  # fmt: skip
    caption = Caption(clip_id="c", text="Two men fight.", captioner="human", prompt_hash=None)
    (scores,) = judge.runner.run([0], lambda chat, _: judge.score(chat, pair, caption))
    return scores


@dataclass(frozen=True)
class Kind:
    """Who asks, what a good model says, what becomes of it, and the setting that limits it."""

    ask: Callable[[str, Path, Path], Outcome]
    good: str
    made: type
    limit: str


KINDS = {
    "synthesis": Kind(ask_synthesizer, DRAFT, Draft, "synthesize.max_tokens=400"),
    "caption": Kind(ask_captioner, SENTENCE, Caption, "caption.max_new_tokens=128"),
    "judge": Kind(ask_judge, SCORES, Scores, "filter.judge.max_tokens=200"),
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


@pytest.fixture
def video_path(film: Callable[[str], Path]) -> Path:
    return film("h264.mp4")


# --- where the answer stands


def in_parts(text: str) -> dict[str, Any]:
    half = len(text) // 2
    thinking = {"type": "thinking", "thinking": [{"type": "text", "text": '{"judgement": "normal"}'}]}
    texts = [{"type": "text", "text": text[:half]}, {"type": "text", "text": text[half:]}]
    return saying(content=[thinking, *texts])


@every_kind
@pytest.mark.parametrize(
    "shape",
    [
        in_parts,
        lambda text: saying(content=f"<think>A draft: {DRAFT} {SCORES}</think>{text}"),
        lambda text: saying(content=text, reasoning_content=f"{DRAFT} {SCORES}"),
    ],
    ids=["parts", "think", "reasoning beside it"],
)
def test_the_text_is_found_and_thoughts_are_none_of_it(
    shape: Callable[[str], dict[str, Any]], kind: Kind, tmp_path: Path, video_path: Path
) -> None:
    server = Server(lambda _: shape(kind.good))
    with HttpServer(server.handle) as http:
        outcome = kind.ask(http.url, tmp_path, video_path)
    assert isinstance(outcome, kind.made), outcome
    if isinstance(outcome, Caption):
        assert outcome.text == SENTENCE
    assert len(server.calls) == 1


@every_kind
@pytest.mark.parametrize(
    "reply",
    [
        saying("length", content=f"<think>A draft: {DRAFT} {SCORES} and"),
        saying("length", content=None, reasoning=f"A draft: {DRAFT}"),
        saying("length", content="", reasoning_content="So the video"),
        saying("length", content=None),
        saying("MAX_TOKENS", content=[{"type": "thinking", "thinking": "So"}]),
    ],
    ids=["open think", "reasoning", "reasoning_content", "unseen", "parts"],
)
def test_a_model_that_is_cut_off_while_it_reasons_names_the_setting_and_is_asked_once(
    reply: dict[str, Any], kind: Kind, tmp_path: Path, video_path: Path
) -> None:
    server = Server(lambda _: reply)
    with HttpServer(server.handle) as http:
        outcome = kind.ask(http.url, tmp_path, video_path)
    assert isinstance(outcome, RecordError)
    assert outcome.reason is Reason.BAD_RESPONSE
    assert f"cut off while the model was reasoning, which it may do unseen: raise {kind.limit}" in outcome.detail
    assert len(server.calls) == 1


@every_kind
def test_an_answer_that_the_server_took_for_reasoning_is_read_or_explained(
    kind: Kind, tmp_path: Path, video_path: Path
) -> None:
    server = Server(lambda _: saying(content=None, reasoning_content=f"Let me see. {kind.good}"))
    with HttpServer(server.handle) as http:
        explained = kind.ask(http.url, tmp_path / "a", video_path)
        server.says = lambda _: saying(content="", reasoning=kind.good)
        read = kind.ask(http.url, tmp_path / "b", video_path)
    assert isinstance(explained, RecordError)
    assert "switch its reasoning parser or the model's thinking off" in explained.detail
    assert isinstance(read, RecordError if kind.made is Caption else kind.made)
    assert len(server.calls) == 2


@every_kind
def test_an_answer_that_a_filter_withheld_is_a_reject_of_its_own(kind: Kind, tmp_path: Path, video_path: Path) -> None:
    server = Server(lambda _: saying("content_filter", content=kind.good[:9]))
    with HttpServer(server.handle) as http:
        outcome = kind.ask(http.url, tmp_path, video_path)
    assert isinstance(outcome, RecordError)
    assert outcome.reason is Reason.CONTENT_FILTER
    assert len(server.calls) == 1


def test_answers_that_are_equal_to_the_letter_are_all_taken(tmp_path: Path) -> None:
    prose = saying(content="Two men fight.")
    server = Server(lambda body: prose if len(body["messages"]) <= 2 else saying(content=DRAFT))
    with HttpServer(server.handle) as http:
        assert all(isinstance(draft, Draft) for draft in drafts(http.url, tmp_path, 6, concurrency=1))
    assert len(server.calls) == 12


# --- fields that are refused

TEMPERATURE = {
    "error": {
        "message": "Unsupported value: 'temperature' does not support 0 with this model. Only the default (1) value is "
        "supported.",
        "type": "invalid_request_error", "param": "temperature", "code": "unsupported_value",
    }
}  # fmt: skip
SEED_OF_FASTAPI = {
    "detail": [{"type": "extra_forbidden", "loc": ["body", "seed"], "msg": "Extra inputs are not permitted"}]
}
SEED_OF_GEMINI = [
    {"error": {"code": 400, "message": 'Unknown name "seed": Cannot find field.', "status": "INVALID_ARGUMENT"}}
]
NEWER_NAME = {"error": {"message": "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."}}
UNKNOWN_NAME = {"error": {"message": "Unrecognized request argument supplied: max_completion_tokens"}}
SCHEMA = {"error": {"message": "This response_format type is unavailable now"}}


@every_kind
@pytest.mark.parametrize("status", [400, 422])
def test_fields_that_are_refused_are_left_out(status: int, kind: Kind, tmp_path: Path, video_path: Path) -> None:
    refused = {"temperature": TEMPERATURE, "max_tokens": NEWER_NAME, "response_format": SCHEMA}

    def says(body: dict[str, Any]) -> Any:
        name = next((name for name in refused if name in body), None)
        return saying(content=kind.good) if name is None else refusing(status, refused[name])

    server = Server(says)
    with HttpServer(server.handle) as http:
        assert isinstance(kind.ask(http.url, tmp_path, video_path), kind.made)
    assert len(server.calls) == (3 if kind.made is Caption else 4)
    assert server.bodies[-1]["max_completion_tokens"] == int(kind.limit.rpartition("=")[2])


@pytest.mark.parametrize("refusal", [SEED_OF_FASTAPI, SEED_OF_GEMINI], ids=["fastapi", "gemini"])
def test_a_refused_field_is_found_on_the_first_request_and_said_once(
    refusal: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server = Server(lambda body: refusing(400, refusal) if "seed" in body else saying(content=DRAFT))
    with HttpServer(server.handle) as http:
        assert all(isinstance(draft, Draft) for draft in drafts(http.url, tmp_path, 9, temperature=0.7))
    assert ["seed" in body for body in server.bodies] == [True] + [False] * 9
    assert all(body["temperature"] == 0.7 for body in server.bodies)
    assert len([record for record in caplog.records if "takes no seed" in record.getMessage()]) == 1


def test_an_answer_without_a_limit_of_its_length_is_asked_for_only_where_no_budget_needs_it(tmp_path: Path) -> None:
    def says(body: dict[str, Any]) -> Any:
        limits = {"max_tokens": NEWER_NAME, "max_completion_tokens": UNKNOWN_NAME}
        name = next((name for name in limits if name in body), None)
        return saying(content=DRAFT) if name is None else refusing(400, limits[name])

    server = Server(says)
    with HttpServer(server.handle) as http:
        assert isinstance(drafts(http.url, tmp_path / "free")[0], Draft)
        (fault,) = drafts(http.url, tmp_path / "capped", max_total_tokens=100_000)
    assert isinstance(fault, RecordError)
    assert "max_completion_tokens" in fault.detail


def test_a_value_that_is_too_large_is_no_field_that_is_refused(tmp_path: Path) -> None:
    said = {"error": {"message": "'max_tokens' or 'max_completion_tokens' is too large: 400. The context has 300."}}
    server = Server(lambda _: refusing(400, said))
    with HttpServer(server.handle) as http:
        (fault,) = drafts(http.url, tmp_path)
    assert isinstance(fault, RecordError)
    assert "too large: 400" in fault.detail
    assert len(server.calls) == 1


def test_a_batch_whose_fields_are_refused_is_sent_again_without_them(tmp_path: Path) -> None:
    model = BatchModel(refused_field="temperature")
    with HttpServer(model.handle) as http:
        made = drafts(http.url, tmp_path, 4, transport="batch", poll_s=0.01)
    assert all(isinstance(draft, Draft) for draft in made)
    assert len(model.batches) == 2


# --- errors in the server's own words

AZURE_FILTER = {
    "error": {
        "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
        "type": None, "param": "prompt", "code": "content_filter", "status": 400,
        "innererror": {"code": "ResponsibleAIPolicyViolation"},
    }
}  # fmt: skip
ROUTER_FILTER = {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}}
ALIBABA_FILTER = {
    "error": {"code": "data_inspection_failed", "message": "Input data may contain inappropriate content."}
}


@pytest.mark.parametrize(
    "reply",
    [refusing(400, AZURE_FILTER), refusing(403, ROUTER_FILTER), refusing(400, ALIBABA_FILTER), ROUTER_FILTER],
    ids=["azure", "router", "alibaba", "router with 200"],
)
def test_a_filter_never_stops_a_run_and_its_rejects_are_kept(reply: Any, tmp_path: Path) -> None:
    server = Server(lambda body: reply if "number 8." not in str(body["messages"]) else saying(content=DRAFT))
    with HttpServer(server.handle) as http:
        faults = drafts(http.url, tmp_path, 70)
    assert [isinstance(fault, Draft) for fault in faults] == [number == 1 for number in range(70)]
    assert {fault.reason for fault in faults if isinstance(fault, RecordError)} == {Reason.CONTENT_FILTER}
    assert len(server.calls) == 70


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, {"error": {"message": "You exceeded your current quota.", "code": "insufficient_quota"}}),
        (402, {"error": {"message": "This request requires more credits.", "code": 402}}),
        (400, {"error": {"message": "Your credit balance is too low to access the API."}}),
        (200, {"error": {"message": "Insufficient credits", "code": 402}}),
    ],
)
@pytest.mark.parametrize("transport", ["chat", "batch"])
def test_an_account_without_money_stops_the_run_at_once(
    transport: str, status: int, body: dict[str, Any], tmp_path: Path
) -> None:
    if transport == "batch" and status == 200:
        pytest.skip("no router has a Batch API")
    calls: list[Call] = []

    def handle(call: Call) -> Reply:
        calls.append(call)
        return BatchModel().handle(call) if call.path == "/v1/files" else refusing(status, body)

    began = time.monotonic()
    with HttpServer(handle) as http, pytest.raises(SetupError, match="no money left") as caught:
        drafts(http.url, tmp_path, 20, max_retries=5, transport=transport)
    assert body["error"]["message"] in str(caught.value)
    assert not isinstance(caught.value, UnavailableError)
    assert len(calls) <= 2
    assert time.monotonic() - began < 10


@pytest.mark.parametrize(
    ("path", "reply", "said"),
    [
        ("", refusing(404, {"detail": "Not Found"}), r"HTTP 404: Not Found; .*_url mostly ends in /v1"),
        ("", refusing(404, "404 page not found"), r"404 page not found; .*: try http://127\.0\.0\.1:\d+/v1$"),
        ("/api", refusing(405, {"detail": "Method Not Allowed"}), r"Method Not Allowed; .*:\d+/api/v1$"),
        ("", {"error": "Unexpected endpoint or method. (POST /chat/completions)"}, r"Unexpected endpoint.*/v1$"),
        ("", Reply(body=b"<!doctype html><title>Open WebUI</title><p>Hello"), r"Open WebUI Hello.*:\d+/v1$"),
        ("/v1", refusing(404, {"error": {"message": "The model m does not exist"}}), "does not exist; no model 'm'"),
        ("/v1", refusing(404, {"error": "model 'm' not found"}), r"synthesize\.model"),
        ("/v1", refusing(401, {"statusCode": 401, "message": "bad subscription key"}), "bad subscription key; set O"),
    ],
)  # fmt: skip
def test_a_wrong_address_or_name_is_told_in_the_servers_words_with_the_cure(
    path: str, reply: Any, said: str, tmp_path: Path
) -> None:
    server = Server(lambda _: reply)
    with HttpServer(server.handle) as http, pytest.raises(SetupError, match=said):
        drafts(http.url.removesuffix("/v1") + path, tmp_path, 9)
    assert len(server.calls) == 1


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ([{"error": {"code": 400, "message": "Too large.", "status": "INVALID_ARGUMENT"}}], "HTTP 400: Too large."),
        ({"detail": [{"loc": ["body", 0], "msg": "bad part", "input": "secret"}]}, "HTTP 400: body.0: bad part"),
        ({"object": "error", "message": "prompt too long", "code": 400}, "HTTP 400: prompt too long"),
        (
            {"error": {"message": "Provider returned error", "metadata": {"raw": '{"error": {"message": "no"}}'}}},
            "HTTP 400: Provider returned error; no",
        ),
        ("<html><title>Bad Request</title><body>nginx</body></html>", "HTTP 400: Bad Request nginx"),
    ],
    ids=["gemini", "fastapi", "vllm", "router", "proxy"],
)  # fmt: skip
def test_a_refusal_is_told_in_the_servers_words(body: object, said: str, tmp_path: Path) -> None:
    server = Server(lambda _: refusing(400, body))
    with HttpServer(server.handle) as http:
        (fault,) = drafts(http.url, tmp_path)
    assert isinstance(fault, RecordError)
    assert fault.detail == said


@pytest.mark.parametrize(
    ("body", "calls"),
    [
        ({"error": {"message": "Provider overloaded", "code": 502}}, 2),
        ({"error": {"message": "Rate limit exceeded"}}, 2),
        ({"error": {"message": "Upstream timed out"}}, 2),
        ({"choices": [{"error": {"message": "Upstream overloaded"}, "message": {"content": DRAFT[:9]}}]}, 2),
        ({"error": {"message": "No such image"}}, 1),
    ],
)
def test_an_error_that_calls_itself_a_success_is_retried_where_it_passes(
    body: dict[str, Any], calls: int, tmp_path: Path
) -> None:
    server = Server(lambda _: body if len(server.calls) == 1 else saying(content=DRAFT))
    with HttpServer(server.handle) as http:
        first, second = drafts(http.url, tmp_path, 2, max_retries=1, concurrency=1)
    assert isinstance(first, Draft) == (calls == 2)
    assert isinstance(first, Draft) or "HTTP 200, yet an error: No such image" in first.detail
    assert isinstance(second, Draft)
    assert len(server.calls) == calls + 1


def test_a_url_with_a_query_or_credentials_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    server = Server(lambda _: saying(content=DRAFT))
    with HttpServer(server.handle) as http:
        monkeypatch.setenv("OPENAI_API_KEY", "sk-1")
        azure = http.url.replace("/v1", "/openai/deployments/d") + "?api-version=2024-10-21"
        assert isinstance(drafts(azure, tmp_path / "azure")[0], Draft)
        monkeypatch.setenv("OPENAI_BASE_URL", http.url.replace("//", "//ann:p%40ss@"))
        config = SynthesizeConfig(backend="openai", model="m", max_retries=0)
        (draft,) = OpenAISynthesizer(config, tmp_path / "basic").synthesize(fights(1))
        assert isinstance(draft, Draft)
    first, second = server.calls
    assert first.path == "/openai/deployments/d/chat/completions?api-version=2024-10-21"
    assert first.headers["api-key"] == "sk-1"
    assert second.headers["authorization"] == "Basic YW5uOnBAc3M="
