"""Builds on Ray, without Ray: order, what dies, what is left out, what cannot work."""

from __future__ import annotations

import logging
import socket
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
from fake_ray import FakeRay
from pydantic import ValidationError
from travelling_words import Words, make_files, make_words

from flows.cluster import connection, executor, worker
from flows.cluster.executor import RayExecutor
from flows.doctor import examine
from pipeline.config import BuildConfig, RayConfig
from pipeline.errors import SetupError, UnavailableError
from pipeline.needs import Needs
from pipeline.stages.base import StageReport
from pipeline.stages.run import run_stage
from pipeline.storage import MIRRORS
from pipeline.workspace import Workspace

LETTERS = [chr(place) for place in range(ord("a"), ord("z") + 1)]
CORE = Needs()


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """The cluster that builds find."""
    fake = FakeRay()
    monkeypatch.setattr(executor, "connect", lambda _: fake)
    monkeypatch.setattr(executor, "hold", lambda *_: None)
    monkeypatch.setattr(executor, "_LOOK_EVERY_S", 0.01)
    return fake


def run(
    workspace: Workspace, words: list[str], needs: Needs | None = CORE, file: str = "", **settings: object
) -> StageReport:
    config = RayConfig.model_validate({"shard_units": 4, **settings})
    make = partial(make_words, words, needs, file)
    on_ray = RayExecutor(make, workspace, config, folder=Path.cwd(), decoders=1)
    return run_stage(make(), workspace.captions, shard_rows=5, executor=on_ray)


def texts(workspace: Workspace) -> list[str]:
    return [row.text for row in workspace.captions.records()]


def left_out(workspace: Workspace) -> list[tuple[str, str]]:
    return [(row.record_id, row.reason) for row in workspace.captions.rejected()]


def test_table_is_that_of_a_local_run_to_the_byte(ray: FakeRay, workspace: Workspace, tmp_path: Path) -> None:
    words = [*LETTERS[:11], "7", *LETTERS[11:], "a_"]
    here = Workspace(str(tmp_path / "here"))
    local = run_stage(make_words(words, CORE), here.captions, shard_rows=5)
    report = run(workspace, words)
    assert workspace.captions.digest() == here.captions.digest()
    assert (report.made, report.rejected) == (local.made, local.rejected) == (28, {"empty_text": 2})
    assert len(ray.started) == 2 == len(ray.killed)


def test_second_run_finds_no_cluster_necessary(workspace: Workspace, ray: FakeRay) -> None:
    run(workspace, LETTERS)
    started = len(ray.started)
    assert run(workspace, LETTERS).made == 0
    assert len(ray.started) == started


def test_stage_that_cannot_travel_stays_here(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executor, "connect", lambda _: pytest.fail("asked for a cluster"))
    run(workspace, LETTERS, needs=None)
    assert texts(workspace) == [f"{letter.upper()}!" for letter in LETTERS]


def test_unit_that_ends_its_worker_each_time_is_left_out_alone(ray: FakeRay, workspace: Workspace) -> None:
    words = [*LETTERS[:9], "die", *LETTERS[9:]]
    run(workspace, words)
    assert texts(workspace) == [f"{letter.upper()}!" for letter in LETTERS]
    assert left_out(workspace) == [("die", "crashed")]
    # The fault is one of the moment: the next run tries that unit again, and no other.
    assert run(workspace, words).made == 1


def test_all_units_of_a_deadly_shard_are_named(ray: FakeRay, workspace: Workspace) -> None:
    run(workspace, ["die1", "die2", "a", "die3"])
    assert left_out(workspace) == [("die1", "crashed"), ("die2", "crashed"), ("die3", "crashed")]
    assert texts(workspace) == ["A!"]


@pytest.mark.parametrize(("losses", "expected"), [(4, []), (9, [("lost", "crashed")])])
def test_unit_is_blamed_only_where_it_takes_machine_after_machine(
    ray: FakeRay, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, losses: int, expected: list[tuple[str, str]]
) -> None:
    monkeypatch.setattr(Words, "losses", losses)
    run(workspace, ["a", "lost", "b"])
    assert left_out(workspace) == expected
    assert len(texts(workspace)) == 3 - len(expected)


