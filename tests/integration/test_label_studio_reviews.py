"""The way of an answer through a real Label Studio server: project, review as the front end saves it, pull, build."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from studio_server import COMMAND, Studio, running_studio

from annotation.studio_client import ONE_TRY, StudioClient
from annotation.studio_project import init_glances
from annotation.studio_review import open_reviews
from annotation.studio_review_pull import import_review_files, pull_reviews
from annotation.studio_serving import Serving
from flows.plan import build
from pipeline.config import BuildConfig, parse_config
from pipeline.errors import SetupError
from pipeline.records import NORMAL
from pipeline.stages.dataset import read_rows
from pipeline.stages.reviews import stored_reviews
from pipeline.stages.validate import validate_dataset
from pipeline.workspace import Workspace

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(900),
    pytest.mark.skipif(not COMMAND.exists(), reason=f"no Label Studio at {COMMAND}: make label-studio installs it"),
]
EDITED = "Yes, two persons have looked at this at length and agreed."


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    with running_studio(tmp_path_factory.mktemp("studio")) as server:
        yield server


@pytest.fixture
def built(studio: Studio, tmp_path: Path, film: Callable[[str], Path]) -> BuildConfig:
    lines = ["video_id,file,label"]
    for number, label in enumerate(("Fighting", NORMAL, "Explosion", NORMAL)):
        shutil.copy(film("h264.mp4"), tmp_path / f"{number}.mp4")
        lines.append(f"cam_{number},{number}.mp4,{label}")
    (tmp_path / "videos.csv").write_text("\n".join(lines))
    (tmp_path / "glances.csv").write_text("video-id,glance\ncam_0,10\ncam_2,30\n")
    config = parse_config(
        {
            "videos": [str(tmp_path / "videos.csv")],
            "glances": [str(tmp_path / "glances.csv")],
            "workspace": str(studio.files / "site"),
            "clips": {"window_s": 3.0},
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
    of_one = [task for task in tasks if task.data["video_id"] == "cam_0"]
    accept = next(task for task in tasks if task.data["video_id"] == "cam_1")
    edit, reject = of_one[:2]
    save(client, accept, "accept")
    save(client, edit, "accept", EDITED)
    save(client, reject, "reject")
    save(client, of_one[2], "accept", was_cancelled=True)
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

    open_task = next(task for task in tasks if task.id not in {accept.id, edit.id, reject.id, of_one[2].id})
    assert client.withdraw_task(accept.id) is False
    assert client.withdraw_task(open_task.id) is True
    assert open_reviews(space, client, serving).added == 1
    with pytest.raises(SetupError, match="not a project for clicks"):
        init_glances(space, client, serving, project_id=made.project_id)
    assert len(list(stored_reviews(space))) == 3
