"""The way of a click through a real Label Studio server: project, click as the front end saves it, export, import."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from numbered_films import DRAW_ON_CANVAS, write_film
from studio_browser import needs_browser, open_task, studio_page, submit
from studio_server import Studio, needs_studio

from annotation.formats.registry import read_annotations
from annotation.label_studio.click_project import init_glances
from annotation.label_studio.click_pull import pull_form, pull_glances
from annotation.label_studio.client import ONE_TRY, StudioClient
from annotation.label_studio.serving import Serving
from annotation.label_studio.subscription import subscribe
from annotation.resolve import resolve_glances
from annotation.stage import timeline_of_file
from annotation.timeline import seek_time
from annotation.video_index import VideoIndex
from flows.plan import run_step
from pipeline.config import BuildConfig
from pipeline.errors import RecordError, SetupError
from pipeline.records import Glance, Reason
from pipeline.workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900), needs_studio]

FRAME_PX = 16
"""Width of a frame on the front end's timeline."""

SHOWS = """time_s => {
  const video = document.querySelector('video');
  return video?.readyState >= 2 && !video.seeking && Math.abs(video.currentTime - time_s) < 1e-6;
}"""
"""Tells whether a page's video stands at a time."""


@pytest.fixture(scope="module", autouse=True)
def films(studio: Studio) -> Path:
    """Four films of 200 frames below the folder that the server serves."""
    folder = studio.files / "films"
    folder.mkdir()
    rng = random.Random(1)
    write_film(folder / "steady 25 Überfall.mp4", list(range(200)), Fraction(1, 25), Fraction(25))
    write_film(folder / "ntsc.mp4", [1001 * n for n in range(200)], Fraction(1, 30000), Fraction(30000, 1001))
    write_film(folder / "dropped.mp4", _starts(rng, (3000, 3000, 6000, 9000)), Fraction(1, 90000), Fraction(30))
    write_film(folder / "wild.mp4", _starts(rng, range(1500, 9000)), Fraction(1, 90000), Fraction(30))
    return folder


def _starts(rng: random.Random, steps: Any) -> list[int]:
    starts = [0]
    for _ in range(199):
        starts.append(starts[-1] + rng.choice(steps))
    return starts


@pytest.fixture
def client(studio: Studio) -> StudioClient:
    return StudioClient(studio.url, studio.token)


def ingested(studio: Studio, folder: Path) -> Workspace:
    config = BuildConfig(videos=[str(studio.files / "films")], workspace=str(folder), ingest={"unlabelled": "normal"})
    workspace = Workspace(str(folder))
    run_step("ingest", workspace, config)
    return workspace


def click(client: StudioClient, task: int, frame: int, label: str = "Fighting", **kwargs: Any) -> None:
    """Save a click as the front end saves it."""
    value = {"ranges": [{"start": frame, "end": frame}], "timelinelabels": [label]}
    region = {"value": value, "from_name": "event", "to_name": "video", "type": "timelinelabels", "origin": "manual"}
    client.sdk.annotations.create(id=task, result=[region], lead_time=1.0, request_options=ONE_TRY, **kwargs)


