"""The flow `build-instruct` as a user runs it: a Prefect server on SQLite, `prefect deploy --all`, a worker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
import yaml
from moving_square import write_video
from prefect_server import Prefect, running_prefect

from flows.plan import step_names
from pipeline.config import BuildConfig

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prefect]:
    """A fresh server with the deployments of prefect.yaml and a worker, all gone afterwards."""
    with running_prefect(tmp_path_factory.mktemp("prefect")) as server, server.worker():
        yield server


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
