"""Uploads against a stand-in of the Hub's API."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from dataset_fixtures import fill

from flows.hub import push_folder
from pipeline.config import ExportConfig
from pipeline.errors import DataError, SetupError
from pipeline.stages.export import export_dataset
from pipeline.workspace import Workspace

__all__ = ["fill"]
PUSH: dict[str, Any] = {"private": True, "revision": None, "message": "m"}


class Hub:
    """What the stand-in holds: repositories with their files, and how often a commit is refused."""

    def __init__(self) -> None:
        self.repos: dict[str, dict[str, Any]] = {}
        self.files: dict[str, bytes] = {}
        self.refuse_commits = 0
        self.status = 500

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        path = path.partition("?")[0]
        if path == "/api/repos/create":
            asked = json.loads(body)
            name = f"{asked.get('organization', 'me')}/{asked['name']}"
            self.repos[name] = asked
            kind = "datasets/" if asked.get("type") == "dataset" else ""
            return 200, {"url": f"{self.url}/{kind}{name}", "id": name}
        if "/preupload/" in path:
            files = json.loads(body)["files"]
            return 200, {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in files]}
        if "/commit/" in path:
            if self.refuse_commits:
                self.refuse_commits -= 1
                return self.status, {"error": "not today"}
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
                elif line["key"] == "deletedFile":
                    self.files.pop(line["value"]["path"])
            return 200, {
                "commitUrl": self.url + path.removeprefix("/api").removeprefix("/models"),
                "commitOid": "1" * 40,
                "success": True,
            }
        if "/tree/" in path:
            return 200, [{"type": "file", "path": p, "size": 1, "oid": "a" * 40} for p in self.files]
        siblings = [{"rfilename": p} for p in self.files]
        return 200, {"id": "me/x", "sha": "1" * 40, "private": True, "siblings": siblings, "tags": [], "url": ""}

    url = ""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    hub = Hub()

    class Handler(BaseHTTPRequestHandler):
        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            status, answer = hub.answer(self.command, self.path, body)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = reply  # noqa: N815

        def log_message(self, *_: object) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    hub.url = f"http://127.0.0.1:{server.server_port}"
    for name in ("huggingface_hub.constants.ENDPOINT", "huggingface_hub.hf_api.constants.ENDPOINT"):
        monkeypatch.setattr(name, hub.url)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setenv("HF_TOKEN", "hf_stand_in")
    yield hub
    server.shutdown()


@pytest.fixture
def dataset(fill: Callable[..., Workspace]) -> Path:
    workspace = fill(files=True)
    export_dataset(workspace, ExportConfig(embed_videos=True), "encode")
    return workspace.dataset_folder


def test_a_dataset_goes_up_with_its_card_in_private(hub: Hub, dataset: Path) -> None:
    hub.files["data/train-00007-of-00009.parquet"] = b"of an earlier dataset"
    kind, url = push_folder(dataset, "me/cameras", **PUSH)
    assert (kind, url) == ("dataset", f"{hub.url}/datasets/me/cameras")
    assert hub.repos["me/cameras"]["visibility"] == "private"
    assert hub.repos["me/cameras"]["type"] == "dataset"
    local = {p.relative_to(dataset).as_posix(): p.read_bytes() for p in dataset.rglob("*") if p.is_file()}
    assert hub.files == local
    assert "README.md" in local


def test_a_refused_upload_goes_on(hub: Hub, dataset: Path) -> None:
    hub.refuse_commits, hub.status = 1, 403
    with pytest.raises(SetupError, match=r"me/cameras: the hub answers 403.*not today.*HF_TOKEN"):
        push_folder(dataset, "me/cameras", **PUSH)
    push_folder(dataset, "me/cameras", **PUSH)
    assert "README.md" in hub.files


def test_rows_whose_clips_would_stay_behind_are_refused(hub: Hub, fill: Callable[..., Workspace]) -> None:
    workspace = fill(files=True)
    export_dataset(workspace, ExportConfig(), "encode")
    with pytest.raises(DataError, match=r"\.\./clips/.*export\.embed_videos=true"):
        push_folder(workspace.dataset_folder, "me/cameras", **PUSH)
    assert not hub.repos


def test_an_adapter_gets_a_card(hub: Hub, tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text('{"base_model_name_or_path": "acme/base"}')
    (tmp_path / "holmes.json").write_text('{"num_frames": 8}')
    (tmp_path / "adapter_model.safetensors").write_bytes(b"w")
    assert push_folder(tmp_path, "me/adapter", **PUSH)[0] == "adapter"
    card = hub.files["README.md"].decode()
    assert "base_model: acme/base" in card
    assert '"num_frames": 8' in card
    assert hub.files["adapter_model.safetensors"] == b"w"


def test_a_folder_of_nothing_is_refused(hub: Hub, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="neither a dataset, an adapter"):
        push_folder(tmp_path, "me/nothing", **PUSH)
