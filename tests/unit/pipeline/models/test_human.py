"""Sentences that people wrote find the clips they are about."""

from __future__ import annotations

import pytest

from pipeline.errors import RecordError
from pipeline.models.base import CaptionRequest
from pipeline.models.human import HumanCaptioner, TimedSentence
from pipeline.records import Caption, EventClip, Reason, Video

VIDEO = Video(
    video_id="v",
    path="v.mp4",
    sha256="",
    fps=25.0,
    num_frames=1500,
    duration_s=60.0,
    width=320,
    height=240,
    codec="h264",
    label="Robbery",
    split=None,
    source="test",
)


def request(start_s: float, end_s: float, video_id: str = "v") -> CaptionRequest:
    clip = EventClip(
        clip_id=f"{video_id}@{start_s:g}",
        video_id=video_id,
        start_s=start_s,
        end_s=end_s,
        start_frame=round(start_s * 25),
        end_frame=round(end_s * 25),
        glance_time_s=None,
        label="Robbery",
        anomaly_score=None,
        method="window",
    )
    return CaptionRequest(clip=clip, video=VIDEO)


def ask(sentences: list[TimedSentence], start_s: float, end_s: float, video_id: str = "v") -> Caption | RecordError:
    (outcome,) = HumanCaptioner({"v": sentences}).caption([request(start_s, end_s, video_id)])
    return outcome


@pytest.mark.parametrize(
    ("sentences", "span", "expected"),
    [
        ([TimedSentence(2, 8, "a man  runs")], (0, 10), "A man runs."),
        # time order, whatever the order of the file
        ([TimedSentence(6, 9, "Two."), TimedSentence(1, 5, "One!")], (0, 10), "One! Two."),
        # a neighbour that only touches the clip is not about it
        ([TimedSentence(2, 8, "Inside"), TimedSentence(9, 20, "After")], (0, 10), "Inside."),
        # a long sentence span around a short clip is
        ([TimedSentence(0, 60, "All along")], (20, 25), "All along."),
        # none overlaps by half: the best one that overlaps at all
        ([TimedSentence(8, 20, "Later"), TimedSentence(9, 30, "Latest")], (0, 10), "Later."),
        # at most three, those that overlap most
        ([TimedSentence(i, i + 1 + i / 10, f"s{i}") for i in range(6)], (0, 10), "S3. S4. S5."),
        # a summary of the whole video tells what lies outside: it yields to what is told of the clip
        ([TimedSentence(0, 60, "They fight and flee"), TimedSentence(20, 25, "A fight")], (20, 26), "A fight."),
        # but not where most of the clip is untold, and the most specific summary speaks
        (
            [TimedSentence(0, 60, "All"), TimedSentence(10, 45, "Half"), TimedSentence(29, 31, "End")],
            (20, 30),
            "Half. End.",
        ),
        # repeats take up no room, be they written a little otherwise
        (
            [TimedSentence(1, 9, w) for w in ("A man runs", "a man runs.", "A man  runs")]
            + [TimedSentence(1, 4, "He falls"), TimedSentence(5, 8, "He lies there")],
            (0, 10),
            "He falls. A man runs. He lies there.",
        ),
        # of repeats, the one about the clip counts
        ([TimedSentence(0, 5, "He runs"), TimedSentence(20, 25, "He runs")], (20, 30), "He runs."),
        # the same words by two annotators are said once
        ([TimedSentence(1, 5, "Twice"), TimedSentence(1.1, 5, "twice ")], (0, 10), "Twice."),
    ],
)
def test_sentences_about_the_span(sentences: list[TimedSentence], span: tuple[float, float], expected: str) -> None:
    outcome = ask(sentences, *span)
    assert isinstance(outcome, Caption)
    assert outcome.text == expected
    assert (outcome.captioner, outcome.prompt_hash, outcome.clip_id) == ("human", None, f"v@{span[0]:g}")


def test_no_sentence_names_clip_and_nearest_span() -> None:
    outcome = ask([TimedSentence(1, 5, "Early"), TimedSentence(30, 40, "Late")], 10, 20)
    assert isinstance(outcome, RecordError)
    assert outcome.reason is Reason.NO_CAPTION
    assert "v@10" in outcome.detail
    assert "[1.00 s, 5.00 s)" in outcome.detail


def test_a_sentence_that_only_reaches_over_the_border_says_nothing_about_the_clip() -> None:
    outcome = ask([TimedSentence(19.9, 40, "Later")], 10, 20)
    assert isinstance(outcome, RecordError)
    assert "the nearest is about [19.90 s, 40.00 s)" in outcome.detail


def test_video_without_sentences() -> None:
    outcome = ask([TimedSentence(1, 5, "Early")], 0, 10, video_id="other")
    assert isinstance(outcome, RecordError)
    assert outcome.reason is Reason.NO_CAPTION
    assert "other" in outcome.detail


def test_order_and_faults_keep_their_place() -> None:
    captioner = HumanCaptioner({"v": [TimedSentence(0, 5, "Early")]})
    outcomes = list(captioner.caption([request(30, 40), request(0, 5), request(50, 60)]))
    assert [isinstance(outcome, Caption) for outcome in outcomes] == [False, True, False]


def test_evidence_is_the_sentences_of_the_video_in_any_order() -> None:
    one, two = TimedSentence(0, 5, "Early"), TimedSentence(6, 9, "Late")
    asked = request(0, 5)
    evidence = HumanCaptioner({"v": [one, two]}).evidence_of(asked)
    assert evidence == HumanCaptioner({"v": [two, one], "other": [one]}).evidence_of(asked)
    assert evidence != HumanCaptioner({"v": [one, TimedSentence(6, 9, "Later")]}).evidence_of(asked)
