"""What the filter rules drop, and what looks alike and stays."""

import pytest

from pipeline.config import FilterConfig
from pipeline.quality.rules import check_answer, near_duplicates, stated_verdicts
from pipeline.records import Caption, InstructionPair, Reason, Task

GOOD = "Yes, the video shows two men hitting each other on the pavement. This is abnormal because both can be injured."
CALM = "No, the video shows people walking past a shop. This is normal because nothing abnormal happens."


def pair(answer: str, label: str = "Fighting", task: Task = Task.JUDGE_EXPLAIN, pair_id: str = "p") -> InstructionPair:
    return InstructionPair(
        pair_id=pair_id,
        clip_id="c",
        task=task.value,
        question="Is anything abnormal?",
        answer=answer,
        label=label,
        llm="m",
        prompt_hash="h",
        raw_response=answer,
    )


def reason_of(
    answer: str, label: str = "Fighting", task: Task = Task.JUDGE_EXPLAIN, caption: str | None = None
) -> Reason | None:
    seen = None if caption is None else Caption(clip_id="c", text=caption, captioner="human", prompt_hash=None)
    fault = check_answer(pair(answer, label, task), seen, FilterConfig())
    return fault.reason if fault else None


@pytest.mark.parametrize(
    ("answer", "label", "task"),
    [
        (GOOD, "Fighting", Task.JUDGE_EXPLAIN),
        (CALM, "Normal", Task.JUDGE_EXPLAIN),
        ("No, walking like this is not unusual, and this is a calm street.", "Normal", Task.JUDGE_EXPLAIN),
        ("Yes, what happens is not only unusual but dangerous to everybody there.", "Riot", Task.JUDGE_EXPLAIN),
        ("Yes: a car burns. The street is normal at first, then this becomes abnormal.", "Arson", Task.JUDGE_EXPLAIN),
        ("Yes — a car burns, and this is abnormal.", "Arson", Task.JUDGE_EXPLAIN),
        ("Walking is normal here, but the blow is abnormal.", "Assault", Task.ANALYSIS),
        ("A blow lands. The video is therefore abnormal.", "Assault", Task.ANALYSIS),
        ("People queue. The video is therefore not abnormal.", "Normal", Task.ANALYSIS),
        ("Two people walk at this camera's usual pace.", "Fighting", Task.DESCRIPTION),
        ("Something moves unusually fast at the left.", "Normal", Task.DESCRIPTION),
        ("The traffic is normal until a lorry turns over.", "RoadAccidents", Task.DESCRIPTION),
        ("Everything seems normal in this quiet street.", "Fighting", Task.CAPTION),
    ],
)
def test_answers_that_agree_with_their_label_stay(answer: str, label: str, task: Task) -> None:
    assert reason_of(answer, label, task) is None


@pytest.mark.parametrize(
    ("answer", "label", "task"),
    [
        (GOOD, "Normal", Task.JUDGE_EXPLAIN),
        (CALM, "Fighting", Task.JUDGE_EXPLAIN),
        ("No one is seen in the empty street of this video.", "Normal", Task.JUDGE_EXPLAIN),
        ("Yesterday two men were hitting each other in the street.", "Fighting", Task.JUDGE_EXPLAIN),
        ("The video shows two men hitting each other.", "Fighting", Task.JUDGE_EXPLAIN),
        ("Yes, the video shows people walking. Nothing abnormal happens.", "Fighting", Task.JUDGE_EXPLAIN),
        ("Yes, people are walking by. This is normal because they are calm.", "Fighting", Task.JUDGE_EXPLAIN),
        ("No, two men fight. This is abnormal because they get hurt.", "Normal", Task.JUDGE_EXPLAIN),
        ("People queue at a till. The video is therefore normal.", "Robbery", Task.ANALYSIS),
        ("People queue at a till. The video is therefore abnormal.", "Normal", Task.ANALYSIS),
        ("People queue at a till. The situation isn't normal.", "Normal", Task.ANALYSIS),
        ("People queue at a till without any anomaly.", "Robbery", Task.DESCRIPTION),
        ("Yes, the video shows everyday activity of two men at a till.", "Robbery", Task.JUDGE_EXPLAIN),
        ("The footage shows an ordinary scene. A man in black waits.", "Robbery", Task.DESCRIPTION),
        ("A man in black waits. This is no ordinary scene.", "Normal", Task.DESCRIPTION),
    ],
)
def test_answers_against_their_label_go(answer: str, label: str, task: Task) -> None:
    assert reason_of(answer, label, task) is Reason.WRONG_VERDICT


