"""What near-copies are looked for by: hashes of answers, made once of each, some 60 bytes an answer."""

from __future__ import annotations

import functools
import re
import zlib
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from itertools import accumulate

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.quality.rules import words_of

CODE_VERSION = 1
"""Rises when an answer gives other hashes."""

# The published look of every answer, which is no pattern to count.
_LOOK = re.compile(r"^\W*(?:(?:yes|no)\b\W*)?(?:the (?:video|clip) shows\b\W*)?", re.IGNORECASE)
_OPENING_WORDS = 4
_OPENING_LETTERS = 80
_PERMUTATIONS = 64
_HIGHEST_THRESHOLD = 0.95

Shingles = NDArray[np.uint32]
WORDINGS = ("question", "opening")
"""Columns whose most frequent value must not exceed a share."""


def band_names(near_duplicate: float) -> tuple[str, ...]:
    """Return the names of the columns of bands: answers that share one of them may be near-copies."""
    return tuple(f"band{number}" for number in range(_banding(near_duplicate)[0]))


def column_names(near_duplicate: float) -> tuple[str, ...]:
    """Return the names of all columns of hashes."""
    return ("task", *WORDINGS, *band_names(near_duplicate))


def hash_answers(
    tasks: Sequence[str], questions: Sequence[str], answers: Sequence[str], near_duplicate: float
) -> pa.Table:
    """Hash answers for `crowding.find_crowded`, each on its own.

    Bands are those of locality-sensitive hashing over MinHash signatures (Broder, 1997), each a hash of its values and
    the task, so that answers to different tasks share none.

    Returns:
        One row an answer, all columns uint64: `task`, `question`, `opening`, and the bands.
    """
    from datasketch import MinHash

    bands, values = _banding(near_duplicate)
    signatures: list[bytes] = []
    signature = MinHash(num_perm=_PERMUTATIONS, hashfunc=int)
    for answer in answers:
        signature.clear()
        signature.update_batch(_trigrams_of(answer))
        signatures.append(signature.hashvalues.tobytes())
    width = values * np.dtype(np.uint32).itemsize
    columns = {"task": _hashed(map(str.encode, tasks))}
    for name, texts in zip(WORDINGS, (questions, map(opening_of, answers)), strict=True):
        columns[name] = _hashed(f"{task}\n{text}".encode() for task, text in zip(tasks, texts, strict=True))
    for number in range(bands):
        part = slice(number * width, (number + 1) * width)
        columns[f"band{number}"] = _hashed(
            task.encode() + b"\n" + signature[part] for task, signature in zip(tasks, signatures, strict=True)
        )
    return pa.table(columns)


def opening_of(answer: str) -> str:
    """Return the first words of an answer after the look that all answers have."""
    # So many letters hold the first words, unless one of them is none.
    after = _LOOK.sub("", answer, count=1)
    words = words_of(after[:_OPENING_LETTERS])
    return " ".join((words if len(words) > _OPENING_WORDS else words_of(after))[:_OPENING_WORDS])


def shingles_of(text: str) -> Shingles:
    """Return hashes of the word trigrams of a text, ascending and each once; of a shorter text, of its words."""
    return np.unique(np.array(_trigrams_of(text), np.uint32))


def _trigrams_of(text: str) -> list[int]:
    words = [word.encode() for word in words_of(text)]
    if len(words) < 3:
        return [zlib.crc32(b" ".join(words))]
    told = b" ".join(words)
    # Where each word begins; the last end is that of the text, as if a space followed.
    places = list(accumulate((len(word) + 1 for word in words), initial=0))
    return [zlib.crc32(told[start : end - 1]) for start, end in zip(places, places[3:], strict=False)]


def jaccard(first: Shingles, second: Shingles) -> float:
    """Return the Jaccard similarity of two sets of shingles, in [0, 1]."""
    if len(first) == len(second) and (first == second).all():
        return 1.0
    shared = len(np.intersect1d(first, second, assume_unique=True))
    return shared / (len(first) + len(second) - shared)


@functools.cache
def _banding(near_duplicate: float) -> tuple[int, int]:
    """Return how many bands there are, and how many values of a signature each covers."""
    from datasketch import MinHashLSH

    index = MinHashLSH(threshold=min(near_duplicate, _HIGHEST_THRESHOLD), num_perm=_PERMUTATIONS)
    return index.b, index.r


def _hashed(texts: Iterable[bytes]) -> NDArray[np.uint64]:
    hashes = b"".join(blake2b(text, digest_size=8).digest() for text in texts)
    return np.frombuffer(hashes, np.uint64)
