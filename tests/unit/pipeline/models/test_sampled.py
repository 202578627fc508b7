"""Captions that keep what several looks at a clip agree in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import pytest

from pipeline.config import CaptionConfig, VideoConfig
from pipeline.errors import RecordError
from pipeline.models.base import CaptionRequest
from pipeline.models.clip_frames import evenly_spaced, frame_job
from pipeline.models.factory import make_captioner
from pipeline.models.sampled import SampledCaptioner, agree
from pipeline.records import Caption, EventClip, Reason, Video
from pipeline.schema import content_key
from pipeline.video.timeline import Timeline
from pipeline.workspace import Workspace

WALK = "A man in a red jacket walks along the street."
STROLL = "A man in a red jacket strolls along a street."
PUNCH = "A man in a red jacket punches another man."
BLAST = "A car explodes at the crossing."


@pytest.mark.parametrize(
    ("texts", "kept"),
    [
        ([WALK, WALK, WALK], WALK),
        ([PUNCH, WALK, STROLL], WALK),
        ([PUNCH, WALK, PUNCH], PUNCH),
        ([f"{WALK} {PUNCH}", f"{PUNCH} {WALK}", f"{PUNCH} {STROLL} {BLAST}"], f"{WALK} {PUNCH}"),
        ([f"{WALK} {PUNCH}", f"{WALK} {BLAST}"], WALK),
        ([f"{WALK} It rains on green umbrellas.", WALK, STROLL], WALK),
        ([PUNCH, BLAST], ""),
        ([PUNCH, "Two men fight, a man in a red jacket and another."], PUNCH),
    ],
)
def test_what_most_captions_say_stays(texts: list[str], kept: str) -> None:
    assert agree(texts)[0] == kept


def test_agreement_is_the_lower_share_of_events_and_of_words() -> None:
    assert agree([WALK, WALK])[1] == 1.0
    assert agree([WALK, WALK, PUNCH])[1] == 0.5
    assert 0.5 < agree([WALK, STROLL])[1] < 1
    assert agree([PUNCH, BLAST])[1] == 0.0


class Scripted:
    """Says what it is told to, and remembers which samples it was asked for."""

    name = "scripted"

    def __init__(self, *answers: str | RecordError) -> None:
        self.answers = answers
        self.asked: list[tuple[int, int]] = []

    def identity(self) -> Mapping[str, object]:
        return {"version": 1}

    def evidence_of(self, request: CaptionRequest) -> object:
        return None

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption | RecordError]:
        for request, answer in zip(requests, self.answers, strict=True):
            self.asked.append((request.sample, request.samples))
            yield (
                answer
                if isinstance(answer, RecordError)
                else Caption(clip_id=request.clip.clip_id, text=answer, captioner="scripted", prompt_hash=None)
            )


def request(clip_id: str = "c") -> CaptionRequest:
    clip = EventClip(
        clip_id=clip_id, video_id="v", start_s=0.0, end_s=5.0, start_frame=0, end_frame=50, glance_time_s=None,
        label="Normal", anomaly_score=None, method="random",
    )  # fmt: skip
    video = Video(
        video_id="v", path="/v.mp4", sha256="0" * 64, fps=10.0, num_frames=100, duration_s=10.0, width=64, height=48,
        codec="h264", label="Normal", split=None, source="v.csv:2",
    )  # fmt: skip
    return CaptionRequest(clip=clip, video=video)


def test_each_clip_is_asked_about_so_often_and_has_one_outcome() -> None:
    lost = RecordError(Reason.REQUEST_FAILED, "gone")
    model = Scripted(WALK, PUNCH, WALK, PUNCH, BLAST, "A dog is fed.", WALK, lost, WALK)
    outcomes = list(SampledCaptioner(model, 3).caption(request(name) for name in "abc"))
    assert model.asked == [(number, 3) for number in range(3)] * 3
    first, second, third = outcomes
    assert isinstance(first, Caption)
    assert (first.clip_id, first.text, first.agreement) == ("a", WALK, 0.5)
    assert isinstance(second, Caption) or second.reason is Reason.EMPTY_TEXT
    assert third == lost


def test_samples_show_other_frames_the_first_those_of_a_single_look() -> None:
    timeline = Timeline(times_s=np.arange(40) / 10, duration_s=4.0, fps=10.0, tick_s=0.001, nominal_fps=None)
    config = CaptionConfig(backend="hf", model="m", num_frames=4, samples=3)
    shown = []
    for number in range(3):
        one = request()
        job = frame_job(CaptionRequest(clip=one.clip, video=one.video, sample=number, samples=3), config, "pyav")
        shown.append(evenly_spaced(timeline, 0, 40, 4, job.phase))
    assert shown == [[5, 15, 25, 35], [8, 18, 28, 38], [1, 11, 21, 31]]


def test_one_sample_changes_nothing_and_more_is_another_identity(workspace: Workspace) -> None:
    def identity(**settings: object) -> Mapping[str, object]:
        config = CaptionConfig.model_validate({"backend": "hf", "model": "holmes-tiny", **settings})
        return make_captioner(config, VideoConfig(), workspace).identity()

    assert "samples" not in identity()
    assert identity(samples=2) == {**identity(), "samples": 2, "agreement": 1}


def test_what_says_the_same_each_time_is_not_asked_again() -> None:
    for settings in ({"backend": "motion"}, {"backend": "openai", "model": "m", "send": "video"}):
        with pytest.raises(ValueError, match="the same each time"):
            CaptionConfig.model_validate({**settings, "samples": 2})


def test_agreement_remakes_nothing_that_is_made_of_a_caption() -> None:
    captions = [
        Caption(clip_id="c", text=WALK, captioner="m", prompt_hash=None, agreement=share) for share in (None, 0.5)
    ]
    assert content_key(captions[0]) == content_key(captions[1])
