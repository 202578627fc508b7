"""`holmes labelstudio webhook` as a process: it registers itself, and a call is followed by a pull."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

import pytest
from studio_double import TOKEN, StudioDouble
from typer.testing import CliRunner

from annotation.label_studio.click_interface import glance_config
from annotation.label_studio.webhook import SECRET_HEADER, SECRET_VARIABLE
from flows.cli import app
from pipeline.errors import SetupError

SECRET = "0123456789abcdef0123456789abcdef"
HOLMES = [sys.executable, "-m", "flows.cli", "labelstudio", "webhook"]
REPOSITORY = Path(__file__).resolve().parents[4]
REGISTERED = "https://holmes.example.org/webhook"


def click(frame: int) -> dict[str, Any]:
    value = {"ranges": [{"start": frame, "end": frame}], "timelinelabels": ["Fighting"]}
    region = {"value": value, "from_name": "event", "to_name": "video", "type": "timelinelabels"}
    return {"id": frame, "completed_by": 1, "was_cancelled": False, "result": [region]}


def clicks_in(file: Path) -> int:
    if not file.exists():
        return -1
    return sum(len(task["annotations"]) for task in json.loads(file.read_text()))


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert condition()


def call(address: SplitResult, secret: str = SECRET) -> int:
    connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=10)
    connection.request("POST", address.path, b'{"action": "ANNOTATION_CREATED"}', {SECRET_HEADER: secret})
    status = connection.getresponse().status
    connection.close()
    return status


@pytest.mark.slow
def test_a_call_is_followed_by_a_pull_also_after_the_project_was_away(tmp_path: Path) -> None:
    double = StudioDouble()
    project = double.add_project(glance_config(["Fighting"]))
    double.add_task(project, {"video": "/a.mp4", "video_id": "a", "fps": "25"}, click(10))
    export, log = tmp_path / "labelstudio/glances.json", tmp_path / "log"
    with double.serve() as server:
        environment = os.environ | {
            "PYTHONPATH": str(REPOSITORY),
            "LABEL_STUDIO_URL": f"http://127.0.0.1:{server.port}",
            "LABEL_STUDIO_API_KEY": TOKEN,
            SECRET_VARIABLE: SECRET,
        }
        command = [*HOLMES, str(tmp_path), "--port=0", f"--project={project}", f"--register={REGISTERED}", "--quiet=1"]
        with log.open("w") as stderr:
            process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=stderr, text=True)
        try:
            assert process.stdout
            address = urlsplit(process.stdout.readline().split()[1])
            assert process.stdout.readline().endswith(f"calls {REGISTERED}: made\n")
            wait_for(lambda: clicks_in(export) == 1)

            double.tasks[project][0]["annotations"].append(click(20))
            assert call(address, "a secret of nobody") == 403
            assert {call(address) for _ in range(20)} == {204}
            wait_for(lambda: clicks_in(export) == 2)
            assert sum(path.endswith("/export") for _, path in double.calls) < 10

            away, double.projects = double.projects, {}
            call(address)
            wait_for(lambda: "tries again" in log.read_text())
            double.projects = away
            double.tasks[project][0]["annotations"].append(click(30))
            call(address)
            wait_for(lambda: clicks_in(export) == 3)
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(20)
    said = log.read_text()
    assert code == 0, said
    assert (
        "has nothing there (HTTP 404): asked to open project 1; it says: Not found.; the next hint or poll tries again"
        in said
    )
    assert said.endswith("stopped\n")
    assert SECRET not in said
    assert TOKEN not in said


def test_without_a_secret_or_a_workspace_it_does_not_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(SECRET_VARIABLE, raising=False)
    for arguments, told in (([str(tmp_path)], "HOLMES_WEBHOOK_SECRET is not set"), (["nowhere"], "no such folder")):
        done = CliRunner().invoke(app, ["labelstudio", "webhook", *arguments])
        assert isinstance(done.exception, SetupError)
        assert told in str(done.exception)
