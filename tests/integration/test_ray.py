"""Builds on a real Ray cluster of two machines: equal to local ones, whatever dies on the way."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
import yaml
from moving_square import write_video

from flows.plan import PLAN
from pipeline.dataset.validate import validate_dataset
from pipeline.storage import Storage
from pipeline.tables import MANIFEST
from pipeline.workspace import Workspace

pytest.importorskip("ray", reason="Ray is not installed: make ray-install")
pytest.importorskip("s3fs")
pytest.importorskip("moto")
from network import running_network
from ray_cluster import Machines, running_machines
from s3_server import BUCKET, running_s3

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

VIDEOS = 12
MOMENTS = int(os.environ.get("HOLMES_LOST_MACHINES", "1"))
"""Moments at which a machine is lost, of each stage."""
COMMAND_S = 600


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Machines]:
    """Two machines of one core each, which know an S3 server: the second is a host of its own where root runs this."""
    with running_network() as network:
        here = network.address if network else "127.0.0.1"
        with running_s3(tmp_path_factory.mktemp("mirrors"), here), running_machines(2, network) as machines:
            yield machines


@pytest.fixture(scope="module")
def footage(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Short videos, every other one with a click, and one file that is none."""
    folder = tmp_path_factory.mktemp("footage")
    rows, clicks = ["video_id,file,label,split"], ["video-id,glance"]
    for number in range(VIDEOS):
        is_event = number % 2 == 0
        write_video(folder / f"{number}.mp4", number + 1)
        split = "train" if number < VIDEOS - 2 else "test"
        rows.append(f"v{number},{number}.mp4,{'Fighting' if is_event else 'Normal'},{split}")
        clicks += [f"v{number},{20 + number}"] if is_event else []
    (folder / "torn.mp4").write_bytes(b"no video")
    rows.append("torn,torn.mp4,Normal,train")
    (folder / "videos.csv").write_text("\n".join(rows) + "\n")
    (folder / "clicks.csv").write_text("\n".join(clicks) + "\n")
    return folder


def config_in(folder: Path, footage: Path, **settings: object) -> Path:
    """Write a config of small shards whose clips follow a sampler, trained in three steps."""
    values = {
        "videos": [str(footage / "videos.csv")],
        "glances": [str(footage / "clicks.csv")],
        "workspace": str(folder / "w"),
        "shard_rows": 1,
        "video": {"workers": 1},
        "clips": {"method": "sampler"},
        "features": {"stride_frames": 8},
        "sampler": {"recipe": {"steps": 3}, "folds": 2, "device": "cpu"},
        "ray": {"shard_units": 2},
        **settings,
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(values))
    return folder / "config.yaml"


