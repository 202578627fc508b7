"""Answers that say too often what others say: near-copies across videos, wordings and openings that dominate a task.

A dataset in which one sentence stands a thousand times teaches that sentence. Some repetition is right: two quiet
clips of one camera look alike, and so may their answers. So copies are counted, and dropped beyond a number.

Only what may stand in the dataset counts: neither an answer that breaks a rule nor one that repeats another of its
video takes a place. Rules cost as much as counting, so they are asked only about answers that decide something.
"""

from __future__ import annotations

import functools
import math
import re
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FilterConfig
from pipeline.errors import RecordError
from pipeline.quality.rules import words_of
from pipeline.records import InstructionPair, Reason

# The published look of every answer, which is no pattern to count.
_LOOK = re.compile(r"^\W*(?:(?:yes|no)\b\W*)?(?:the (?:video|clip) shows\b\W*)?", re.IGNORECASE)
_OPENING_WORDS = 4
_PERMUTATIONS = 64

Shingles = NDArray[np.uint32]


def find_crowded(
    pairs: Iterable[InstructionPair],
    config: FilterConfig,
    *,
    keeps_rules: Callable[[InstructionPair], bool],
    video_of: Callable[[InstructionPair], str],
) -> dict[str, RecordError]:
    """Return the pairs to drop by pair id, with what they repeat; some that break a rule may be among them.

    Which of several is kept does not depend on the order of `pairs`: the ids, being hashes, decide.
    """
    keeps_rules = functools.cache(keeps_rules)
    by_task: defaultdict[str, list[InstructionPair]] = defaultdict(list)
    for pair in pairs:
        by_task[pair.task].append(pair)
    faults: dict[str, RecordError] = {}
    for rows in by_task.values():
        rows.sort(key=lambda pair: pair.pair_id)
        copies, kept = _copies(rows, config, keeps_rules, video_of)
        faults |= copies
        if len(kept) >= config.share_from:
            for of, share, reason in (
                (lambda pair: pair.question, config.max_question_share, Reason.CROWDED_QUESTION),
                (_opening, config.max_opening_share, Reason.CROWDED_OPENING),
            ):
                faults |= _beyond(kept, of, share, config.share_from, keeps_rules, reason=reason)
    return faults


def _copies(
    rows: Iterable[InstructionPair],
    config: FilterConfig,
    keeps_rules: Callable[[InstructionPair], bool],
    video_of: Callable[[InstructionPair], str],
) -> tuple[dict[str, RecordError], list[InstructionPair]]:
    """Find answers of which `max_copies` near-copies were kept before; return them, and what is left to stand.

    Candidates come from locality-sensitive hashing of MinHash signatures (Broder, 1997); their similarity is then
    measured, so that nothing is dropped by the chance of a hash; of those just above the limit, chance may miss some.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=min(config.near_duplicate, 0.95), num_perm=_PERMUTATIONS)
    kept: dict[str, tuple[InstructionPair, Shingles]] = {}
    faults = {}
    for pair in rows:
        shingles = _shingles(pair.answer)
        signature = MinHash(num_perm=_PERMUTATIONS, hashfunc=int)
        signature.update_batch(shingles.tolist())
        near = {
            pair_id: similarity
            for pair_id in index.query(signature)
            if (similarity := _jaccard(shingles, kept[pair_id][1])) >= config.near_duplicate
        }
        beside = [pair_id for pair_id in near if video_of(kept[pair_id][0]) == video_of(pair)]
        if beside or len(near) >= config.max_copies:
            for pair_id in [pair_id for pair_id in near if not keeps_rules(kept[pair_id][0])]:
                index.remove(pair_id)
                del kept[pair_id], near[pair_id]
        if beside := sorted(near.keys() & beside):
            detail = f"{near[beside[0]]:.2f} similar to {beside[0]}, the limit is {config.near_duplicate}"
            faults[pair.pair_id] = RecordError(Reason.NEAR_DUPLICATE, detail)
            continue
        if len(near) >= config.max_copies:
            detail = f"{len(near)} answers say the same, one of them {min(near)}; max_copies={config.max_copies}"
            faults[pair.pair_id] = RecordError(Reason.NEAR_DUPLICATE, detail)
            continue
        kept[pair.pair_id] = pair, shingles
        index.insert(pair.pair_id, signature)
    return faults, [pair for pair, _ in kept.values()]


def _beyond(
    rows: list[InstructionPair],
    of: Callable[[InstructionPair], str],
    share: float,
    share_from: int,
    keeps_rules: Callable[[InstructionPair], bool],
    *,
    reason: Reason,
) -> Mapping[str, RecordError]:
    """Find what exceeds a share of the rows with the same wording, of `share_from` rows that keep the rules or more."""
    largest = Counter(map(of, rows)).most_common(1)[0][1]
    standing = 0
    for pair in rows:
        standing += keeps_rules(pair)
        # No wording can exceed its share of these any more, however many of the rest keep the rules.
        if max(1, math.floor(share * standing)) >= largest:
            return {}
    rows = [pair for pair in rows if keeps_rules(pair)]
    if len(rows) < share_from:
        return {}
    most = max(1, math.floor(share * len(rows)))
    alike: defaultdict[str, list[str]] = defaultdict(list)
    for pair in rows:
        alike[of(pair)].append(pair.pair_id)
    return {
        pair_id: RecordError(reason, f"{wording!r} in {len(ids)} of {len(rows)} pairs of the task; at most {most}")
        for wording, ids in alike.items()
        for pair_id in ids[most:]
    }


def _opening(pair: InstructionPair) -> str:
    return " ".join(words_of(_LOOK.sub("", pair.answer))[:_OPENING_WORDS])


def _shingles(text: str) -> Shingles:
    """Return hashes of the word trigrams of a text, ascending and each once; of a shorter text, of its words."""
    words = words_of(text)
    trigrams = (" ".join(words[place : place + 3]) for place in range(max(1, len(words) - 2)))
    return np.unique(np.fromiter((zlib.crc32(trigram.encode()) for trigram in trigrams), dtype=np.uint32))


def _jaccard(first: Shingles, second: Shingles) -> float:
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)
