"""The template synthesizer: true to label and caption, fluent, varied, the same in every run."""

import re
from collections import Counter
from dataclasses import replace
from itertools import product

import pytest

from pipeline.config import FilterConfig, SynthesizeConfig
from pipeline.errors import RecordError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.factory import make_synthesizer
from pipeline.models.sentences import can_continue, join_clause, split_sentences, tidy
from pipeline.models.template import TemplateSynthesizer
from pipeline.quality.rules import check_answer
from pipeline.records import Caption, EventClip, InstructionPair, Reason, Task
from pipeline.taxonomy import describe_class, load_taxonomies
from pipeline.workspace import Workspace

MOTION = (
    "Two people walk from left to right at this camera's usual pace. "
    "A sudden burst of fast motion appears at the lower left."
)
CAPTIONS = [
    MOTION,
    "The video shows a man in a dark jacket pushing another man. A third man runs away.",
    "In this video, people stand in line at a counter",
    "a white car drives out of the side road and hits a motorbike",
    "John Smith's shop is empty, and the street lamp flickers!",
    'A man shouts "stop!" and runs.  \n He falls',
]
LABELS = ["Normal", "Fighting", "Biking", "PersonFalling", "queue_jumping"]


def request(
    clip_id: str = "c", label: str = "Fighting", text: str = MOTION, task: Task = Task.JUDGE_EXPLAIN
) -> SynthesisRequest:
    clip = EventClip(
        clip_id=clip_id,
        video_id="v",
        start_s=0.0,
        end_s=4.0,
        start_frame=0,
        end_frame=100,
        glance_time_s=None,
        label=label,
        anomaly_score=None,
        method="window",
    )
    caption = Caption(clip_id=clip_id, text=text, captioner="human", prompt_hash=None)
    return SynthesisRequest(clip=clip, caption=caption, task=task, question="?")


def answer(request: SynthesisRequest, seed: int = 0) -> str:
    (draft,) = TemplateSynthesizer(SynthesizeConfig(seed=seed)).synthesize([request])
    assert isinstance(draft, Draft)
    return draft.answer


ALL_LABELS = sorted({entry.name for taxonomy in load_taxonomies().values() for entry in taxonomy.classes} | set(LABELS))


@pytest.mark.parametrize("label", ALL_LABELS)
def test_every_answer_passes_the_rules_and_is_well_formed(label: str) -> None:
    for task in Task:
        for number, text in enumerate(CAPTIONS * 6):
            made = request(f"c{number}", label, text, task)
            written = answer(made)
            pair = InstructionPair(
                pair_id="p",
                clip_id="c",
                task=task,
                question="?",
                answer=written,
                label=label,
                llm="t",
                prompt_hash="",
                raw_response="",
            )
            fault = check_answer(pair, made.caption, FilterConfig())
            assert fault is None, f"{fault}: {written}"
            assert re.fullmatch(r"[A-Z].*[.!?][\"']?", written)
            assert not re.search(r"\s{2}|\s[.,:]|\.\.|[{}]|\b(\w+) \1\b", written), written


@pytest.mark.parametrize("text", CAPTIONS)
@pytest.mark.parametrize("label", LABELS)
def test_judgements_hold_label_caption_and_a_reason_and_nothing_else(label: str, text: str) -> None:
    entry = describe_class("person falling" if label == "PersonFalling" else label)
    for number in range(30):
        written = answer(request(f"c{number}", label, text))
        assert written.startswith("No, " if label == "Normal" else "Yes, ")
        assert ("abnormal because" in written or "abnormal is that" in written) == (label != "Normal")
        assert any(why in written for why in entry.why)
        # the facts of the caption stand there word by word
        told = re.sub(r"^(the video shows|in this video,) ", "", " ".join(text.split()).lower())
        assert told.rstrip(".!") in written.lower()
        if label != "Normal":
            assert describe_class(label).phrase in written


def test_analyses_end_or_begin_with_the_verdict_and_give_two_reasons() -> None:
    for label, verdict in (("Normal", "normal"), ("Explosion", "abnormal")):
        for number in range(30):
            written = answer(request(f"c{number}", label, task=Task.ANALYSIS))
            assert re.search(rf"\b(is|therefore) {verdict}\b", written)
            assert sum(why in written for why in describe_class(label).why) == 2


def test_descriptions_name_the_event_and_captions_are_the_caption() -> None:
    assert "a fight between people" in answer(request(task=Task.DESCRIPTION))
    assert answer(request(text=" a cat\nruns ", task=Task.CAPTION)) == "A cat runs."