@pytest.mark.parametrize(
    ("text", "stated"),
    [
        ("Everyday activity is all there is.", "normal"),
        ("One sees nothing but everyday activity.", "normal"),
        ("No, there is only ordinary street traffic.", "normal"),
        ("It looks like a normal day.", "normal"),
        ("The camera records everyday activity.", "normal"),
        ("The video depicts a normal and uneventful scene of traffic.", "normal"),
        ("Nothing unusual happens.", "normal"),
        ("Nothing out of the ordinary is seen.", "normal"),
        ("Something out of the ordinary is seen.", "abnormal"),
        ("Abnormal activity is seen.", "abnormal"),
        ("An abnormal scene is seen.", "abnormal"),
        ("Not an everyday scene.", "abnormal"),
        ("Such treatment has no place in everyday life.", None),
        ("This departs from everyday activity.", None),
        ("One of them moves much faster than is usual in this video.", None),
        ("An explosion appears in an otherwise ordinary traffic scene.", None),
        ("The video shows a normal scene until two men fight.", None),
        ("Normal traffic is disrupted by a crash.", None),
        ("People go about their everyday activities.", None),
    ],
)
def test_words_for_a_whole_scene(text: str, stated: str | None) -> None:
    assert stated_verdicts(text) == ({stated} if stated else set())


@pytest.mark.parametrize(
    "words",
    [
        "the label of this clip is Fighting",
        "according to the label, a fight takes place",
        "based on the caption, two men fight",
        "the caption mentions two men",
        "as an AI, two men are seen by me",
        "the provided description tells of a fight",
        'two men fight "analysis": yes',
        "two men fight ```",
        "the clip is labeled as abnormal",
        "the ground truth is a fight",
        "two men fight &lt;b&gt;",
        "the prompt asks for a fight",
        "here is the JSON object with a fight\n---\n",
    ],
)
def test_leaked_prompts_go(words: str) -> None:
    assert reason_of(f"Yes, {words} and this is abnormal.") is Reason.LEAKED_PROMPT


@pytest.mark.parametrize(
    "words",
    [
        "a man reads the label on a bottle and throws it",
        'a man holds a sign that says "based on the caption"',
        "a box labelled as fragile is thrown",
        "a man who works as an assistant is hit",
        "a shout prompts the crowd to run",
        "in the description of the scene nothing is missing but a window that breaks",
        "people from a language school fight",
    ],
)
def test_the_same_words_about_the_video_stay(words: str) -> None:
    assert reason_of(f"Yes, {words}, and this is abnormal.") is None


def test_what_the_caption_itself_says_is_no_leak() -> None:
    answer = "Yes, a screen shows the words as an AI and then explodes, which is abnormal."
    assert reason_of(answer) is Reason.LEAKED_PROMPT
    assert reason_of(answer, caption="A screen shows the words AS AN AI and explodes.") is None


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with this request about violence.",
        "I\u2019m sorry, but I can\u2019t assist with that at all.",
        "I cannot describe violent content of this kind.",
        "Unfortunately, I am unable to watch the video.",
        "Yes, I'm sorry but this is beyond me, which is abnormal.",
        "Sorry, this is not something to talk about.",
        "It is impossible to determine what happens in the video.",
        "From a text alone I cannot tell what is abnormal.",
    ],
)
def test_refusals_go(answer: str) -> None:
    assert reason_of(answer) is Reason.REFUSAL


