"""Answers that say too often what others say: near-copies across videos, wordings and openings that dominate a task.

A dataset in which one sentence stands a thousand times teaches that sentence. Some repetition is right: two quiet
clips of one camera look alike, and so may their answers. So copies are counted, and dropped beyond a number.
"""

from __future__ import annotations

import math
import re
import zlib
from collections import defaultdict
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


def find_crowded(pairs: Iterable[InstructionPair], config: FilterConfig) -> dict[str, RecordError]:
    """Return the pairs to drop by pair id, with what they repeat.

    Which of several is kept does not depend on the order of `pairs`: the ids, being hashes, decide.
    """
    by_task: defaultdict[str, list[InstructionPair]] = defaultdict(list)
    for pair in pairs:
        by_task[pair.task].append(pair)
    faults: dict[str, RecordError] = {}
    for rows in by_task.values():
        rows.sort(key=lambda pair: pair.pair_id)
        faults |= _copies(rows, config)
        kept = [pair for pair in rows if pair.pair_id not in faults]
        if len(kept) >= config.share_from:
            faults |= _beyond(kept, lambda pair: pair.question, config.max_question_share, Reason.CROWDED_QUESTION)
            faults |= _beyond(kept, _opening, config.max_opening_share, Reason.CROWDED_OPENING)
    return faults


def _copies(rows: Iterable[InstructionPair], config: FilterConfig) -> dict[str, RecordError]:
    """Find answers of which `max_copies` near-copies were kept before.

    Candidates come from locality-sensitive hashing of MinHash signatures (Broder, 1997); their similarity is then
    measured, so that nothing is dropped by the chance of a hash; of those just above the limit, chance may miss some.
    """
    from datasketch import MinHash, MinHashLSH

    index = MinHashLSH(threshold=min(config.near_duplicate, 0.95), num_perm=_PERMUTATIONS)
    kept: dict[str, Shingles] = {}
    faults = {}
    for pair in rows:
        shingles = _shingles(pair.answer)
        signature = MinHash(num_perm=_PERMUTATIONS, hashfunc=int)
        signature.update_batch(shingles.tolist())
        near = [
            pair_id for pair_id in index.query(signature) if _jaccard(shingles, kept[pair_id]) >= config.near_duplicate
        ]
        if len(near) >= config.max_copies:
            detail = f"{len(near)} answers say the same, one of them {min(near)}; max_copies={config.max_copies}"
            faults[pair.pair_id] = RecordError(Reason.NEAR_DUPLICATE, detail)
            continue
        kept[pair.pair_id] = shingles
        index.insert(pair.pair_id, signature)
    return faults


def _beyond(
    rows: list[InstructionPair], of: Callable[[InstructionPair], str], share: float, reason: Reason
) -> Mapping[str, RecordError]:
    """Find what exceeds a share of the rows with the same wording."""
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