def test_files_of_a_remote_workspace_come_from_who_made_them(
    ray: FakeRay, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(MIRRORS, str(tmp_path))
    url = f"memory://{tmp_path.name}"
    driver = Workspace(url)
    folder = driver.storage.local_path("clips")
    folder.mkdir()
    # of an earlier build: neither read nor published again
    (folder / "a.mp4").write_text("old")
    (folder / "c.mp4").write_text("old")
    make = partial(make_files, url, ["a", "b"])
    on_ray = RayExecutor(make, driver, RayConfig(shard_units=1), folder=Path.cwd(), decoders=1)
    run_stage(make(), driver.captions, executor=on_ray)
    found = {name: driver.storage.read(f"clips/{name}") for name in driver.storage.list("clips")}
    assert found == {"a.mp4": b"a!", "b.mp4": b"b!"}
    assert driver.storage.local_path("clips/a.mp4").read_text() == "a!"


def test_gpu_that_no_machine_has_is_said(ray: FakeRay, workspace: Workspace) -> None:
    with pytest.raises(SetupError) as fault:
        run(workspace, LETTERS, needs=Needs(gpus=1), start_timeout_s=0.01)
    assert str(fault.value) == (
        "caption: a worker takes 1 CPU, 1 GPU, 1024 MiB memory; after 0.01 s (ray.start_timeout_s) none of the 1 "
        "machine(s) of the cluster has that: the most that one has is 2 CPU, 0 GPU, 8192 MiB memory"
    )


def test_gpu_of_auto_is_asked_for_where_there_is_one(ray: FakeRay, workspace: Workspace) -> None:
    needs = Needs(gpus=1, gpu_is_optional=True)
    run(workspace, LETTERS, needs=needs)
    ray.machines[0]["GPU"] = 1
    run(workspace, [*LETTERS, "more"], needs=needs, gpu_share=0.5)
    assert [actor.asked["num_gpus"] for actor in ray.started] == [0, 0, 0.5]  # type: ignore[attr-defined]


def test_worker_with_other_packages_is_refused(
    ray: FakeRay, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "versions_here", lambda: {**worker.versions_here(), "av": "1.0"})
    with pytest.raises(SetupError, match=r"worker on .+: other versions than the driver's: av \S+ instead of 1\.0;"):
        run(workspace, LETTERS)
    assert texts(workspace) == []


def test_worker_that_sees_another_workspace_is_refused(
    ray: FakeRay, workspace: Workspace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(worker, "_SEEN_WITHIN_S", 0)
    monkeypatch.setattr(executor, "MARK", "elsewhere.json")
    with pytest.raises(SetupError, match="not the driver's workspace: it must lie on storage that all machines share"):
        run(workspace, LETTERS)


def test_worker_that_sees_no_videos_is_refused(
    ray: FakeRay, workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(executor, "_seen_here", lambda *_: "/only/here.mp4")
    with pytest.raises(SetupError, match=r"worker on .+: /only/here\.mp4: not there, but the driver sees it"):
        run(workspace, LETTERS)


def test_file_that_nobody_sees_is_a_matter_of_its_record(ray: FakeRay, workspace: Workspace) -> None:
    run(workspace, LETTERS, file="/nowhere.mp4")
    assert len(texts(workspace)) == len(LETTERS)


def test_fault_of_a_worker_ends_the_stage_and_keeps_what_was_told(ray: FakeRay, workspace: Workspace) -> None:
    with pytest.raises(SetupError, match=r"worker on .+\(process \d+\): no more"):
        run(workspace, [*LETTERS, "stop"], workers=1)
    assert texts(workspace)[:4] == ["A!", "B!", "C!", "D!"]
    assert len(ray.killed) == len(ray.started)


def test_disk_that_is_full_on_one_machine_is_said(ray: FakeRay, workspace: Workspace) -> None:
    with pytest.raises(SetupError, match=r"worker on .+: /scratch/clip\.mp4: no space left; what was finished is kept"):
        run(workspace, [*LETTERS, "full"], workers=1)
    assert texts(workspace)[:4] == ["A!", "B!", "C!", "D!"]


def test_what_workers_log_is_logged_here_in_order(
    ray: FakeRay, workspace: Workspace, caplog: pytest.LogCaptureFixture
) -> None:
    monkey = logging.getLogger("pipeline.words")
    with caplog.at_level(logging.WARNING, monkey.name):
        run(workspace, LETTERS, workers=1)
    heard = [record.getMessage() for record in caplog.records if record.name == monkey.name]
    assert heard.count("heard a") >= 1
    assert {f"heard {letter}" for letter in LETTERS} <= set(heard)


def test_shares_of_gpus() -> None:
    for share in (0.25, 1, 8):
        assert RayConfig(gpu_share=share).gpu_share == share
    with pytest.raises(ValidationError, match="a part of one GPU, or a whole number of them"):
        RayConfig(gpu_share=1.5)


def test_ray_that_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SetupError, match=r"engine=ray needs Ray: pip install 'holmes-engine\[ray\]'"):
        connection.connect(None)


@pytest.mark.parametrize(
    ("address", "kind", "message"),
    [
        ("127.0.0.1:1", UnavailableError, "ray.address=127.0.0.1:1: nothing answers there"),
        ("cluster", SetupError, "ray.address=cluster: host:port is expected"),
        ("ray://head:10001", SetupError, "from elsewhere submit the build: ray job submit"),
    ],
)
def test_address_without_a_cluster_is_said(
    monkeypatch: pytest.MonkeyPatch, address: str, kind: type[SetupError], message: str
) -> None:
    module = SimpleNamespace(is_initialized=lambda: False, init=lambda **_: pytest.fail("tried"))
    monkeypatch.setitem(sys.modules, "ray", module)  # type: ignore[arg-type]
    with pytest.raises(kind) as fault:
        connection.connect(address)
    assert message in str(fault.value)


@pytest.mark.parametrize(
    ("fault", "kind", "message"),
    [
        (RuntimeError("InvalidAuthToken: no"), SetupError, "the cluster refuses the token: set RAY_AUTH_MODE=token"),
        (ConnectionError("no raylet here"), UnavailableError, "ray: no cluster: no raylet here"),
        (Exception("The current node timed out"), SetupError, "ray: The current node timed out"),
        (RuntimeError("Version mismatch: Ray: 2.60, Python: 3.12"), SetupError, "ray: Version mismatch: Ray: 2.60"),
    ],
)
def test_what_ray_says_is_one_message(
    monkeypatch: pytest.MonkeyPatch, fault: Exception, kind: type[SetupError], message: str
) -> None:
    def init(**_: object) -> None:
        raise fault

    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))  # type: ignore[arg-type]
    with pytest.raises(kind) as told:
        connection.connect(None)
    assert type(told.value) is kind
    assert message in str(told.value)


def test_a_door_that_ray_does_not_get_through_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    def init(**_: object) -> None:
        raise ConnectionError("Failed to connect to Ray cluster at 192.0.2.2:6379")

    monkeypatch.setitem(sys.modules, "ray", SimpleNamespace(is_initialized=lambda: False, init=init))  # type: ignore[arg-type]
    with socket.create_server(("127.0.0.1", 0)) as door:
        address = f"127.0.0.1:{door.getsockname()[1]}"
        with pytest.raises(SetupError, match=r"answers there, and Ray cannot join it.*RAY_AUTH_TOKEN") as told:
            connection.connect(address)
    assert type(told.value) is SetupError


def test_doctor_tells_what_the_cluster_has(ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    config = BuildConfig.model_validate({"videos": ["v"], "engine": "ray"})
    monkeypatch.setattr(connection, "connect", lambda _: ray)
    found = {check.name: check for check in examine(config)}
    assert (found["ray"].ok, found["ray"].detail) == (True, "1 machines, 2 CPUs, 0 GPUs")
    monkeypatch.undo()
    monkeypatch.setitem(sys.modules, "ray", None)
    found = {check.name: check for check in examine(config)}
    assert (found["ray"].ok, found["ray"].required) == (False, True)
