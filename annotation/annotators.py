"""Several people on one video: whose clicks count, which marks take clicks back, and how far people agree.

A mark is a click of the class `Ignore`. It takes back the nearest click of every annotator within the tolerance: that
is how a second review removes wrong and superfluous clicks. A mark near no click says that somebody looked there and
found nothing abnormal.

Clicks of one class on one video, of different people and within the tolerance, are one event to them. A click without a
class has that of the nearest click of somebody else within the tolerance.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from annotation.formats.foreign import IGNORE
from pipeline.config import GlancesConfig
from pipeline.errors import RecordError
from pipeline.records import ABNORMAL, Glance, Reason

Settled = Glance | RecordError


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How far people agree on the videos that at least two of them have seen.

    Attributes:
        videos: videos seen by at least two.
        clicks: clicks of all on those videos.
        matched: clicks for which each other viewer has one of the same class within the tolerance, as a mean share.
        same_verdict: share of pairs of viewers who both clicked, or both did not; None without such videos.
    """

    videos: int
    clicks: int
    matched: float | None
    same_verdict: float | None


def settle(resolved: Sequence[Settled], config: GlancesConfig, viewers: Collection[str] = ()) -> list[Settled]:
    """Decide which clicks on one or more videos count; what does not gives the error that says why, in place.

    Args:
        resolved: clicks and marks as they were matched with their videos, and errors, which stay.
        config: the policy, the annotator that it names, and the tolerance.
        viewers: who has submitted a judgement of the video, whether with clicks or without: the electorate of a
            majority. Clicks of several videos may be settled together only where there are none.
    """
    settled = _take_back(resolved, config.tolerance_s)
    if config.policy != "one":
        settled = [_named(item, settled, config.tolerance_s) for item in settled]
    if config.policy == "union":
        settled = mark_duplicates(settled)
    if config.policy == "one":
        settled = [_of_one(item, str(config.annotator)) for item in settled]
    else:
        electorate: defaultdict[str, set[str]] = defaultdict(lambda: set(viewers))
        for item in settled:
            if isinstance(item, Glance):
                electorate[item.video_id].add(_voice(item))
        for group in list(group_clicks(settled, config.tolerance_s)):
            _decide_group(settled, group, len(electorate[group[0][1].video_id]), config)
    return mark_duplicates(settled)


