"""Whether the video files that a dataset refers to are there and hold what the rows say."""

from __future__ import annotations

import hashlib
import heapq
import itertools
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from pipeline.dataset.findings import Findings
from pipeline.dataset.layout import SPLITS
from pipeline.errors import RecordError
from pipeline.records import digest

if TYPE_CHECKING:
    from pipeline.video.timeline import Timeline

PROBE_TIMEOUT_S = 60.0
PROBE_MEMORY_MB = 2048
_PROBED_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUse:
    """What rows say of one video file.

    Attributes:
        path: as in `video.path`.
        file: the shard of a row that refers to it, and `row_id` that row's id, for messages.
        duration_s: length of the clip that the file is; None where the file is the source of clips.
        until_s: latest end of a span in the file.
    """

    path: str
    file: str
    row_id: str
    duration_s: float | None
    until_s: float
    split: str


FramesOf = Callable[[FileUse], int | None]
"""Tells the frames of the clip that a file is, where the tables of its workspace are at hand."""


def check_files(
    uses: Iterable[FileUse], folder: Path, probe_files: int | None, frames_of: FramesOf, findings: Findings
) -> None:
    """Check that every file is there, and read the timeline of `probe_files` of them; None reads all.

    Which ones is drawn by hashes of their paths.
    """
    present = _present(uses, folder, findings)
    if probe_files is not None:
        # Even where none is to be read, all of them are looked at.
        drawn = heapq.nsmallest(max(1, probe_files), present, key=lambda use: digest(use.path))
        present = iter(drawn[:probe_files])
    while some := list(itertools.islice(present, _PROBED_AT_ONCE)):
        _probe(some, folder, frames_of, findings)


def _present(uses: Iterable[FileUse], folder: Path, findings: Findings) -> Iterator[FileUse]:
    for use in uses:
        path, place = folder / use.path, f"id {use.row_id!r}"
        try:
            size = path.stat().st_size
        except OSError as fault:
            value = f"video.path={use.path!r}: {fault.strerror or fault}"
            findings.add("clip_file", use.file, place, value, "the file must exist")
            continue
        if path.is_file() and size:
            yield use
        else:
            value = f"video.path={use.path!r}: {size} bytes"
            findings.add("clip_file", use.file, place, value, "it must be a file with content")


def check_copies(uses: Callable[[], Iterable[FileUse]], folder: Path, findings: Findings) -> None:
    """Check that no two splits hold clips of equal content, under whatever name; of equal sizes the bytes are read.

    `uses` are asked for again and again: of each stay some bytes in memory.
    """

    def sized() -> Iterator[tuple[FileUse, int]]:
        for use in uses():
            if use.duration_s is not None and (folder / use.path).is_file():
                yield use, (folder / use.path).stat().st_size

    def hashed() -> Iterator[tuple[FileUse, int]]:
        for use, size in sized():
            if size in sizes:
                content = hashlib.sha256((folder / use.path).read_bytes()).digest()
                yield use, int.from_bytes(content[:8], "big", signed=True)

    sizes = _in_two_splits(sized())
    contents = _in_two_splits(hashed()) if sizes else frozenset()
    by_content: defaultdict[int, dict[str, FileUse]] = defaultdict(dict)
    for use, content in hashed() if contents else ():
        if content in contents:
            by_content[content].setdefault(use.split, use)
    for found in by_content.values():
        value = ", ".join(f"{use.path} in {split}" for split, use in sorted(found.items()))
        first = next(iter(found.values()))
        findings.add("split_by_content", first.file, f"id {first.row_id!r}", value, "equal clips share a split")


def _in_two_splits(uses: Iterable[tuple[FileUse, int]]) -> frozenset[int]:
    """Return the traits of clips that clips of more than one split have."""
    traits, splits = array("q"), array("b")
    for use, trait in uses:
        traits.append(trait)
        splits.append(SPLITS.index(use.split))
    pairs = np.unique(np.stack([np.asarray(traits, np.int64), np.asarray(splits, np.int64)]), axis=1)[0]
    return frozenset(pairs[1:][pairs[1:] == pairs[:-1]].tolist())


def _probe(uses: Sequence[FileUse], folder: Path, frames_of: FramesOf, findings: Findings) -> None:
    from pipeline.video.pool import VideoPool
    from pipeline.video.timeline import read_timeline

    with VideoPool(0, PROBE_TIMEOUT_S, PROBE_MEMORY_MB) as pool:
        paths = [str(folder / use.path) for use in uses]
        for use, timeline in zip(uses, pool.map(read_timeline, paths), strict=True):
            place = f"id {use.row_id!r}"
            if isinstance(timeline, RecordError):
                findings.add("clip_readable", use.file, place, str(timeline), "the file must be a readable video")
            else:
                _compare(use, timeline, frames_of(use), place, findings)


def _compare(use: FileUse, facts: Timeline, frames: int | None, place: str, findings: Findings) -> None:
    frame_s = 1 / facts.fps
    if frames is not None and facts.num_frames != frames:
        value = f"{use.path}: {facts.num_frames} frames"
        findings.add("clip_frames", use.file, place, value, f"the clip has {frames}")
    # Containers round times to their clock, and the last frame's length is seldom written down.
    if use.duration_s is not None and abs(facts.duration_s - use.duration_s) > 1.5 * frame_s:
        value = f"{use.path}: {facts.duration_s:.3f} s long"
        findings.add("clip_duration", use.file, place, value, f"end_s - start_s = {use.duration_s:.3f}")
    if use.duration_s is None and use.until_s > facts.duration_s + frame_s:
        value = f"end_s={use.until_s:.3f}"
        findings.add("clip_in_source", use.file, place, value, f"{use.path} is {facts.duration_s:.3f} s long")
