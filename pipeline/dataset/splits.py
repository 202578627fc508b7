"""Which split each video belongs to: whole videos, never clips, and never one footage in two splits.

    1. What the manifest says holds for all copies of a video; of several splits the most held out one.
    2. What was drawn before stands, whatever is added. Only a copy that the manifest, or an earlier draw, has put into
       a more held out split takes the others along.
    3. Of the rest the hash of the content decides, so that machines and orders of files make no difference.

Two exceptions, both made among the videos of 3 alone, keep small sets usable: a split that is due at least half a video
and has none gets one of lowest hash; and train keeps two normal and two abnormal videos where it can have them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.config import ExportConfig
from pipeline.dataset.copies import group_copies
from pipeline.records import NORMAL, Look, Video, VideoSplit

# A content that stands in several splits goes to the first of these: a published test set stays whole, and nothing of
# it is trained on.
_PRECEDENCE = ("test", "validation", "train")
_KEPT = 2
"""Videos of either kind that train keeps: one to learn from, and one on which that can be validated."""

_NAMED = 5
"""Videos named in one note."""


@dataclass(frozen=True, slots=True)
class _Group:
    """Copies of one another; `kind` tells whether something abnormal happens in them, None where it is unknown."""

    name: str
    videos: tuple[Video, ...]
    kind: bool | None

    @property
    def place(self) -> float:
        """Return where the lowest hash lies in [0, 1)."""
        return int(self.name[:13], 16) / 16**13

    @property
    def ids(self) -> str:
        """Return the ids of the videos, the first ones of many."""
        ids = sorted(video.video_id for video in self.videos)
        more = len(ids) - _NAMED
        return ", ".join(ids[:_NAMED]) + (f" and {more} more" if more > 0 else "")


@dataclass(frozen=True, slots=True)
class _Decision:
    split: str
    decided_by: str
    note: str | None = None


def decide_splits(
    videos: Sequence[Video],
    looks: Iterable[Look],
    clicked: Collection[str],
    earlier: Iterable[VideoSplit],
    config: ExportConfig,
    *,
    unlabelled_is_normal: bool = False,
) -> list[VideoSplit]:
    """Return the split of every video, in the order of `videos`.

    Args:
        videos: all of a workspace.
        looks: of the contents that could be copies of others.
        clicked: ids of the videos with an event.
        earlier: what was decided before under the same settings.
        config: the shares that are held out.
        unlabelled_is_normal: what is made of videos without a label or a click.
    """
    copies = group_copies(videos, looks)
    members: dict[str, list[Video]] = defaultdict(list)
    for video in videos:
        members[copies[video.sha256]].append(video)
    unknown = False if unlabelled_is_normal else None
    groups = [_Group(name, tuple(same), _kind(same, clicked, unknown)) for name, same in sorted(members.items())]
    before = {row.sha256: row for row in earlier if row.decided_by == "draw"}
    decided: dict[str, _Decision] = {}
    for group in groups:
        decision = _named(group) or _drawn_before(group, before)
        if decision is not None:
            decided[group.name] = decision
    _draw(groups, decided, config)
    return [
        VideoSplit(
            video_id=video.video_id,
            sha256=video.sha256,
            copies=copies[video.sha256],
            split=decided[copies[video.sha256]].split,
            decided_by=decided[copies[video.sha256]].decided_by,
            note=decided[copies[video.sha256]].note,
        )
        for video in videos
    ]


def _kind(same: Iterable[Video], clicked: Collection[str], unknown: bool | None) -> bool | None:
    kinds = {True if v.video_id in clicked else unknown if v.label is None else v.label != NORMAL for v in same}
    return next((kind for kind in (True, False) if kind in kinds), None)


def _named(group: _Group) -> _Decision | None:
    """Return what the manifest says of a group."""
    named = {video.split for video in group.videos} - {None}
    if not named:
        return None
    split = next(split for split in _PRECEDENCE if split in named)
    if len(named) == 1:
        return _Decision(split, "manifest")
    listed = " and ".join(sorted(filter(None, named)))
    note = f"the same content stands in {listed} of the manifest ({group.ids}): all of it goes to {split}"
    return _Decision(split, "manifest", note)


def _drawn_before(group: _Group, before: Mapping[str, VideoSplit]) -> _Decision | None:
    rows = [before[video.sha256] for video in group.videos if video.sha256 in before]
    if not rows:
        return None
    row = min(rows, key=lambda row: _PRECEDENCE.index(row.split))
    return _Decision(row.split, "draw", row.note)


def _draw(groups: Sequence[_Group], decided: dict[str, _Decision], config: ExportConfig) -> None:
    """Decide about the groups of which nothing is decided."""
    # Validation begins where test ends, so that growing one never reshuffles the rest.
    held_out = config.test_fraction + config.validation_fraction
    drawn = {
        group.name: _Decision(
            "test" if group.place < config.test_fraction else "validation" if group.place < held_out else "train",
            "draw",
        )
        for group in groups
        if group.name not in decided
    }
    to_draw = len(groups) - sum(decision.decided_by == "manifest" for decision in decided.values())
    if held_out < 1:
        _keep_train_usable(groups, drawn, decided)
    for split, fraction in (("test", config.test_fraction), ("validation", config.validation_fraction)):
        due = fraction * to_draw >= 0.5
        if due and all(decision.split != split for decision in (*decided.values(), *drawn.values())):
            _hold_one_out(split, groups, drawn, decided)
    decided |= drawn


def _keep_train_usable(groups: Sequence[_Group], drawn: dict[str, _Decision], decided: Mapping[str, _Decision]) -> None:
    """Move to train what it cannot do without: normal and abnormal videos, of either kind `_KEPT`."""
    split_of = {name: decision.split for name, decision in {**drawn, **decided}.items()}
    for kind, word in ((True, "abnormal"), (False, "normal")):
        alike = [group for group in groups if group.kind is kind]
        missing = _KEPT - sum(split_of[group.name] == "train" for group in alike)
        movable = [group for group in alike if group.name in drawn and split_of[group.name] != "train"]
        # The highest hashes were the last to be held out.
        for group in movable[-missing:] if missing > 0 else ():
            note = f"too few {word} videos to hold {group.ids} back: train keeps {_KEPT} where it can"
            drawn[group.name] = _Decision("train", "draw", note)


def _hold_one_out(
    split: str, groups: Sequence[_Group], drawn: dict[str, _Decision], decided: Mapping[str, _Decision]
) -> None:
    """Give a split the lowest hash of the kind that train has most of, if enough of it are left."""
    split_of = {name: decision.split for name, decision in {**drawn, **decided}.items()}
    in_train = [group for group in groups if group.kind is not None and split_of[group.name] == "train"]
    abnormal = [group for group in in_train if group.kind]
    normal = [group for group in in_train if not group.kind]
    larger = max(abnormal, normal, key=len)
    movable = [group for group in larger if group.name in drawn]
    if movable and len(larger) > _KEPT:
        drawn[movable[0].name] = _Decision(split, "draw")
