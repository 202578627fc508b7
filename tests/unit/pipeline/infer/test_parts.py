"""Spans that scores run together, told apart by what is said of their parts."""

from __future__ import annotations

from pipeline.infer.judgement import Judgement
from pipeline.infer.parts import JudgedPart, unite

FIGHT, PUNCH = "Yes, the video shows a fight between people.", "Yes, a man punches another man."
FIRE, CALM = "Yes, the dumpster is set on fire.", "No, nothing happens."


def parts(*said: tuple[str | None, float | None], marked: int = 0) -> list[JudgedPart]:
    return [
        JudgedPart((10 * number, 10 * number + 8), marked, Judgement(answer=answer, confidence=confidence))
        for number, (answer, confidence) in enumerate(said)
    ]


def spans(*said: tuple[str | None, float | None]) -> list[tuple[int, int]]:
    return [span for span, _ in unite(parts(*said))]


def test_neighbours_that_tell_the_same_are_one_span_of_which_the_surest_speaks() -> None:
    [(span, said)] = unite(parts((FIGHT, 0.7), (PUNCH, 0.9), (FIGHT, 0.9)))
    assert (span, said.answer) == ((0, 28), PUNCH)


def test_other_events_and_other_verdicts_stay_apart() -> None:
    assert spans((FIGHT, 0.9), (FIRE, 0.9)) == [(0, 8), (10, 18)]
    assert spans((FIGHT, 0.9), (CALM, 0.1), (FIGHT, 0.8)) == [(0, 8), (10, 18), (20, 28)]
    assert spans((CALM, 0.1), (CALM, 0.2), (FIRE, 0.9)) == [(0, 18), (20, 28)]


def test_what_names_no_event_belongs_to_its_neighbour() -> None:
    assert spans((FIGHT, 0.9), ("Yes, something is wrong here.", 0.8)) == [(0, 18)]
    assert spans((None, None), (None, None)) == [(0, 18)]


def test_spans_that_were_marked_apart_are_never_joined() -> None:
    apart = [*parts((FIGHT, 0.9)), JudgedPart((10, 18), 1, Judgement(answer=FIGHT, confidence=0.9))]
    assert [span for span, _ in unite(apart)] == [(0, 8), (10, 18)]
