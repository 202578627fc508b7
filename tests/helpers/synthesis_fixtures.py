"""Requests to synthesize, and an environment that names no endpoint."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from pipeline.models.base import SynthesisRequest
from pipeline.records import Caption, EventClip, Task


@pytest.fixture
def no_endpoint(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the endpoint, the key and the proxy of whoever runs the tests."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def requests() -> Callable[[int], Iterator[SynthesisRequest]]:
    """Return a maker of so many requests, all different, of both labels and all tasks."""
    return _requests


def _requests(count: int) -> Iterator[SynthesisRequest]:
    for number in range(count):
        clip = EventClip(
            clip_id=f"clip{number}", video_id="v", start_s=0.0, end_s=4.0, start_frame=0, end_frame=100,
            glance_time_s=2.0, label=("Fighting", "Normal")[number % 2], anomaly_score=None, method="window",
        )  # fmt: skip
        text = f"A {('wild', 'calm')[number % 2]} street, number {number}."
        caption = Caption(clip_id=clip.clip_id, text=text, captioner="human", prompt_hash=None)
        task = list(Task)[number // 2 % 4]
        yield SynthesisRequest(clip=clip, caption=caption, task=task, question="Is anything abnormal?")
