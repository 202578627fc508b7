"""Which videos are copies of one another: files of the same bytes, and the same footage written anew.

A copy is as long as its original and changes as it does. A part of a video, or a video with another one joined to it,
is no copy.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from pipeline.records import Look, Video

SAME_LENGTH_S = 0.5
"""Writing footage anew, at another rate too, moves its end by a frame or two."""

ALIKE = 0.7
"""Product of two looks from which they are of one footage; docs/guides/splits.md has what was measured."""

_COMPARED_AT_ONCE = 1024


def could_be_copies(videos: Iterable[Video]) -> list[Video]:
    """Return one video of each content that another content equals in length, shortest first; none without footage."""
    contents: dict[str, Video] = {}
    for video in filter(lambda video: video.has_footage, videos):
        contents.setdefault(video.sha256, video)
    ascending = sorted(contents.values(), key=lambda video: (video.duration_s, video.sha256))
    if not ascending:
        return []
    is_close = [b.duration_s - a.duration_s <= SAME_LENGTH_S for a, b in itertools.pairwise(ascending)]
    return [
        video
        for video, before, after in zip(ascending, [False, *is_close], [*is_close, False], strict=True)
        if before or after
    ]


def group_copies(videos: Sequence[Video], looks: Iterable[Look]) -> dict[str, str]:
    """Return for the content of every video the name of its group: the lowest hash among its copies."""
    group = {video.sha256: video.sha256 for video in videos}

    def root(sha256: str) -> str:
        while group[sha256] != sha256:
            sha256 = group[sha256]
        return sha256

    for one, other in _alike(videos, {look.sha256: look.pictures for look in looks}):
        low, high = sorted((root(one), root(other)))
        group[high] = low
    return {sha256: root(sha256) for sha256 in group}


def _alike(videos: Sequence[Video], pictures: dict[str, str]) -> Iterable[tuple[str, str]]:
    """Yield the pairs of contents that are equally long and look alike."""
    from pipeline.video.look import look_vectors

    seen = [video for video in could_be_copies(videos) if video.sha256 in pictures]
    if not seen:
        return
    vectors = look_vectors([pictures[video.sha256] for video in seen])
    ends_s = np.array([video.duration_s for video in seen])
    for start in range(0, len(seen), _COMPARED_AT_ONCE):
        # In order of length, everything that is as long as one of these stands in one run behind it.
        stop = min(len(seen), start + _COMPARED_AT_ONCE)
        last = int(np.searchsorted(ends_s, ends_s[stop - 1] + SAME_LENGTH_S, side="right"))
        close = np.abs(ends_s[start:stop, None] - ends_s[None, start:last]) <= SAME_LENGTH_S
        alike = np.triu(vectors[start:stop] @ vectors[start:last].T >= ALIKE, k=1) & close
        for one, other in np.argwhere(alike).tolist():
            yield seen[start + one].sha256, seen[start + other].sha256
