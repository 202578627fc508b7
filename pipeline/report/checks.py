"""What a person should know of a dataset before training on it, computed from its statistics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from pipeline.dataset.shortcuts import MIN_VIDEOS, Shortcut
from pipeline.dataset.statistics import SIDES
from pipeline.records import CONFLICTS, NORMAL

MIN_CLIPS_OF_CLASS = 5
MAX_SIDE_SHARE = 0.8
MAX_CLASS_RATIO = 10
MAX_OPENING_SHARE = 0.5
MIN_ROWS_FOR_OPENINGS = 20
MAX_REJECTED_SHARE = 0.2
MIN_REJECTED = 3
MAX_LENGTH_RATIO = 1.25
MAX_WORDS_RATIO = 1.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One thing looked at; `needs_attention` where a person should decide, `detail` says what was found."""

    title: str
    detail: str
    needs_attention: bool


def check_dataset(
    stats: Mapping[str, Any],
    made_by_stage: Mapping[str, int],
    reviewers: Mapping[str, int],
    shortcuts: Sequence[Shortcut] = (),
    conflicts: Mapping[str, int] = MappingProxyType({}),
) -> list[Check]:
    """Return every check, those that need attention first.

    Args:
        stats: content of `stats.json`.
        made_by_stage: rows of each stage's table.
        reviewers: verdicts by reviewer.
        shortcuts: traits that give labels away.
        conflicts: kept answers whose label, caption and answer are at odds, by reason.
    """
    checks = [
        _class_sizes(stats),
        _balance(stats),
        _splits(stats),
        _lengths(
            stats["clip_length_s"], measure="median", max_ratio=MAX_LENGTH_RATIO, title="Clip lengths", unit="s",
            consequence="A model can tell the sides apart by length alone",
        ),
        _lengths(
            stats["answer_words"], measure="mean", max_ratio=MAX_WORDS_RATIO, title="Answer lengths", unit="words",
            consequence="Scores of generated text will differ between the sides for this reason alone",
        ),
        _shortcuts(stats, shortcuts),
        _wordings(stats),
        _conflicts(stats, conflicts),
        _rejects(stats, made_by_stage),
        _review(reviewers),
    ]  # fmt: skip
    checks += [Check(title="Splits", detail=warning, needs_attention=True) for warning in stats.get("warnings", ())]
    return sorted(checks, key=lambda check: not check.needs_attention)


def _class_sizes(stats: Mapping[str, Any]) -> Check:
    small = {label: of["clips"] for label, of in stats["labels"].items() if of["clips"] < MIN_CLIPS_OF_CLASS}
    if small:
        named = ", ".join(f"{label} {clips}" for label, clips in small.items())
        detail = f"Fewer than {MIN_CLIPS_OF_CLASS} clips: {named}. Too few to learn the class or to measure it."
    else:
        least = min(of["clips"] for of in stats["labels"].values())
        detail = f"{len(stats['labels'])} classes, the smallest with {least} clips."
    return Check(title="Class sizes", detail=detail, needs_attention=bool(small))


def _balance(stats: Mapping[str, Any]) -> Check:
    clips = {label: of["clips"] for label, of in stats["labels"].items()}
    normal = clips.get(NORMAL, 0) / sum(clips.values())
    abnormal = [count for label, count in clips.items() if label != NORMAL]
    detail = f"{normal:.0%} of the clips are normal."
    attention = not 1 - MAX_SIDE_SHARE <= normal <= MAX_SIDE_SHARE
    if attention:
        detail += " A model does well by always giving the same verdict: add videos of the rarer side."
    if abnormal and max(abnormal) > MAX_CLASS_RATIO * min(abnormal):
        detail += (
            f" The largest abnormal class has {max(abnormal) / min(abnormal):.0f} times the clips of the smallest."
        )
        attention = True
    return Check(title="Balance", detail=detail, needs_attention=attention)


def _splits(stats: Mapping[str, Any]) -> Check:
    splits = stats["splits"]
    faults = []
    if "train" not in splits:
        faults.append("There is nothing to train on.")
    if not {"validation", "test"} & splits.keys():
        faults.append("There is nothing to validate on: overfitting will go unseen.")
    faults += [
        f"{split} holds nothing {side}: verdicts cannot be {'learnt' if split == 'train' else 'measured'} there."
        for split, counts in splits.items()
        for side in SIDES
        if not counts[f"{side}_rows"]
    ]
    named = ", ".join(f"{split} {counts['rows']}" for split, counts in splits.items())
    detail = " ".join(faults) or f"Every split holds both sides ({named} rows); no video is in two."
    return Check(title="Splits", detail=detail, needs_attention=bool(faults))


