"""What texts claim of place, light, people, numbers and colours, in sentences of people and of the sample world."""

from __future__ import annotations

import pytest

from pipeline.quality.described import claims_of
from pipeline.sample.definitions import COLOURS
from pipeline.sample.words import PLACES, with_article

CASES = [
    (
        "A man in a yellow shirt is shot by another man. The place is a filling station in the dark.",
        "colour: yellow clothes, event: shooting, light: night, number: 2 people, place: filling station, who: man",
    ),
    (
        "Two people trade blows, and a man in a red jacket knocks a woman in blue to the ground.",
        "colour: blue clothes, colour: red clothes, event: violence, number: 2 people, who: man, who: woman",
    ),
    ("A gray-coated postman walked to the mailbox.", "colour: grey clothes"),
    (
        "Several people stand. A blue car and a white van drive past on the road at night.",
        "colour: blue vehicles, colour: white vehicles, light: night, number: 2 vehicles, place: street",
    ),
    (
        "A woman with a red bag behind the man in white.",
        "colour: red bags, colour: white clothes, who: man, who: woman",
    ),
    (
        "A black and white car hits a man in an arcade of shops in daylight.",
        "colour: black vehicles, colour: white vehicles, event: crash, light: day, place: arcade, who: man",
    ),
    ("The men run. Two men in black clothes wait.", "colour: black clothes, number: 2 people, who: man"),
    ("The man was dragged by two men.", "who: man"),
    ("A man came to entertain the man in grey.", "colour: grey clothes, who: man"),
    ("A man stops a woman; the woman raises her hands.", "number: 2 people, who: man, who: woman"),
    ("Two boys and three girls sit.", "who: child"),
    ("There are men and women in the elevator.", "place: corridor, who: man, who: woman"),
    ("A car stands there, and another car without a man in it.", "number: 2 vehicles"),
    ("A person waits.", ""),
    ("One person waits.", "number: 1 people"),
    ("", ""),
]


@pytest.mark.parametrize(("text", "claims"), CASES)
def test_claims(text: str, claims: str) -> None:
    assert ", ".join(f"{claim.kind}: {claim}" for claim in sorted(claims_of(text))) == claims


def test_every_place_and_colour_of_the_sample_world_is_known() -> None:
    for place in PLACES.values():
        assert len([claim for claim in claims_of(f"The place is {place}.") if claim.kind == "place"]) == 1, place
    for colour in COLOURS["clothes"]:
        [claim] = (claim for claim in claims_of(f"She wears {with_article(colour)} coat.") if claim.kind == "colour")
        assert (claim.about, claim.value) == ("clothes", colour)
    for colour in COLOURS["paints"]:
        [claim] = (claim for claim in claims_of(f"{with_article(colour)} car stops.") if claim.kind == "colour")
        assert (claim.about, claim.value) == ("vehicles", colour)
