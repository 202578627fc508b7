"""LoRA training as the command runs it: two processes that train as one, and Ctrl-C."""

from __future__ import annotations

import json
import logging
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from lora_dataset import write_dataset
from safetensors.torch import load_file

from pipeline.config import LoraConfig, VideoConfig
from pipeline.train.lora import train_lora
from pipeline.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[4]
VideoModelOf = Callable[[str], str]
LAUNCH = (
    "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines", "1",
    "--main_process_port", "0", "--mixed_precision", "no", "--dynamo_backend", "no",
)  # fmt: skip


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "workspace")


def settings_of(base: str, **settings: Any) -> dict[str, Any]:
    return {
        "base": base, "rank": 4, "lr": 0.01, "batch_size": 4, "micro_batch": 2, "epochs": 2, "num_frames": 2,
        "gradient_checkpointing": False, "device": "cpu", "log_to": "none", "judged_rows": 4, **settings,
    }  # fmt: skip


def command(base: str, workspace: Path, **settings: Any) -> list[str]:
    given = settings_of(base, **settings)
    overrides = [part for key, value in given.items() for part in ("--set", f"lora.{key}={value}")]
    return ["-m", "flows.cli", "--debug", "train", "lora", "--workspace", str(workspace), *overrides]


@pytest.fixture
def train_alone(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[..., list[str]]]:
    """Train in this process, which is what the others are held against; return what is said of each step."""
    import torch

    def train(base: str, workspace: Path, **settings: Any) -> list[str]:
        with caplog.at_level(logging.DEBUG, logger="pipeline"):
            train_lora(Workspace(str(workspace)), LoraConfig(**settings_of(base, **settings)), VideoConfig(workers=1))
        return [message for message in caplog.messages if message.startswith("step ")]

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as the others have: sums are rounded alike
    yield train
    torch.set_num_threads(threads)


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False, timeout=600,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done


def losses(log: str) -> list[str]:
    return [line.partition(" D ")[2] for line in log.splitlines() if " D step " in line]


@pytest.mark.integration
def test_two_processes_train_as_one(
    dataset: Path, video_model: VideoModelOf, train_alone: Callable[..., list[str]], tmp_path: Path
) -> None:
    import torch

    alone = Path(shutil.copytree(dataset, tmp_path / "alone"))
    both = Path(shutil.copytree(dataset, tmp_path / "both"))
    base = video_model("smolvlm")
    steps = train_alone(base, alone)
    two = run(*LAUNCH, *command(base, both, micro_batch=1))
    assert "on 2 device(s)" in two.stderr
    assert len(steps) == 6
    assert losses(two.stderr) == steps
    assert two.stdout.count("adapter  ") == 1
    for name in ("adapter_model.safetensors", "projector.safetensors"):
        expected, got = (load_file(site / "models" / "lora" / name) for site in (alone, both))
        for key, value in expected.items():
            assert torch.allclose(value, got[key], atol=1e-4), key
    reports = [json.loads((site / "reports" / "train-lora.json").read_text()) for site in (alone, both)]
    assert reports[1]["devices"] == 2
    assert reports[1]["metrics"] == pytest.approx(reports[0]["metrics"], rel=1e-4)


def launched_by(config: str) -> tuple[str, ...]:
    file = f"datasets/training/accelerate/{config}.yaml"
    return (
        "-m", "accelerate.commands.launch", "--config_file", file, "--num_processes", "2", "--main_process_port", "0",
    )  # fmt: skip


NEEDS_DEEPSPEED = pytest.mark.skipif(
    find_spec("deepspeed") is None, reason="DeepSpeed is not installed: pip install deepspeed"
)


@pytest.mark.integration
@pytest.mark.timeout(900)
@pytest.mark.parametrize("config", ["fsdp2", pytest.param("zero3", marks=NEEDS_DEEPSPEED)])
def test_two_processes_share_one_model(
    dataset: Path, video_model: VideoModelOf, train_alone: Callable[..., list[str]], tmp_path: Path, config: str
) -> None:
    """By the config that comes along, killed after a checkpoint and gone on with."""
    import torch

    alone = Path(shutil.copytree(dataset, tmp_path / "alone"))
    both = Path(shutil.copytree(dataset, tmp_path / "both"))
    base = video_model("qwen2_5_vl")
    # What DeepSpeed gathers is gathered once more where activations are computed again.
    settings = {"checkpoint_every": 2, "gradient_checkpointing": config == "zero3"}
    steps = train_alone(base, alone, **settings)
    settings["micro_batch"] = 1
    script = tmp_path / "killed.py"
    script.write_text(_KILLED)
    with pytest.raises(AssertionError) as killed:
        run(*launched_by(config), str(script), str(tmp_path), *command(base, both, **settings)[2:])
    for rank in range(2):
        assert (tmp_path / f"matrices-{rank}.json").is_file(), killed.value
        whole, held = json.loads((tmp_path / f"matrices-{rank}.json").read_text())
        assert 0 < held <= 0.51 * whole, "each process keeps half of the frozen matrices of the layers"
    assert list(both.glob("models/lora-training/*/checkpoints-*/step-00000002.pt"))
    two = run(*launched_by(config), *command(base, both, **settings))
    assert "going on after step 2 of 6" in two.stderr
    assert losses(two.stderr) == steps[2:]
    for name in ("adapter_model.safetensors", "projector.safetensors"):
        expected, got = (load_file(site / "models" / "lora" / name) for site in (alone, both))
        assert expected.keys() == got.keys()
        for key, value in expected.items():
            assert torch.allclose(value, got[key], atol=1e-4), key
    reports = [json.loads((site / "reports" / "train-lora.json").read_text()) for site in (alone, both)]
    assert reports[1]["devices"] == 2
    assert reports[1]["metrics"] == pytest.approx(reports[0]["metrics"], rel=1e-4)


