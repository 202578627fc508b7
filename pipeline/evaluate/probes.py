"""Paired probes: a model is asked whether an event happens, of one that does in a clip and of one that does not.

Only both right count, by its probabilities of Yes and No. So neither a model that always says the same nor one that
words its answers well gains anything.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from pipeline.evaluate.shares import Share, share_of
from pipeline.prompts import load_prompt
from pipeline.records import NORMAL, digest
from pipeline.taxonomy import ClassEntry, find_class, load_taxonomies

PROMPT = "probe"


@dataclass(frozen=True, slots=True, kw_only=True)
class Probe:
    """A question whether an event of class `event` happens in a clip, and whether one does."""

    event: str
    happens: bool

    @property
    def question(self) -> str:
        """The question, which Yes or No answers."""
        entry = find_class(self.event)
        assert entry is not None  # noqa: S101 - probes are made of known classes
        return load_prompt(PROMPT).render(event=entry.phrase)[-1]["content"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbedClip:
    """What a model says to the two probes of a clip.

    Attributes:
        id: names the clip, for people.
        label: class of what happens, or `Normal`.
        probes: of the event that happens and of one that does not; in a calm clip two of events that do not.
        odds: probabilities of Yes and of No as the answer to each.
    """

    id: str
    label: str
    probes: tuple[Probe, Probe]
    odds: tuple[tuple[float, float], tuple[float, float]]

    @property
    def are_right(self) -> tuple[bool, bool]:
        """Whether the likelier of Yes and No is right, of either probe."""
        first, second = ((yes > no) is probe.happens for probe, (yes, no) in zip(self.probes, self.odds, strict=True))
        return first, second

    @property
    def is_ranked(self) -> bool:
        """Whether Yes is likelier, against No, of the first event than of the second."""
        first, second = (yes / (yes + no) if yes + no else 0.0 for yes, no in self.odds)
        return first > second


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeMetrics:
    """How far a model tells what happens from what does not; shares are None of no clips.

    Attributes:
        num: clips probed.
        pairs: of the clips in which something happens, those with both probes right; by chance 0.25, always the same
            answer 0.
        happening: of these, those whose event is seen.
        absent: of these, those whose other event is denied.
        ranked: of these, those of which the event is found likelier than the other; chance 0.5, blind to a leaning
            towards Yes or No.
        calm: of the calm clips, those of which both events are denied.
        per_class: `pairs`, and `calm` of Normal, by label.
    """

    num: int
    pairs: Share | None
    happening: Share | None
    absent: Share | None
    ranked: Share | None
    calm: Share | None
    per_class: Mapping[str, Share]


def plan_probes(label: str, key: str) -> tuple[Probe, Probe] | None:
    """Draw the probes of a clip; None where the words for its class are not known.

    The event that does not happen is drawn by the hash of `key` from the families that neither look like the label's
    nor often come with it, then from the classes of that family, so that every clip is asked the same in every run.
    """
    entry = find_class(label)
    if entry is None:
        return None
    if entry.name == NORMAL:
        first = _draw(key, [])
        return Probe(event=first.name, happens=False), Probe(event=_draw(key, [first]).name, happens=False)
    if not entry.family:
        return None
    return Probe(event=entry.name, happens=True), Probe(event=_draw(key, [entry]).name, happens=False)


def measure_probes(clips: Sequence[ProbedClip]) -> ProbeMetrics:
    """Measure what a model said to probes."""
    busy = [one for one in clips if one.label != NORMAL]
    by_class: defaultdict[str, list[bool]] = defaultdict(list)
    for one in clips:
        by_class[one.label].append(all(one.are_right))
    return ProbeMetrics(
        num=len(clips),
        pairs=share_of([all(one.are_right) for one in busy]),
        happening=share_of([one.are_right[0] for one in busy]),
        absent=share_of([one.are_right[1] for one in busy]),
        ranked=share_of([one.is_ranked for one in busy]),
        calm=share_of([all(one.are_right) for one in clips if one.label == NORMAL]),
        per_class={label: share for label in sorted(by_class) if (share := share_of(by_class[label])) is not None},
    )


def _draw(key: str, happening: Collection[ClassEntry]) -> ClassEntry:
    entries = [entry for taxonomy in load_taxonomies().values() for entry in taxonomy.classes if entry.family]
    # A family of which one class may come with what happens is none that surely does not.
    possible = {entry.family for entry in entries for one in happening if _may_meet(entry, one)}
    families = sorted({entry.family for entry in entries} - possible)
    family = families[_hash("family", key) % len(families)]
    classes = sorted({entry.name: entry for entry in entries if entry.family == family}.items())
    return classes[_hash("class", key) % len(classes)][1]


def _may_meet(a: ClassEntry, b: ClassEntry) -> bool:
    """Tell whether events of two classes look alike, or may happen in one clip."""
    return a.family == b.family or a.family in (*b.includes, *b.beside) or b.family in (*a.includes, *a.beside)


def _hash(what: str, key: str) -> int:
    return int(digest("probe", what, key), 16)
