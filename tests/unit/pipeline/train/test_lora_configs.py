"""The training configs that come with the engine, each run for two steps on a tiny model of its family."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from lora_dataset import write_dataset

from pipeline.config import LoraConfig, load_config
from pipeline.errors import ConfigError, SetupError
from pipeline.train.lora import train_lora
from pipeline.train.plan import planned
from pipeline.workspace import Workspace

CONFIGS = Path(__file__).resolve().parents[4] / "datasets" / "training"
FAMILY_OF = {
    "video-llava-7b": "video_llava",
    "internvl2-2b": "internvl",
    "qwen3-vl": "qwen3_vl",
    "smolvlm2": "smolvlm",
    "holmes-tiny": "llava_onevision",
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("data") / "workspace", train=4, validation=0)


def test_every_config_is_tried() -> None:
    assert {file.stem for file in CONFIGS.glob("*.yaml")} == FAMILY_OF.keys()


@pytest.mark.parametrize("name", FAMILY_OF)
def test_a_config_trains_its_family(
    video_model: Callable[[str], str], dataset: Path, tmp_path: Path, name: str
) -> None:
    site = str(shutil.copytree(dataset, tmp_path / "site"))
    file = CONFIGS / f"{name}.yaml"
    as_published = load_config(file, workspace=site, needs_videos=False).lora
    assert as_published.base == "holmes-tiny" if name == "holmes-tiny" else "/" in as_published.base
    overrides = [
        f"lora.base={video_model(FAMILY_OF[name])}", "lora.batch_size=2", "lora.micro_batch=1", "lora.epochs=1",
        "lora.rank=2", "lora.log_to=none", "video.workers=1",
    ]  # fmt: skip
    config = load_config(file, overrides, site, needs_videos=False)
    trained = train_lora(Workspace(site), config.lora, config.video)
    assert trained.steps == 2
    assert (trained.folder / "adapter_model.safetensors").is_file()
    assert (trained.folder / "projector.safetensors").is_file() is (as_published.projector_lr > 0)


def test_the_papers_numbers() -> None:
    holmes_vad = load_config(CONFIGS / "video-llava-7b.yaml", needs_videos=False).lora
    assert (holmes_vad.rank, holmes_vad.alpha, holmes_vad.lr, holmes_vad.projector_lr) == (64, 128, 2e-4, 2e-5)
    at_its_size = planned(holmes_vad, rows=51_567, devices=2)
    assert (at_its_size.batch_size, at_its_size.epochs, at_its_size.num_frames) == (128, 1, 8)
    holmes_vau = load_config(CONFIGS / "internvl2-2b.yaml", needs_videos=False).lora
    assert (holmes_vau.rank, holmes_vau.alpha, holmes_vau.lr, holmes_vau.projector_lr) == (64, 128, 4e-5, 0)
    assert (holmes_vau.batch_size, holmes_vau.epochs, holmes_vau.max_side) == (512, 1, 448)


def test_faults_of_the_section() -> None:
    with pytest.raises(ConfigError, match=r"batch_size=6 is no multiple of micro_batch=4"):
        load_config(None, ["lora.batch_size=6"], needs_videos=False)
    with pytest.raises(ConfigError, match=r"unknown key lora.learning_rate; the nearest valid key is lora"):
        load_config(None, ["lora.learning_rate=1"], needs_videos=False)
    with pytest.raises(ConfigError, match=r"videos is required"):
        load_config(CONFIGS / "smolvlm2.yaml")


ACCELERATE = {"ddp": "MULTI_GPU", "fsdp2": "FSDP", "zero3": "DEEPSPEED"}


def test_every_launch_config_is_read_by_accelerate() -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    assert {file.stem for file in (CONFIGS / "accelerate").iterdir()} == ACCELERATE.keys()
    for name, kind in ACCELERATE.items():
        read = load_config_from_file(str(CONFIGS / "accelerate" / f"{name}.yaml"))
        assert read.distributed_type == kind
        assert read.num_processes == 8


def test_the_launcher_takes_what_fsdp_is_set_to(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_multi_gpu_env

    from pipeline.train.sharding import is_sharding_wanted

    file = str(CONFIGS / "accelerate" / "fsdp2.yaml")
    arguments = launch_command_parser().parse_args(["--config_file", file, "-m", "flows.cli"])
    arguments, _, _ = _validate_launch_command(arguments)
    environment = prepare_multi_gpu_env(arguments)
    for name in ("ACCELERATE_USE_FSDP", "FSDP_VERSION"):
        monkeypatch.setenv(name, environment[name])
    assert is_sharding_wanted()
    monkeypatch.setenv("FSDP_VERSION", "1")
    with pytest.raises(SetupError, match="fsdp_version: 2"):
        is_sharding_wanted()


def test_the_launcher_takes_what_zero_is_set_to_and_the_rest_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    from accelerate.commands.launch import _validate_launch_command, launch_command_parser
    from accelerate.utils.launch import prepare_deepspeed_cmd_env

    from pipeline.train import processes, zero

    file = str(CONFIGS / "accelerate" / "zero3.yaml")
    arguments = launch_command_parser().parse_args(
        ["--config_file", file, "--main_process_port", "0", "-m", "flows.cli"]
    )
    arguments, _, _ = _validate_launch_command(arguments)
    vars(arguments).setdefault("deepspeed_fields_from_accelerate_config", "")  # it is told where DeepSpeed is there
    _, environment = prepare_deepspeed_cmd_env(arguments)
    for name, value in environment.items():
        if "DEEPSPEED" in name:
            monkeypatch.setenv(name, value)
    monkeypatch.setattr(zero.importlib.util, "find_spec", lambda _: object())
    assert processes.spreading() is zero.ZeroModel
    for name, value, said in (
        ("ZERO_STAGE", "2", "zero_stage: 3"),
        ("OFFLOAD_PARAM_DEVICE", "cpu", "offload_param_device: none"),
        ("OFFLOAD_OPTIMIZER_DEVICE", "nvme", "offload_optimizer_device: none"),
        ("CONFIG_FILE", "zero3.json", "no deepspeed_config_file"),
    ):
        with monkeypatch.context() as changed:
            changed.setenv(f"ACCELERATE_DEEPSPEED_{name}", value)
            with pytest.raises(SetupError, match=f"{name}={value}; .* set {said}"):
                processes.spreading()
    monkeypatch.setattr(zero.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SetupError, match="not installed: pip install deepspeed"):
        processes.spreading()


def test_a_quantized_model_is_not_spread(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from pipeline.train import processes

    monkeypatch.setattr(processes, "spreading", lambda: object)
    config = LoraConfig(quantize="4bit", log_to="none", device="cpu")
    with pytest.raises(SetupError, match=r"take MULTI_GPU, not FSDP or DEEPSPEED"):
        processes.start_accelerator(config, tmp_path)
