"""Which split each video belongs to: whole videos, never clips, and never one content in two splits."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import ExportConfig
from pipeline.records import Video

logger = logging.getLogger(__name__)

# A content that a manifest puts into several splits goes to the first of these: a published test set stays whole,
# and nothing of it is trained on.
_PRECEDENCE = ("test", "validation", "train")
_NAMED_IN_WARNINGS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPlan:
    """The split of every video by id, and what a person should know of how it came about."""

    split_of: Mapping[str, str]
    warnings: tuple[str, ...]


def assign_splits(videos: Iterable[Video], config: ExportConfig) -> SplitPlan:
    """Assign a split to every video.

    Byte-identical files share a split. What the manifest says comes first; where it says nothing, the hash of the
    content decides, so that a video added later moves no other. Two exceptions keep small sets usable: a split that is
    due at least half a video gets the one of lowest hash, and train, where a share is left to it, gets every undecided
    video if it would be empty otherwise.
    """
    contents: dict[str, list[Video]] = {}
    for video in videos:
        contents.setdefault(video.sha256, []).append(video)
    given: dict[str, str] = {}
    warnings = []
    for sha256, same in contents.items():
        named = {video.split for video in same if video.split is not None}
        if named:
            given[sha256] = next(split for split in _PRECEDENCE if split in named)
        if len(named) > 1:
            ids = _some(sorted(video.video_id for video in same))
            warnings.append(
                f"the same content stands in {' and '.join(sorted(named))} of the manifest ({ids}): "
                f"all of it goes to {given[sha256]}"
            )
    undecided = sorted(sha256 for sha256 in contents if sha256 not in given)
    drawn = _draw(undecided, config)
    wants_train = config.validation_fraction + config.test_fraction < 1
    if undecided and wants_train and "train" not in {*given.values(), *drawn.values()}:
        drawn = dict.fromkeys(undecided, "train")
        warnings.append(f"{len(undecided)} video(s) are too few to hold any back: all of them go to train")
    split_of = {
        video.video_id: given.get(sha256) or drawn[sha256] for sha256, same in contents.items() for video in same
    }
    for warning in warnings:
        logger.warning("export: %s", warning)
    return SplitPlan(split_of=split_of, warnings=tuple(warnings))


def _draw(contents: Sequence[str], config: ExportConfig) -> dict[str, str]:
    """Split contents by the place of their hash in [0, 1): test lowest, then validation, then train."""
    ascending = sorted(contents)
    test = _count(ascending, 0.0, config.test_fraction)
    # Validation begins where test ends, so that growing one never reshuffles the rest.
    validation = _count(ascending[test:], config.test_fraction, config.validation_fraction)
    splits = ["test"] * test + ["validation"] * validation
    splits += ["train"] * (len(ascending) - len(splits))
    return dict(zip(ascending, splits, strict=True))


def _count(ascending: Sequence[str], below: float, fraction: float) -> int:
    found = sum(_place(sha256) < below + fraction for sha256 in ascending)
    is_due = fraction * len(ascending) >= 0.5
    return max(found, 1) if is_due else found


def _place(sha256: str) -> float:
    return int(sha256[:13], 16) / 16**13


def _some(ids: Sequence[str]) -> str:
    more = len(ids) - _NAMED_IN_WARNINGS
    return ", ".join(ids[:_NAMED_IN_WARNINGS]) + (f" and {more} more" if more > 0 else "")
