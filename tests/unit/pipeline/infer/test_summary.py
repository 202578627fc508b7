"""What happened when in a long recording, in at most five sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from chat_server import complete
from http_server import Call, HttpServer, Reply

from pipeline.infer.detection import DetectedSpan, Detection
from pipeline.infer.summary import summarise, summarise_by_llm


def span(start_s: float, end_s: float, answer: str | None, score: float = 0.9) -> DetectedSpan:
    return DetectedSpan(start_s=start_s, end_s=end_s, score=score, answer=answer)


def found(*spans: DetectedSpan, duration_s: float = 3725.0) -> Detection:
    return Detection(
        video="cam.mp4", fps=25.0, duration_s=duration_s, is_anomaly=bool(spans), answer=None, spans=spans,
        times_s=np.zeros(0), scores=np.zeros(0, np.float32),
    )  # fmt: skip


FIGHT = "Yes, the video shows two men who fight. This is abnormal because fights hurt people."


def test_a_summary_says_what_happened_when() -> None:
    theft = "Yes, the video shows a woman who takes a bag. This is abnormal because it is not hers."
    assert summarise(found(span(12.2, 17.9, FIGHT), span(3601.0, 3661.5, theft))) == (
        "In 1:02:05 of recording, 2 stretches are abnormal, 1:06 in all. "
        "From 0:12 to 0:17, the video shows two men who fight. "
        "From 1:00:01 to 1:01:01, the video shows a woman who takes a bag."
    )


def test_short_recordings_and_calm_ones_have_none() -> None:
    assert summarise(found(span(1, 2, FIGHT), duration_s=59.9)) is None
    assert summarise(found()) is None


def test_without_a_model_the_scores_speak() -> None:
    assert (summarise(found(span(12, 17, None, 0.834))) or "").endswith("From 0:12 to 0:17, the scores reach 0.83.")


def test_what_the_model_denies_is_not_told_as_if_it_had_been_seen() -> None:
    told = summarise(found(span(12, 12.5, "No, the video shows a calm street.", 0.91))) or ""
    assert told.endswith("At 0:12, the scores reach 0.91, though the video model sees nothing abnormal there.")


def test_spans_that_are_explained_alike_are_told_together() -> None:
    told = summarise(found(span(5, 8, FIGHT), span(20, 25, FIGHT), span(90, 95, FIGHT))) or ""
    times = "From 0:05 to 0:08, from 0:20 to 0:25 and from 1:30 to 1:35"
    assert told.endswith(f"{times}, the video shows two men who fight.")


@pytest.mark.parametrize("count", [4, 5, 40])
def test_there_are_never_more_than_five_sentences_and_none_is_invented(count: int) -> None:
    spans = [span(60.0 * n, 60.0 * n + 9, f"Yes, a man drops box {n}. Bad.", n / 100) for n in range(count)]
    told = summarise(found(*spans)) or ""
    sentences = told.split(". ")
    assert len(sentences) <= 5
    boxes = [number for number in range(count) if f"box {number}." in told]
    # The highest scores, in the order of time.
    assert boxes == (list(range(4)) if count == 4 else [count - 3, count - 2, count - 1])
    if count == 40:
        assert told.endswith("10:00, 11:00 and 25 more.")


@pytest.fixture
def llm() -> Iterator[tuple[str, dict[str, str], list[str]]]:
    """An endpoint: its URL, the object that it replies with, and what it was asked."""
    says: dict[str, str] = {}
    asked: list[str] = []

    def handle(call: Call) -> Reply:
        asked.append(call.body.decode())
        completion = complete(json.loads(call.body), "summary")
        completion["choices"][0]["message"]["content"] = json.dumps(says)
        return Reply(body=json.dumps(completion).encode())

    with HttpServer(handle) as server:
        yield server.url, says, asked


def test_an_llm_words_the_summary_from_the_spans(llm: tuple[str, dict[str, str], list[str]]) -> None:
    url, says, asked = llm
    text = "The video shows two men who fight from 12.0 s to 17.0 s. After that nothing happens."
    says |= {"judgement": "abnormal", "description": text}
    assert summarise_by_llm(found(span(12, 17, FIGHT)), "some-model", url) == text
    assert "12.0 s to 17.0 s: The video shows two men who fight." in asked[0]


def test_what_an_llm_gets_wrong_is_left_to_the_template(llm: tuple[str, dict[str, str], list[str]]) -> None:
    url, says, _ = llm
    says |= {"judgement": "normal", "description": "The video shows nothing of note at all."}
    recording = found(span(12, 17, FIGHT))
    assert summarise_by_llm(recording, "some-model", url) == summarise(recording)
