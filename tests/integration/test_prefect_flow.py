"""The flow `build-instruct` as a user runs it: a Prefect server on SQLite, `prefect deploy --all`, a worker."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import yaml

from flows.plan import step_names
from pipeline.config import BuildConfig

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

REPOSITORY = Path(__file__).resolve().parents[2]
PREFECT = [sys.executable, "-m", "prefect"]
SERVER_START_S = 120
COMMAND_S = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class Prefect:
    """A server with its deployments and its worker."""

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
        given = [f"--param={name}={json.dumps(value)}" for name, value in parameters.items()]
        done = self.command("deployment", "run", "build-instruct/build-instruct", "--watch", *given)
        found = re.search(r"UUID: (\S+)", done.stdout)
        assert found, done.stdout + done.stderr
        return done.returncode, found[1]

    def state(self, run_id: str) -> dict[str, Any]:
        return dict(httpx.get(f"{self.api}/flow_runs/{run_id}").json()["state"])

    def artifact(self, run_id: str, key: str) -> Any:
        """Return the content of the artifact of this key that the run left."""
        wanted = {"artifacts": {"flow_run_id": {"any_": [run_id]}, "key": {"any_": [key]}}}
        found = httpx.post(f"{self.api}/artifacts/filter", json=wanted).json()
        assert len(found) == 1, (key, found)
        return found[0]["data"]

    def logs(self, run_id: str) -> str:
        wanted = {"logs": {"flow_run_id": {"any_": [run_id]}}, "limit": 200}
        return "\n".join(line["message"] for line in httpx.post(f"{self.api}/logs/filter", json=wanted).json())


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


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


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A fresh server with the deployments of prefect.yaml and a worker, all gone afterwards."""
    home = tmp_path_factory.mktemp("prefect")
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
    }
    prefect = Prefect(api=api, environment=environment)
    with (home / "server.log").open("wb") as server_log, (home / "worker.log").open("wb") as worker_log:
        server = start(["server", "start", "--host", "127.0.0.1", "--port", str(port)], environment, server_log)
        try:
            wait_until_healthy(server, api, home / "server.log")
            for pool in ("holmes", "holmes-gpu"):
                done = prefect.command("work-pool", "create", pool, "--type", "process")
                assert done.returncode == 0, done.stdout + done.stderr
            done = prefect.command("--no-prompt", "deploy", "--all")
            assert done.returncode == 0, done.stdout + done.stderr
            worker = start(["worker", "start", "--pool", "holmes"], environment, worker_log)
            try:
                yield prefect
            finally:
                stop(worker)
        finally:
            stop(server)


def start(arguments: list[str], environment: dict[str, str], log: Any) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*PREFECT, *arguments], cwd=REPOSITORY, env=environment, stdout=log, stderr=log)


