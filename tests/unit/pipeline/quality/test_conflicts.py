"""Where label, caption and answer tell of different things, and what only looks like it."""

from __future__ import annotations

import pytest

from pipeline.config import SynthesizeConfig
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.template import TemplateSynthesizer
from pipeline.quality.conflicts import find_conflicts, supports_class
from pipeline.records import Caption, EventClip, Reason, Task
from pipeline.taxonomy import load_taxonomies

CALM = "A man in a red jacket walks along the street."
FIGHT = "Two men punch each other at the door."
CRASH = "A car collides with a bus."
YES = "Yes, something abnormal happens."
NO = "No, nothing abnormal happens here."


@pytest.mark.parametrize(
    ("label", "caption", "answer", "reasons"),
    [
        ("Normal", CALM, NO, []),
        ("Normal", "Two men do not fight; nobody is hit by a car.", NO, []),
        ("Normal", FIGHT, NO, [Reason.EVENT_IN_NORMAL]),
        ("Normal", CALM, f"No, this is normal. {FIGHT}", [Reason.CONTRADICTION]),
        ("Normal", CALM, "Two men punch each other at the door.", [Reason.CONTRADICTION]),
        ("Fighting", FIGHT, YES, []),
        ("Assault", FIGHT, YES, []),
        ("B1", FIGHT, YES, []),
        ("Riot", FIGHT, YES, []),
        ("Fighting", f"{CRASH} {FIGHT}", YES, []),
        ("Fighting", CRASH, YES, [Reason.OTHER_EVENT]),
        ("Fighting", FIGHT, f"Yes, {CRASH}", [Reason.CONTRADICTION]),
        ("Fighting", FIGHT, "Yes, everything in this video is normal.", [Reason.CONTRADICTION]),
        ("Fighting", CALM, YES, [Reason.NOTHING_SEEN]),
        ("Abnormal", CRASH, YES, []),
        ("Abnormal", CALM, YES, []),
        ("Biking", CALM, YES, []),
        ("Falling ladder", CRASH, f"Yes, {CRASH}", []),
    ],
)
def test_conflicts(label: str, caption: str, answer: str, reasons: list[Reason]) -> None:
    found = find_conflicts(label=label, caption=caption, captioner="a-model", answer=answer)
    assert [fault.reason for fault in found] == reasons


@pytest.mark.parametrize("captioner", ["human", "motion"])
def test_of_an_abnormal_clip_people_and_measurements_are_believed(captioner: str) -> None:
    for caption in (CRASH, CALM):
        assert supports_class("Fighting", caption, captioner)
        assert not list(find_conflicts(label="Fighting", caption=caption, captioner=captioner, answer=f"Yes, {CRASH}"
                                       if caption is CRASH else YES))  # fmt: skip
    (fault,) = find_conflicts(label="Normal", caption=CRASH, captioner=captioner, answer=NO)
    assert fault.reason is Reason.EVENT_IN_NORMAL


def test_conflicts_are_told_with_the_words() -> None:
    (fault,) = find_conflicts(label="Normal", caption=FIGHT, captioner="a-model", answer=NO)
    assert fault.detail == "the caption tells of Fighting ('punch'), the label is Normal"


def test_no_wording_of_the_templates_is_at_odds_with_its_label() -> None:
    for taxonomy in load_taxonomies().values():
        for entry in taxonomy.classes:
            for number in range(30):
                request = _request(f"clip {number}", entry.name, CALM, "motion")
                for task in Task:
                    (draft,) = TemplateSynthesizer(SynthesizeConfig()).synthesize(
                        [SynthesisRequest(clip=request[0], caption=request[1], task=task, question="What?")]
                    )
                    assert isinstance(draft, Draft)
                    found = find_conflicts(label=entry.name, caption=CALM, captioner="motion", answer=draft.answer)
                    assert not list(found), draft.answer


def _request(clip_id: str, label: str, text: str, captioner: str) -> tuple[EventClip, Caption]:
    clip = EventClip(
        clip_id=clip_id, video_id="cam", start_s=0.0, end_s=5.0, start_frame=0, end_frame=50, glance_time_s=1.0,
        label=label, anomaly_score=None, method="window",
    )  # fmt: skip
    return clip, Caption(clip_id=clip_id, text=text, captioner=captioner, prompt_hash=None)
