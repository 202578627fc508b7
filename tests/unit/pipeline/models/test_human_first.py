"""Human sentences in the place of a model's captions, where there are some about the clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from pipeline.models.base import CaptionRequest
from pipeline.models.human import HumanCaptioner, HumanFirst, TimedSentence
from pipeline.records import Caption, EventClip, Video


class Model:
    """Names the clip, and what it was asked about."""

    name = "model"

    def __init__(self) -> None:
        self.asked: list[str] = []

    def identity(self) -> Mapping[str, object]:
        return {"model": 1}

    def evidence_of(self, request: CaptionRequest) -> object:
        return None

    def caption(self, requests: Iterable[CaptionRequest]) -> Iterator[Caption]:
        for request in requests:
            self.asked.append(request.clip.clip_id)
            yield Caption(clip_id=request.clip.clip_id, text="A street.", captioner=self.name, prompt_hash=None)


def request(clip_id: str, video_id: str, start_s: float) -> CaptionRequest:
    video = Video(
        video_id=video_id, path="", sha256="", fps=25.0, num_frames=2500, duration_s=100.0, width=64, height=48,
        codec="", label=None, split=None, source="test",
    )  # fmt: skip
    clip = EventClip(
        clip_id=clip_id, video_id=video_id, start_s=start_s, end_s=start_s + 10, start_frame=0, end_frame=250,
        glance_time_s=None, label="Abuse", anomaly_score=None, method="window",
    )  # fmt: skip
    return CaptionRequest(clip=clip, video=video)


def test_people_speak_first_and_the_model_is_asked_about_the_rest_in_order() -> None:
    model = Model()
    human = HumanCaptioner({"told": [TimedSentence(0.0, 10.0, "a man falls")]})
    both = HumanFirst(human, model)
    clips = [request("a", "told", 0.0), request("b", "told", 50.0), request("c", "untold", 0.0),
             request("d", "told", 1.0), request("e", "told", 2.0)]  # fmt: skip
    captions = list(both.caption(iter(clips)))
    assert [(caption.clip_id, caption.captioner) for caption in captions if isinstance(caption, Caption)] == [
        ("a", "human"), ("b", "model"), ("c", "model"), ("d", "human"), ("e", "human"),
    ]  # fmt: skip
    assert model.asked == ["b", "c"]
    assert isinstance(captions[0], Caption)
    assert captions[0].text == "A man falls."


def test_a_new_sentence_remakes_the_captions_that_it_is_about_alone() -> None:
    before = HumanFirst(HumanCaptioner({}), Model())
    after = HumanFirst(HumanCaptioner({"told": [TimedSentence(0.0, 10.0, "a man falls")]}), Model())
    assert before.identity() == after.identity()
    far, near = request("b", "told", 50.0), request("a", "told", 0.0)
    assert before.evidence_of(far) == after.evidence_of(far)
    assert before.evidence_of(near) != after.evidence_of(near)
