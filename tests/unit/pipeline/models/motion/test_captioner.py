"""The motion captioner over files: one analysis a video, captions in order, faults in their place."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError
from pipeline.models.base import CaptionRequest
from pipeline.models.factory import make_captioner
from pipeline.models.motion import captioner
from pipeline.models.motion.captioner import MotionCaptioner
from pipeline.records import Caption, EventClip, Reason, Video
from pipeline.video.readers import open_reader
from pipeline.workspace import Workspace

FPS = 10
REAL = Path(__file__).resolve().parents[6] / "shared" / "data"


def write_video(path: Path, seconds: int, step_px: int) -> Path:
    """A bright box crosses noise by `step_px` a frame, rightwards where positive, again and again."""
    rng = np.random.default_rng(0)
    ground = rng.integers(60, 100, (96, 128, 1)).repeat(3, axis=2)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        for index in range(seconds * FPS):
            picture = ground + rng.integers(-3, 4, ground.shape)
            left = (index * step_px) % 160 - 16
            picture[50:70, max(0, left) : max(0, left + 16)] = 220
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture.astype(np.uint8), format="rgb24")))
        container.mux(stream.encode())
    return path


def video_of(path: Path, video_id: str | None = None) -> Video:
    with open_reader(path) as reader:
        timeline = reader.timeline
        return Video(
            video_id=video_id or path.stem, path=str(path), sha256="", fps=timeline.fps,
            num_frames=timeline.num_frames, duration_s=timeline.duration_s, width=reader.width, height=reader.height,
            codec="h264", label=None, split=None, source="test",
        )  # fmt: skip


def request(video: Video, start_s: float, end_s: float) -> CaptionRequest:
    start_frame, end_frame = round(start_s * video.fps), round(end_s * video.fps)
    clip = EventClip(
        clip_id=f"{video.video_id}_{start_frame}_{end_frame}", video_id=video.video_id, start_s=start_s, end_s=end_s,
        start_frame=start_frame, end_frame=end_frame, glance_time_s=None, label="Normal", anomaly_score=None,
        method="window",
    )  # fmt: skip
    return CaptionRequest(clip=clip, video=video)


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Video]:
    folder = tmp_path_factory.mktemp("videos")
    return {
        "right": video_of(write_video(folder / "right.mp4", 20, 2)),
        "left": video_of(write_video(folder / "left.mp4", 20, -2)),
    }


def test_captions_in_order_faults_in_place(videos: dict[str, Video], tmp_path: Path) -> None:
    right, left = videos["right"], videos["left"]
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"not a video")
    gone = Video(**{**as_dict(right), "video_id": "gone", "path": str(broken)})
    requests = [
        request(right, 0, 8),
        request(right, 15, 25),
        request(gone, 0, 5),
        request(gone, 5, 9),
        request(left, 0, 8),
        request(right, 8, 16),
    ]
    outcomes = list(MotionCaptioner(VideoConfig(workers=2)).caption(iter(requests)))
    first, outside, *unreadable, leftwards, again = outcomes
    for outcome, made_from in ((first, requests[0]), (leftwards, requests[4]), (again, requests[5])):
        assert isinstance(outcome, Caption)
        assert (outcome.clip_id, outcome.captioner, outcome.prompt_hash) == (made_from.clip.clip_id, "motion", None)
    assert isinstance(first, Caption)
    assert "right" in first.text
    assert isinstance(leftwards, Caption)
    assert "to the left" in leftwards.text
    assert isinstance(outside, RecordError)
    assert outside.reason is Reason.FRAME_OUT_OF_RANGE
    assert "[150, 250)" in outside.detail
    assert len(unreadable) == 2
    assert all(isinstance(fault, RecordError) and fault.reason is Reason.NOT_A_VIDEO for fault in unreadable)


def as_dict(video: Video) -> dict[str, object]:
    return {name: getattr(video, name) for name in Video.__dataclass_fields__}


def test_requests_are_read_no_further_than_needed(videos: dict[str, Video]) -> None:
    taken: list[int] = []

    def requests() -> Iterator[CaptionRequest]:
        for index in range(50):
            taken.append(index)
            video = videos["right" if index % 2 else "left"]
            yield request(video, 0, 2)

    captions = MotionCaptioner(VideoConfig(workers=1)).caption(requests())
    assert isinstance(next(captions), Caption)
    assert len(taken) < 8
    captions.close()  # type: ignore[attr-defined]


def test_a_caption_depends_on_its_span_alone(videos: dict[str, Video]) -> None:
    whole = captioner.describe_clips(job(videos["right"], [(0, 8), (2, 9), (8, 16)]))
    assert captioner.describe_clips(job(videos["right"], [(2, 9)])) == whole[1:2]


def test_long_videos_are_sampled(videos: dict[str, Video], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captioner, "_WHOLE_S", 10.0)
    monkeypatch.setattr(captioner, "_STRETCH_S", 2.0)
    monkeypatch.setattr(captioner, "_MARGIN_S", 4.0)
    together = captioner.describe_clips(job(videos["right"], [(0, 6), (8, 14)]))
    assert "right" in str(together[0])
    assert captioner.describe_clips(job(videos["right"], [(8, 14)])) == together[1:]


def job(video: Video, spans: list[tuple[float, float]]) -> captioner._Job:
    return captioner._Job(video, tuple(request(video, *span).clip for span in spans), "auto")


def test_the_factory_knows_every_backend(workspace: Workspace) -> None:
    url = "http://127.0.0.1:9/v1"
    for config in (
        CaptionConfig(),
        CaptionConfig(backend="human"),
        CaptionConfig(backend="hf", model="some/model"),
        CaptionConfig(backend="openai", model="some/model", base_url=url),
    ):
        assert make_captioner(config, VideoConfig(), workspace).name == config.backend


@pytest.mark.slow
@pytest.mark.skipif(not REAL.exists(), reason=f"no real data at {REAL}")
@pytest.mark.parametrize(
    ("file", "span", "expected", "wrong"),
    [
        # a cart among pedestrians; a bicycle among them; pedestrians alone
        ("ped2/videos/Ped2_A04.mp4", (19.6, 29.6), ["many things", "far larger"], ["camera", "cuts"]),
        ("ped2/videos/Ped2_A02.mp4", (21.8, 31.8), ["many things", "towards the right", "faster"], ["larger", "cuts"]),
        ("ped2/videos/Ped2_B01.mp4", (0, 10), ["many things", "usual"], ["faster", "larger", "jumps", "burst"]),
        ("clips/Fighting033_x264_570_841.mp4", (0, 9), ["things", "centre", "burst of motion"], ["camera", "cuts"]),
    ],
)
def test_what_is_said_of_real_footage_is_true(
    file: str, span: tuple[float, float], expected: list[str], wrong: list[str]
) -> None:
    (text,) = captioner.describe_clips(job(video_of(REAL / file), [span]))
    said = str(text).lower()
    assert [words for words in expected if words not in said] == []
    assert [words for words in wrong if words in said] == []