def _decide_group(
    settled: list[Settled],
    group: Sequence[tuple[int, Glance]],
    electorate: int,
    config: GlancesConfig,
) -> None:
    voices = len(group)
    if config.policy == "majority" and 2 * voices <= electorate:
        for place, glance in group:
            detail = f"{_name(glance)} is made by {voices} of {electorate} annotators: no majority"
            settled[place] = RecordError(Reason.MINORITY_CLICK, detail)
        return
    # a click that somebody made, never a frame between two: the one in the middle
    kept = group[(len(group) - 1) // 2][1]
    for place, glance in group:
        if glance is not kept:
            detail = f"{_name(glance)} means the event of {kept.origin}, {abs(glance.time_s - kept.time_s):.2f} s away"
            settled[place] = RecordError(Reason.DUPLICATE_GLANCE, detail)


def mark_duplicates(resolved: Sequence[Settled]) -> list[Settled]:
    """Replace each glance on a frame that an earlier one marks with the same class by a DUPLICATE_GLANCE error."""
    first: dict[tuple[str, int, str], Glance] = {}
    marked: list[Settled] = []
    for glance in resolved:
        if isinstance(glance, Glance):
            earlier = first.setdefault((glance.video_id, glance.frame_index, glance.category), glance)
            if earlier is not glance:
                detail = (
                    f"frame {glance.frame_index} of {glance.video_id} is marked {glance.category} by {earlier.origin}"
                )
                marked.append(RecordError(Reason.DUPLICATE_GLANCE, detail))
                continue
        marked.append(glance)
    return marked


def group_clicks(settled: Iterable[Settled], tolerance_s: float) -> Iterator[list[tuple[int, Glance]]]:
    """Yield groups of clicks, with their places, that mean one event.

    One video and one class, a click a person, and none further than the tolerance after the first.
    """
    glances = [(place, item) for place, item in enumerate(settled) if isinstance(item, Glance)]
    waiting = sorted(glances, key=lambda pair: (pair[1].video_id, pair[1].category, pair[1].time_s))
    while waiting:
        first = waiting[0][1]
        group, end = [waiting[0]], len(waiting)
        left: list[tuple[int, Glance]] = []
        for number, (place, glance) in enumerate(waiting[1:], start=1):
            if glance.video_id != first.video_id or not _near(first, glance, tolerance_s):
                end = number
                break
            fits = all(_voice(glance) != _voice(member) for _, member in group)
            (group if fits else left).append((place, glance))
        yield group
        waiting = left + waiting[end:]


def agreement(
    clicks: Mapping[str, Sequence[Glance]], viewers: Mapping[str, Collection[str]], tolerance_s: float
) -> Agreement:
    """Measure agreement, by video id: the clicks of all on it, and who has seen it, with clicks or without."""
    videos = pairs = same = total = 0
    shares: list[float] = []
    for video_id in clicks.keys() | viewers.keys():
        made = [glance for glance in clicks.get(video_id, ()) if glance.category != IGNORE]
        people = {_voice(glance) for glance in made} | set(viewers.get(video_id, ()))
        if len(people) < 2:
            continue
        videos += 1
        total += len(made)
        clicked = {_voice(glance) for glance in made}
        verdicts = [(a in clicked) == (b in clicked) for a, b in combinations(sorted(people), 2)]
        pairs, same = pairs + len(verdicts), same + sum(verdicts)
        shares += [
            len(
                {
                    _voice(other)
                    for other in made
                    if _voice(other) != _voice(glance) and _near(glance, other, tolerance_s)
                }
            )
            / (len(people) - 1)
            for glance in made
        ]
    return Agreement(
        videos=videos,
        clicks=total,
        matched=sum(shares) / len(shares) if shares else None,
        same_verdict=same / pairs if pairs else None,
    )


def _take_back(resolved: Sequence[Settled], tolerance_s: float) -> list[Settled]:
    """Replace marks, and the clicks that they take back, by errors that say so."""
    settled = list(resolved)
    for place, mark in enumerate(resolved):
        if not isinstance(mark, Glance) or mark.category != IGNORE:
            continue
        nearest: dict[str, tuple[float, int]] = {}
        for other, glance in enumerate(settled):
            if isinstance(glance, Glance) and glance.category != IGNORE and glance.video_id == mark.video_id:
                distance = (abs(glance.time_s - mark.time_s), other)
                if distance[0] <= tolerance_s:
                    nearest[_voice(glance)] = min(distance, nearest.get(_voice(glance), distance))
        for _, other in nearest.values():
            taken = resolved[other]
            detail = f"{_name(taken)} is taken back by the mark at {mark.origin}" if isinstance(taken, Glance) else ""
            settled[other] = RecordError(Reason.IGNORED_CLICK, detail)
        what = (
            f"takes back {len(nearest)} click(s)" if nearest else f"no click within {tolerance_s:g} s: nothing abnormal"
        )
        settled[place] = RecordError(Reason.IGNORED_CLICK, f"a mark at {mark.time_s:.2f} s of {mark.video_id}: {what}")
    return settled


def _named(item: Settled, settled: Sequence[Settled], tolerance_s: float) -> Settled:
    """Return a click without a class with that of the nearest click by which somebody else says what happens there."""
    if not isinstance(item, Glance) or item.category != ABNORMAL:
        return item
    told = [
        (abs(other.time_s - item.time_s), other.category)
        for other in settled
        if isinstance(other, Glance)
        and other.video_id == item.video_id
        and other.category != ABNORMAL
        and _voice(other) != _voice(item)
        and abs(other.time_s - item.time_s) <= tolerance_s
    ]
    return replace(item, category=min(told)[1]) if told else item


def _of_one(item: Settled, annotator: str) -> Settled:
    if isinstance(item, Glance) and item.annotator != annotator:
        return RecordError(Reason.OTHER_ANNOTATOR, f"{_name(item)}; only those of annotator {annotator} count")
    return item


def _near(one: Glance, other: Glance, tolerance_s: float) -> bool:
    return one.category == other.category and abs(one.time_s - other.time_s) <= tolerance_s + 1e-9


def _voice(glance: Glance) -> str:
    return glance.annotator or ""


def _name(glance: Glance) -> str:
    by = f" of annotator {glance.annotator}" if glance.annotator else ""
    return f"the click {glance.category} at {glance.time_s:.2f} s of {glance.video_id}{by}"
