"""Which video goes where."""

from __future__ import annotations

import pytest

from pipeline.config import ExportConfig
from pipeline.dataset.splits import assign_splits
from pipeline.records import NORMAL, Video


def video(name: str, *, split: str | None = None, place: float | None = None, content: str | None = None) -> Video:
    """A video whose content hash lies at `place` in [0, 1)."""
    sha256 = content or f"{int((place or 0.0) * 16**13):013x}{name.encode().hex():0<51}"[:64]
    return Video(
        video_id=name, path=f"{name}.mp4", sha256=sha256, fps=25.0, num_frames=100, duration_s=4.0,
        width=64, height=48, codec="h264", label=NORMAL, split=split, source="",
    )  # fmt: skip


CONFIG = ExportConfig(validation_fraction=0.2, test_fraction=0.1)


def test_the_manifest_comes_first() -> None:
    videos = [video("a", split="test", place=0.9), video("b", split="train", place=0.01), video("c", place=0.5)]
    assert assign_splits(videos, CONFIG).split_of == {"a": "test", "b": "train", "c": "train"}


def test_the_hash_decides_the_rest_and_additions_move_nothing() -> None:
    videos = [video(f"v{i}", place=i / 20 + 0.01) for i in range(20)]
    split_of = assign_splits(videos, CONFIG).split_of
    assert [split_of[f"v{i}"] for i in range(20)] == ["test"] * 2 + ["validation"] * 4 + ["train"] * 14
    later = assign_splits([*videos, video("new", place=0.15)], CONFIG).split_of
    assert {name: later[name] for name in split_of} == split_of
    assert assign_splits(reversed(videos), CONFIG).split_of == split_of


def test_equal_files_share_a_split_and_a_held_out_one_wins() -> None:
    videos = [video("a", split="train", content="0" * 64), video("b", split="test", content="0" * 64)]
    plan = assign_splits([*videos, video("copy", content="0" * 64)], CONFIG)
    assert plan.split_of == {"a": "test", "b": "test", "copy": "test"}
    assert "test and train" in plan.warnings[0]
    assert "a, b, copy" in plan.warnings[0]


def test_a_split_that_is_due_a_video_gets_the_lowest_hash() -> None:
    videos = [video(f"v{i}", place=0.5 + i / 20) for i in range(8)]
    split_of = assign_splits(videos, ExportConfig(validation_fraction=0.1)).split_of
    assert [name for name, split in split_of.items() if split == "validation"] == ["v0"]


def test_train_is_never_empty_by_chance() -> None:
    plan = assign_splits([video("only", place=0.0)], CONFIG)
    assert plan.split_of == {"only": "train"}
    assert "too few" in plan.warnings[0]


def test_train_may_be_empty_on_request() -> None:
    config = ExportConfig(validation_fraction=0, test_fraction=1)
    assert assign_splits([video("only", place=0.5)], config).split_of == {"only": "test"}


@pytest.mark.parametrize("count", [100, 1000])
def test_shares_are_about_right(count: int) -> None:
    import hashlib

    videos = [video(f"v{i}", content=hashlib.sha256(str(i).encode()).hexdigest()) for i in range(count)]
    splits = list(assign_splits(videos, CONFIG).split_of.values())
    assert splits.count("validation") / count == pytest.approx(0.2, abs=0.08)
    assert splits.count("test") / count == pytest.approx(0.1, abs=0.08)