def wait_until_healthy(server: subprocess.Popen[bytes], api: str, log: Path) -> None:
    deadline = time.monotonic() + SERVER_START_S
    while time.monotonic() < deadline:
        assert server.poll() is None, log.read_text()
        try:
            if httpx.get(f"{api}/health", timeout=5).is_success:
                return
        except httpx.HTTPError:
            time.sleep(0.5)
    pytest.fail(f"no server after {SERVER_START_S} s:\n{log.read_text()}")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A config over three short videos, two of them with a click."""
    folder = tmp_path_factory.mktemp("input")
    for video_id, speed in (("street", 6), ("yard", 3), ("empty", 0)):
        write_video(folder / f"{video_id}.mp4", speed)
    (folder / "videos.csv").write_text(
        "video_id,file,label,split\n"
        "street,street.mp4,Fighting,train\nyard,yard.mp4,Robbery,train\nempty,empty.mp4,Normal,train\n"
    )
    (folder / "clicks.csv").write_text("video-id,glance\nstreet,30\nyard,45\nnowhere,3\n")
    settings = {
        "videos": [str(folder / "videos.csv")],
        "glances": [str(folder / "clicks.csv")],
        "workspace": str(folder / "workspace"),
        "clips": {"window_s": 4.0},
        "video": {"workers": 1},
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(settings))
    return folder / "config.yaml"


def write_video(path: Path, speed: int, frames: int = 80) -> None:
    """Write 8 s of a bright square that moves by `speed` pixels a frame over a noisy background."""
    import av

    noise = np.random.default_rng(0).integers(90, 110, size=(120, 160, 3), dtype=np.uint8)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for index in range(frames):
            image = noise.copy()
            left = (10 + index * speed) % 120
            image[40:80, left : left + 30] = 240
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(stream.encode())


@pytest.fixture(scope="module")
def first_run(prefect: Prefect, config: Path) -> str:
    """The id of a finished first run of the config."""
    code, run_id = prefect.run(config=str(config))
    assert code == 0, prefect.logs(run_id)
    return run_id


def test_first_run_leaves_a_dataset_that_loads(prefect: Prefect, first_run: str, config: Path) -> None:
    from datasets import load_dataset

    rows = load_dataset(str(config.parent / "workspace/dataset"), split="train", cache_dir=str(config.parent / "cache"))
    assert {row["label"] for row in rows} == {"Fighting", "Robbery", "Normal"}
    state = prefect.state(first_run)
    assert state["type"] == "COMPLETED"
    assert state["message"] == f"{len(rows)} rows in {config.parent / 'workspace/dataset'}"


def test_first_run_shows_counts_rejects_report_progress_and_log(prefect: Prefect, first_run: str, config: Path) -> None:
    stages = {row["stage"]: row for row in json.loads(prefect.artifact(first_run, "build-instruct-stages"))}
    assert tuple(stages) == step_names(BuildConfig(videos=["any"]))
    assert (stages["ingest"]["made"], stages["ingest"]["kept"], stages["ingest"]["rows"]) == (3, 0, 3)
    assert (stages["glances"]["rows"], stages["glances"]["rejected"]) == (2, 1)
    report = config.parent / "workspace/reports/build.html"
    assert report.is_file()
    assert report.as_uri() in prefect.artifact(first_run, "build-instruct-report")
    assert "| glances |" in prefect.artifact(first_run, "build-instruct-rejects")
    assert prefect.artifact(first_run, "build-instruct-caption") == 100
    # The log reaches the server some seconds late, in batches.
    deadline = time.monotonic() + 30
    while "caption: made=" not in prefect.logs(first_run) and time.monotonic() < deadline:
        time.sleep(1)
    assert "caption: made=" in prefect.logs(first_run)


def test_second_run_makes_nothing(prefect: Prefect, first_run: str, config: Path) -> None:
    code, run_id = prefect.run(config=str(config))
    assert code == 0, prefect.logs(run_id)
    stages = json.loads(prefect.artifact(run_id, "build-instruct-stages"))
    assert {row["stage"]: row["made"] for row in stages} == dict.fromkeys(step_names(BuildConfig(videos=["any"])), 0)


@pytest.mark.parametrize(
    ("parameter", "said"),
    [
        ("cofnig=x.yaml", "'cofnig'"),
        ('settings={"videos": ["a"], "clips": {"windw_s": 3}}', "'windw_s' was unexpected"),
        ('settings={"videos": ["a"], "clips": {"window_s": "long"}}', "settings.clips.window_s"),
    ],
)
def test_bad_parameter_is_refused_before_any_run(prefect: Prefect, parameter: str, said: str) -> None:
    done = prefect.command("deployment", "run", "build-instruct/build-instruct", "--param", parameter)
    assert done.returncode == 1
    assert said in done.stdout + done.stderr


def test_bad_config_fails_the_run_with_one_clear_message(prefect: Prefect, config: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text(config.read_text() + "filtr: {min_words: 3}\n")
    code, run_id = prefect.run(config=str(bad))
    assert code == 1
    state = prefect.state(run_id)
    assert state["type"] == "FAILED"
    assert state["message"] == f"{bad}: unknown key filtr; the nearest valid key is filter"


def test_fault_of_the_data_fails_its_stage_at_once(prefect: Prefect, tmp_path: Path) -> None:
    (tmp_path / "not_a_video.mp4").write_text("nothing")
    code, run_id = prefect.run(
        settings={"videos": [str(tmp_path / "not_a_video.mp4")], "workspace": str(tmp_path / "workspace")}
    )
    assert code == 1
    assert "no readable video" in prefect.state(run_id)["message"]
    assert json.loads(prefect.artifact(run_id, "build-instruct-stages")) == []


def test_one_run_at_a_time_on_the_gpu(prefect: Prefect) -> None:
    """A limit that does not exist would be skipped with a warning only: this one exists, on the server."""
    deployment = httpx.get(f"{prefect.api}/deployments/name/build-instruct/build-instruct-gpu").json()
    assert deployment["work_pool_name"] == "holmes-gpu"
    assert deployment["global_concurrency_limit"]["limit"] == 1
    assert deployment["global_concurrency_limit"]["active"]
    assert deployment["concurrency_options"]["collision_strategy"] == "ENQUEUE"
