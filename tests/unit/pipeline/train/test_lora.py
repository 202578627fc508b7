"""LoRA training in one process: what it leaves, where it goes on, and how it ends when something is wrong."""

from __future__ import annotations

import errno
import importlib.util
import json
import logging
import os
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from lora_dataset import write_dataset

from pipeline.config import LoraConfig, VideoConfig
from pipeline.errors import DataError, SetupError
from pipeline.models.hf.adapter import read_facts
from pipeline.models.hf.model import find_source, load_weights
from pipeline.models.hf.model_parts import projector_parameters
from pipeline.train import checkpoint
from pipeline.train.base_model import load_base
from pipeline.train.batches import TrainingBatch
from pipeline.train.lora import TrainedLora, train_lora, training_key
from pipeline.train.schedule import rate_factor
from pipeline.train.trainer import Trainer
from pipeline.workspace import Workspace

VideoModelOf = Callable[[str], str]
VIDEO = VideoConfig(workers=1)
STEPS = 6


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "workspace")


@pytest.fixture
def site(dataset: Path, tmp_path: Path) -> Workspace:
    return Workspace(str(shutil.copytree(dataset, tmp_path / "site")))


@pytest.fixture
def config(video_model: VideoModelOf) -> Callable[..., LoraConfig]:
    def make(**values: Any) -> LoraConfig:
        given = {
            "base": video_model("smolvlm"), "rank": 4, "alpha": 8, "dropout": 0.1, "lr": 1e-2, "projector_lr": 1e-3,
            "batch_size": 4, "micro_batch": 2, "epochs": 2, "num_frames": 2, "gradient_checkpointing": False,
            "checkpoint_every": 2, "judged_rows": 0, "validation_rows": 0, "log_to": "none", "device": "cpu",
        }  # fmt: skip
        return LoraConfig(**{**given, **values})

    return make


def train(site: Workspace, config: LoraConfig, on_step: Callable[[int], None] | None = None) -> TrainedLora:
    return train_lora(site, config, VIDEO, lambda _, done, total: on_step(done) if on_step else None)


def weights(site: Workspace) -> tuple[bytes, bytes]:
    folder = Path(site.url) / "models" / "lora"
    return (folder / "adapter_model.safetensors").read_bytes(), (folder / "projector.safetensors").read_bytes()


def checkpoints(site: Workspace) -> list[str]:
    return sorted(path.name for path in Path(site.url).glob("models/lora-training/*/checkpoints-*/*"))


@pytest.fixture(scope="module")
def uninterrupted() -> dict[str, tuple[bytes, bytes]]:
    """The weights that `expected` has made, for all tests of this module."""
    return {}


@pytest.fixture
def expected(
    uninterrupted: dict[str, tuple[bytes, bytes]], dataset: Path, tmp_path: Path, config: Callable[..., LoraConfig]
) -> tuple[bytes, bytes]:
    """What a training leaves that nothing interrupts."""
    if not uninterrupted:
        whole = Workspace(str(shutil.copytree(dataset, tmp_path / "whole")))
        assert train(whole, config()).steps == STEPS
        uninterrupted["weights"] = weights(whole)
    return uninterrupted["weights"]


def test_training_lowers_the_loss_and_leaves_an_adapter(
    site: Workspace, config: Callable[..., LoraConfig], video_model: VideoModelOf
) -> None:
    settings = config(epochs=4, dropout=0.0, validation_rows=4, judged_rows=4, validate_every=6, log_to="tensorboard")
    steps: list[int] = []
    trained = train(site, settings, steps.append)
    assert steps == list(range(1, 13))
    report = json.loads((Path(site.url) / "reports" / "train-lora.json").read_text())
    first, last = report["losses"]
    assert last < 0.85 * first
    assert report["rows"] == 12
    measured = {"validation/loss", "validation/judgement_accuracy", "validation/explanation_accuracy"}
    assert set(trained.metrics) == measured
    assert trained.metrics["validation/judgement_accuracy"] in (0.0, 1 / 3, 2 / 3, 1.0)
    facts = read_facts(trained.folder)
    assert (facts.base, facts.num_frames, facts.metrics) == (video_model("smolvlm"), 2, trained.metrics)
    load_weights(find_source(str(trained.folder)), "cpu")
    assert checkpoints(site) == []
    assert curves(site) >= {
        "train/loss", "train/lr", "train/projector_lr", "train/grad_norm", "train/tokens_per_s", *measured,
    }  # fmt: skip


