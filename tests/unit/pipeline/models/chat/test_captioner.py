"""The `openai` captioner against a server on the loopback that decodes what it is sent."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from http_server import HttpServer, Reply
from vision_server import VisionModel, completion

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import BudgetError, RecordError, SetupError
from pipeline.models.base import CaptionRequest
from pipeline.models.chat.captioner import OpenAICaptioner
from pipeline.models.clip_frames import evenly_spaced
from pipeline.prompts import load_prompt
from pipeline.records import Caption, EventClip, Reason, Video
from pipeline.video.timeline import read_timeline

FPS = 25
ONE_WORKER = VideoConfig(workers=1)


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def footage(film: Callable[[str], Path]) -> Video:
    """Four seconds whose frames carry their numbers."""
    return Video(
        video_id="film", path=str(film("h264.mp4")), sha256="", fps=FPS, num_frames=100, duration_s=4.0, width=128,
        height=64, codec="h264", label=None, split=None, source="test",
    )  # fmt: skip


def request(video: Video, start_frame: int, end_frame: int) -> CaptionRequest:
    clip = EventClip(
        clip_id=f"{start_frame}-{end_frame}", video_id=video.video_id, start_s=start_frame / FPS,
        end_s=end_frame / FPS, start_frame=start_frame, end_frame=end_frame, glance_time_s=None, label="Normal",
        anomaly_score=None, method="window",
    )  # fmt: skip
    return CaptionRequest(clip=clip, video=video)


def captioner(url: str, folder: Path, **values: Any) -> OpenAICaptioner:
    given = {"model": "eye", "base_url": url, "num_frames": 4, "timeout_s": 10.0, **values}
    return OpenAICaptioner(CaptionConfig(backend="openai", **given), ONE_WORKER, folder)


def test_frames_arrive_complete_and_in_order(footage: Video, number_of: Callable[..., int], tmp_path: Path) -> None:
    model = VisionModel(number_of)
    requests = [request(footage, start, start + 40) for start in range(0, 60, 5)]
    requests.insert(2, request(footage, 90, 120))
    with HttpServer(model.handle) as server:
        outcomes = list(captioner(server.url, tmp_path).caption(iter(requests)))
    outside = outcomes.pop(2)
    assert isinstance(outside, RecordError)
    assert outside.reason is Reason.FRAME_OUT_OF_RANGE
    del requests[2]
    timeline = read_timeline(footage.path)
    for outcome, asked in zip(outcomes, requests, strict=True):
        expected = " ".join(map(str, evenly_spaced(timeline, asked.clip.start_frame, asked.clip.end_frame, 4)))
        assert outcome == Caption(
            clip_id=asked.clip.clip_id,
            text=f"Frames {expected} are seen.",
            captioner="eye",
            prompt_hash=load_prompt("caption").hash,
        )
    assert set(model.sizes) == {(128, 64)}
    body = model.bodies[0]
    assert body["model"] == "eye"
    assert (body["max_tokens"], body["temperature"]) == (128, 0.0)
    assert [part["type"] for part in body["messages"][-1]["content"]] == ["image_url"] * 4 + ["text"]
    assert body["messages"][-1]["content"][-1]["text"] == load_prompt("caption").render()[-1]["content"]


def test_the_clip_as_video(footage: Video, number_of: Callable[..., int], tmp_path: Path) -> None:
    model = VisionModel(number_of)
    with HttpServer(model.handle) as server:
        requests = [request(footage, 30, 40), request(footage, 90, 120)]
        outcome, outside = captioner(server.url, tmp_path, send="video").caption(requests)
    assert isinstance(outcome, Caption)
    assert outcome.text == f"Frames {' '.join(map(str, range(30, 40)))} are seen."
    assert [part["type"] for part in model.bodies[0]["messages"][-1]["content"]] == ["video_url", "text"]
    assert isinstance(outside, RecordError)
    assert outside.reason is Reason.FRAME_OUT_OF_RANGE


def test_size_and_quality_of_pictures(footage: Video, number_of: Callable[..., int], tmp_path: Path) -> None:
    model = VisionModel(number_of)
    with HttpServer(model.handle) as server:
        for quality in (95, 30):
            config = {"max_side": 64, "jpeg_quality": quality}
            list(captioner(server.url, tmp_path / str(quality), **config).caption([request(footage, 0, 40)]))
    assert set(model.sizes) == {(64, 32)}
    fine, coarse = (len(str(body)) for body in model.bodies)
    assert coarse < 0.9 * fine


def test_passing_faults_are_tried_again_and_others_are_rejected(
    footage: Video, number_of: Callable[..., int], tmp_path: Path
) -> None:
    requests = [request(footage, start, start + 20) for start in range(0, 50, 10)]
    timeline = read_timeline(footage.path)
    first_frames = [evenly_spaced(timeline, one.clip.start_frame, one.clip.end_frame, 4)[0] for one in requests]
    replies = [
        [Reply(status=429, headers={"Retry-After": "0"}), Reply(status=500)],
        [Reply(wire="reset")],
        [Reply(status=400, body=b'{"error": {"message": "image too large"}}')],
        [completion("ASSISTANT: A man walks. He turns to the", finish_reason="length")],
        [completion("<think>Nothing")],
    ]
    model = VisionModel(number_of, dict(zip(first_frames, replies, strict=True)))
    with HttpServer(model.handle) as server:
        asked = captioner(server.url, tmp_path, concurrency=2)
        first, second, refused, cut, empty = asked.caption(iter(requests))
    assert isinstance(first, Caption)
    assert isinstance(second, Caption)
    assert first.text != second.text
    assert isinstance(refused, RecordError)
    assert refused.reason is Reason.REQUEST_FAILED
    assert "image too large" in refused.detail
    assert isinstance(cut, Caption)
    assert cut.text == "A man walks."
    assert isinstance(empty, RecordError)
    assert empty.reason is Reason.EMPTY_TEXT
    spent = asked.spent()
    assert (spent.requests, spent.retries, spent.answers) == (8, 3, 4)
    assert (spent.prompt_tokens, spent.completion_tokens) == (4000, 40)


def test_nothing_is_paid_twice(footage: Video, number_of: Callable[..., int], tmp_path: Path) -> None:
    model = VisionModel(number_of)
    requests = [request(footage, start, start + 20) for start in range(0, 50, 10)]
    with HttpServer(model.handle) as server:
        some = captioner(server.url, tmp_path, max_requests=3, concurrency=1)
        made: list[Any] = []
        with pytest.raises(BudgetError, match=r"caption\.max_requests=3"):
            made += some.caption(iter(requests))
        again = captioner(server.url, tmp_path)
        outcomes = list(again.caption(iter(requests)))
    assert len(model.bodies) == len(requests)
    assert [outcome.clip_id for outcome in outcomes if isinstance(outcome, Caption)] == [
        asked.clip.clip_id for asked in requests
    ]
    assert again.spent().from_journal == 3


def test_a_server_that_is_not_there_stops_the_run(footage: Video, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"http://127\.0\.0\.1:9: "):
        list(captioner("http://127.0.0.1:9/v1", tmp_path, max_retries=0).caption([request(footage, 0, 20)]))


def test_settings_are_checked_before_any_clip(tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"needs caption\.model"):
        captioner("http://127.0.0.1:9/v1", tmp_path, model=None)
    with pytest.raises(SetupError, match=r"set OPENAI_API_KEY, or caption\.base_url"):
        captioner("", tmp_path)
    with pytest.raises(ValueError, match="credentials do not belong"):
        captioner("http://user:secret@host/v1", tmp_path)


def test_identity_follows_what_changes_text(tmp_path: Path) -> None:
    def identity(**values: Any) -> object:
        return captioner("http://127.0.0.1:9/v1", tmp_path, **values).identity()

    one = identity()
    assert one == identity(concurrency=2, timeout_s=5.0, max_requests=9, base_url="http://other/v1", seed=3)
    changes: list[dict[str, Any]] = [
        {"model": "other"}, {"send": "video"}, {"num_frames": 5}, {"max_side": 99}, {"jpeg_quality": 50},
        {"max_new_tokens": 9}, {"temperature": 0.5},
    ]  # fmt: skip
    assert all(identity(**values) != one for values in changes)
    assert identity(send="video") == identity(send="video", num_frames=5, max_side=99, jpeg_quality=50)
