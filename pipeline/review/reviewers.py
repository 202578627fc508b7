"""What reviewers did, each by count, rating and time, and how far those agree who judged the same answer.

Of a reviewer who judged one answer several times, the latest word counts; of several reviewers who disagree, the latest
too, as everywhere (see `reviews`). Agreement is about the decisions: two edits agree whatever their texts.
"""

from __future__ import annotations

import statistics
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from pipeline.records import Decision, ReviewItem
from pipeline.review.verdicts import decided_at

Answer = tuple[str, str]
"""The id of a pair and the hash of its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reviewer:
    """One reviewer's decisions; the means are over those that have a rating or a time, None where none has."""

    name: str
    decided: int
    accepted: int
    edited: int
    rejected: int
    mean_rating: float | None
    median_lead_time_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Couple:
    """Two reviewers on the answers that both judged: the share decided alike, and Cohen's kappa of it.

    Kappa (Cohen, Educational and Psychological Measurement 1960) is None where both always decide one and the same:
    chance alone would have them agree then.
    """

    first: str
    second: str
    answers: int
    observed: float
    kappa: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewStatistics:
    """Reviewers by name, couples by names, and what the couples say together.

    Attributes:
        several: answers that at least two reviewers judged.
        observed: mean share decided alike, over all pairs of reviewers of an answer; None without such answers.
        kappa: mean of the couples' kappas (Light, Psychological Bulletin 1971); None where no couple has one.
        conflicts: a line for each answer on which the latest words of its reviewers differ.
    """

    reviewers: tuple[Reviewer, ...]
    couples: tuple[Couple, ...]
    several: int
    observed: float | None
    kappa: float | None
    conflicts: tuple[str, ...]

    def __str__(self) -> str:
        """Return the table that a person reads, without the conflicts."""
        lines = [f"{'reviewer':20} decided  accept    edit  reject  rating  median time"]
        for one in self.reviewers:
            shares = "".join(f"{count / one.decided:8.0%}" for count in (one.accepted, one.edited, one.rejected))
            rating = "-" if one.mean_rating is None else f"{one.mean_rating:.2f}"
            time_s = "-" if one.median_lead_time_s is None else f"{one.median_lead_time_s:.0f} s"
            lines.append(f"{one.name[:20]:20} {one.decided:7d}{shares}{rating:>8}{time_s:>13}")
        if self.observed is not None:
            lines.append(
                f"{self.several} answer(s) judged by several: {self.observed:.0%} alike, kappa {_figure(self.kappa)}, "
                f"{len(self.conflicts)} in conflict"
            )
        if len(self.couples) > 1:
            lines += [
                f"  {couple.first} and {couple.second}: {couple.answers} answer(s), {couple.observed:.0%} alike, "
                f"kappa {_figure(couple.kappa)}"
                for couple in self.couples
            ]
        return "\n".join(lines)


def review_statistics(reviews: Iterable[ReviewItem]) -> ReviewStatistics:
    """Measure decided reviews, in the order in which they were stored."""
    latest: dict[Answer, dict[str, ReviewItem]] = defaultdict(dict)
    for review in reviews:
        said, name = latest[review.pair_id, review.answer_hash], review.reviewer or "unknown"
        if name not in said or decided_at(review.reviewed_at) >= decided_at(said[name].reviewed_at):
            # anew at the end, so that of equally late words the last stored one stands last
            said.pop(name, None)
            said[name] = review
    couples = tuple(_couples(latest))
    judged_together = sum(couple.answers for couple in couples)
    kappas = [couple.kappa for couple in couples if couple.kappa is not None]
    return ReviewStatistics(
        reviewers=tuple(_reviewers(latest)),
        couples=couples,
        several=sum(len(said) > 1 for said in latest.values()),
        observed=sum(c.observed * c.answers for c in couples) / judged_together if couples else None,
        kappa=statistics.fmean(kappas) if kappas else None,
        conflicts=tuple(_conflicts(latest)),
    )


def cohen_kappa(decisions: Sequence[tuple[str, str]]) -> float | None:
    """Return the agreement of two raters beyond chance, in [-1, 1]; None where chance alone explains all."""
    total = len(decisions)
    firsts, seconds = (Counter(column) for column in zip(*decisions, strict=True))
    expected = sum(firsts[name] * seconds[name] for name in firsts) / total**2
    if expected == 1:
        return None
    observed = sum(first == second for first, second in decisions) / total
    return (observed - expected) / (1 - expected)


def _reviewers(latest: Mapping[Answer, Mapping[str, ReviewItem]]) -> Iterator[Reviewer]:
    by_name: dict[str, list[ReviewItem]] = defaultdict(list)
    for said in latest.values():
        for name, review in said.items():
            by_name[name].append(review)
    for name, reviews in sorted(by_name.items()):
        counts = Counter(review.decision for review in reviews)
        ratings = [review.rating for review in reviews if review.rating is not None]
        times_s = [review.lead_time_s for review in reviews if review.lead_time_s is not None]
        yield Reviewer(
            name=name,
            decided=len(reviews),
            accepted=counts[Decision.ACCEPT],
            edited=counts[Decision.EDIT],
            rejected=counts[Decision.REJECT],
            mean_rating=statistics.fmean(ratings) if ratings else None,
            median_lead_time_s=statistics.median(times_s) if times_s else None,
        )


def _couples(latest: Mapping[Answer, Mapping[str, ReviewItem]]) -> Iterator[Couple]:
    together: dict[tuple[str, str], list[tuple[str, str]]] = defaultdict(list)
    for said in latest.values():
        for first, second in combinations(sorted(said), 2):
            together[first, second].append((str(said[first].decision), str(said[second].decision)))
    for (first, second), decisions in sorted(together.items()):
        alike = sum(one == other for one, other in decisions)
        yield Couple(
            first=first,
            second=second,
            answers=len(decisions),
            observed=alike / len(decisions),
            kappa=cohen_kappa(decisions),
        )


def _conflicts(latest: Mapping[Answer, Mapping[str, ReviewItem]]) -> Iterator[str]:
    for (pair_id, _), said in latest.items():
        if len({(review.decision, review.edited_answer) for review in said.values()}) > 1:
            # stable: of equally late words the last stored one stands last
            last = sorted(said.values(), key=lambda review: decided_at(review.reviewed_at))[-1]
            words = ", ".join(f"{review.decision} by {name}" for name, review in sorted(said.items()))
            yield f"pair {pair_id}: {words}: the latest counts, {last.decision} by {last.reviewer}"


def _figure(value: float | None) -> str:
    return "none" if value is None else f"{value:.2f}"
