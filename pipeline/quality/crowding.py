"""Answers that say too often what others say: near-copies across videos, wordings and openings that dominate a task.

A dataset in which one sentence stands a thousand times teaches that sentence. Some repetition is right: two quiet
clips of one camera look alike, and so may their answers. So copies are counted, and dropped beyond a number.

Only what may stand in the dataset counts: neither an answer that breaks a rule nor one that repeats another of its
video takes a place. Rules cost as much as counting, so they are asked only where they may decide something.

Answers are known by their number. Of all of them stay some 60 bytes in memory, texts only of those that may be copies:
answers that share a band of their signatures, directly or through others, form a group; what is kept of one group
depends on no other.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.config import FilterConfig
from pipeline.quality.answer_hashes import Shingles, band_names, jaccard, opening_of, shingles_of
from pipeline.records import InstructionPair, Reason

# Answers whose shingles are in memory at once, at some 300 bytes each.
_ANSWERS_AT_ONCE = 200_000
_UNASKED = -1

FOUND = pa.schema([("number", pa.int64()), ("reason", pa.string()), ("detail", pa.string())])

Numbers = NDArray[np.int64]


class Answers(Protocol):
    """All answers of a build, numbered from 0 on."""

    def hashes(self) -> pa.Table:
        """Return what `hash_answers` gives of each, in order."""
        ...

    def counted(self) -> NDArray[np.bool_]:
        """Tell of each whether it counts."""
        ...

    def videos(self) -> Numbers:
        """Return a hash of the video of each."""
        ...

    def pairs(self, numbers: Numbers) -> Iterator[tuple[int, InstructionPair]]:
        """Yield the pairs of ascending numbers."""
        ...

    def keeps_rules(self, number: int, pair: InstructionPair) -> bool:
        """Tell whether an answer may stand in the dataset, whatever others say."""
        ...


def find_crowded(answers: Answers, config: FilterConfig) -> pa.Table:
    """Return the answers to drop, with what they repeat; some that break a rule may be among them.

    Which of several is kept does not depend on the order of the answers: the ids of the pairs, being hashes, decide.

    Returns:
        A table `FOUND`, ascending by number, each once.
    """
    hashes = answers.hashes()
    counted = answers.counted()
    rules = _Rules(answers, hashes.num_rows)
    found: list[pa.Table] = []
    kept = counted.copy()
    for part in _near_copies(answers, hashes, counted, rules, config):
        kept[part.column("number").to_numpy()] = False
        found.append(part)
    for part in _beyond_shares(answers, hashes, kept, rules, config):
        # An answer may exceed both shares: the later one tells why.
        again = part.column("number")
        found = [earlier.filter(pc.invert(pc.is_in(earlier.column("number"), value_set=again))) for earlier in found]
        found.append(part)
    return pa.concat_tables([FOUND.empty_table(), *found]).sort_by("number").combine_chunks()


_Found = tuple[int, str, str]


def _to_table(rows: Iterable[_Found]) -> pa.Table:
    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    return pa.table(dict(zip(FOUND.names, columns, strict=True)), schema=FOUND)


class _Rules:
    """Asks of every answer once whether it keeps the rules."""

    def __init__(self, answers: Answers, count: int) -> None:
        self._answers = answers
        self.known = np.full(count, _UNASKED, np.int8)

    def ask(self, number: int, pair: InstructionPair) -> bool:
        if self.known[number] == _UNASKED:
            self.known[number] = self._answers.keeps_rules(number, pair)
        return bool(self.known[number])


def _near_copies(
    answers: Answers, hashes: pa.Table, counted: NDArray[np.bool_], rules: _Rules, config: FilterConfig
) -> Iterator[pa.Table]:
    """Find answers of which `max_copies` near-copies were kept before, or one of the same video.

    Of answers that share a band the similarity is measured, so that nothing is dropped by the chance of a hash; of
    those just above the limit, chance may miss some.
    """
    bands = [hashes.column(name).to_numpy() for name in band_names(config.near_duplicate)]
    members, groups = _group(bands, counted)
    members, groups = _crowds(members, groups, answers.videos()[members], config.max_copies)
    for members_of, groups_of in _at_once(members, groups):
        ids: list[str] = []
        shingles: list[Shingles] = []
        for number, pair in answers.pairs(members_of):
            rules.ask(number, pair)
            ids.append(pair.pair_id)
            shingles.append(shingles_of(pair.answer))
        order = pc.sort_indices(
            pa.table({"group": groups_of, "id": ids}), sort_keys=[("group", "ascending"), ("id", "ascending")]
        ).to_numpy()
        numbers = members_of[order]
        crowd = _Crowd(
            groups=groups_of[order],
            ids=[ids[place] for place in order],
            shingles=[shingles[place] for place in order],
            bands=np.stack([band[numbers] for band in bands], axis=1),
            videos=answers.videos()[numbers],
            keeps=rules.known[numbers] == 1,
        )
        yield _to_table(
            (int(numbers[place]), Reason.NEAR_DUPLICATE.value, detail) for place, detail in _thin(crowd, config)
        )


def _group(bands: Sequence[NDArray[np.uint64]], counted: NDArray[np.bool_]) -> tuple[Numbers, Numbers]:
    """Return the answers that share a band with another, ascending, and the group of each."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    within = np.flatnonzero(counted)
    ends: list[tuple[Numbers, Numbers]] = []
    for band in bands:
        values = band[within]
        order = np.argsort(values)
        values = values[order]
        same = np.flatnonzero(values[1:] == values[:-1])
        ends.append((within[order[same]], within[order[same + 1]]))
    first, second = (np.concatenate(side) for side in zip(*ends, strict=True))
    members = np.unique(np.concatenate([first, second]))
    if not len(members):
        return members, members
    links = np.searchsorted(members, first), np.searchsorted(members, second)
    graph = coo_array((np.ones(len(first), bool), links), shape=(len(members), len(members)))
    return members, connected_components(graph, directed=False)[1].astype(np.int64)