_KILLED = """
import json
import os
import sys
from flows.cli import main
from pipeline.train.sharding import layers_of
from pipeline.train.trainer import Trainer
from torch.distributed.tensor import DTensor

advance = Trainer._advance

def held(parameter):
    if hasattr(parameter, "ds_tensor"):
        return parameter.numel() + parameter.ds_tensor.numel()
    return parameter.to_local().numel() if hasattr(parameter, "to_local") else parameter.numel()

def killed(self, batches):
    if not self.step:
        layers = layers_of(self.bare_model.get_decoder())
        frozen = [p for p in layers.parameters() if not p.requires_grad and len(getattr(p, "ds_shape", p.shape)) > 1]
        is_zero = any(hasattr(parameter, "ds_tensor") for parameter in frozen)
        assert is_zero or any(isinstance(parameter, DTensor) for parameter in self._trained.values())
        whole = sum(getattr(p, "ds_numel", p.numel()) for p in frozen)
        with open(f"{target}/matrices-{self._accelerator.process_index}.json", "w") as file:
            json.dump([whole, sum(held(p) for p in frozen)], file)
    if self.step == 2:
        os._exit(9)
    advance(self, batches)

if __name__ == "__main__":
    target = sys.argv.pop(1)
    Trainer._advance = killed
    main()
"""


_RECORDING = """
import sys
import torch
from flows.cli import main

clip = torch.nn.utils.clip_grad_norm_
steps = []

def recorded(parameters, longest):
    parameters = list(parameters)
    steps.append([p.grad.clone() for p in parameters if p.grad is not None])
    torch.save(steps, f"{target}-{torch.distributed.get_rank()}")
    return clip(parameters, longest)

if __name__ == "__main__":
    target = sys.argv.pop(1)
    torch.nn.utils.clip_grad_norm_ = recorded
    main()
"""


@pytest.mark.integration
def test_two_processes_have_the_gradients_of_one(
    dataset: Path, video_model: VideoModelOf, train_alone: Callable[..., list[str]], tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Parameter by parameter, in float32, to a thousandth; answers differ in length, and a rank has more of them."""
    import torch

    alone = []
    clip = torch.nn.utils.clip_grad_norm_

    def recorded(parameters: Iterable[torch.Tensor], longest: float) -> torch.Tensor:
        parameters = list(parameters)
        alone.append([p.grad.clone() for p in parameters if p.grad is not None])
        return clip(parameters, longest)

    base = video_model("smolvlm")
    settings = {"batch_size": 12, "epochs": 1, "dropout": 0.0, "judged_rows": 0}
    with monkeypatch.context() as patch:
        patch.setattr(torch.nn.utils, "clip_grad_norm_", recorded)
        train_alone(base, Path(shutil.copytree(dataset, tmp_path / "one")), micro_batch=12, **settings)
    script = tmp_path / "recording.py"
    script.write_text(_RECORDING)
    _, _, *arguments = command(base, Path(shutil.copytree(dataset, tmp_path / "two")), micro_batch=3, **settings)
    run(*LAUNCH, str(script), str(tmp_path / "two"), *arguments)
    [one], [two] = alone, torch.load(tmp_path / "two-0")
    assert len(one) == len(two) > 10
    for number, (value, got) in enumerate(zip(one, two, strict=True)):
        assert torch.allclose(got, value, rtol=1e-3, atol=1e-5 * float(value.abs().max())), number
    [other] = torch.load(tmp_path / "two-1")
    assert all(torch.equal(a, b) for a, b in zip(two, other, strict=True)), "both devices take the same step"


@pytest.mark.integration
def test_ctrl_c_ends_with_130_and_the_command_goes_on(dataset: Path, video_model: VideoModelOf, tmp_path: Path) -> None:
    site = Path(shutil.copytree(dataset, tmp_path / "site"))
    arguments = command(video_model("smolvlm"), site, epochs=40)
    process = subprocess.Popen(
        [sys.executable, *arguments], cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    assert process.stderr is not None
    for line in process.stderr:
        if " D step 3 of 120" in line:
            # As a terminal does it: to the workers that read clips as well.
            os.killpg(process.pid, signal.SIGINT)
            break
    told = process.stderr.read()
    assert process.wait(60) == 130, told
    assert "interrupted: the same command goes on after step" in told
    assert "holmes: interrupted; what was finished is kept" in told
    assert "Traceback" not in told
    assert [path.suffix for path in site.glob("models/lora-training/*/checkpoints-*/*")] == [".pt"]
    again = run(*command(video_model("smolvlm"), site, epochs=40))
    assert "going on after step" in again.stderr
    assert "adapter  " in again.stdout
