"""The flows that wait for people, on a real Label Studio and a real Prefect: its webhooks, a worker that is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
from free_port import free_port
from moving_square import write_video
from prefect_server import Prefect, running_prefect
from studio_server import Studio, needs_studio

from annotation.formats.registry import read_annotations
from annotation.label_studio.click_project import init_glances
from annotation.label_studio.click_pull import EXPORT_FILE
from annotation.label_studio.client import ONE_TRY, StudioClient
from annotation.label_studio.kinds import noted_project
from annotation.label_studio.review_project import REVIEWS
from annotation.label_studio.serving import Serving
from annotation.label_studio.subscription import Subscription, subscribe
from annotation.label_studio.webhook import PATH, SECRET_VARIABLE
from flows.plan import build
from pipeline.config import BuildConfig
from pipeline.workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.timeout(1200), needs_studio]

SECRET = "0123456789abcdef0123456789abcdef"
REPOSITORY = Path(__file__).resolve().parents[2]
HOLMES = [sys.executable, "-m", "flows.cli", "labelstudio", "webhook"]
NEVER = "100000"
"""A poll interval that no test lives to see: what happens, a webhook has caused."""


@pytest.fixture(scope="module")
def studio(calling_studio: Studio) -> Studio:
    """The server whose webhooks reach the receivers of these tests."""
    return calling_studio


@pytest.fixture(scope="module")
def environment(studio: Studio) -> dict[str, str]:
    return {
        "LABEL_STUDIO_URL": studio.url,
        "LABEL_STUDIO_API_KEY": studio.token,
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(studio.files),
        SECRET_VARIABLE: SECRET,
    }


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]) -> Iterator[Prefect]:
    with running_prefect(tmp_path_factory.mktemp("prefect"), **environment) as server:
        yield server


@pytest.fixture
def client(studio: Studio) -> StudioClient:
    return StudioClient(studio.url, studio.token)


@pytest.fixture
def workspace(studio: Studio, request: pytest.FixtureRequest) -> Workspace:
    """A built workspace of two videos, one with a click, below the folder that the server serves."""
    folder = studio.files / request.node.name
    folder.mkdir()
    for video_id, speed in (("street", 6), ("empty", 0)):
        write_video(folder / f"{video_id}.mp4", speed)
    (folder / "videos.csv").write_text("video_id,file,label\nstreet,street.mp4,Fighting\nempty,empty.mp4,Normal\n")
    (folder / "clicks.csv").write_text("video-id,glance\nstreet,30\n")
    config = BuildConfig.model_validate(
        {
            "videos": [str(folder / "videos.csv")],
            "glances": [str(folder / "clicks.csv")],
            "workspace": str(folder / "ws"),
            "clips": {"window_s": 4.0},
            "video": {"workers": 1},
        }
    )
    build(config)
    return Workspace(config.workspace)


def click(client: StudioClient, task: int, frame: int) -> None:
    value = {"ranges": [{"start": frame, "end": frame}], "timelinelabels": ["Fighting"]}
    region = {"value": value, "from_name": "event", "to_name": "video", "type": "timelinelabels", "origin": "manual"}
    client.sdk.annotations.create(id=task, result=[region], lead_time=1.0, request_options=ONE_TRY)


def decide(client: StudioClient, task: Any, decision: str, answer: str) -> None:
    result = [
        {"value": {"choices": [decision]}, "from_name": "decision", "to_name": "clip", "type": "choices"},
        {"value": {"text": [answer]}, "from_name": "edited_answer", "to_name": "clip", "type": "textarea"},
    ]
    client.sdk.annotations.create(id=task.id, result=result, lead_time=1.0, request_options=ONE_TRY)


@contextmanager
def receiver(workspace: Workspace, variables: dict[str, str], log: Path, *options: str) -> Iterator[None]:
    """Run `holmes labelstudio webhook`, registered with the workspace's projects."""
    port = free_port()
    register = f"--register=http://127.0.0.1:{port}{PATH}"
    command = [*HOLMES, workspace.url, f"--port={port}", register, "--quiet=1", f"--poll-every={NEVER}", *options]
    with log.open("w") as stderr:
        process = subprocess.Popen(
            command, cwd=REPOSITORY, env=os.environ | variables, stdout=subprocess.PIPE, stderr=stderr, text=True
        )
    try:
        assert process.stdout
        assert process.stdout.readline().startswith("webhook  "), log.read_text()
        assert "made" in process.stdout.readline(), log.read_text()
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        code = process.wait(60)
    assert code == 0, log.read_text()


def wait_for(condition: Callable[[], bool], log: Path, within_s: float = 90) -> None:
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
    assert condition(), log.read_text()


def frames_in(workspace: Workspace) -> list[int | None]:
    path = workspace.storage.local_path(EXPORT_FILE)
    return sorted(click.frame_index or 0 for click in read_annotations(path).glances) if path.is_file() else []


