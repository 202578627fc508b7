"""Whether the video files that a dataset refers to are there and hold what the rows say."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.dataset.findings import Findings
from pipeline.errors import RecordError

if TYPE_CHECKING:
    from pipeline.video.timeline import Timeline

PROBE_TIMEOUT_S = 60.0
PROBE_MEMORY_MB = 2048


@dataclass(frozen=True, slots=True, kw_only=True)
class FileUse:
    """What rows say of one video file.

    Attributes:
        path: as in `video.path`.
        file: the shard of a row that refers to it, and `row_id` that row's id, for messages.
        duration_s: length of the clip that the file is; None where the file is the source of clips.
        until_s: latest end of a span in the file.
        num_frames: frames of the clip, where the workspace's tables are at hand.
    """

    path: str
    file: str
    row_id: str
    duration_s: float | None
    until_s: float
    split: str
    num_frames: int | None = None


def check_files(uses: Mapping[str, FileUse], folder: Path, probe_files: int | None, findings: Findings) -> None:
    """Check that every file is there, and read the timeline of `probe_files` of them, evenly chosen; None reads all."""
    present = []
    for use in uses.values():
        path, place = folder / use.path, f"id {use.row_id!r}"
        try:
            size = path.stat().st_size
        except OSError as fault:
            value = f"video.path={use.path!r}: {fault.strerror or fault}"
            findings.add("clip_file", use.file, place, value, "the file must exist")
            continue
        if path.is_file() and size:
            present.append(use)
        else:
            value = f"video.path={use.path!r}: {size} bytes"
            findings.add("clip_file", use.file, place, value, "it must be a file with content")
    count = len(present) if probe_files is None else min(probe_files, len(present))
    if count:
        _probe([present[i * len(present) // count] for i in range(count)], folder, findings)


def check_copies(uses: Iterable[FileUse], folder: Path, findings: Findings) -> None:
    """Check that no two splits hold clips of equal content, under whatever name; of equal sizes the bytes are read."""
    by_size: defaultdict[int, list[FileUse]] = defaultdict(list)
    for use in uses:
        path = folder / use.path
        if use.duration_s is not None and path.is_file():
            by_size[path.stat().st_size].append(use)
    for alike in by_size.values():
        by_content: defaultdict[bytes, dict[str, FileUse]] = defaultdict(dict)
        if len({use.split for use in alike}) > 1:
            for use in alike:
                by_content[hashlib.sha256((folder / use.path).read_bytes()).digest()].setdefault(use.split, use)
        for found in by_content.values():
            if len(found) > 1:
                value = ", ".join(f"{use.path} in {split}" for split, use in sorted(found.items()))
                first = next(iter(found.values()))
                findings.add("split_by_content", first.file, f"id {first.row_id!r}", value, "equal clips share a split")


def _probe(uses: Sequence[FileUse], folder: Path, findings: Findings) -> None:
    from pipeline.video.pool import VideoPool
    from pipeline.video.timeline import read_timeline

    with VideoPool(0, PROBE_TIMEOUT_S, PROBE_MEMORY_MB) as pool:
        paths = [str(folder / use.path) for use in uses]
        for use, timeline in zip(uses, pool.map(read_timeline, paths), strict=True):
            place = f"id {use.row_id!r}"
            if isinstance(timeline, RecordError):
                findings.add("clip_readable", use.file, place, str(timeline), "the file must be a readable video")
            else:
                _compare(use, timeline, place, findings)


def _compare(use: FileUse, facts: Timeline, place: str, findings: Findings) -> None:
    frame_s = 1 / facts.fps
    if use.num_frames is not None and facts.num_frames != use.num_frames:
        value = f"{use.path}: {facts.num_frames} frames"
        findings.add("clip_frames", use.file, place, value, f"the clip has {use.num_frames}")
    # Containers round times to their clock, and the last frame's length is seldom written down.
    if use.duration_s is not None and abs(facts.duration_s - use.duration_s) > 1.5 * frame_s:
        value = f"{use.path}: {facts.duration_s:.3f} s long"
        findings.add("clip_duration", use.file, place, value, f"end_s - start_s = {use.duration_s:.3f}")
    if use.duration_s is None and use.until_s > facts.duration_s + frame_s:
        value = f"end_s={use.until_s:.3f}"
        findings.add("clip_in_source", use.file, place, value, f"{use.path} is {facts.duration_s:.3f} s long")
