"""Which rows validation measures: drawn, balanced as the whole, the same every time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import torch
from lora_dataset import write_dataset
from safetensors.torch import load_file
from training_data import row, write_split

from pipeline.config import LoraConfig, VideoConfig
from pipeline.records import Task
from pipeline.train.lora import train_lora
from pipeline.train.rows import SplitRows
from pipeline.workspace import Workspace


def sorted_split(folder: Path, rows: int, abnormal: int) -> SplitRows:
    """Rows as UCF-Crime's names sort them: Abuse001 ... first, Normal_Videos last."""
    written = [
        row(n, "clip.mp4", is_anomaly=n < abnormal, task=("judge_explain", "judge_explain", "description")[n % 3])
        for n in range(rows)
    ]
    return SplitRows(write_split(folder, written, split="validation", shards=2, group_rows=50), "validation")


@pytest.mark.parametrize("count", [64, 100, 256])
def test_what_is_drawn_is_balanced_as_the_whole(tmp_path: Path, count: int) -> None:
    split = sorted_split(tmp_path, 900, 441)
    rows = split.at(split.drawn(count).tolist())
    assert len({row.id for row in rows}) == count
    assert sum(row.is_anomaly for row in rows) == pytest.approx(0.49 * count, abs=1)
    assert sum(row.task == "description" for row in rows) == pytest.approx(count / 3, abs=1)
    judged = split.at(split.drawn(count, Task.JUDGE_EXPLAIN).tolist())
    assert {row.task for row in judged} == {"judge_explain"}
    assert sum(row.is_anomaly for row in judged) == pytest.approx(0.49 * count, abs=1)
    # from everywhere, not from the head of each kind
    places = split.drawn(count)
    assert places[: count // 2].max() > 400
    assert split.drawn(count).tolist() == places.tolist()


def test_of_few_rows_all_are_drawn(tmp_path: Path) -> None:
    split = sorted_split(tmp_path, 30, 10)
    assert split.drawn(64).tolist() == list(range(30))
    assert len(split.drawn(64, Task.JUDGE_EXPLAIN)) == 20
    assert len(split.drawn(64, Task.CAPTION)) == 0


def test_every_validation_measures_the_same_rows(
    tmp_path: Path, video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write_dataset(tmp_path, train=4, validation=24)
    [shard] = site.glob("dataset/data/validation-*")
    table = pq.read_table(shard)
    pq.write_table(table.sort_by([("is_anomaly", "descending")]), shard)
    seen: dict[str, list[list[str]]] = {"loss": [], "judged": []}

    def measured(kind: str) -> Callable[..., torch.Tensor]:
        def measure(*arguments: Any, **_: Any) -> torch.Tensor:
            batches: Iterable[Any] = next(a for a in arguments if hasattr(a, "rejected"))
            seen[kind].append([id_ for batch in batches for id_ in batch.ids])
            return torch.tensor([1.0, 1.0] if kind == "loss" else [1.0, 1.0, 1.0, 1.0])

        return measure

    monkeypatch.setattr("pipeline.train.lora.measure_loss", measured("loss"))
    monkeypatch.setattr("pipeline.train.lora.measure_judgements", measured("judged"))
    config = LoraConfig(
        base=video_model("smolvlm"), rank=2, batch_size=2, micro_batch=2, epochs=2, num_frames=2, validate_every=2,
        validation_rows=12, judged_rows=8, log_to="none", device="cpu", gradient_checkpointing=False,
    )  # fmt: skip
    train_lora(Workspace(str(site)), config, VideoConfig(workers=1))
    number = {name: [int(id_.removeprefix("validation")) for id_ in ids[0]] for name, ids in seen.items()}
    assert {name: len(ids) for name, ids in seen.items()} == {"loss": 2, "judged": 2}
    assert all(ids[0] == ids[1] for ids in seen.values())
    assert sum(n % 2 == 0 for n in number["loss"]) == 6
    assert sum(n % 2 == 0 for n in number["judged"]) == 4
    assert not any(n % 3 == 2 for n in number["judged"]), "descriptions judge nothing"


@pytest.mark.slow
@pytest.mark.parametrize("cut_after", [None, 4])
def test_the_adapter_with_the_truest_explanations_is_kept(
    cut_after: int | None, tmp_path: Path, video_model: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    site = write_dataset(tmp_path, train=8, validation=24)
    true_at = iter([3.0, 5.0, 5.0, 1.0])
    learned: list[torch.Tensor] = []

    def measure(model: Any, *_: Any, **__: Any) -> torch.Tensor:
        learned.append(next(p.detach().clone() for name, p in model.named_parameters() if "lora_B" in name))
        return torch.tensor([8.0, 8.0, next(true_at), 8.0])

    def count(_: str, done: int, __: int) -> None:
        if done == cut_after:
            raise KeyboardInterrupt

    monkeypatch.setattr("pipeline.train.lora.measure_judgements", measure)
    monkeypatch.setattr("pipeline.train.lora.ENOUGH_JUDGED", 8)
    config = LoraConfig(
        base=video_model("smolvlm"), rank=2, batch_size=2, micro_batch=2, epochs=2, num_frames=2, warmup=0.0, lr=1e-2,
        validation_rows=0, judged_rows=8, log_to="none", device="cpu", gradient_checkpointing=False,
        checkpoint_every=1,
    )  # fmt: skip
    if cut_after:
        with pytest.raises(KeyboardInterrupt):
            train_lora(Workspace(str(site)), config, VideoConfig(workers=1), count)
    trained = train_lora(Workspace(str(site)), config, VideoConfig(workers=1))
    assert len(learned) == 4
    assert not torch.equal(learned[2], learned[3])
    saved = load_file(trained.folder / "adapter_model.safetensors")
    updates = [tensor for name, tensor in saved.items() if "lora_B" in name]
    assert any(torch.equal(tensor, learned[2]) for tensor in updates)
    assert not any(torch.equal(tensor, learned[3]) for tensor in updates)
    assert trained.metrics["validation/explanation_accuracy"] == pytest.approx(5 / 8)
