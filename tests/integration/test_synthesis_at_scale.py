"""Synthesis at 1,500 requests with 30% of faults, and `holmes build` killed in the middle of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from chat_server import CONTENT, WIRE, ChatModel
from http_server import HttpServer

from pipeline.config import SynthesizeConfig
from pipeline.errors import RecordError
from pipeline.models.base import Draft, SynthesisRequest
from pipeline.models.chat.synthesizer import OpenAISynthesizer
from pipeline.records import Caption, EventClip, Reason, Task
from pipeline.workspace import Workspace

pytestmark = pytest.mark.integration

REPOSITORY = Path(__file__).resolve().parents[2]
REQUESTS = 1500
SECONDS, FPS = 200, 5
CONCURRENCY = 16


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)


def requests(count: int) -> Iterator[SynthesisRequest]:
    for number in range(count):
        clip = EventClip(
            clip_id=f"clip{number}", video_id="v", start_s=0.0, end_s=4.0, start_frame=0, end_frame=100,
            glance_time_s=2.0, label=("Fighting", "Normal")[number % 2], anomaly_score=None, method="window",
        )  # fmt: skip
        text = f"A {('wild', 'calm')[number % 2]} street, number {number}."
        caption = Caption(clip_id=clip.clip_id, text=text, captioner="human", prompt_hash=None)
        yield SynthesisRequest(clip=clip, caption=caption, task=list(Task)[number // 2 % 4], question="Is it calm?")


def test_requests_at_30_percent_of_faults_end_once_and_are_booked_to_the_token(tmp_path: Path) -> None:
    model = ChatModel(share=0.3, seed=7)
    books = model.books
    with HttpServer(model.handle) as server:
        config = SynthesizeConfig(
            backend="openai", model="m", base_url=server.url, concurrency=64, timeout_s=4.0, tasks=list(Task)
        )
        synth = OpenAISynthesizer(config, tmp_path)
        results = list(synth.synthesize(requests(REQUESTS)))
    spent = synth.spent()
    made = [result for result in results if isinstance(result, Draft)]
    faults = [result for result in results if isinstance(result, RecordError)]
    assert len(made) + len(faults) == REQUESTS
    assert len({draft.answer for draft in made}) == len(made) > 0.9 * REQUESTS
    assert {fault.reason for fault in faults} <= {Reason.BAD_RESPONSE, Reason.WRONG_VERDICT, Reason.REQUEST_FAILED}
    assert {*WIRE, *CONTENT} < set(books.faults)
    assert (spent.prompt_tokens, spent.completion_tokens) == (books.prompt_tokens, books.completion_tokens)
    assert spent.workspace_prompt_tokens == books.prompt_tokens
    assert spent.requests == books.calls.total()
    assert spent.answers == books.answered.total()
    assert max(books.answered.values()) == 1


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two abnormal videos with 20 clicks each and two normal ones, and a sentence for every four seconds."""
    folder = tmp_path_factory.mktemp("world")
    rows, clicks, sentences = ["video_id,file,label"], ["video-id,glance"], ["video_id,start_s,end_s,sentence"]
    for video in range(4):
        rng = np.random.default_rng(video)
        with av.open(str(folder / f"v{video}.mp4"), "w") as container:
            stream = container.add_stream("libx264", rate=FPS, options={"preset": "ultrafast"})
            stream.width, stream.height = 32, 32
            for _ in range(SECONDS * FPS):
                frame = av.VideoFrame.from_ndarray(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8), "rgb24")
                container.mux(stream.encode(frame))
            container.mux(stream.encode())
        rows.append(f"v{video},v{video}.mp4,{('Fighting', 'Normal')[video % 2]}")
        if video % 2 == 0:
            clicks += [f"v{video},{second * FPS}" for second in range(5, SECONDS, 10)]
        kind = ("wild", "calm")[video % 2]
        sentences += [
            f"v{video},{second},{second + 4},A {kind} street in part {second} of film {video}."
            for second in range(0, SECONDS, 4)
        ]
    for name, lines in (("videos.csv", rows), ("glances.csv", clicks), ("captions.csv", sentences)):
        (folder / name).write_text("\n".join(lines) + "\n")
    return folder


def build_command(world: Path, workspace: Path, url: str) -> list[str]:
    settings = {
        "videos": [str(world / "videos.csv")],
        "glances": [str(world / "glances.csv")],
        "shard_rows": 32,
        "video": {"workers": 1},
        "clips": {"window_s": 8.0, "files": "reference"},
        "caption": {"backend": "human", "files": [str(world / "captions.csv")]},
        "synthesize": {
            "backend": "openai", "model": "m", "base_url": url, "concurrency": CONCURRENCY, "timeout_s": 2.0,
            "tasks": [task.value for task in Task], "prices": {"m": {"input": 0.5, "output": 1.5}},
        },
    }  # fmt: skip
    config = workspace.parent / f"{workspace.name}.json"
    config.write_text(json.dumps(settings))
    return [sys.executable, "-m", "flows.cli", "build", "-c", str(config), "--workspace", str(workspace)]


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)


def journaled(workspace: Path) -> list[dict[str, Any]]:
    lines = (workspace / "journal/synthesize/answers.jsonl").read_text().splitlines()
    entries = []
    for line in lines:
        try:
            entries.append(json.loads(line))
        except ValueError:
            continue
    return entries


def answered(workspace: Path) -> set[str]:
    """Return the server's names of the requests whose answers are in the journal."""
    good = [entry["body"] for entry in journaled(workspace) if entry["status"] == 200]
    bodies = [json.loads(body) for body in good if body.startswith("{")]
    return {body["id"] for body in bodies if body["choices"]}


def test_a_build_killed_in_the_middle_of_synthesis_ends_in_the_same_rows_and_pays_for_no_answer_twice(
    world: Path, tmp_path: Path
) -> None:
    undisturbed = ChatModel(share=0.3, kinds=WIRE, seed=3, latency_s=0.02)
    with HttpServer(undisturbed.handle) as server:
        done = run(build_command(world, tmp_path / "whole", server.url))
    assert done.returncode == 0, done.stderr

    model = ChatModel(share=0.3, kinds=WIRE, seed=3, latency_s=0.02)
    books = model.books
    with HttpServer(model.handle) as server:
        command = build_command(world, tmp_path / "killed", server.url)
        for wanted in (75, 175):
            process = subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            while books.answered.total() < wanted:
                assert process.poll() is None, "it ended before it could be killed"
                time.sleep(0.01)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
            known = answered(tmp_path / "killed")
            assert len(known) > wanted / 2
        calls = books.calls.copy()
        done = run(command)
    assert done.returncode == 0, done.stderr
    assert not known & (books.calls - calls).keys()
    # what was answered in the moment of a kill could not be written down
    assert sum(count - 1 for count in books.answered.values()) <= 2 * CONCURRENCY

    pairs = [list(Workspace(str(tmp_path / name)).pairs.records()) for name in ("whole", "killed")]
    assert len(pairs[0]) > 150
    assert pairs[0] == pairs[1]

    entries = journaled(tmp_path / "killed")
    report = json.loads((tmp_path / "killed/reports/build.json").read_text())
    spent = next(stage["spent"] for stage in report["stages"] if stage["stage"] == "synthesize")
    assert spent["workspace_prompt_tokens"] == sum(entry["usage"][0] for entry in entries if entry["usage"])
    lost = books.prompt_tokens - spent["workspace_prompt_tokens"]
    assert 0 <= lost < 2 * CONCURRENCY * 1000
    assert f"{spent['requests']:,} requests" in done.stdout
    assert " in all runs)" in done.stdout