def _crowds(members: Numbers, groups: Numbers, videos: Numbers, max_copies: int) -> tuple[Numbers, Numbers]:
    """Return the members of groups in which something may be dropped: large ones, or with two of one video."""
    if not len(members):
        return members, groups
    size = np.bincount(groups)
    order = np.lexsort((videos, groups))
    beside = (groups[order[1:]] == groups[order[:-1]]) & (videos[order[1:]] == videos[order[:-1]])
    crowded = size > max_copies
    crowded[groups[order[1:]][beside]] = True
    wanted = crowded[groups]
    return members[wanted], groups[wanted]


def _at_once(members: Numbers, groups: Numbers) -> Iterator[tuple[Numbers, Numbers]]:
    """Yield whole groups, so many at once as memory is meant to hold."""
    if not len(members):
        return
    size = np.bincount(groups)
    part = np.cumsum(size) // _ANSWERS_AT_ONCE
    part_of = part[groups]
    for number in np.unique(part_of):
        here = part_of == number
        yield members[here], groups[here]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Crowd:
    """Answers of some groups, by group and within it by the id of the pair."""

    groups: Numbers
    ids: Sequence[str]
    shingles: Sequence[Shingles]
    bands: NDArray[np.uint64]
    videos: Numbers
    keeps: NDArray[np.bool_]


def _thin(crowd: _Crowd, config: FilterConfig) -> Iterator[tuple[int, str]]:
    """Yield the place of each answer that is dropped, and why, keeping the first ones."""
    kept = _Kept(crowd, config.near_duplicate)
    for place in range(len(crowd.ids)):
        near = kept.near(place)
        beside = {other for other in near if crowd.videos[other] == crowd.videos[place]}
        if beside or len(near) >= config.max_copies:
            for other in [other for other in near if not crowd.keeps[other]]:
                kept.remove(other)
                del near[other]
            beside &= near.keys()
        if beside:
            first = min(beside)
            yield place, f"{near[first]:.2f} similar to {crowd.ids[first]}, the limit is {config.near_duplicate}"
        elif len(near) >= config.max_copies:
            same = f"{len(near)} answers say the same, one of them {crowd.ids[min(near)]}"
            yield place, f"{same}; max_copies={config.max_copies}"
        else:
            kept.add(place)