@pytest.mark.parametrize(
    "answer",
    [
        'Yes, a man says "I\'m sorry" and then hits another man, which is abnormal.',
        "Yes, a man shouts \u201cI cannot help you\u201d and runs from the fire, which is abnormal.",
        "Yes, a woman says I'm sorry and is pushed, which is abnormal.",
        "Yes, the victim cannot get up and is unable to flee, which is abnormal.",
        "Yes, a man apologises and is hit, which is abnormal.",
    ],
)
def test_people_who_apologise_stay(answer: str) -> None:
    assert reason_of(answer) is None


def test_length_counts_words_and_both_limits_are_kept() -> None:
    config = FilterConfig(min_words=5, max_words=8)

    def reason(answer: str) -> Reason | None:
        fault = check_answer(pair(answer, task=Task.CAPTION), None, config)
        return fault.reason if fault else None

    assert reason("A man's hat falls -- .") is Reason.TOO_SHORT
    assert reason("A man's well-worn hat falls.") is None
    assert reason("A man in a red coat walks by.") is None
    assert reason("A man in a long red coat walks by.") is Reason.TOO_LONG
    fault = check_answer(pair(""), None, config)
    assert fault is not None
    assert (fault.reason, "min_words=5" in fault.detail) == (Reason.TOO_SHORT, True)


@pytest.mark.parametrize(
    "text",
    [
        "A man walks to the left. A dog runs. A man walks to the left.",
        "A man runs and runs and runs and runs and runs away.",
        "A very very very very fast car passes.",
        "a b c d e f g h i j a b c d e f g h i j a b c d e f g h i j",
        "The man walks to the left of the shop and " * 2 + "the man walks to the right of the shop and "
        "the man walks to the left of the shop again.",
    ],
)
def test_loops_go(text: str) -> None:
    assert reason_of(text, task=Task.CAPTION) is Reason.REPETITION


def test_a_sentence_after_yes_is_the_same_as_without_it() -> None:
    sentence = "the video shows two men hitting each other."
    assert reason_of(f"Yes, {sentence} {sentence.capitalize()}") is Reason.REPETITION
    assert reason_of(f"Yes, {sentence} A third man watches. This is abnormal because both can be injured.") is None


@pytest.mark.parametrize(
    "text",
    [
        "A very, very, very fast car passes the shop.",
        "It burns. People run. It burns. Nobody stays behind in the house.",
        "A man walks to the left. A woman walks to the right. A child walks to the left.",
        "Two people walk from left to right. Two more people walk from right to left, and both groups pass each other.",
    ],
)
def test_plain_parallels_stay(text: str) -> None:
    assert reason_of(text, task=Task.CAPTION) is None


def test_near_duplicates_name_the_earlier_pair_and_spare_other_tasks() -> None:
    longer = (
        "Yes, the video shows two men hitting each other on the pavement. This is abnormal because both may be hurt."
    )
    pairs = [
        pair(GOOD, pair_id="a"),
        pair(GOOD.upper().replace(",", ""), pair_id="b"),
        pair(longer, pair_id="c"),
        pair(GOOD, task=Task.DESCRIPTION, pair_id="d"),
        pair(CALM, pair_id="e"),
        pair(longer, pair_id="f"),
    ]
    faults = near_duplicates(pairs, FilterConfig(near_duplicate=0.9))
    assert list(faults) == ["b", "f"]
    assert faults["b"].reason is Reason.NEAR_DUPLICATE
    assert faults["b"].detail == "1.00 similar to a, the limit is 0.9"
    assert "similar to c" in faults["f"].detail
    assert "c" in near_duplicates(pairs, FilterConfig(near_duplicate=0.6))


def test_near_duplicates_measure_jaccard_of_word_trigrams() -> None:
    # trigrams abc bcd cde against abc bcd cdf: 2 of 4
    pairs = [pair("a b c d e", pair_id="a"), pair("a b c d f", pair_id="b")]
    assert "b" in near_duplicates(pairs, FilterConfig(near_duplicate=0.5))
    assert near_duplicates(pairs, FilterConfig(near_duplicate=0.51)) == {}
    short = [pair("Yes.", pair_id="a"), pair("yes", pair_id="b"), pair("no", pair_id="c")]
    assert list(near_duplicates(short, FilterConfig())) == ["b"]
