"""A sampler clicks first on a real Label Studio server: what people are shown, in which order, and what comes back."""

from __future__ import annotations

import random
from fractions import Fraction
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from numbered_films import DRAW_ON_CANVAS, write_film
from studio_browser import needs_browser, open_task, studio_page, submit
from studio_server import Studio, needs_studio

from annotation.formats.registry import read_annotations
from annotation.label_studio.click_project import init_glances
from annotation.label_studio.click_pull import pull_glances
from annotation.label_studio.client import StudioClient
from annotation.label_studio.serving import Serving
from annotation.label_studio.suggest import SuggestSummary, suggest_glances
from annotation.resolve import resolve_glances
from annotation.stage import timeline_of_file
from annotation.video_index import VideoIndex
from flows.plan import run_step
from pipeline.config import BuildConfig, ProposalConfig
from pipeline.records import Glance, Video
from pipeline.sampler.curve import ScoreCurve
from pipeline.workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900), needs_studio]

FRAMES = 200
PEAKS = {"steady": (38, 0.99), "ntsc": (91, 0.9), "dropped": (137, 0.7), "wild": (163, 0.8)}
"""Where the scorer sees the only event of a film, and how highly it scores it."""

STANDS_STILL = "() => { const v = document.querySelector('video'); return v?.readyState >= 2 && !v.seeking; }"


class FixedScorer:
    """Scores one frame of every film."""

    theta = 0.5

    def __init__(self, version: str) -> None:
        self.version = version

    def curve(self, video: Video) -> ScoreCurve:
        frame, score = PEAKS[video.video_id.split("_")[0]]
        scores = np.zeros(FRAMES, np.float32)
        scores[frame] = score
        return ScoreCurve(scores, 1, FRAMES, video.fps)


@pytest.fixture(scope="module")
def films(studio: Studio) -> Path:
    """A film for each of `PEAKS`, below the folder that the server serves."""
    folder = studio.files / "scored"
    folder.mkdir()
    rng = random.Random(1)
    write_film(folder / "steady.mp4", list(range(FRAMES)), Fraction(1, 25), Fraction(25))
    write_film(folder / "ntsc.mp4", [1001 * n for n in range(FRAMES)], Fraction(1, 30000), Fraction(30000, 1001))
    write_film(folder / "dropped.mp4", _starts(rng, (3000, 3000, 6000, 9000)), Fraction(1, 90000), Fraction(30))
    write_film(folder / "wild.mp4", _starts(rng, range(1500, 9000)), Fraction(1, 90000), Fraction(30))
    return folder


def _starts(rng: random.Random, steps: Any) -> list[int]:
    starts = [0]
    for _ in range(FRAMES - 1):
        starts.append(starts[-1] + rng.choice(steps))
    return starts


@pytest.fixture
def client(studio: Studio) -> StudioClient:
    return StudioClient(studio.url, studio.token)


@pytest.fixture
def workspace(studio: Studio, films: Path, client: StudioClient, tmp_path: Path) -> Workspace:
    """A workspace whose videos are labelled Fighting, and its project."""
    opened = Workspace(str(tmp_path / "ws"))
    rows = "".join(f"{name},{films}/{name}.mp4,Fighting\n" for name in PEAKS)
    (tmp_path / "videos.csv").write_text(f"video_id,file,label\n{rows}")
    config = BuildConfig(videos=[str(tmp_path / "videos.csv")], workspace=opened.url)
    run_step("ingest", opened, config)
    init_glances(opened, client, Serving(document_root=studio.files), title=tmp_path.name)
    return opened


def suggest(workspace: Workspace, client: StudioClient, version: str = "first") -> SuggestSummary:
    rules = ProposalConfig(smooth_s=0, gap_s=0)
    return suggest_glances(workspace, client, FixedScorer(version), proposal=rules, min_s=0.001)


def test_predictions_are_replaced_by_those_of_a_new_sampler_and_never_pulled(
    workspace: Workspace, client: StudioClient
) -> None:
    first = suggest(workspace, client)
    assert (first.added, first.replaced, len(first.open_tasks)) == (4, 0, 4)
    again = suggest(workspace, client)
    assert (again.added, again.replaced) == (0, 0)
    later = suggest(workspace, client, "second")
    assert (later.added, later.replaced) == (4, 4)
    number = int(later.url.split("/")[-2])
    versions = [one.model_version for task in client.tasks(number, with_annotations=True) for one in task.predictions]
    assert versions == [later.model_version] * 4
    pulled = pull_glances(workspace, client)
    assert (pulled.tasks, pulled.clicks, pulled.faults) == (4, 0, [])


def test_the_server_serves_the_least_certain_task_first(
    workspace: Workspace, client: StudioClient, studio: Studio
) -> None:
    summary = suggest(workspace, client)
    assert [task.video_id for task in summary.open_tasks] == ["dropped", "wild", "ntsc", "steady"]
    number = int(summary.url.split("/")[-2])
    headers = {"Authorization": f"Token {studio.token}"}
    served = []
    for _ in PEAKS:
        answer = httpx.get(f"{studio.url}/api/projects/{number}/next", headers=headers).json()
        served.append(answer["data"]["video_id"])
        client.sdk.annotations.create(id=answer["id"], result=answer["predictions"][0]["result"])
    assert served == [task.video_id for task in summary.open_tasks]


@needs_browser
def test_the_front_end_shows_the_suggested_frame_and_an_unchanged_submission_confirms_it(
    workspace: Workspace, client: StudioClient, studio: Studio
) -> None:
    summary = suggest(workspace, client)
    number = int(summary.url.split("/")[-2])
    shown: dict[str, int] = {}
    with studio_page(studio, width=1280) as page:
        for task in summary.open_tasks:
            open_task(page, f"{studio.url}/projects/{number}/data?task={task.task}", STANDS_STILL)
            timeline = page.wait_for_selector(".lsf-timeline-frames__background")
            box = timeline.bounding_box()
            assert box["y"] + box["height"] <= page.viewport_size["height"], "the timeline is in view"
            page.click(".lsf-outliner-item")
            page.wait_for_function("() => document.querySelector('video').currentTime > 0")
            page.wait_for_function(STANDS_STILL)
            shown[task.video_id], _ = page.evaluate(DRAW_ON_CANVAS)
            submit(page)
    assert shown == {name: frame for name, (frame, _) in PEAKS.items()}
    pulled = pull_glances(workspace, client)
    assert "4 region(s) that a model suggested and an annotator submitted as they were" in pulled.notes
    found = read_annotations(pulled.path)
    index = VideoIndex(workspace.videos.records())
    resolved = resolve_glances(found.glances, index, lambda video: timeline_of_file(video.path))  # type: ignore[arg-type, return-value]
    assert {glance.video_id: glance.frame_index for glance in resolved if isinstance(glance, Glance)} == shown
    assert suggest(workspace, client, "second").left_alone == 4
