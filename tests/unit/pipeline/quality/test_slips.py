"""Slips that show in the text alone, and what looks like one and stays."""

import pytest

from pipeline.config import FilterConfig
from pipeline.quality.rules import check_answer
from pipeline.quality.slips import find_control_token
from pipeline.records import Caption, InstructionPair, Reason, Task

CLIP_S = 10.0


def reason_of(answer: str, caption: str = "x", language: str = "en") -> Reason | None:
    pair = InstructionPair(
        pair_id="p", clip_id="c", task=Task.DESCRIPTION.value, question="?", answer=answer, label="Fighting", llm="m",
        prompt_hash="h", raw_response=answer,
    )  # fmt: skip
    seen = Caption(clip_id="c", text=caption, captioner="human", prompt_hash=None)
    fault = check_answer(pair, seen, FilterConfig.model_validate({"language": language}), CLIP_S)
    return fault.reason if fault else None


@pytest.mark.parametrize(
    "answer",
    [
        "A man\x00 walks past the shop.",
        "A man walks\x1b[2J past the shop.",
        "A man walks past the caf\ufffd on the left.",
        "A man walks past the caf\u00c3\u00a9 on the left.",
        "The man\u00e2\u20ac\u2122s hat falls to the ground.",
        "It is 20 \u00c2\u00b0C in front of the shop.",
        "A man \ud800 walks past the shop.",
        "A man \u202e walks past the shop.",
        "A man \ue000 walks past the shop.",
    ],
)
def test_broken_characters_go(answer: str) -> None:
    assert reason_of(answer) is Reason.BROKEN_TEXT


@pytest.mark.parametrize(
    "answer",
    [
        "A man walks past the caf\u00e9 \u2014 it\u2019s 20 \u00b0C there.",
        "A sign in S\u00c3O PAULO falls on the people below.",
        "People dance \U0001f600 in the street of the city.",
        "Two men fight.\nThe crowd runs\taway from them.",
    ],
)
def test_typography_stays(answer: str) -> None:
    assert reason_of(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        "Zwei M\u00e4nner laufen auf der Stra\u00dfe und einer schl\u00e4gt den anderen mit der Faust.",
        "La vid\u00e9o montre deux hommes qui se battent dans la rue avec des b\u00e2tons.",
        "El video muestra a dos hombres que pelean en la calle con un palo.",
        "Il video mostra due uomini che si picchiano per la strada e non si fermano della folla.",
        "\u89c6\u9891\u4e2d\u4e24\u4e2a\u7537\u4eba \u5728\u8857\u4e0a \u6253\u67b6 \u4eba\u4eec \u9003\u8dd1 \u4e86",
        "\u0414\u0432\u043e\u0435 \u043c\u0443\u0436\u0447\u0438\u043d \u043d\u0430 \u0443\u043b\u0438\u0446\u0435.",
    ],
)
def test_other_languages_go_unless_all_are_welcome(answer: str) -> None:
    assert reason_of(answer) is Reason.OTHER_LANGUAGE
    assert reason_of(answer, language="any") is not Reason.OTHER_LANGUAGE


@pytest.mark.parametrize(
    "answer",
    [
        "Man runs, car crashes, fire breaks out nearby.",
        "A van of La Poste stops in front of El Corte Ingles and a man gets out.",
        "People leave the Musee du Louvre and walk to the left.",
        'A sign reads "Sortie de secours dans la cour et au bout du couloir" above a door.',
        "A man in a kimono passes a sign that reads \u51fa\u53e3 at the station.",
    ],
)
def test_english_with_foreign_names_stays(answer: str) -> None:
    assert reason_of(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        "I can see two men hitting each other.",
        "In the video I notice a man falling over.",
        "From above, we can conclude that two men hit each other.",
        "In my opinion two men hit each other.",
        "I'm not sure, but two men hit each other.",
        "Let me describe two men hitting each other.",
        "The blood on the floor tells us of a fight.",
    ],
)
def test_the_writer_goes(answer: str) -> None:
    assert reason_of(answer) is Reason.FIRST_PERSON


@pytest.mark.parametrize(
    "answer",
    [
        "A soldier of World War I walks down the street.",
        'A man shouts "I see you" and runs after another man.',
        "A woman shouts I see you and runs after a man.",
        "Cars drive along the I-95 and one turns over.",
        "A van of US Mail stops and a man gets out.",
        "What we see is a fight, which is abnormal because people get hurt.",
        "We see a fight, and this is abnormal because people get hurt.",
        "A banner that says we are one is burned.",
    ],
)
def test_people_who_speak_stay(answer: str) -> None:
    assert reason_of(answer) is None


@pytest.mark.parametrize(
    "answer",
    [
        "At 14:32 a man enters the shop and hits another.",
        "A man enters the shop at 5 pm and hits another.",
        "A man enters the shop at 3 o'clock and hits another.",
        "After 25 seconds a man enters the shop.",
        "The fight goes on for 2 minutes in the street.",
        "At the 42-second mark a man enters the shop.",
        "From 3s to 45s a man hits another man.",
        "At second 73 a man enters the shop.",
    ],
)
def test_invented_times_go(answer: str) -> None:
    assert reason_of(answer) is Reason.INVENTED_TIME


@pytest.mark.parametrize(
    ("answer", "caption"),
    [
        ("After 3 seconds a man enters the shop.", "x"),
        ("From 2.5 to 10.7 seconds a man hits another.", "x"),
        ("A clock on the wall shows 14:32 and a man enters.", "A wall clock shows 14:32."),
        ("A man waits for 25 seconds at the door.", "He waits 25 seconds."),
        ("A man in clothes of the 1980s enters the shop.", "x"),
        ("The score board shows 3:1 and the crowd runs.", "x"),
        ("A few seconds later two men enter the shop.", "x"),
        ("A bus of line 42 stops and 12 people get out.", "x"),
    ],
)
def test_times_of_the_clip_stay(answer: str, caption: str) -> None:
    assert reason_of(answer, caption) is None


@pytest.mark.parametrize(
    "token",
    [
        "<image>", "<video>", "<audio>", "</s>", "<|im_start|>", "<|im_end|>", "<start_of_turn>", "<unk>", "[INST]",
        "[/INST]", "<<SYS>>", "<IMG_CONTEXT>", "<0x0A>", "</caption>", "<think>",
        "<\uff5cbegin\u2581of\u2581sentence\uff5c>",
    ],
)  # fmt: skip
def test_tokens_that_trainers_read_go_even_where_the_caption_has_them(token: str) -> None:
    answer = f'Yes, the video shows a man with a sign that says "{token}", and this is abnormal.'
    assert reason_of(answer) is Reason.CONTROL_TOKEN
    assert reason_of(answer, caption=f"A sign says {token}.") is Reason.CONTROL_TOKEN
    assert reason_of(answer.replace(token, "stop"), caption=f"A sign says {token}.") is Reason.CONTROL_TOKEN


@pytest.mark.parametrize("words", ["speed < 5 and > 3", "a<b", "I <3 it", "[EXIT]", "[12.0s~14s]", "left -> right"])
def test_signs_that_are_no_token_stay(words: str) -> None:
    assert find_control_token(f"Yes, a sign says {words} here.") is None
