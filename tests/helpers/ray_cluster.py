"""Ray machines of a test run, which can be killed as a machine loses power and, on a network, be cut off.

Each is a node of its own; the first one is this machine, the others are hosts of a network where there is one.
"""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from free_port import free_port
from network import Network

REPOSITORY = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
HOLMES = [sys.executable, "-m", "flows.cli"]
START_S = 180
_ROOM = (f"--memory={4 << 30}", "--object-store-memory=100000000")


@dataclass(kw_only=True)
class Machines:
    """A cluster: the first machine is the head, where drivers run."""

    address: str
    environment: dict[str, str]
    folder: str
    network: Network | None
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    hosts: dict[int, str] = field(default_factory=dict)
    """Host of the network by the process that runs on it."""

    def join(self) -> None:
        """Start one more machine of one core."""
        on_host = self.network.add_host() if self.network else []
        machine = self._start("--address", self.address, on_host=on_host)
        if on_host:
            self.hosts[machine.pid] = on_host[-1]

    def start_head(self) -> None:
        host, _, port = self.address.partition(":")
        self._start("--head", f"--node-ip-address={host}", f"--port={port}", f"--temp-dir={self.folder}",
                    "--include-dashboard=false", "--disable-usage-stats")  # fmt: skip

    def _start(self, *arguments: str, on_host: Sequence[str] = ()) -> subprocess.Popen[bytes]:
        known = self.alive() if self.started else 0
        machine = subprocess.Popen(
            [*on_host, RAY, "start", "--block", "--num-cpus=1", *_ROOM, *arguments],
            cwd=REPOSITORY, env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        self.started.append(machine)
        deadline_s = time.monotonic() + START_S
        while self.alive() <= known:
            assert machine.poll() is None, f"ray start ended with {machine.returncode}"
            assert time.monotonic() < deadline_s, "the machine did not come up"
            time.sleep(1)
        return machine

    def alive(self) -> int:
        """Return how many machines the cluster counts."""
        host, _, port = self.address.partition(":")
        with socket.socket() as door:
            # Ray itself would knock for a minute.
            if door.connect_ex((host, int(port))):
                return 0
        code = (
            "import ray, sys; ray.init(address=sys.argv[1], log_to_driver=False, logging_level='ERROR'); "
            "print('alive', sum(node['Alive'] for node in ray.nodes()))"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, self.address],
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        # Ray may say of other machines what it likes, behind that.
        return int(done.stdout.split("alive ")[1].split()[0]) if "alive " in done.stdout else 0

    def kill(self, machine: subprocess.Popen[bytes]) -> None:
        """Take the power from a machine: SIGKILL to everything that runs on it."""
        of_it = psutil.Process(machine.pid)
        for process in [*of_it.children(recursive=True), of_it]:
            try:
                process.kill()
            except psutil.NoSuchProcess:
                continue
        machine.wait()
        self.started.remove(machine)
        if self.network and machine.pid in self.hosts:
            self.network.remove_host(self.hosts.pop(machine.pid))

    def cut_off(self, machine: subprocess.Popen[bytes]) -> None:
        """Take the network from a machine, on which everything runs on."""
        assert self.network is not None
        self.network.cut_off(self.hosts[machine.pid])

    def holmes(self, *arguments: str) -> subprocess.Popen[str]:
        """Start the command on the head."""
        return self._run(*HOLMES, *arguments)

    def python(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        """Start a program on the head."""
        return self._run(sys.executable, "-c", code, *arguments)

    def _run(self, *command: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command, cwd=REPOSITORY, env=self.environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip


@contextmanager
def running_machines(count: int, network: Network | None = None) -> Iterator[Machines]:
    """A cluster of machines of one core each, gone with the block."""
    # The paths of Ray's sockets must be short.
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")
    address = f"{network.address if network else '127.0.0.1'}:{free_port()}"
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), str(REPOSITORY / "tests/helpers")]),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(16),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_ADDRESS": "",
        # Beside other work a worker must get its turn.
        "RAY_worker_niceness": "0",
        "RAY_worker_register_timeout_seconds": "300",
        # A killed machine is given up after seconds, not after half a minute.
        "RAY_health_check_period_ms": "500",
        "RAY_health_check_timeout_ms": "2000",
        "RAY_health_check_failure_threshold": "3",
        "OMP_NUM_THREADS": "1",
    }
    machines = Machines(address=address, environment=environment, folder=folder, network=network)
    try:
        machines.start_head()
        for _ in range(count - 1):
            machines.join()
        yield machines
    finally:
        for machine in list(reversed(machines.started)):
            machines.kill(machine)
        shutil.rmtree(folder, ignore_errors=True)
