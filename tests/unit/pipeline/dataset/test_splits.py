"""Which video goes where."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from pipeline.config import ExportConfig
from pipeline.dataset.copies import could_be_copies, group_copies
from pipeline.dataset.splits import decide_splits
from pipeline.records import NORMAL, Look, Video, VideoSplit


def video(
    name: str, *, split: str | None = None, place: float | None = None, content: str | None = None, **changes: Any
) -> Video:
    """A video whose content hash lies at `place` in [0, 1)."""
    sha256 = content or f"{int((place or 0.0) * 16**13):013x}{name.encode().hex():0<51}"[:64]
    values = {
        "video_id": name, "path": f"{name}.mp4", "sha256": sha256, "fps": 25.0, "num_frames": 100, "duration_s": 4.0,
        "width": 64, "height": 48, "codec": "h264", "label": NORMAL, "split": split, "source": "",
    }  # fmt: skip
    return Video(**values | changes)


def look(of: Video, seed: int, noise: float = 0.0) -> Look:
    """What a video looks like; the same seed is the same footage."""
    pictures = np.random.default_rng(seed).integers(0, 200, (8, 256))
    pictures = pictures + np.random.default_rng(seed + 1000).integers(-50, 50, (8, 256)) * noise
    return Look(sha256=of.sha256, pictures=b64encode(np.clip(pictures, 0, 255).astype(np.uint8).tobytes()).decode())


CONFIG = ExportConfig(validation_fraction=0.2, test_fraction=0.1)


def decide(
    videos: Sequence[Video], config: ExportConfig = CONFIG, *, looks: Sequence[Look] = (), clicked: Sequence[str] = (),
    earlier: Sequence[VideoSplit] = (), **how: Any,
) -> dict[str, str]:  # fmt: skip
    return {row.video_id: row.split for row in decide_splits(list(videos), looks, set(clicked), earlier, config, **how)}


def notes(videos: Sequence[Video], config: ExportConfig = CONFIG) -> set[str | None]:
    return {row.note for row in decide_splits(videos, [], set(), [], config)}


def test_the_manifest_comes_first() -> None:
    videos = [video("a", split="test", place=0.9), video("b", split="train", place=0.01), video("c", place=0.5)]
    assert decide(videos) == {"a": "test", "b": "train", "c": "train"}


def test_the_hash_decides_the_rest_and_the_order_does_not() -> None:
    videos = [video(f"v{i}", place=i / 20 + 0.01) for i in range(20)]
    split_of = decide(videos)
    assert [split_of[f"v{i}"] for i in range(20)] == ["test"] * 2 + ["validation"] * 4 + ["train"] * 14
    assert decide(list(reversed(videos))) == split_of


def test_additions_move_nothing_that_was_decided() -> None:
    # Eight are due no test video by their hashes, so that the lowest hash is taken; a lower one comes later.
    videos = [video(f"v{i}", place=0.5 + i / 20) for i in range(8)]
    first = decide_splits(videos, [], set(), [], CONFIG)
    assert [row.video_id for row in first if row.split == "test"] == ["v0"]
    later = decide([*videos, video("lower", place=0.4), video("held", place=0.01)], earlier=first)
    assert later.pop("held") == "test"
    assert later.pop("lower") == "train"
    assert later == {row.video_id: row.split for row in first}
    again = decide_splits(videos, [], set(), first, CONFIG)
    assert again == first


def test_equal_files_share_a_split_and_a_held_out_one_wins() -> None:
    videos = [video("a", split="train", content="0" * 64), video("b", split="test", content="0" * 64)]
    videos.append(video("copy", content="0" * 64))
    assert decide(videos) == {"a": "test", "b": "test", "copy": "test"}
    [note] = notes(videos)
    assert note is not None
    assert "test and train" in note
    assert "a, b, copy" in note


def test_a_copy_takes_a_decided_video_along_only_to_be_held_out() -> None:
    trained, other = video("trained", place=0.9), video("other", place=0.8)
    first = decide_splits([trained, other], [], set(), [], CONFIG)
    assert {row.split for row in first} == {"train"}
    copy = video("copy", place=0.01)
    looks = [look(trained, 1), look(copy, 1, noise=0.5), look(other, 2)]
    assert decide([trained, other, copy], looks=looks, earlier=first) == dict.fromkeys(
        ("trained", "other", "copy"), "train"
    )
    official = video("official", place=0.7, split="test")
    looks = [look(trained, 1), look(official, 1, noise=0.5), look(other, 2)]
    assert decide([trained, other, official], looks=looks, earlier=first) == {
        "trained": "test", "other": "train", "official": "test",
    }  # fmt: skip


def test_a_split_that_is_due_a_video_gets_the_lowest_hash_of_the_larger_kind() -> None:
    config = ExportConfig(validation_fraction=0.1)
    videos = [video(f"v{i}", place=0.5 + i / 20) for i in range(8)]
    assert [name for name, split in decide(videos, config).items() if split == "validation"] == ["v0"]
    abnormal = [video("only", place=0.4, label="Fighting"), *videos]
    assert [name for name, split in decide(abnormal, config).items() if split == "validation"] == ["v0"]


def test_train_keeps_two_videos_of_either_kind() -> None:
    videos = [video(f"v{i}", place=0.5 + i / 40) for i in range(12)]
    videos += [video("a", place=0.01, label="Fighting"), video("b", place=0.05, label=None)]
    videos += [video("c", place=0.07, label="Robbery")]
    split_of = decide(videos, clicked=["b"])
    assert (split_of["a"], split_of["b"], split_of["c"]) == ("test", "train", "train")
    assert {str(note)[:38] for note in notes(videos) - {None}} == {
        "too few abnormal videos to hold a back",
        "too few abnormal videos to hold c back",
    }


def test_train_is_never_empty_by_chance_but_may_be_on_request() -> None:
    only = [video("only", place=0.0)]
    assert decide(only) == {"only": "train"}
    assert decide(only, ExportConfig(validation_fraction=0, test_fraction=1)) == {"only": "test"}


def test_what_gives_no_clip_is_no_split_of_its_own() -> None:
    config = ExportConfig(validation_fraction=0.1)
    videos = [video(f"u{i}", place=0.4 + i / 100, label=None) for i in range(3)]
    videos += [video(f"v{i}", place=0.5 + i / 20) for i in range(5)]
    assert [name for name, split in decide(videos, config).items() if split == "validation"] == ["v0"]
    held_out = [n for n, split in decide(videos, config, unlabelled_is_normal=True).items() if split == "validation"]
    assert held_out == ["u0"]


@pytest.mark.parametrize("count", [100, 1000])
def test_shares_are_about_right(count: int) -> None:
    videos = [video(f"v{i}", content=hashlib.sha256(str(i).encode()).hexdigest()) for i in range(count)]
    splits = list(decide(videos).values())
    assert splits.count("validation") / count == pytest.approx(0.2, abs=0.08)
    assert splits.count("test") / count == pytest.approx(0.1, abs=0.08)


def test_only_what_is_equally_long_is_looked_at() -> None:
    videos = [video("a", place=0.1, duration_s=4.0), video("b", place=0.2, duration_s=4.3)]
    videos += [video("c", place=0.3, duration_s=9.0), video("twin", content=videos[0].sha256)]
    assert [video.video_id for video in could_be_copies(videos)] == ["a", "b"]


def test_copies_of_copies_are_one_group() -> None:
    videos = [video(f"v{i}", place=i / 10 + 0.05, duration_s=60.0 + 0.2 * i) for i in range(4)]
    looks = [look(videos[0], 1), look(videos[1], 1, 0.3), look(videos[2], 1, 0.6), look(videos[3], 2)]
    groups = group_copies(videos, looks)
    assert [groups[video.sha256] for video in videos] == [videos[0].sha256] * 3 + [videos[3].sha256]
    apart = [video("a", place=0.1, duration_s=4.0), video("b", place=0.2, duration_s=5.0)]
    assert len(set(group_copies(apart, [look(apart[0], 1), look(apart[1], 1)]).values())) == 2
