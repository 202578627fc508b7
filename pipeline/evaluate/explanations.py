"""Whether what an answer says of a video is true: its verdict, the event that it names, and its agreement with itself.

Events are compared by family of the taxonomies: a fight and an assault look alike in words.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.evaluate.answers_verdict import read_verdict
from pipeline.evaluate.shares import Share, share_of
from pipeline.quality.claims import claimed_families, find_contradiction
from pipeline.quality.rules import stated_verdicts
from pipeline.records import NORMAL
from pipeline.taxonomy import canonical, family_of

NO_EVENT, SEVERAL_EVENTS = "none", "several"
"""Columns of the confusion table beside the families."""

_WORST = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """An answer held against what happened.

    Attributes:
        id: names the answer, for people.
        label: class of the event, or `Normal`.
        verdict: what the model decided: True abnormal, False normal, None where it cannot be read.
        claims: families of the events that the answer claims, each with the words that claim it.
        is_verdict_right: None counts as wrong.
        is_event_right: whether the answer names what happened and nothing else, or no event in a calm video; None where
            the words for the label's class are not known.
        contradiction: how the answer contradicts its verdict or itself; None where it does not.
        unseen: the families it claims of which nothing happened; empty where `is_event_right` is None.
        faults: all that is wrong, for people; empty where the explanation is true.
    """

    id: str
    label: str
    verdict: bool | None
    answer: str
    claims: Mapping[str, str]
    is_verdict_right: bool
    is_event_right: bool | None
    contradiction: str | None
    unseen: tuple[str, ...]
    faults: tuple[str, ...]

    @property
    def is_true(self) -> bool | None:
        """Whether verdict and event are right and nothing is contradicted; None where the event cannot be judged."""
        return None if self.is_event_right is None else not self.faults

    @property
    def claimed(self) -> str:
        """The family of the event that is claimed, `NO_EVENT` or `SEVERAL_EVENTS`."""
        if len(self.claims) > 1:
            return SEVERAL_EVENTS
        return next(iter(self.claims), NO_EVENT)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplanationMetrics:
    """How true explanations are.

    Attributes:
        num: answers.
        explanations: the true ones, of those whose event can be judged; None where there are none of these.
        verdicts: right verdicts, of all.
        events: right events, of those that can be judged.
        not_judged: answers about classes whose words are not known, left out of `explanations` and `events`.
        contradictions: answers that contradict their verdict or themselves, of all.
        unseen_claims: answers that claim an event of which nothing happened, of those that can be judged.
        invented: of the calm videos, those in which an event is claimed; None where no video is calm.
        per_class: true explanations by label, ordered by name, where they can be judged.
        confusion: by label the answers by `Explanation.claimed`.
        worst: up to ten answers, those with the most faults first.
    """

    num: int
    explanations: Share | None
    verdicts: Share
    events: Share | None
    not_judged: int
    contradictions: Share
    unseen_claims: Share | None
    invented: Share | None
    per_class: Mapping[str, Share]
    confusion: Mapping[str, Mapping[str, int]]
    worst: tuple[Explanation, ...]


def judge_explanation(
    label: str, verdict: bool | None, answer: str, *, others: Collection[str] = (), name: str = ""
) -> Explanation:
    """Hold an answer against what happened.

    Args:
        label: class of the event, any name or alias of it; `Normal` where nothing happens.
        verdict: what the model decided, by its probabilities or as `read_verdict` reads its answer.
        answer: what it says.
        others: classes of further events of the same video: an answer may name any of them.
        name: names the answer, for people.
    """
    label = canonical(label) or label
    is_calm = label == NORMAL and not others
    families = [family_of(one) for one in (label, *others) if one != NORMAL]
    happened = {family for family in families if family}
    can_judge = len(happened) > 0 or is_calm
    claims = claimed_families(answer)
    unseen = tuple(family for family in claims if family not in happened) if all(families) else ()
    is_verdict_right = verdict is (not is_calm)
    contradiction = _contradiction(answer, verdict)
    faults = []
    if not is_verdict_right:
        faults.append(f"the verdict is {_said(verdict)}, the video is {_said(not is_calm)}")
    faults += [f"it tells of {family}: {claims[family]!r}" for family in unseen]
    if happened and not happened & claims.keys():
        faults.append(f"it does not tell of {' or '.join(sorted(happened))}")
    if contradiction:
        faults.append(contradiction)
    return Explanation(
        id=name,
        label=label,
        verdict=verdict,
        answer=answer,
        claims=claims,
        is_verdict_right=is_verdict_right,
        is_event_right=not unseen and (is_calm or bool(happened & claims.keys())) if can_judge else None,
        contradiction=contradiction,
        unseen=unseen,
        faults=tuple(faults),
    )


def measure_explanations(explanations: Sequence[Explanation]) -> ExplanationMetrics | None:
    """Measure answers; None where there are none."""
    verdicts = share_of([one.is_verdict_right for one in explanations])
    contradictions = share_of([one.contradiction is not None for one in explanations])
    if verdicts is None or contradictions is None:
        return None
    judged = [one for one in explanations if one.is_event_right is not None]
    by_class: defaultdict[str, list[bool]] = defaultdict(list)
    confusion: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for one in explanations:
        confusion[one.label][one.claimed] += 1
    for one in judged:
        by_class[one.label].append(bool(one.is_true))
    faulty = sorted((one for one in explanations if one.faults), key=lambda one: len(one.faults), reverse=True)
    return ExplanationMetrics(
        num=len(explanations),
        explanations=share_of([bool(one.is_true) for one in judged]),
        verdicts=verdicts,
        events=share_of([bool(one.is_event_right) for one in judged]),
        not_judged=len(explanations) - len(judged),
        contradictions=contradictions,
        unseen_claims=share_of([bool(one.unseen) for one in judged]),
        invented=share_of([bool(one.claims) for one in explanations if one.label == NORMAL]),
        per_class={label: share for label in sorted(by_class) if (share := share_of(by_class[label])) is not None},
        confusion={label: dict(confusion[label]) for label in sorted(confusion)},
        worst=tuple(faulty[:_WORST]),
    )


def claimed_columns(confusion: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return the columns of a confusion table: families in the order of the labels, the others, several and none."""
    claimed: Iterable[str] = {name for counts in confusion.values() for name in counts}
    own = [family for label in confusion if (family := family_of(label))]
    others = sorted(set(claimed) - set(own) - {NO_EVENT, SEVERAL_EVENTS})
    return [*dict.fromkeys(own), *others, SEVERAL_EVENTS, NO_EVENT]


def _contradiction(answer: str, verdict: bool | None) -> str | None:
    says = read_verdict(answer)
    if verdict is not None and says is (not verdict):
        return f"the verdict is {_said(verdict)}, the answer says {_said(says)}"
    return find_contradiction(answer, stated_verdicts(answer), verdict)


def _said(verdict: bool | None) -> str:
    return "unreadable" if verdict is None else "abnormal" if verdict else "normal"