def _lengths(
    distribution: Mapping[str, Any], *, measure: str, max_ratio: float, title: str, unit: str, consequence: str
) -> Check:
    values = [distribution[side].get(measure) for side in SIDES]
    if None in values or min(values) <= 0:
        return Check(title=title, detail="Only one side is there to measure.", needs_attention=False)
    abnormal, normal = values
    ratio = max(values) / min(values)
    detail = f"{measure.capitalize()} {abnormal:.1f} {unit} abnormal, {normal:.1f} {unit} normal."
    if ratio > max_ratio:
        detail += f" {consequence}."
    return Check(title=title, detail=detail, needs_attention=ratio > max_ratio)


def _shortcuts(stats: Mapping[str, Any], shortcuts: Sequence[Shortcut]) -> Check:
    normal = sum(of["videos"] for label, of in stats["labels"].items() if label == NORMAL)
    abnormal = sum(of["videos"] for of in stats["labels"].values()) - normal
    if min(normal, abnormal) < MIN_VIDEOS:
        detail = f"Fewer than {MIN_VIDEOS} videos of a side: too few to tell whether a trait gives labels away."
        return Check(title="Shortcuts", detail=detail, needs_attention=False)
    named = "; ".join(map(str, shortcuts))
    detail = (
        f"{named[:1].upper()}{named[1:]}." if named else "No trait of clips and videos was seen to give labels away."
    )
    return Check(title="Shortcuts", detail=detail, needs_attention=bool(shortcuts))


def _wordings(stats: Mapping[str, Any]) -> Check:
    dominant = [
        f"{of['share']:.0%} of {group.replace('/', ', ')} begin \u201c{of['most_common']} \u2026\u201d"
        for group, of in stats["openings"].items()
        if of["rows"] >= MIN_ROWS_FOR_OPENINGS and of["share"] > MAX_OPENING_SHARE
    ]
    named = "; ".join(dominant)
    detail = f"{named}. A model will learn the phrase." if dominant else "No opening dominates the answers."
    return Check(title="Wording", detail=detail, needs_attention=bool(dominant))


def _conflicts(stats: Mapping[str, Any], kept: Mapping[str, int]) -> Check:
    dropped = {name: count for name, count in stats["rejected"].get("filter", {}).items() if name in CONFLICTS}
    parts = []
    if kept:
        named = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in kept.items())
        settings = ", ".join(f"filter.conflicts.{name}=drop" for name in kept)
        parts.append(f"Label, caption and answer of {sum(kept.values())} kept answers are at odds: {named}.")
        parts.append(f"Read them, `holmes review export` puts them first, or leave them out: {settings}.")
    else:
        parts.append("Label, caption and answer of no kept answer are seen to be at odds.")
    if dropped:
        named = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in dropped.items())
        parts.append(f"Left out for it: {named}.")
    return Check(title="Conflicts", detail=" ".join(parts), needs_attention=bool(kept))


def _rejects(stats: Mapping[str, Any], made_by_stage: Mapping[str, int]) -> Check:
    many: list[str] = []
    total = 0
    for stage, reasons in stats["rejected"].items():
        total += (left_out := sum(reasons.values()))
        seen = made_by_stage.get(stage, 0) + left_out
        many += [
            f"{stage} left out {count} of {seen} as {reason}"
            for reason, count in reasons.items()
            if count >= MIN_REJECTED and count > MAX_REJECTED_SHARE * seen
        ]
    if many:
        detail = "; ".join(many) + ". Look at the examples below before trusting what is left."
    else:
        detail = f"{total} records were left out, no reason prevails." if total else "Nothing was left out."
    return Check(title="Left out", detail=detail, needs_attention=bool(many))


def _review(reviewers: Mapping[str, int]) -> Check:
    total = sum(reviewers.values())
    by_people = total - reviewers.get("rules", 0)
    detail = f"{by_people} of {total} kept answers were read by a person"
    detail += "." if by_people else "; rules alone decided. Read some dozens before a long training."
    return Check(title="Review", detail=detail, needs_attention=not by_people)