@pytest.fixture(scope="module")
def local(cluster: Machines, footage: Path, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same footage, built without Ray."""
    folder = tmp_path_factory.mktemp("local")
    finish(cluster.holmes("build", "-c", str(config_in(folder, footage))))
    return Workspace(str(folder / "w"))


def finish(command: subprocess.Popen[str], code: int = 0) -> str:
    out, _ = command.communicate(timeout=COMMAND_S)
    assert command.returncode == code, out
    return out


def on_ray(cluster: Machines, config: Path, *more: str) -> subprocess.Popen[str]:
    return cluster.holmes("build", "-c", str(config), "--on", "ray", "--ray-address", cluster.address, *more)


def assert_equal(folder: Path, local: Workspace) -> None:
    """Compare all tables row for row, in order, provenance included, and the rejects beside them."""
    workspace = Workspace(str(folder / "w"))
    for step in PLAN:
        there, here = step.table(workspace), step.table(local)
        assert there.arrow().equals(here.arrow()), step.name
        assert list(there.rejected()) == list(here.rejected()), step.name
    assert validate_dataset(Path(workspace.url)) == []


def test_build_equals_a_local_one_and_is_done(
    cluster: Machines, footage: Path, local: Workspace, tmp_path: Path
) -> None:
    config = config_in(tmp_path, footage)
    finish(on_ray(cluster, config))
    assert_equal(tmp_path, local)
    finish(on_ray(cluster, config))
    stages = json.loads((tmp_path / "w" / "run.json").read_text())["stages"]
    assert {stage["made"] for stage in stages} == {0}


REMADE = {"features": ["tables/features", "features"], "caption": ["tables/caption"]}
"""What a stage makes, by its name."""

_STAGE = """
import sys
from pathlib import Path
from flows.plan import run_step
from pipeline.config import load_config
from pipeline.workspace import Workspace

config, address, stage = sys.argv[1:]
config = load_config(Path(config), ["engine=ray", f"ray.address={address}"])
run_step(stage, Workspace(config.workspace), config)
"""


@pytest.mark.parametrize(
    "lost",
    [
        f"{stage} {place} {how} {moment}"
        for stage in REMADE
        for place in ("disk", "s3")
        for how in ("killed", "cut")
        for moment in range(MOMENTS)
    ],
)
def test_lost_machine_is_a_footnote(
    cluster: Machines, footage: Path, local: Workspace, tmp_path: Path, lost: str
) -> None:
    """The stage runs anew over a copy of what was built before it; the moment is drawn."""
    rng = random.Random(f"lost machine {lost}")
    stage, place, how, _ = lost.split()
    if how == "cut" and cluster.network is None:
        pytest.skip("only root may make a network of hosts, of which one is cut off")
    shutil.copytree(local.url, tmp_path / "w")
    for folder in REMADE[stage]:
        shutil.rmtree(tmp_path / "w" / folder)
    url = str(tmp_path / "w")
    if place == "s3":
        url = f"{BUCKET}/{lost.replace(' ', '-')}"
        fsspec.filesystem("s3").put(f"{tmp_path / 'w'}/", url, recursive=True)
    config = config_in(tmp_path, footage, workspace=url)
    run = cluster.python(_STAGE, str(config), cluster.address, stage)
    # What a machine has not told by then is lost with it.
    wait_for_units(run, url, stage, rng.randrange(1, VIDEOS // 2))
    time.sleep(2 * rng.random())
    was_running = run.poll() is None
    machine = cluster.started[-1]
    if how == "cut":
        cluster.cut_off(machine)
    else:
        cluster.kill(machine)
    try:
        finish(run)
    finally:
        if how == "cut":
            cluster.kill(machine)
        cluster.join()
    assert was_running, "the stage had ended before the machine was lost"
    table = next(step for step in PLAN if step.name == stage).table
    there, here = table(Workspace(url)), table(local)
    assert there.arrow().equals(here.arrow())
    assert list(there.rejected()) == list(here.rejected())


def test_killed_driver_is_gone_on_from(cluster: Machines, footage: Path, local: Workspace, tmp_path: Path) -> None:
    config = config_in(tmp_path, footage)
    build = on_ray(cluster, config)
    wait_for_units(build, str(tmp_path / "w"), "features", 3)
    build.kill()
    build.communicate()
    finish(on_ray(cluster, config))
    assert_equal(tmp_path, local)


def wait_for_units(build: subprocess.Popen[str], url: str, stage: str, count: int) -> None:
    storage, deadline_s = Storage(url), time.monotonic() + COMMAND_S
    while True:
        manifest = storage.read(f"tables/{stage}/{MANIFEST}")
        shards = json.loads(manifest)["shards"] if manifest else []
        if sum(shard["units"] for shard in shards) >= count:
            return
        assert build.poll() is None, build.communicate()[0]
        assert time.monotonic() < deadline_s
        time.sleep(0.05)


_WORDS = """
import sys
from functools import partial
from pathlib import Path
from flows.cluster.executor import RayExecutor
from pipeline.config import RayConfig
from pipeline.needs import Needs
from pipeline.stages.run import run_stage
from pipeline.workspace import Workspace
from travelling_words import make_words

url, address, gpus, *words = sys.argv[1:]
make = partial(make_words, words, Needs(gpus=float(gpus), memory_mb=100))
config = RayConfig(address=address, shard_units=4, start_timeout_s=5)
workspace = Workspace(url)
executor = RayExecutor(make, workspace, config, folder=Path.cwd(), decoders=1)
try:
    run_stage(make(), workspace.captions, executor=executor)
except Exception as fault:
    sys.exit(f"{type(fault).__name__}: {fault}")
"""


def words(cluster: Machines, folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", _WORDS, str(folder), cluster.address, *arguments],
        env=cluster.environment | environment, capture_output=True, text=True, check=False, timeout=COMMAND_S,
    )  # fmt: skip


def test_unit_that_kills_its_worker_is_left_out_alone(cluster: Machines, tmp_path: Path) -> None:
    done = words(cluster, tmp_path / "w", "0", "a", "b", "c", "kill", "d", "e")
    assert done.returncode == 0, done.stderr
    captions = Workspace(str(tmp_path / "w")).captions
    assert [row.text for row in captions.records()] == ["A!", "B!", "C!", "D!", "E!"]
    assert [(row.record_id, row.reason) for row in captions.rejected()] == [("kill", "crashed")]


def test_gpu_that_no_machine_has_is_said(cluster: Machines, tmp_path: Path) -> None:
    done = words(cluster, tmp_path / "w", "1", "a")
    assert "SetupError: caption: a worker takes 1 CPU, 1 GPU, 100 MiB memory; after 5 s" in done.stderr


def test_wrong_token_is_said(cluster: Machines, tmp_path: Path) -> None:
    done = words(cluster, tmp_path / "w", "0", "a", RAY_AUTH_TOKEN="0" * 32)
    assert "SetupError" in done.stderr
    assert "RAY_AUTH_TOKEN" in done.stderr


def test_second_driver_of_a_workspace_is_turned_away(cluster: Machines, tmp_path: Path) -> None:
    """Also where the file system's lock does not reach: this driver holds none."""
    first = subprocess.Popen(
        [sys.executable, "-c", _WORDS, str(tmp_path / "w"), cluster.address, "0", "a", "sleep"],
        env=cluster.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline_s = time.monotonic() + 60
        while not (tmp_path / "w" / "cluster.json").exists():
            assert time.monotonic() < deadline_s
            time.sleep(0.2)
        done = words(cluster, tmp_path / "w", "0", "a")
        assert f"UnavailableError: {tmp_path / 'w'}: in use by another build" in done.stderr
        assert str(first.pid) in done.stderr
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait()
    # What a killed driver held is free a moment later.
    assert words(cluster, tmp_path / "w", "0", "a").returncode == 0
