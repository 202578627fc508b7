"""What a training waits for: nothing that can be done beside it."""

from __future__ import annotations

import errno
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from training_data import write_dataset

from pipeline.config import VideoConfig
from pipeline.errors import SetupError
from pipeline.models.clip_frames import ClipFrames
from pipeline.models.hf.loading import ModelSource
from pipeline.models.hf.model import read_weights
from pipeline.train import base_model, checkpoint
from pipeline.train import batches as batches_module
from pipeline.train.batches import DataSettings, TrainingBatches
from pipeline.train.checkpoint import Checkpoints
from pipeline.train.conversation import TrainingProcessor
from pipeline.train.frame_store import FrameStore
from pipeline.train.order import BatchPlan, RowFacts
from pipeline.train.pace import StepTime, pace_of

SETTINGS = DataSettings(num_frames=2, max_side=64, video=VideoConfig(workers=1), window_rows=8)


@pytest.fixture(scope="session")
def processor(video_model: Callable[[str], str]) -> TrainingProcessor:
    return TrainingProcessor(ModelSource(name=video_model("llava_onevision")))


def batches(dataset: Path, processor: TrainingProcessor, **changes: Any) -> TrainingBatches:
    return TrainingBatches(dataset, "train", processor, replace(SETTINGS, **changes), batch_size=2)


def test_the_pace_leaves_the_first_step_out() -> None:
    first = StepTime(seconds=9.0, waiting_s=8.0, tokens=80, places=100)
    others = [StepTime(seconds=s, waiting_s=0.1, tokens=90, places=100) for s in (1.0, 2.0, 3.0)]
    pace = pace_of([first, *others])
    assert pace == pytest.approx({"step_s": 2.0, "tokens_per_s": 45.0, "padding": 0.1, "waiting_share": 0.05})
    assert pace_of([first])["step_s"] == 9.0


def test_batches_made_ahead_are_the_same_and_can_be_resumed(
    tmp_path: Path, film: Callable[[str], Path], processor: TrainingProcessor
) -> None:
    dataset = write_dataset(tmp_path, film("h264.mp4"), 8)
    expected = [batch.ids for batch in batches(dataset, processor)]
    ahead = batches(dataset, processor, prepared_ahead=2)
    taken = iter(ahead)
    first = next(taken)
    assert (ahead.done, first.ids) == (1, expected[0]), "what is only made does not count as done"
    other = batches(dataset, processor, prepared_ahead=2)
    other.load_state_dict(ahead.state_dict())
    taken.close()  # type: ignore[attr-defined]
    assert [batch.ids for batch in other] == expected[1:]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("batches")]


def test_frames_that_leave_the_memory_are_not_decoded_again(
    tmp_path: Path, film: Callable[[str], Path], processor: TrainingProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_dataset(tmp_path, film("h264.mp4"), 8)
    decoded: list[str] = []
    read = batches_module.TrainingBatches._read

    def noting(self: TrainingBatches, pool: Any, row: Any) -> Any:
        decoded.append(row.id)
        return read(self, pool, row)

    monkeypatch.setattr(batches_module.TrainingBatches, "_read", noting)
    # No memory: each clip leaves it as soon as the next one comes.
    stored = batches(dataset, processor, cache_mb=0, frames_folder=tmp_path / "frames", frames_mb=100)
    once = {tuple(batch.ids): batch for batch in stored}
    first = len(decoded)
    stored.set_epoch(0)
    again = {tuple(batch.ids): batch for batch in stored}
    assert len(decoded) - first <= 1, "the last clip of an epoch may still be in memory"
    for ids, batch in once.items():
        assert all(torch.equal(value, again[ids].inputs[name]) for name, value in batch.inputs.items())


def test_a_store_keeps_to_its_room_and_mends_damage(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    clip = ClipFrames(
        frames=np.arange(2 * 4 * 4 * 3, dtype=np.uint8).reshape(2, 4, 4, 3), indices=(0, 7), clip_frames=9,
        fps=29.97, duration_s=1 / 3,
    )  # fmt: skip
    store = FrameStore(tmp_path / "frames", 150)
    store.keep(3, clip)
    store.keep(4, clip)
    found = store.find(3)
    assert found is not None
    assert np.array_equal(found.frames, clip.frames)
    assert replace(found, frames=clip.frames) == clip
    assert store.find(4) is None, "there was room for one"
    [path] = (tmp_path / "frames").iterdir()
    path.write_bytes(path.read_bytes()[:20])
    assert store.find(3) is None
    assert "decoded again" in caplog.text
    assert not path.exists()


def test_a_checkpoint_is_written_behind_and_holds_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    may_write = threading.Event()
    write = checkpoint.write_atomically

    def slow(path: Path, data: Any) -> None:
        assert may_write.wait(20)
        write(path, data)

    monkeypatch.setattr(checkpoint, "write_atomically", slow)
    kept = Checkpoints(tmp_path, 2, is_behind=True)
    weights = torch.ones(3)
    kept.write(1, {"weights": {"a": weights}, "step": 1, "groups": [{"lr": 0.5}]})
    weights += 1
    may_write.set()
    assert kept.steps() == [1]
    state = kept.newest("cpu")
    assert state is not None
    assert state["weights"]["a"].tolist() == [1, 1, 1]

    def full(path: Path, data: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_atomically", full)
    kept.write(2, {"step": 2})
    with pytest.raises(SetupError, match="checkpoint not written, the one of step 1 stays"):
        kept.finish()


def test_rows_of_like_length_share_a_batch() -> None:
    """Texts alone, whose lengths differ as those of HIVAU-70k: a median of 133 characters, 5% above 530."""
    lengths = np.random.default_rng(0).lognormal(4.9, 0.85, 4000).astype(np.int32) + 60
    facts = RowFacts(lengths=lengths, clips=np.arange(4000), group_ends=np.array([4000]), group_bytes=np.array([1]))
    plan = BatchPlan(
        batch_size=4, world_size=1, window_rows=8192, window_bytes=1 << 29, length_batches=16, shuffle=True, seed=0,
        accumulate=8,
    )  # fmt: skip
    dealt = [lengths[rows] for rows in plan.deal(facts, 0, 0)]
    places = sum(len(rows) * rows.max() for rows in dealt)
    assert 1 - lengths.sum() / places < 0.05


def test_liger_goes_into_the_language_model_and_leaves_the_loss(
    video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = read_weights(ModelSource(name=video_model("video_llava")), torch.float32)
    given: list[dict[str, Any]] = []
    patch = ModuleType("liger_kernel.transformers.monkey_patch")
    patch.MODEL_TYPE_TO_APPLY_LIGER_FN = {"llama": None}  # type: ignore[attr-defined]
    patch._apply_liger_kernel_to_instance = lambda **named: given.append(named)  # type: ignore[attr-defined]
    for module in (ModuleType("liger_kernel"), ModuleType("liger_kernel.transformers"), patch):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr(base_model, "has_liger", lambda: False)
    with pytest.raises(SetupError, match="pip install liger-kernel"):
        base_model.use_liger(model)
    monkeypatch.setattr(base_model, "has_liger", lambda: True)
    base_model.use_liger(model)
    patch.MODEL_TYPE_TO_APPLY_LIGER_FN = {}  # type: ignore[attr-defined]
    base_model.use_liger(model)
    assert given == [{"model": model.get_decoder(), "fused_linear_cross_entropy": False, "cross_entropy": False}]