class _Kept:
    """The answers that were kept, found by the bands they share: a chain of places for each band."""

    def __init__(self, crowd: _Crowd, limit: float) -> None:
        self._crowd = crowd
        self._limit = limit
        codes = [np.unique(band, return_inverse=True)[1] for band in crowd.bands.T]
        self._codes = np.stack(codes, axis=1)
        self._heads = [np.full(code.max() + 1, -1, np.int64) for code in codes]
        self._next = np.full(self._codes.shape, -1, np.int64)
        self._gone = np.zeros(len(crowd.ids), bool)

    def near(self, place: int) -> dict[int, float]:
        """Return the kept answers that are near-copies of another, with their similarity."""
        shingles = self._crowd.shingles
        seen: dict[int, float] = {}
        for band, head in enumerate(self._heads):
            for other in self._chain(band, head, int(self._codes[place, band])):
                if other not in seen:
                    seen[other] = jaccard(shingles[place], shingles[other])
        return {other: similarity for other, similarity in seen.items() if similarity >= self._limit}

    def add(self, place: int) -> None:
        for band, head in enumerate(self._heads):
            code = self._codes[place, band]
            self._next[place, band], head[code] = head[code], place

    def remove(self, place: int) -> None:
        self._gone[place] = True

    def _chain(self, band: int, head: Numbers, code: int) -> Iterator[int]:
        """Yield what a chain holds, taking out of it what was removed."""
        before, place = -1, int(head[code])
        while place >= 0:
            after = int(self._next[place, band])
            if not self._gone[place]:
                yield place
                before = place
            elif before < 0:
                head[code] = after
            else:
                self._next[before, band] = after
            place = after


@dataclass(frozen=True, slots=True, kw_only=True)
class _Share:
    """The most frequent wording of a task, and how many answers have to stand for it to keep its share."""

    task: int
    column: str
    share: float
    reason: Reason
    needed: int


def _beyond_shares(
    answers: Answers, hashes: pa.Table, kept: NDArray[np.bool_], rules: _Rules, config: FilterConfig
) -> Iterator[pa.Table]:
    """Find what exceeds a share of a task's rows with the same wording, of `share_from` rows that keep the rules."""
    tasks = hashes.column("task").to_numpy()
    open_shares = [share for share in _shares(hashes, tasks, kept, config) if share.needed > 0]
    standing: Counter[int] = Counter()
    asked = np.flatnonzero(kept & np.isin(tasks, np.array([share.task for share in open_shares], np.uint64)))
    for number, pair in answers.pairs(asked):
        if not open_shares:
            # No wording can exceed its share any more, however many of the rest keep the rules.
            return
        task = int(tasks[number])
        standing[task] += rules.ask(number, pair)
        if standing[task] in {share.needed for share in open_shares}:
            open_shares = [share for share in open_shares if standing[share.task] < share.needed]
    for share in open_shares:
        if standing[share.task] >= config.share_from:
            stands = np.flatnonzero(kept & (tasks == share.task) & (rules.known == 1))
            yield _exceeding(answers, hashes.column(share.column).to_numpy(), stands, share)


def _shares(
    hashes: pa.Table, tasks: NDArray[np.uint64], kept: NDArray[np.bool_], config: FilterConfig
) -> Iterator[_Share]:
    for task in np.unique(tasks[kept]):
        rows = kept & (tasks == task)
        if rows.sum() < config.share_from:
            continue
        for column, share, reason in (
            ("question", config.max_question_share, Reason.CROWDED_QUESTION),
            ("opening", config.max_opening_share, Reason.CROWDED_OPENING),
        ):
            largest = int(np.unique(hashes.column(column).to_numpy()[rows], return_counts=True)[1].max())
            needed = 0 if largest <= 1 else _least_rows(largest, share)
            yield _Share(task=int(task), column=column, share=share, reason=reason, needed=needed)


def _least_rows(count: int, share: float) -> int:
    """Return the least number of rows of which `count` are no more than a share."""
    rows = math.ceil(count / share)
    while math.floor(share * rows) < count:
        rows += 1
    while math.floor(share * (rows - 1)) >= count:
        rows -= 1
    return rows


def _exceeding(answers: Answers, wordings: NDArray[np.uint64], stands: Numbers, share: _Share) -> pa.Table:
    most = max(1, math.floor(share.share * len(stands)))
    values, counts = np.unique(wordings[stands], return_counts=True)
    crowded = stands[np.isin(wordings[stands], values[counts > most])]
    of: Callable[[InstructionPair], str]
    of = (lambda pair: pair.question) if share.column == "question" else (lambda pair: opening_of(pair.answer))
    alike: defaultdict[str, list[tuple[str, int]]] = defaultdict(list)
    for number, pair in answers.pairs(crowded):
        alike[of(pair)].append((pair.pair_id, number))
    return _to_table(
        (number, share.reason.value, f"{wording!r} in {len(rows)} of {len(stands)} pairs of the task; at most {most}")
        for wording, rows in alike.items()
        for _, number in sorted(rows)[most:]
    )