def test_updates_and_projector_are_trained_at_rates_of_their_own(
    site: Workspace, config: Callable[..., LoraConfig], video_model: VideoModelOf
) -> None:
    """The first step of Adam moves a weight by the learning rate, whatever its gradient."""
    from safetensors.torch import load

    rates = {"lr": 1e-3, "projector_lr": 1e-5, "warmup": 0.0, "dropout": 0.0}
    assert train(site, config(**rates, batch_size=12, epochs=1)).steps == 1
    updates, projector = map(load, weights(site))
    base = projector_parameters(load_weights(find_source(video_model("smolvlm")), "cpu")[0])
    moved = max(float(tensor.abs().max()) for name, tensor in updates.items() if "lora_B" in name)
    assert moved == pytest.approx(1e-3, rel=0.01)
    moved = max(float((tensor - base[name]).abs().max()) for name, tensor in projector.items())
    assert moved == pytest.approx(1e-5, rel=0.05)


@pytest.mark.slow
def test_activations_are_computed_twice_and_change_nothing(
    site: Workspace, config: Callable[..., LoraConfig], expected: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[str] = []

    def counted(*arguments: Any, **named: Any) -> Any:
        model = load_base(*arguments, **named)
        model.get_decoder().layers[0].self_attn.register_forward_pre_hook(lambda *_: passes.append("pass"))
        return model

    monkeypatch.setattr("pipeline.train.lora.load_base", counted)
    train(site, config(gradient_checkpointing=True))
    assert len(passes) == 2 * 2 * (STEPS + 1), "two passes over each of the two micro-batches of a step, and as a trial"
    assert weights(site) == expected


def test_others_may_read_what_is_trained(site: Workspace, config: Callable[..., LoraConfig]) -> None:
    """safetensors writes files for their owner alone."""
    folder = train(site, config(epochs=1)).folder
    assert {path.stat().st_mode & 0o777 for path in folder.iterdir()} == {folder.stat().st_mode & 0o666}


def curves(site: Workspace) -> set[str]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    [file] = Path(site.url).glob("models/lora-training/*/lora/events.*")
    events = EventAccumulator(str(file))
    events.Reload()
    for name, highest in (("train/lr", 1e-2), ("train/projector_lr", 1e-3)):
        expected = [highest * rate_factor(step, 12, 0.03) for step in range(12)]
        assert [point.value for point in events.Scalars(name)] == pytest.approx(expected)
    assert len(events.Scalars("train/loss")) == 12
    assert [point.step for point in events.Scalars("validation/loss")] == [6, 12]
    return set(events.Tags()["scalars"])


def test_a_finished_training_is_not_repeated(
    site: Workspace, config: Callable[..., LoraConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = train(site, config(epochs=1))
    before = weights(site)
    monkeypatch.setattr("pipeline.train.lora.load_base", lambda *_: pytest.fail("trained again"))
    again = train(site, config(epochs=1))
    assert (again.steps, again.folder) == (0, first.folder)
    assert weights(site) == before
    # Settings that change no result do not change that.
    assert train(site, config(epochs=1, checkpoint_every=7, micro_batch=4)).steps == 0


@pytest.mark.slow
def test_other_settings_begin_anew(
    site: Workspace, config: Callable[..., LoraConfig], caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(site, config(), interrupt_after(2))
    with caplog.at_level(logging.WARNING):
        trained = train(site, config(epochs=1, seed=1))
    assert "another dataset, base, settings or number of devices: this one begins anew" in caplog.text
    assert trained.steps == 3
    assert len(checkpoints(site)) == 1, "the other training can still go on"


def interrupt_after(step: int) -> Callable[[int], None]:
    def press(done: int) -> None:
        if done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return press


@pytest.mark.parametrize("step", [1, 3])
def test_an_interrupted_training_ends_at_the_same_bytes(
    site: Workspace, config: Callable[..., LoraConfig], expected: tuple[bytes, bytes], step: int,
    caplog: pytest.LogCaptureFixture,
) -> None:  # fmt: skip
    """In the middle of an epoch and at its end, both between two checkpoints."""
    with caplog.at_level(logging.INFO), pytest.raises(KeyboardInterrupt):
        train(site, config(), interrupt_after(step))
    assert f"interrupted: the same command goes on after step {step} of {STEPS}" in caplog.text
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    steps: list[int] = []
    train(site, config(), steps.append)
    assert steps == list(range(step + 1, STEPS + 1))
    assert weights(site) == expected


class _Killed(BaseException):
    """Ends a training as kill -9 does: nothing more is written."""


@pytest.mark.slow
def test_a_killed_training_goes_on_where_it_last_wrote(
    site: Workspace, config: Callable[..., LoraConfig], expected: tuple[bytes, bytes], caplog: pytest.LogCaptureFixture
) -> None:
    def kill(done: int) -> None:
        if done == 5:
            raise _Killed

    with pytest.raises(_Killed):
        train(site, config(), kill)
    assert checkpoints(site) == ["step-00000002.pt", "step-00000004.pt"]
    [folder] = Path(site.url).glob("models/lora-training/*/checkpoints-*")
    (folder / "_tmp-1-step-00000006.pt").write_bytes(b"half of it")
    newest = folder / "step-00000004.pt"
    newest.write_bytes(newest.read_bytes()[:1000])
    steps: list[int] = []
    train(site, config(), steps.append)
    assert "damaged, the one before it is taken" in caplog.text
    assert steps == [3, 4, 5, 6]
    assert weights(site) == expected


@pytest.mark.slow
def test_a_full_disk_keeps_the_checkpoint_before(
    site: Workspace, config: Callable[..., LoraConfig], expected: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    write = checkpoint.write_atomically

    def full(path: Path, data: Any) -> None:
        if path.name == "step-00000004.pt":
            raise OSError(errno.ENOSPC, "No space left on device")
        write(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "write_atomically", full)
        with pytest.raises(
            SetupError, match=r"step-00000004.pt: checkpoint not written, the one of step 2 stays: no sp"
        ):
            train(site, config())
    steps: list[int] = []
    train(site, config(), steps.append)
    assert steps == [3, 4, 5, 6]
    assert weights(site) == expected


def test_a_full_disk_at_the_end_keeps_the_last_checkpoint(
    site: Workspace, config: Callable[..., LoraConfig], expected: tuple[bytes, bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.train.lora.save_adapter", full)
        with pytest.raises(SetupError, match=r"adapter not written, the checkpoint of the last step stays: no space"):
            train(site, config())
    assert not (Path(site.url) / "models" / "lora").exists()
    steps: list[int] = []
    train(site, config(), steps.append)
    assert steps == []
    assert weights(site) == expected


def test_no_finite_loss_stops_and_names_the_rows(site: Workspace, config: Callable[..., LoraConfig]) -> None:
    with pytest.raises(SetupError) as caught:
        train(site, config(lr=1e30, max_grad_norm=1e30, checkpoint_every=1, warmup=0.0))
    told = str(caught.value)
    assert told.startswith(f"step 2 of {STEPS}: loss nan") or told.startswith(f"step 2 of {STEPS}: loss inf"), told
    assert "training stopped, the checkpoint of step 1 stays" in told
    assert "learning rates: lr 9" in told
    assert told.partition("rows: ")[2].count("train") == 4
    assert checkpoints(site) == ["step-00000001.pt"]


@pytest.mark.slow
def test_a_step_is_the_mean_over_all_answer_tokens(
    site: Workspace, config: Callable[..., LoraConfig], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve rows at once, or twos, fours and sixes whose answers differ in length: the same gradients, one by one.

    Weights would not tell: Adam's first step is as long whatever the scale of the gradient.
    """
    import torch
    from safetensors.torch import load

    gradients: list[list[torch.Tensor]] = []
    clip = torch.nn.utils.clip_grad_norm_

    def recorded(parameters: Iterable[torch.Tensor], longest: float) -> torch.Tensor:
        parameters = list(parameters)
        gradients.append([p.grad.clone() for p in parameters if p.grad is not None])
        return clip(parameters, longest)

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", recorded)
    whole = {"batch_size": 12, "epochs": 1, "dropout": 0.0, "warmup": 0.0}
    train(site, config(**whole, micro_batch=12))
    for micro_batch in (2, 4, 6):
        other = Workspace(str(shutil.copytree(site.url, tmp_path / f"by{micro_batch}")))
        shutil.rmtree(Path(other.url) / "models")
        train(other, config(**whole, micro_batch=micro_batch))
        together, apart = gradients[0], gradients[-1]
        assert len(apart) == len(together) > 10
        for number, (value, got) in enumerate(zip(together, apart, strict=True)):
            assert torch.allclose(got, value, rtol=1e-3, atol=1e-5 * float(value.abs().max())), number
        for name, value in load(weights(other)[0]).items():
            assert torch.allclose(value, load(weights(site)[0])[name], atol=2e-5), name
    assert len(gradients) == 4
    assert max(float(value.abs().max()) for value in gradients[0]) > 0.01


def test_gradients_are_shared_once_a_step(
    site: Workspace, config: Callable[..., LoraConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    from accelerate import Accelerator

    unshared: list[object] = []
    no_sync = Accelerator.no_sync
    monkeypatch.setattr(Accelerator, "no_sync", lambda self, model: unshared.append(model) or no_sync(self, model))
    train(site, config(batch_size=6, micro_batch=2, epochs=1))
    assert len(unshared) == 2 * (3 - 1), "of two steps of three passes the last passes alone share"


def test_bf16_and_checkpointed_activations_train_too(site: Workspace, config: Callable[..., LoraConfig]) -> None:
    import torch
    from safetensors.torch import load

    train(site, config(dtype="bf16", gradient_checkpointing=True, epochs=1))
    adapter, projector = map(load, weights(site))
    assert {tensor.dtype for tensor in (*adapter.values(), *projector.values())} == {torch.float32}
    assert any(bool(tensor.any()) for name, tensor in adapter.items() if "lora_B" in name)


def test_a_frozen_projector_is_not_written(site: Workspace, config: Callable[..., LoraConfig]) -> None:
    trained = train(site, config(projector_lr=0, epochs=1))
    assert not (trained.folder / "projector.safetensors").exists()
    load_weights(find_source(str(trained.folder)), "cpu")


def test_the_projector_is_trained_alone(
    site: Workspace, config: Callable[..., LoraConfig], video_model: VideoModelOf
) -> None:
    from safetensors.torch import load

    train(site, config(lr=0, epochs=1))
    updates, projector = map(load, weights(site))
    assert not any(bool(tensor.any()) for name, tensor in updates.items() if "lora_B" in name)
    base = projector_parameters(load_weights(find_source(str(video_model("smolvlm"))), "cpu")[0])
    assert projector
    assert all(not tensor.equal(base[name]) for name, tensor in projector.items())


def test_an_empty_validation_split_measures_nothing(
    site: Workspace, config: Callable[..., LoraConfig], caplog: pytest.LogCaptureFixture
) -> None:
    [shard] = Path(site.url).glob("dataset/data/validation-*")
    shard.unlink()
    assert train(site, config(epochs=1, validation_rows=4, judged_rows=4)).metrics == {}
    assert "no validation split: neither loss nor judgements are measured" in caplog.text


def test_a_damaged_validation_split_is_found_before_training(
    site: Workspace, config: Callable[..., LoraConfig]
) -> None:
    [shard] = Path(site.url).glob("dataset/data/validation-*")
    shard.write_bytes(shard.read_bytes()[:1000])
    steps: list[int] = []
    with pytest.raises(DataError, match=r"validation-00000-of-00001.parquet: not a readable Parquet file"):
        train(site, config(judged_rows=4), steps.append)
    assert not steps
    # it is no part of a training that measures nothing
    assert train(site, config(epochs=1)).steps == 3


def test_what_cannot_be_trained_says_why(
    site: Workspace, config: Callable[..., LoraConfig], video_model: VideoModelOf, tmp_path: Path
) -> None:
    with pytest.raises(SetupError, match=r"lora.quantize=4bit needs a CUDA device; this is cpu"):
        train(site, config(quantize="4bit"))
    with pytest.raises(SetupError, match=r"lora.base=/nowhere: no such folder"):
        train(site, config(base="/nowhere"))
    with pytest.raises(DataError, match=r"neither a dataset"):
        train(Workspace(str(tmp_path / "nothing")), config())
    with pytest.raises(DataError, match=r"split train holds no rows of tasks analysis"):
        train(site, config(tasks=["analysis"]))
    with pytest.raises(SetupError, match=r"lora.log_to=wandb is not installed: pip install wandb"):
        train(site, config(log_to="wandb"))


def test_a_missing_package_is_named(
    site: Workspace, config: Callable[..., LoraConfig], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "pipeline.train.processes.importlib.util.find_spec",
        lambda name, *rest: None if name == "peft" else found(name, *rest),
    )
    with pytest.raises(SetupError, match=r"needs peft: pip install 'holmes-engine\[train\]'"):
        train(site, config())


def test_an_adapter_is_no_base(site: Workspace, config: Callable[..., LoraConfig]) -> None:
    trained = train(site, config(epochs=1))
    with pytest.raises(SetupError, match=r"an adapter; `holmes merge` makes a model of it"):
        train(site, config(base=str(trained.folder)))


@pytest.mark.slow
def test_the_plan_is_told_before_the_first_step(
    site: Workspace, config: Callable[..., LoraConfig], caplog: pytest.LogCaptureFixture
) -> None:
    told: list[str] = []
    with caplog.at_level(logging.INFO):
        train(site, config(epochs=None, batch_size=None), lambda _: told.append(caplog.text))
    assert "plan: 12 rows, 8 to a step, 8 time(s): 16 steps, the rates rise in the first 1, about a minute" in told[0]
    assert "16 steps are few: below 50 little is learned" in told[0]


def _changed(site: Workspace, split: str, change: Callable[[dict[str, Any]], None]) -> None:
    [shard] = Path(site.url).glob(f"dataset/data/{split}-*")
    table = pq.read_table(shard)
    rows = table.to_pylist()
    change(rows[5])
    pq.write_table(pa.Table.from_pylist(rows, schema=table.schema), shard, compression="none")


@pytest.mark.parametrize(
    "values",
    [
        {"is_anomaly": True}, {"label": "Shooting"}, {"answer": "No, nothing unusual happend."}, {"start_s": 0.1},
        {"question": "What can be sren?"}, {"task": "analysis"}, {"fingerprint": "f"},
    ],
)  # fmt: skip
def test_a_changed_row_makes_another_training(
    site: Workspace, config: Callable[..., LoraConfig], values: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However little it changes, and however large the shard is that it stands in."""
    monkeypatch.setattr("pipeline.train.lora.folder_identity", lambda folder: "files of unchanged size and ends")
    before = training_key(site, config(), VIDEO)
    assert training_key(site, config(lr=1e-3), VIDEO) != before
    _changed(site, "train", lambda row: None)
    assert training_key(site, config(), VIDEO) == before
    _changed(site, "train", lambda row: row.update(values))
    assert training_key(site, config(), VIDEO) != before


def test_rows_in_another_split_make_another_training(site: Workspace, config: Callable[..., LoraConfig]) -> None:
    before = training_key(site, config(), VIDEO)
    data = Path(site.url) / "dataset" / "data"
    (data / "validation-00000-of-00001.parquet").rename(data / "test-00000-of-00001.parquet")
    assert training_key(site, config(), VIDEO) != before


@pytest.mark.parametrize("settings", [name for name in LoraConfig().identity() if name != "base"])
def test_every_setting_of_the_result_makes_another_training(
    site: Workspace, config: Callable[..., LoraConfig], settings: str
) -> None:
    others: dict[str, Any] = {
        "revision": "other", "rank": 5, "alpha": 9, "dropout": 0.2, "target_modules": ["q_proj"], "lr": 1e-3,
        "projector_lr": 1e-4, "warmup": 0.1, "weight_decay": 0.1, "max_grad_norm": 2.0, "epochs": 3, "batch_size": 8,
        "num_frames": 3, "max_side": 64, "tasks": ["judge_explain"], "dtype": "bf16", "quantize": "4bit", "seed": 1,
        "validate_every": 1, "judged_rows": 1, "judged_tokens": 1,
    }  # fmt: skip
    assert training_key(site, config(**{settings: others[settings]}), VIDEO) != training_key(site, config(), VIDEO)


def test_another_decoder_or_arithmetic_goes_on_with_no_old_state(
    site: Workspace, config: Callable[..., LoraConfig]
) -> None:
    assert training_key(site, config(), VIDEO) != training_key(site, config(), VideoConfig(reader="decord"))

    def kill(done: int) -> None:
        if done == 2:
            raise _Killed

    for dtype in ("float32", "bf16"):
        with pytest.raises(_Killed):
            train(site, config(dtype=dtype, checkpoint_every=1), kill)
    folders = [path.name for path in Path(site.url).glob("models/lora-training/*/checkpoints-*")]
    assert sorted(folders) == ["checkpoints-2-bf16", "checkpoints-2-float32"]


@pytest.mark.slow
def test_a_changed_answer_begins_anew(
    site: Workspace, config: Callable[..., LoraConfig], caplog: pytest.LogCaptureFixture
) -> None:
    def kill(done: int) -> None:
        if done == 3:
            raise _Killed

    with pytest.raises(_Killed):
        train(site, config(), kill)
    _changed(site, "train", lambda row: row.update(answer=row["answer"].replace("quickly", "quietly")))
    steps: list[int] = []
    train(site, config(), steps.append)
    assert steps == list(range(1, STEPS + 1))
    assert "an unfinished training with another dataset" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize("step", [1, 2, 4])
def test_what_is_left_of_an_epoch_is_seen_once(
    site: Workspace, config: Callable[..., LoraConfig], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Six batches of two rows in an epoch, three steps; killed after some, it goes on with the rows not yet learned."""
    learned: list[str] = []
    take_step = Trainer._take_step

    def recorded(self: Trainer, batches: Iterator[TrainingBatch]) -> Any:
        def told() -> Iterator[TrainingBatch]:
            for batch in batches:
                learned.extend(batch.ids)
                yield batch

        return take_step(self, told())

    def kill(done: int) -> None:
        if done == step:
            raise _Killed

    monkeypatch.setattr(Trainer, "_take_step", recorded)
    with pytest.raises(_Killed):
        train(site, config(checkpoint_every=1), kill)
    train(site, config(checkpoint_every=1))
    # The step at which it was killed had been taken, and no checkpoint of it written.
    killed = learned[4 * (step - 1) : 4 * step]
    assert learned[4 * step : 4 * (step + 1)] == killed
    whole = [*learned[: 4 * step], *learned[4 * (step + 1) :]]
    rows = {f"train{number:02d}" for number in range(12)}
    assert len(whole) == 24
    assert set(whole[:12]) == set(whole[12:]) == rows