def test_an_open_category_is_named_in_words() -> None:
    assert "an event of the kind person falling" in answer(request(label="PersonFalling"))
    assert "an event of the kind queue jumping" in answer(request(label="queue_jumping"))


def test_a_caption_that_says_the_video_shows_is_woven_in() -> None:
    written = {answer(request(f"c{i}", text="The clip shows a man hitting a dog. It barks.")) for i in range(30)}
    assert all(text.startswith("Yes, the video shows a man hitting a dog. It barks.") for text in written)
    assert len(written) > 3


def test_no_wording_dominates_and_the_mean_length_is_the_papers() -> None:
    requests = [request(f"c{i}", label) for i in range(400) for label in ("Normal", "Robbery")]
    drafts = [d for d in TemplateSynthesizer(SynthesizeConfig()).synthesize(requests) if isinstance(d, Draft)]
    counts = Counter(draft.answer for draft in drafts)
    assert max(counts.values()) < 0.03 * len(drafts)
    mean = sum(len(draft.answer.split()) for draft in drafts) / len(drafts)
    assert 38 < mean < 52  # 44.83 in Holmes-VAD


def test_the_same_clip_gets_the_same_answer_wherever_it_stands_in_a_run() -> None:
    requests = [request(f"c{i}") for i in range(20)]
    synthesizer = TemplateSynthesizer(SynthesizeConfig())
    forward = list(synthesizer.synthesize(requests))
    assert list(synthesizer.synthesize(reversed(requests))) == forward[::-1]
    assert any(answer(made, seed=1) != answer(made, seed=0) for made in requests)


def test_an_empty_caption_is_a_fault_and_the_rest_goes_on(workspace: Workspace) -> None:
    first, second = make_synthesizer(SynthesizeConfig(), workspace).synthesize([request(text=" \n"), request()])
    assert isinstance(first, RecordError)
    assert first.reason is Reason.EMPTY_TEXT
    assert isinstance(second, Draft)


def test_braces_in_a_caption_are_text() -> None:
    assert "a sign with {why} on it" in answer(request(text="A man holds a sign with {why} on it."))


def test_identity_follows_wordings_classes_and_seed() -> None:
    def identity(seed: int) -> object:
        return TemplateSynthesizer(SynthesizeConfig(seed=seed)).identity()

    assert identity(0) == identity(0) != identity(1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a man  walks\n", "A man walks."),
        ("A man walks,", "A man walks."),
        ('He says "stop!"', 'He says "stop!"'),
        ("Really?", "Really?"),
        ("(It rains.)", "(It rains.)"),
    ],
)
def test_tidy_makes_a_sentence(text: str, expected: str) -> None:
    assert tidy(text) == expected


def test_names_keep_their_capital() -> None:
    assert join_clause("Here, ", "Two men walk.") == "Here, two men walk."
    assert join_clause("Here, ", "Anna walks.") == "Here, Anna walks."
    assert join_clause("", "Two men walk.") == "Two men walk."
    assert not can_continue("Theodor walks.")
    assert split_sentences("It is 3.5 m long. He runs! Then, e.g. here, it ends.") == [
        "It is 3.5 m long.",
        "He runs!",
        "Then, e.g. here, it ends.",
    ]


def test_the_class_is_named_as_far_as_the_caption_bears_it_out() -> None:
    calm, crash = "A man walks by. He wears a hat.", "A car collides with a bus."
    for number in range(30):
        for task, text in product((Task.JUDGE_EXPLAIN, Task.DESCRIPTION, Task.ANALYSIS), (calm, crash)):
            made = request(f"c{number}", "Fighting", text, task)
            written = answer(replace(made, caption=replace(made.caption, captioner="vlm")))
            assert "fight" not in written
            assert "because" not in written
            assert re.search("abnormal|out of the ordinary", written)
            assert text[1:] in written
            seen = answer(request(f"c{number}", "Fighting", "Two men punch each other.", task))
            assert "fight" in seen


def test_no_answer_about_a_normal_clip_quotes_an_event() -> None:
    for number in range(30):
        for task in (Task.JUDGE_EXPLAIN, Task.DESCRIPTION, Task.ANALYSIS):
            part = answer(request(f"c{number}", "Normal", "The clip shows a man. He walks. Two men punch a boy.", task))
            assert "alks." in part
            assert "punch" not in part
            nothing = answer(request(f"c{number}", "Normal", "The clip shows two men who punch a boy.", task))
            assert "punch" not in nothing
            assert len(nothing.split()) > 4
