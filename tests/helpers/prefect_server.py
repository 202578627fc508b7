"""A real Prefect server of its own for a test run, with the deployments of prefect.yaml: SQLite, a fresh folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import psutil
from free_port import free_port

REPOSITORY = Path(__file__).resolve().parents[2]
PREFECT = [sys.executable, "-m", "prefect"]
SERVER_START_S = 300
COMMAND_S = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefect:
    """A server with its deployments."""

    home: Path
    api: str
    environment: dict[str, str]

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*PREFECT, *arguments],
            cwd=REPOSITORY,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=COMMAND_S,
        )

    def run(self, **parameters: Any) -> tuple[int, str]:
        """Run the default deployment to its end; return the exit code and the id of the flow run."""
        return self.start("build-instruct/build-instruct", "--watch", **parameters)

    def start(self, deployment: str, *options: str, **parameters: Any) -> tuple[int, str]:
        """Start a deployment; return the exit code and the id of the flow run."""
        given = [f"--param={name}={json.dumps(value)}" for name, value in parameters.items()]
        done = self.command("deployment", "run", deployment, *options, *given)
        found = re.search(r"UUID: (\S+)", done.stdout)
        assert found, done.stdout + done.stderr
        return done.returncode, found[1]

    def flow_run(self, run_id: str) -> dict[str, Any]:
        return dict(httpx.get(f"{self.api}/flow_runs/{run_id}").json())

    def state(self, run_id: str) -> dict[str, Any]:
        return dict(self.flow_run(run_id)["state"])

    def wait_for_state(self, run_id: str, *names: str, within_s: float = 120) -> dict[str, Any]:
        """Return the state of a run once it has one of these names."""
        deadline = time.monotonic() + within_s
        while (state := self.state(run_id))["name"] not in names and time.monotonic() < deadline:
            time.sleep(0.5)
        assert state["name"] in names, (state, self.logs(run_id))
        return state

    @contextmanager
    def worker(self) -> Iterator[subprocess.Popen[bytes]]:
        """A worker of the pool `holmes`."""
        with (self.home / "worker.log").open("ab") as log:
            worker = _start(["worker", "start", "--pool", "holmes"], self.environment, log)
            try:
                yield worker
            finally:
                stop(worker)

    def artifact(self, run_id: str, key: str) -> Any:
        """Return the content of the artifact of this key that the run left."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}, "key": {"any_": [key]}}}
        found = httpx.post(f"{self.api}/artifacts/filter", json=wanted).json()
        assert len(found) == 1, (key, found)
        return found[0]["data"]

    def logs(self, run_id: str) -> str:
        wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200}
        return "\n".join(line["message"] for line in httpx.post(f"{self.api}/logs/filter", json=wanted).json())


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a process and everything that it started, whatever session that is in."""
    try:
        family = psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        family = []
    process.terminate()
    psutil.wait_procs(family, timeout=15)
    for member in family:
        if member.is_running():
            member.kill()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


@contextmanager
def running_prefect(home: Path, **variables: str) -> Iterator[Prefect]:
    """Start a server with two pools and the deployments of prefect.yaml, and stop it; `variables` are the worker's."""
    port = free_port()
    api = f"http://127.0.0.1:{port}/api"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")},
        "PREFECT_HOME": str(home),
        "PREFECT_API_URL": api,
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_WORKER_QUERY_SECONDS": "1",
        "DO_NOT_TRACK": "1",
        "HF_HOME": str(home / "hf"),
        **variables,
    }
    prefect = Prefect(home=home, api=api, environment=environment)
    with (home / "server.log").open("wb") as log:
        server = _start(["server", "start", "--host", "127.0.0.1", "--port", str(port)], environment, log)
        try:
            _wait_until_healthy(server, api, home / "server.log")
            for pool in ("holmes", "holmes-gpu"):
                done = prefect.command("work-pool", "create", pool, "--type", "process")
                assert done.returncode == 0, done.stdout + done.stderr
            done = prefect.command("--no-prompt", "deploy", "--all")
            assert done.returncode == 0, done.stdout + done.stderr
            yield prefect
        finally:
            stop(server)


def _start(arguments: list[str], environment: dict[str, str], log: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PREFECT, *arguments], cwd=REPOSITORY, env=environment, stdout=log, stderr=log)


def _wait_until_healthy(server: subprocess.Popen[bytes], api: str, log: Path) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            if httpx.get(f"{api}/health", timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    raise RuntimeError(f"no server after {SERVER_START_S} s:\n{log.read_text()}")
