"""The way of an answer through a real Label Studio server: project, review as the front end saves it, pull, build."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from moving_square import write_video
from studio_browser import needs_browser, open_task, studio_page, submit
from studio_server import Studio, needs_studio

from annotation.label_studio.click_project import init_glances
from annotation.label_studio.client import ONE_TRY, StudioClient
from annotation.label_studio.review_project import open_reviews
from annotation.label_studio.review_pull import import_review_files, pull_reviews
from annotation.label_studio.serving import Serving
from flows.plan import build
from pipeline.config import BuildConfig, parse_config
from pipeline.dataset.layout import read_rows
from pipeline.dataset.validate import validate_dataset
from pipeline.errors import SetupError
from pipeline.records import NORMAL
from pipeline.review.store import stored_reviews
from pipeline.workspace import Workspace

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900), needs_studio]
EDITED = "Yes, two persons have looked at this at length and agreed."
FIELD_HOLDS = "text => document.querySelector('textarea[name=edited_answer]')?.value === text"


@pytest.fixture
def built(studio: Studio, request: pytest.FixtureRequest, tmp_path: Path) -> BuildConfig:
    """A built dataset of four videos, two with a click, below the folder that the server serves."""
    lines = ["video_id,file,label"]
    for number, label in enumerate(("Fighting", NORMAL, "Explosion", NORMAL)):
        write_video(tmp_path / f"{number}.mp4", speed=number)
        lines.append(f"cam_{number},{number}.mp4,{label}")
    (tmp_path / "videos.csv").write_text("\n".join(lines))
    (tmp_path / "glances.csv").write_text("video-id,glance\ncam_0,10\ncam_2,30\n")
    config = parse_config(
        {
            "videos": [str(tmp_path / "videos.csv")],
            "glances": [str(tmp_path / "glances.csv")],
            "workspace": str(studio.files / request.node.name),
            "clips": {"window_s": 3.0},
            "video": {"workers": 1},
        }
    )
    build(config)
    return config


def save(client: StudioClient, task: Any, decision: str, text: str | None = None, **kwargs: Any) -> None:
    """Save a review as the front end saves it: the text of the field goes along, whether it was changed or not."""
    common = {"to_name": "clip", "origin": "manual"}
    choice = {"value": {"choices": [decision]}, "from_name": "decision", "type": "choices"}
    field = {"value": {"text": [text or task.data["answer"]]}, "from_name": "edited_answer", "type": "textarea"}
    stars = {"value": {"rating": 4}, "from_name": "rating", "type": "rating"}
    result = [common | region for region in (choice, field, stars)]
    client.sdk.annotations.create(id=task.id, result=result, lead_time=3.5, request_options=ONE_TRY, **kwargs)


def test_reviews_come_back_into_the_dataset(studio: Studio, built: BuildConfig, tmp_path: Path) -> None:
    client = StudioClient(studio.url, studio.token)
    space = Workspace(built.workspace)
    serving = Serving(document_root=studio.files)
    made = open_reviews(space, client, serving, double_percent=30)
    assert made.created
    assert made.doubled >= 1
    again = open_reviews(space, client, serving, double_percent=30)
    assert (again.project_id, again.added, again.known, again.doubled) == (
        made.project_id, 0, made.added, made.doubled,
    )  # fmt: skip
    tasks = list(client.tasks(made.project_id))
    assert sum(task.overlap == 2 for task in tasks) == made.doubled

    answers = {task.data["pair_id"]: task.data["answer"] for task in tasks}
    by_video = {name: [task for task in tasks if task.data["video_id"] == name] for name in ("cam_0", "cam_1", "cam_2")}
    accept, edit, reject, skip = by_video["cam_1"][0], *by_video["cam_0"], by_video["cam_2"][0]
    save(client, accept, "accept")
    save(client, edit, "accept", EDITED)
    save(client, reject, "reject")
    save(client, skip, "accept", was_cancelled=True)
    pulled = pull_reviews(space, client)
    assert (pulled.imported.added, len(pulled.imported.faults), pulled.waiting) == (3, 0, len(tasks) - 4)
    assert (len(pulled.export.corrected), len(pulled.export.left_out), pulled.export.skipped) == (1, 1, 1)
    assert pull_reviews(space, client).imported.known == 3
    for form in ("JSON", "JSON_MIN", "CSV", "TSV"):
        path = tmp_path / f"reviews.{'json' if form.startswith('JSON') else form.lower()}"
        path.write_bytes(client.export(made.project_id, form))
        done = import_review_files(space, [path])
        assert (done.imported.added, done.imported.known, done.imported.faults) == (0, 3, ()), form
    [reviewer] = pulled.statistics.reviewers
    assert (reviewer.decided, reviewer.mean_rating, reviewer.median_lead_time_s) == (3, 4.0, 3.5)

    build(built)
    rows = {row["id"]: row for row in read_rows(space.dataset_folder)}
    assert reject.data["pair_id"] not in rows
    row = rows[edit.data["pair_id"]]
    assert (row["answer"], row["verdict"], row["reviewer"]) == (EDITED, "edit", reviewer.name)
    assert row["original_answer"] == answers[row["id"]]
    assert rows[accept.data["pair_id"]]["reviewer"] == reviewer.name
    assert rows[accept.data["pair_id"]]["reviewed_at"]
    assert validate_dataset(Path(built.workspace)) == []

    open_task = next(task for task in tasks if task.id not in {accept.id, edit.id, reject.id, skip.id})
    assert client.withdraw_task(accept.id) is False
    assert client.withdraw_task(open_task.id) is True
    assert open_reviews(space, client, serving).added == 1
    with pytest.raises(SetupError, match="not a project for clicks"):
        init_glances(space, client, serving, project_id=made.project_id)
    assert len(list(stored_reviews(space))) == 3


@needs_browser
def test_what_reviewers_do_in_the_front_end_is_what_arrives(studio: Studio, built: BuildConfig) -> None:
    client, space = StudioClient(studio.url, studio.token), Workspace(built.workspace)
    made = open_reviews(space, client, Serving(document_root=studio.files))
    tasks = dict(zip(("accept", "edit", "reject"), client.tasks(made.project_id), strict=False))
    with studio_page(studio) as page:
        for stars, (decision, task) in enumerate(tasks.items(), 2):
            open_task(
                page, f"{studio.url}/projects/{made.project_id}/data?task={task.id}", FIELD_HOLDS, task.data["answer"]
            )
            if decision == "edit":
                page.fill("textarea[name=edited_answer]", EDITED)
            page.check(f"input[name={decision}]")
            if decision == "reject":
                page.check('input[name="wrong verdict"]')
                page.fill("textarea[name=comment]", "Nobody strikes anybody.")
            page.click(f".ant-rate-star:nth-child({stars})")
            submit(page)
    pulled = pull_reviews(space, client)
    assert (pulled.imported.added, pulled.export.corrected, pulled.export.left_out) == (3, [], [])
    stored = {review.pair_id: review for _, review in stored_reviews(space)}
    found = [stored[task.data["pair_id"]] for task in tasks.values()]
    assert [review.decision for review in found] == ["accept", "edit", "reject"]
    assert [review.edited_answer for review in found] == [None, EDITED, None]
    assert [review.rating for review in found] == [2, 3, 4]
    assert found[2].reason == "wrong verdict: Nobody strikes anybody."

    build(built)
    rows = {row["id"]: row for row in read_rows(space.dataset_folder)}
    verdicts = [rows[task.data["pair_id"]]["verdict"] for task in (tasks["accept"], tasks["edit"])]
    assert verdicts == ["accept", "edit"]
    assert rows[tasks["edit"].data["pair_id"]]["answer"] == EDITED
    assert tasks["reject"].data["pair_id"] not in rows
