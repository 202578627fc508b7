"""What is looked for before a search spares searches alone, never a match."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.quality import claims, rules, slips
from pipeline.quality.phrases import Phrases

PHRASES = {name: value for name, value in vars(rules).items() if isinstance(value, Phrases)}
ASCII = st.characters(codec="ascii")
few = settings(max_examples=50, deadline=None, suppress_health_check=list(HealthCheck))


@pytest.mark.parametrize(("name", "phrase"), [(name, phrase) for name in PHRASES for phrase in PHRASES[name].phrases])
def test_every_match_holds_what_its_phrases_need(name: str, phrase: str) -> None:
    phrases = PHRASES[name]

    # Enough to go through the alternatives within a phrase.
    @settings(few, max_examples=60)
    @given(st.from_regex(re.compile(phrase, phrases.pattern.flags), alphabet=ASCII))
    def check(text: str) -> None:
        assert phrases.search(text)
        assert [match.span() for match in phrases.finditer(text)] == [
            match.span() for match in phrases.pattern.finditer(text)
        ]

    check()


def test_a_text_without_them_is_not_searched_unless_its_letters_may_match_others() -> None:
    phrases = Phrases(("kick",), "kicks?")
    assert phrases.search("He KICKS it")
    assert not phrases.may_be_in("He hits it")
    assert phrases.search("He \N{KELVIN SIGN}icks it")


@few
@given(st.from_regex(slips._FIRST_PERSON, alphabet=ASCII))
def test_every_writer_is_one_that_is_looked_for(text: str) -> None:
    assert any(word in text for word in slips._WRITERS)


@pytest.mark.parametrize("phrase", claims._phrases(), ids=lambda phrase: f"{phrase.name}: {phrase.text}")
def test_a_phrase_is_looked_for_wherever_it_stands(phrase: claims._Phrase) -> None:
    @settings(few, max_examples=5)
    @given(st.from_regex(re.compile(claims.phrase_pattern(phrase.text), re.IGNORECASE), alphabet=ASCII))
    def check(text: str) -> None:
        assert phrase.text in claims._possible(text)[phrase.name]

    check()