def test_a_click_calls_the_receiver_which_pulls_it(
    studio: Studio, client: StudioClient, workspace: Workspace, environment: dict[str, str], tmp_path: Path
) -> None:
    made = init_glances(workspace, client, Serving(document_root=studio.files))
    first, second = client.tasks(made.project_id)
    click(client, first.id, 11)
    log = tmp_path / "log"
    with receiver(workspace, environment, log):
        wait_for(lambda: frames_in(workspace) == [10], log)
        click(client, second.id, 21)
        wait_for(lambda: frames_in(workspace) == [10, 20], log)
    assert "webhook: ANNOTATION_CREATED" in log.read_text()
    (hook,) = client.sdk.webhooks.list(project=str(made.project_id))
    assert hook.headers == {"X-Holmes-Secret": SECRET}
    assert subscribe(client, made.project_id, hook.url, SECRET) is Subscription.FOUND
    assert subscribe(client, made.project_id, hook.url, SECRET[::-1]) is Subscription.RENEWED
    (hook,) = client.sdk.webhooks.list(project=str(made.project_id))
    assert hook.headers == {"X-Holmes-Secret": SECRET[::-1]}


def test_a_click_starts_the_flow_which_builds_with_it(
    studio: Studio,
    client: StudioClient,
    workspace: Workspace,
    prefect: Prefect,
    tmp_path: Path,
) -> None:
    made = init_glances(workspace, client, Serving(document_root=studio.files))
    tasks = {task.data["video_id"]: task for task in client.tasks(made.project_id)}
    log = tmp_path / "log"
    with prefect.worker():
        code, run_id = prefect.start("import-glances/import-glances", "--watch", workspace=workspace.url, build=True)
        assert code == 0, prefect.logs(run_id)
        assert prefect.state(run_id)["message"].startswith("nothing new: 0 click(s) of 2 task(s)")

        # a run of tonight keeps no hint of today from starting one
        prefect.start("import-glances/import-glances", "--start-in", "9 hours", workspace=workspace.url)
        with receiver(workspace, prefect.environment, log, "--deployment=import-glances/import-glances"):
            wait_for(lambda: "import-glances/import-glances: started " in log.read_text(), log)
            click(client, next(task.id for name, task in tasks.items() if name.startswith("street")), 61)
            wait_for(lambda: frames_in(workspace) == [60], log)

        before = len(workspace.glances.arrow(["video_id"]))
        code, run_id = prefect.start("import-glances/import-glances", "--watch", workspace=workspace.url, build=True)
        assert code == 0, prefect.logs(run_id)
    message = prefect.state(run_id)["message"]
    assert message.startswith("nothing new: 1 click(s) of 2 task(s)")
    assert message.endswith(f" rows in {workspace.dataset_folder}")
    assert len(workspace.glances.arrow(["video_id"])) == before + 1
    assert '"clicks"' in prefect.artifact(run_id, "import-glances")


def test_reviews_are_waited_for_without_a_process_and_decide_what_is_built(
    studio: Studio,
    client: StudioClient,
    workspace: Workspace,
    prefect: Prefect,
    tmp_path: Path,
) -> None:
    log = tmp_path / "log"
    with prefect.worker() as worker:
        _, run_id = prefect.start("review-pairs/review-pairs", workspace=workspace.url, poll_every_s=86_400)
        waiting = prefect.wait_for_state(run_id, "AwaitingReviews", "Failed")
        project = noted_project(workspace, client, REVIEWS)
        assert project is not None
        tasks = list(client.tasks(project))
        assert waiting["message"] == f"of {len(tasks)} task(s) {len(tasks)} wait for a reviewer"
        wait_for(lambda: not psutil.Process(worker.pid).children(recursive=True), log)
        worker.kill()
        worker.wait()

    for number, task in enumerate(tasks):
        if number:
            decide(client, task, "accept", task.data["answer"])
        else:
            decide(client, task, "reject", task.data["answer"])
    assert prefect.state(run_id)["name"] == "AwaitingReviews"

    with prefect.worker(), receiver(workspace, prefect.environment, log, "--deployment=review-pairs/review-pairs"):
        state = prefect.wait_for_state(run_id, "Completed", "Failed", "Crashed")
    assert state["name"] == "Completed", state
    rows = len(tasks) - 1
    assert state["message"] == f"{len(tasks)} task(s) are through; {rows} rows in {workspace.dataset_folder}"
    assert prefect.flow_run(run_id)["run_count"] == 2
    assert f"review-pairs/review-pairs: woke {prefect.flow_run(run_id)['name']}" in log.read_text()
    built = pq.read_table(workspace.dataset_folder / "data")
    assert built.num_rows == rows
    assert tasks[0].data["pair_id"] not in built.column("id").to_pylist()


def test_reviews_that_miss_the_deadline_end_the_run(
    studio: Studio, client: StudioClient, workspace: Workspace, prefect: Prefect
) -> None:
    with prefect.worker():
        code, run_id = prefect.start("review-pairs/review-pairs", "--watch", workspace=workspace.url, deadline_h=0)
        assert code == 1
        project = noted_project(workspace, client, REVIEWS)
        assert project is not None
        tasks = list(client.tasks(project))
        state = prefect.state(run_id)
        assert (state["type"], state["name"]) == ("FAILED", "TimedOut")
        missing = f"of {len(tasks)} task(s) {len(tasks)} wait for a reviewer"
        assert state["message"] == f"{missing}: after 0 h; decisions so far are kept"

        decide(client, tasks[0], "accept", tasks[0].data["answer"])
        _, run_id = prefect.start("review-pairs/review-pairs", "--watch", workspace=workspace.url, deadline_h=0)
    assert prefect.state(run_id)["message"].startswith(f"of {len(tasks)} task(s) {len(tasks) - 1} wait for a reviewer")
    assert len(list(client.tasks(project))) == len(tasks)
