"""Training batches from the shards of a dataset: complete, the same after a restart, and undisturbed by bad clips."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray
from training_data import row, write_dataset, write_split

from pipeline.config import VideoConfig
from pipeline.errors import ConfigError, DataError, RecordError
from pipeline.models.clip_files import ClipJob, read_file_clip
from pipeline.models.hf.loading import ModelSource
from pipeline.records import Reason
from pipeline.train.batches import DataSettings, TrainingBatch, TrainingBatches
from pipeline.train.conversation import TrainingProcessor
from pipeline.train.rows import SplitRows

SETTINGS = DataSettings(num_frames=2, max_side=64, video=VideoConfig(workers=1), window_rows=8)
SHOWN: dict[str, Any] = {"num_frames": 4, "max_side": 64, "reader": "auto"}


@pytest.fixture(scope="session")
def processor(video_model: Callable[[str], str]) -> TrainingProcessor:
    return TrainingProcessor(ModelSource(name=video_model("llava_onevision")))


@pytest.fixture
def clip(film: Callable[[str], Path]) -> Path:
    return film("h264.mp4")


def batches(
    dataset: Path, processor: TrainingProcessor, rank: int = 0, world_size: int = 1, **changes: Any
) -> TrainingBatches:
    settings = replace(SETTINGS, **changes)
    return TrainingBatches(dataset, "train", processor, settings, batch_size=3, rank=rank, world_size=world_size)


def same(a: TrainingBatch, b: TrainingBatch) -> bool:
    return a.ids == b.ids and all((a.inputs[name] == b.inputs[name]).all() for name in a.inputs | b.inputs)


def test_all_rows_come_once_over_all_ranks(tmp_path: Path, clip: Path, processor: TrainingProcessor) -> None:
    dataset = write_dataset(tmp_path, clip, 20, shards=2)
    ranks = [list(batches(dataset, processor, rank, 2)) for rank in range(2)]
    assert [len(each) for each in ranks] == [len(batches(dataset, processor, 0, 2))] * 2
    found = [batch for each in ranks for batch in each]
    assert sorted(id_ for batch in found for id_ in batch.ids) == [f"pair{n:03d}" for n in range(20)]
    one = found[0]
    number = int(one.ids[0][4:])
    assert (one.classes[0] != "Normal") is (number % 2 == 1)
    assert one.inputs["labels"].shape == one.inputs["input_ids"].shape
    assert all((batch.inputs["labels"] != -100).any(dim=1).all() for batch in found)
    assert {len(batch.ids) for batch in found} == {2, 3}


def test_training_goes_on_at_the_exact_batch(tmp_path: Path, clip: Path, processor: TrainingProcessor) -> None:
    dataset = write_dataset(tmp_path, clip, 20)
    straight = batches(dataset, processor)
    straight.set_epoch(1)
    whole = list(straight)
    first = batches(dataset, processor)
    first.set_epoch(1)
    stream = iter(first)
    begun = [next(stream) for _ in range(2)]
    state = json.loads(json.dumps(first.state_dict()))
    resumed = batches(dataset, processor)
    resumed.load_state_dict(state)
    rest = list(resumed)
    assert len(begun) + len(rest) == len(whole)
    assert all(same(a, b) for a, b in zip([*begun, *rest], whole, strict=True))
    # the one that was left in the middle goes on as well, though its workers are gone
    stream.close()
    assert all(same(a, b) for a, b in zip(first, rest, strict=True))
    assert not first.rejected
    with pytest.raises(ConfigError, match="state after batch 2 of epoch 1 is of another dataset"):
        batches(dataset, processor, seed=3).load_state_dict(state)
    straight.set_epoch(2)
    assert [batch.ids for batch in straight] != [batch.ids for batch in whole]


def test_an_unreadable_clip_costs_its_rows_alone(tmp_path: Path, clip: Path, processor: TrainingProcessor) -> None:
    dataset = write_dataset(tmp_path, clip, 12, clips=6)
    (tmp_path / "clips" / "clip1.mp4").unlink()
    stream = batches(dataset, processor, max_bad_share=0.5)
    found = list(stream)
    assert {"pair001", "pair007"} == set(stream.rejected)
    assert "clip1.mp4" in stream.rejected["pair001"].detail
    assert len(found) == len(stream)
    assert sorted(id_ for batch in found for id_ in batch.ids) == [f"pair{n:03d}" for n in range(12) if n not in (1, 7)]
    for number in range(2, 6):
        (tmp_path / "clips" / f"clip{number}.mp4").write_bytes(b"no video")
    with pytest.raises(DataError, match=r"of 12 rows of split train cannot be trained on, more than a share of 0\.1"):
        list(batches(dataset, processor))


def test_a_batch_without_a_readable_clip_keeps_its_place(
    tmp_path: Path, clip: Path, processor: TrainingProcessor
) -> None:
    dataset = write_dataset(tmp_path, clip, 12, clips=12)
    for number in range(3):
        (tmp_path / "clips" / f"clip{number}.mp4").unlink()
    found = list(batches(dataset, processor, shuffle=False, max_bad_share=0.5))
    assert [batch.ids for batch in found][:2] == [[], ["pair003", "pair004", "pair005"]]
    assert (found[0].inputs["labels"] == -100).all()
    assert found[0].inputs["input_ids"].shape[0] == 1


def test_texts_that_mean_something_to_the_model_are_left_out(
    tmp_path: Path, clip: Path, processor: TrainingProcessor
) -> None:
    rows = [row(n, str(clip)) for n in range(12)]
    rows[3]["question"] = "What does <video> show?"
    rows[5]["answer"] = ""
    stream = batches(write_split(tmp_path, rows), processor, max_bad_share=0.5)
    assert sorted(id_ for batch in stream for id_ in batch.ids) == [
        f"pair{n:03d}" for n in range(12) if n not in (3, 5)
    ]
    assert {row_id: fault.reason for row_id, fault in stream.rejected.items()} == {
        "pair003": Reason.UNFIT_INPUT,
        "pair005": Reason.EMPTY_TEXT,
    }
    assert "the question holds <video>" in stream.rejected["pair003"].detail


def test_a_clip_is_decoded_once_for_all_its_questions(
    tmp_path: Path, clip: Path, processor: TrainingProcessor, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pipeline.video.pool import VideoPool

    begun = []
    submit = VideoPool.submit
    monkeypatch.setattr(VideoPool, "submit", lambda self, fn, item: begun.append(item) or submit(self, fn, item))
    dataset = write_dataset(tmp_path, clip, 20, clips=4)
    assert len(list(batches(dataset, processor))) > 4
    assert len(begun) == 4
    begun.clear()
    # where nothing may be kept, clips are decoded again, and the batches are the same
    assert [b.ids for b in batches(dataset, processor, cache_mb=0)] == [b.ids for b in batches(dataset, processor)]
    assert len(begun) > 8


def test_embedded_and_referenced_clips_show_the_same_frames(tmp_path: Path, clip: Path) -> None:
    def read(rows: list[dict[str, object]]) -> NDArray[np.uint8]:
        where = tmp_path / str(len(list(tmp_path.iterdir())))
        [found] = SplitRows(write_split(where, rows), "train").at([0])
        job = ClipJob(file=found.file, content=found.content, span_s=found.span_s, **SHOWN)
        return read_file_clip(job).frames

    embedded = read([row(0, "a.mp4", video={"bytes": clip.read_bytes(), "path": "a.mp4"})])
    referenced = read([row(0, str(clip), start_s=0.0, end_s=1e6)])
    assert (embedded == referenced).all()
    part = read([row(0, str(clip), start_s=0.0, end_s=0.2)])
    assert (part[0] != referenced[-1]).any()


def test_clips_in_files_in_bytes_and_by_reference_train_alike(
    tmp_path: Path, clip: Path, processor: TrainingProcessor, film: Callable[[str], Path]
) -> None:
    """A shard may hold all three; embedded clips of two cameras may lack a path and span the same seconds."""
    content, other = clip.read_bytes(), film("uneven.mp4").read_bytes()
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips" / "a.mp4").write_bytes(content)
    rows = [
        row(0, "../clips/a.mp4"),
        row(1, "", video={"bytes": content, "path": "a.mp4"}),
        row(2, str(clip), start_s=0.0, end_s=1e6),
        row(3, "", video={"bytes": content, "path": None}, source_video="cam0"),
        row(4, "", video={"bytes": other, "path": None}, source_video="cam1"),
    ]
    assert len(set(SplitRows(write_split(tmp_path, rows), "train").facts.clips.tolist())) == 5
    [first, rest] = batches(tmp_path / "dataset", processor, shuffle=False)
    assert [*first.ids, *rest.ids] == [f"pair{n:03d}" for n in range(5)]
    pixels = [*first.inputs["pixel_values_videos"], *rest.inputs["pixel_values_videos"]]
    assert all((pixels[0] == shown).all() for shown in pixels[:4])
    assert (pixels[0] != pixels[4]).any()


def test_rows_are_those_that_hugging_face_datasets_loads(tmp_path: Path, clip: Path) -> None:
    from datasets import load_dataset

    dataset = write_dataset(tmp_path, clip, 14, shards=2)
    loaded = load_dataset(str(dataset), split="train", cache_dir=str(tmp_path / "cache"))
    ours = SplitRows(dataset, "train")
    assert len(ours) == loaded.num_rows
    for mine, theirs in zip(ours.at(range(len(ours))), loaded, strict=True):
        same_fields = ("id", "is_anomaly", "task", "question", "answer")
        assert {name: getattr(mine, name) for name in same_fields} == {name: theirs[name] for name in same_fields}
        assert theirs["messages"][0]["content"][1]["text"] == mine.question


def test_tasks_can_be_chosen(tmp_path: Path, clip: Path) -> None:
    dataset = write_dataset(tmp_path, clip, 14, group_rows=3)
    rows = SplitRows(dataset, "train", tasks=("description",))
    assert [found.id for found in rows.at(range(len(rows)))] == ["pair000", "pair003", "pair006", "pair009", "pair012"]
    with pytest.raises(DataError, match="split train holds no rows of tasks analysis"):
        SplitRows(dataset, "train", tasks=("analysis",))


def test_damage_names_the_shard(tmp_path: Path, clip: Path) -> None:
    dataset = write_dataset(tmp_path, clip, 12, shards=3)
    with pytest.raises(DataError, match="split validation holds no rows"):
        SplitRows(dataset, "validation")
    shard = dataset / "data" / "train-00001-of-00003.parquet"
    content = shard.read_bytes()
    shard.write_bytes(content[: len(content) // 2])
    with pytest.raises(DataError, match=r"train-00001-of-00003\.parquet: not a readable Parquet file"):
        SplitRows(dataset, "train")
    shard.unlink()
    with pytest.raises(DataError, match="2 of 3 shards of split train are there"):
        SplitRows(dataset, "train")
    with pytest.raises(DataError, match="neither a dataset"):
        SplitRows(tmp_path / "nowhere", "train")


@pytest.mark.parametrize("damage", ["bit", "stretch", "cut"])
def test_any_damage_of_a_shard_is_a_fault_of_the_data(tmp_path: Path, damage: str) -> None:
    dataset = write_split(tmp_path, [row(n, f"../clips/clip{n % 4}.mp4") for n in range(40)], group_rows=8)
    [shard] = (dataset / "data").glob("*.parquet")
    good = shard.read_bytes()
    rng = np.random.default_rng(0)
    told: list[str] = []
    for _ in range(60):
        at = int(rng.integers(len(good)))
        bad = {
            "bit": good[:at] + bytes([good[at] ^ 1 << int(rng.integers(8))]) + good[at + 1 :],
            "stretch": (good[:at] + rng.bytes(60) + good[at + 60 :])[: len(good)],
            "cut": good[:at],
        }[damage]
        shard.write_bytes(bad)
        try:
            rows = SplitRows(dataset, "train")
            rows.at(range(len(rows)))
        except DataError as fault:
            told.append(str(fault))
    assert len(told) > 20
    assert all(shard.name in message for message in told)


def test_texts_that_are_none_are_a_fault_of_the_data(tmp_path: Path) -> None:
    """A damaged page may decompress all the same."""
    dataset = write_split(tmp_path, [row(n, "a.mp4") for n in range(3)])
    [shard] = (dataset / "data").glob("*.parquet")
    table = pq.read_table(shard)
    garbage = pa.Array.from_buffers(
        pa.string(), 3, [None, pa.py_buffer(np.arange(4, dtype=np.int32)), pa.py_buffer(b"\xa0\xa0\xa0")]
    )
    place = table.schema.get_field_index("answer")
    pq.write_table(table.set_column(place, table.schema.field(place), garbage), shard)
    with pytest.raises(DataError, match=r"train-00000-of-00001\.parquet: row group 0 cannot be read: .*UTF8"):
        SplitRows(dataset, "train")


def test_a_row_without_a_clip_is_named(tmp_path: Path) -> None:
    dataset = write_split(tmp_path, [row(0, "a.mp4", video=None)])
    with pytest.raises(DataError, match="row pair000 has neither a clip file nor the bytes of one"):
        SplitRows(dataset, "train").at([0])


def test_a_clip_outside_its_video_is_rejected(clip: Path) -> None:
    job = ClipJob(file=clip, content=None, span_s=(900.0, 910.0), **SHOWN)
    with pytest.raises(RecordError) as caught:
        read_file_clip(job)
    assert caught.value.reason is Reason.FRAME_OUT_OF_RANGE