def test_a_project_its_clicks_and_every_form_of_export(studio: Studio, client: StudioClient, tmp_path: Path) -> None:
    workspace = ingested(studio, tmp_path / "ws")
    made = init_glances(workspace, client, Serving(document_root=studio.files))
    assert (made.created, made.added, made.skipped) == (True, 4, [])
    again = init_glances(workspace, client, Serving(document_root=studio.files))
    assert (again.project_id, again.created, again.known, again.added) == (made.project_id, False, 4, 0)

    tasks = {task.data["video_id"].split("_")[0]: task for task in client.tasks(made.project_id)}
    assert {name: task.data["fps"] for name, task in tasks.items()}["dropped"] == "30"
    names = list(tasks)
    click(client, tasks[names[0]].id, 31)
    click(client, tasks[names[1]].id, 41)
    click(client, tasks[names[1]].id, 42, label="Ignore")
    click(client, tasks[names[2]].id, 51, was_cancelled=True)
    choice = {"value": {"choices": ["Nothing abnormal"]}, "from_name": "normal", "to_name": "video", "type": "choices"}
    client.sdk.annotations.create(id=tasks[names[3]].id, result=[choice], request_options=ONE_TRY)

    summary = pull_glances(workspace, client)
    assert (summary.tasks, summary.clicks, summary.marks, summary.nothing_abnormal) == (4, 2, 1, 1)
    assert [fault.reason for fault in summary.faults] == [Reason.SKIPPED_ANNOTATION]
    full = read_annotations(summary.path)
    for form in ("JSON_MIN", "CSV", "TSV"):
        flat = read_annotations(pull_form(workspace, client, form))
        assert sorted((g.video, g.frame_index, g.category) for g in flat.glances) == sorted(
            (g.video, g.frame_index, g.category) for g in full.glances
        ), form
        assert any("not the full export" in note for note in flat.notes)

    index = VideoIndex(workspace.videos.records())
    resolved = resolve_glances(full.glances, index, lambda video: timeline_of_file(video.path))  # type: ignore[arg-type, return-value]
    assert sorted(item.reason.value if isinstance(item, RecordError) else "click" for item in resolved) == [
        "click",
        "ignored_click",
        "ignored_click",
    ]


def test_a_wrong_token_and_another_kind_of_project_are_told(
    studio: Studio, client: StudioClient, tmp_path: Path
) -> None:
    workspace = ingested(studio, tmp_path / "ws")
    with pytest.raises(SetupError, match="refuses the token") as refused:
        init_glances(workspace, StudioClient(studio.url, "f" * 40), Serving(document_root=studio.files))
    assert "f" * 40 not in str(refused.value)
    other = client.sdk.projects.create(
        title="pictures",
        label_config='<View><Image name="i" value="$image"/><Choices name="c" toName="i"><Choice value="a"/>'
        "</Choices></View>",
    )
    with pytest.raises(SetupError, match="not a project for clicks: TimelineLabels on a Video expected, found Choices"):
        init_glances(workspace, client, Serving(document_root=studio.files), project_id=other.id)
    with pytest.raises(SetupError, match="nothing there"):
        pull_glances(workspace, client, project_id=99_999)


def test_a_server_that_calls_no_loopback_address_says_so(
    studio: Studio, client: StudioClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = init_glances(ingested(studio, tmp_path / "ws"), client, Serving(document_root=studio.files))
    with pytest.raises(SetupError, match=r"refuses to call .* an address of a private network"):
        subscribe(client, made.project_id, "http://127.0.0.1:9/webhook", "a-secret-of-some-length")
    with pytest.raises(SetupError, match=f"asked to add a webhook to project {made.project_id}"):
        subscribe(client, made.project_id, "http://nobody.invalid/webhook", "a-secret-of-some-length")


@needs_browser
def test_the_frame_that_arrives_is_the_frame_that_the_front_end_showed(
    studio: Studio, client: StudioClient, tmp_path: Path
) -> None:
    workspace = ingested(studio, tmp_path / "ws")
    made = init_glances(workspace, client, Serving(document_root=studio.files), title="in the browser")
    shown: dict[str, int] = {}
    with studio_page(studio) as page:
        for number, task in enumerate(client.tasks(made.project_id)):
            open_task(page, f"{studio.url}/projects/{made.project_id}/data?task={task.id}", SHOWS, 0.0)
            timeline = page.wait_for_selector(".lsf-timeline-frames__background")
            timeline.scroll_into_view_if_needed()
            box = timeline.bounding_box()
            frame = 17 + 4 * number
            time_s = seek_time(frame - 1, float(task.data["fps"]))
            page.keyboard.press("1")
            page.mouse.click(box["x"] + FRAME_PX * (frame - 0.5), box["y"] + 60)
            page.wait_for_function(SHOWS, arg=time_s)
            shown[task.data["video_id"]], _ = page.evaluate(DRAW_ON_CANVAS)
            submit(page)
    found = read_annotations(pull_glances(workspace, client).path)
    index = VideoIndex(workspace.videos.records())
    resolved = resolve_glances(found.glances, index, lambda video: timeline_of_file(video.path))  # type: ignore[arg-type, return-value]
    assert {glance.video_id: glance.frame_index for glance in resolved if isinstance(glance, Glance)} == shown
    assert len(shown) == 4
