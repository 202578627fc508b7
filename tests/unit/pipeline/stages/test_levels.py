"""Events and whole videos, told by the captions of their clips."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from pipeline.config import FilterConfig, SynthesizeConfig
from pipeline.errors import RecordError
from pipeline.models.base import Draft, SynthesisRequest, TimedEvent
from pipeline.models.chat.drafts import prompt_ids, write_messages
from pipeline.models.template import TemplateSynthesizer
from pipeline.models.timed import TimedText, compose, parts_of, say_events, tell
from pipeline.quality.rules import check_answer
from pipeline.questions import LEVEL_QUESTIONS, LEVEL_TASKS, choose_question, load_questions
from pipeline.records import NORMAL, Caption, EventClip, InstructionPair, Level, Task, Video
from pipeline.stages.levels import events_within, group_events, members_of, spans_of, told_by

FPS = 10
LEVELS = (Level.EVENT, Level.VIDEO)


def clip(start_s: float, end_s: float, label: str = "Fighting") -> EventClip:
    return EventClip(
        clip_id=f"{label}_{start_s:g}", video_id="cam", start_s=start_s, end_s=end_s, start_frame=round(start_s * FPS),
        end_frame=round(end_s * FPS), glance_time_s=start_s + 1, label=label, anomaly_score=start_s / 100,
        method="window",
    )  # fmt: skip


def video(label: str | None = "Fighting") -> Video:
    return Video(
        video_id="cam", path="/cam.mp4", sha256="0" * 64, fps=FPS, num_frames=1000, duration_s=100.0, width=64,
        height=48, codec="h264", label=label, split=None, source="videos.csv:2",
    )  # fmt: skip


def spans(clips: Sequence[EventClip], label: str | None = "Fighting", gap_s: float = 5.0) -> list[EventClip]:
    return spans_of(video(label), clips, LEVELS, gap_s, 1000)


def test_clips_of_one_class_that_are_near_are_one_event() -> None:
    clips = [clip(30, 34), clip(10, 14), clip(18, 22), clip(12, 16, "Shooting")]
    found = [[one.clip_id for one in group] for group in group_events(clips, 5.0)]
    assert found == [["Fighting_10", "Fighting_18"], ["Shooting_12"], ["Fighting_30"]]
    assert len(group_events(clips, 8.0)) == 2


def test_an_event_covers_its_clips_and_a_video_all_of_it() -> None:
    first, second, whole = spans([clip(10, 14), clip(18, 22), clip(60, 64)])
    assert [one.level for one in (first, second, whole)] == [Level.EVENT, Level.EVENT, Level.VIDEO]
    assert (first.start_frame, first.end_frame, first.start_s, first.end_s) == (100, 220, 10, 22)
    assert (whole.start_frame, whole.end_frame, whole.end_s) == (0, 1000, 100.0)
    assert (first.anomaly_score, whole.anomaly_score) == (0.18, 0.6)
    assert len({first.clip_id, second.clip_id, whole.clip_id}) == 3
    assert spans_of(video(), [clip(1, 2)], [Level.CLIP], 5.0, 1000) == []
    assert spans([]) == []


def test_a_video_without_a_label_has_that_of_most_of_its_events() -> None:
    clips = [clip(10, 14, "Shooting"), clip(30, 34), clip(50, 54)]
    assert spans(clips, None)[-1].label == "Fighting"
    assert spans(clips, NORMAL)[-1].label == "Fighting"
    assert spans([clip(1, 3, NORMAL)], None)[-1].label == NORMAL
    assert spans(clips, "Riot")[-1].label == "Riot"


def test_members_and_events_have_their_times_in_what_is_shown() -> None:
    clips = [clip(10, 14), clip(18, 22), clip(60, 64, "Shooting")]
    event, _, whole = spans(clips)
    assert [one.start_s for one in members_of(event, clips, 5.0)] == [10, 18]
    assert events_within(event, clips, 5.0) == (TimedEvent(0, 12, "Fighting"),)
    assert events_within(whole, clips, 5.0) == (TimedEvent(10, 22, "Fighting"), TimedEvent(60, 64, "Shooting"))
    calm = [clip(5, 9, NORMAL)]
    assert events_within(spans(calm, NORMAL)[-1], calm, 5.0) == ()


def test_a_caption_is_those_of_the_clips_in_order_with_their_times() -> None:
    clips = [clip(18, 22), clip(10, 14)]
    event, _ = spans(clips)
    told = [
        (one, Caption(clip_id=one.clip_id, text=f"Seen at\n{one.start_s:g}.", captioner="hf", prompt_hash=None))
        for one in clips
    ]
    caption = told_by(event, told)
    assert isinstance(caption, Caption)
    assert caption.text == "0.0 s to 4.0 s: Seen at 10.\n8.0 s to 12.0 s: Seen at 18."
    assert caption.captioner == "hf"
    assert parts_of(caption.text) == [TimedText(0, 4, "Seen at 10."), TimedText(8, 12, "Seen at 18.")]
    assert isinstance(told_by(event, []), Exception)


def test_another_text_has_no_parts() -> None:
    assert parts_of("0.0 s to 4.0 s: One.\nAnd then more.") == []
    assert parts_of("A man walks.") == []


def test_telling_takes_at_most_five_sentences() -> None:
    parts = [TimedText(10 * n, 10 * n + 4, f"A man takes bag {n}. He runs.") for n in range(8)]
    assert tell(parts[:1]) == "From 0.0 s to 4.0 s, a man takes bag 0. He runs."
    told = tell(parts)
    assert told.count("From") == 5
    assert told.endswith("From 40.0 s to 74.0 s, 4 more stretches follow.")
    assert parts_of(compose(parts)) == parts


def test_parts_that_begin_alike_are_told_together() -> None:
    parts = [TimedText(n, n + 1, "A man waits. Then more.") for n in range(9)]
    assert tell(parts[:2]) == "From 0.0 s to 1.0 s and from 1.0 s to 2.0 s, a man waits. Then more."
    assert tell(parts).endswith("from 2.0 s to 3.0 s and from 3.0 s to 9.0 s, a man waits.")


def test_events_are_said_with_their_times() -> None:
    said = say_events([TimedEvent(10, 22, "Fighting"), TimedEvent(60, 64.04, "Shooting")])
    assert "from 10.0 s to 22.0 s and " in said
    assert said.endswith("from 60.0 s to 64.0 s")
    same = say_events([TimedEvent(1, 2, "Fighting"), TimedEvent(3, 4, "Shooting"), TimedEvent(5, 6, "Fighting")])
    assert "from 1.0 s to 2.0 s and from 5.0 s to 6.0 s and " in same
    assert say_events([TimedEvent(n, n + 1, "Fighting") for n in range(7)]).endswith("and 3 more events after that")


def request(
    task: Task, label: str = "Fighting", captions: Sequence[str] = ("Two men push each other.", "One falls.")
) -> SynthesisRequest:
    clips = [clip(10 + 30 * n, 14 + 30 * n, label) for n in range(len(captions))]
    whole = spans(clips, label)[-1]
    told = [
        (one, Caption(clip_id=one.clip_id, text=text, captioner="human", prompt_hash=None))
        for one, text in zip(clips, captions, strict=True)
    ]
    caption = told_by(whole, told)
    assert not isinstance(caption, RecordError)
    question = choose_question(task, whole.clip_id, 0, LEVEL_QUESTIONS)
    events = events_within(whole, clips, 5.0)
    return SynthesisRequest(clip=whole, caption=caption, task=task, question=question, events=events)


@pytest.mark.parametrize("task", sorted(LEVEL_TASKS))
def test_an_llm_is_told_the_parts_in_order_and_the_events_with_their_times(task: Task) -> None:
    prompt, messages = write_messages(request(task))
    assert prompt.id == f"level_{task}"
    asked = messages[-1]["content"]
    assert "10.0 s to 14.0 s: Two men push each other.\n40.0 s to 44.0 s: One falls." in asked
    assert "10.0 s to 14.0 s: Fighting: " in asked
    assert prompt.id in prompt_ids([task], [Level.VIDEO])
    assert prompt.id not in prompt_ids([task])
    assert len(load_questions(task, LEVEL_QUESTIONS)) >= 8


@pytest.mark.parametrize("label", ["Fighting", NORMAL])
@pytest.mark.parametrize("task", sorted(LEVEL_TASKS))
def test_the_template_tells_what_happens_when_and_passes_the_rules(task: Task, label: str) -> None:
    config = SynthesizeConfig(levels=list(Level))
    asked = request(task, label, ("A man waits.", "Two men talk and shake hands.", "A woman walks by."))
    [draft] = TemplateSynthesizer(config).synthesize([asked])
    assert isinstance(draft, Draft)
    assert "rom 10.0 s to 14.0 s, a man waits." in draft.answer
    assert draft.answer.index("a man waits") < draft.answer.index("two men talk") < draft.answer.index("a woman walks")
    if label != NORMAL:
        assert "from 10.0 s to 14.0 s, from 40.0 s to 44.0 s and from 70.0 s to 74.0 s" in draft.answer
    pair = InstructionPair(
        pair_id="p", clip_id=asked.clip.clip_id, task=task, question=asked.question, answer=draft.answer, label=label,
        llm="template", prompt_hash=draft.prompt_hash, raw_response="",
    )  # fmt: skip
    assert check_answer(pair, asked.caption, FilterConfig(), asked.clip.end_s) is None
