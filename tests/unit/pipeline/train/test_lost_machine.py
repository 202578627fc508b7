"""LoRA training on two machines of which one is lost: the same command goes on, as if nothing had happened.

Where root runs this, they are hosts of a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from free_port import free_port
from lora_dataset import write_dataset
from network import running_network
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parents[4]
VideoModelOf = Callable[[str], str]
pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hosts:
    """What commands on two hosts begin with, the address of the first, and the name of their network device."""

    commands: tuple[list[str], list[str]]
    address: str
    device: str


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with running_network() as network:
        if network is None:
            yield Hosts(commands=([], []), address="127.0.0.1", device="lo")
        else:
            yield Hosts(commands=(network.add_host(), network.add_host()), address=f"{network.prefix}.1", device="eth0")


class Training:
    """`holmes train lora` under a torchrun for each of two machines."""

    def __init__(self, base: str, workspace: Path, folder: Path, hosts: Hosts) -> None:
        given = {
            "base": base, "rank": 4, "lr": 0.01, "batch_size": 4, "micro_batch": 1, "epochs": 2, "num_frames": 2,
            "gradient_checkpointing": False, "device": "cpu", "log_to": "none", "judged_rows": 0, "validation_rows": 0,
            "checkpoint_every": 1,
        }  # fmt: skip
        overrides = [part for key, value in given.items() for part in ("--set", f"lora.{key}={value}")]
        port = free_port()
        folder.mkdir()
        self.logs = [folder / f"{rank}.log" for rank in range(2)]
        self.machines = [
            subprocess.Popen(
                [*on_host, sys.executable, "-m", "torch.distributed.run", "--nnodes", "2", "--node_rank", str(rank),
                 "--nproc_per_node", "1", "--master_addr", hosts.address, "--master_port", str(port),
                 "-m", "flows.cli", "--debug", "train", "lora", "--workspace", str(workspace), *overrides],
                cwd=REPOSITORY, stdout=log.open("wb"), stderr=subprocess.STDOUT,
                env={**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": hosts.device},
            )
            for rank, (log, on_host) in enumerate(zip(self.logs, hosts.commands, strict=True))
        ]  # fmt: skip

    def text(self, rank: int = 0) -> str:
        return self.logs[rank].read_text(errors="replace")

    def wait(self) -> list[int]:
        return [machine.wait(600) for machine in self.machines]

    def lose(self, rank: int) -> None:
        of_it = psutil.Process(self.machines[rank].pid)
        for process in [*of_it.children(recursive=True), of_it]:
            process.kill()


def test_training_goes_on_after_a_machine_is_lost(video_model: VideoModelOf, hosts: Hosts, tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "data" / "workspace")
    calm, stormy = (Path(shutil.copytree(dataset, tmp_path / name)) for name in ("calm", "stormy"))
    base = video_model("smolvlm")
    undisturbed = Training(base, calm, tmp_path / "first", hosts)
    assert undisturbed.wait() == [0, 0], undisturbed.text()
    disturbed = Training(base, stormy, tmp_path / "second", hosts)
    deadline_s = time.monotonic() + 300
    while " D step 2 of 6" not in disturbed.text():
        assert time.monotonic() < deadline_s, disturbed.text()
        assert disturbed.machines[0].poll() is None, disturbed.text()
        time.sleep(0.05)
    disturbed.lose(1)
    assert 0 not in disturbed.wait()
    assert "another process of the training does not answer any more; the same command goes on" in disturbed.text()
    again = Training(base, stormy, tmp_path / "third", hosts)
    assert again.wait() == [0, 0], again.text()
    assert "going on after step" in again.text()
    for name in ("adapter_model.safetensors", "projector.safetensors"):
        expected, got = (load_file(site / "models" / "lora" / name) for site in (calm, stormy))
        assert all(value.equal(got[key]) for key, value in expected.items()), name
