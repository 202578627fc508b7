"""The flow `review-pairs`, without a server: when it waits, when it builds, when it gives up."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.objects import State
from prefect.exceptions import Pause
from prefect.utilities.callables import parameter_schema

from annotation.label_studio.review_export import ReviewExport
from annotation.label_studio.review_project import ReviewProject
from annotation.label_studio.review_pull import PulledReviews
from flows import review_pairs as flow_module
from flows.plan import BuildSummary
from flows.review_pairs import pull_task, review_pairs, send_task
from pipeline.config import BuildConfig
from pipeline.errors import RecordError, SetupError, UnavailableError
from pipeline.records import Reason
from pipeline.review.reviewers import review_statistics
from pipeline.review.store import ReviewImport
from pipeline.stages.base import StageReport
from pipeline.workspace import Workspace

POLL_S = 60.0


@dataclass
class World:
    """What the flow finds, and what it does about it."""

    waiting: int = 0
    wants_second: int = 0
    fault: Exception | None = None
    begun_ago_h: float = 0.0
    left: list[tuple[datetime, str]] = field(default_factory=list)
    built: list[tuple[BuildConfig, str | None]] = field(default_factory=list)
    tables: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    sent: list[tuple[Any, ...]] = field(default_factory=list)

    def send(self, *arguments: Any) -> ReviewProject:
        self.sent.append(arguments)
        skipped = [("pair-9", RecordError(Reason.NOT_A_FILE, "lies outside"))]
        return ReviewProject(
            project_id=1, url="http://x", created=True, known=0, added=4, doubled=0, replaced=0, skipped=skipped
        )

    def pull(self, *_: Any) -> PulledReviews:
        if self.fault is not None:
            raise self.fault
        export = ReviewExport(tasks=4, waiting=self.waiting, wants_second=self.wants_second, skipped=1)
        export.leave_out("$[3]", "skipped")
        return PulledReviews(
            path="reviews.json",
            export=export,
            imported=ReviewImport(added=2, known=1),
            statistics=review_statistics([]),
        )

    def leave(self, _run: Any, at: datetime, message: str) -> None:
        self.left.append((at, message))
        raise Pause

    def build(self, config: BuildConfig, *, first: str | None = None) -> BuildSummary:
        self.built.append((config, first))
        stage = StageReport(stage="export", made=1, kept=0, dropped=0, rows=3, rejected={}, seconds=0.1)
        return BuildSummary(workspace=config.workspace, dataset=Path("d"), report=Path("r"), stages=(stage,))


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World()

    @contextmanager
    def no_progress(*_: object) -> Iterator[Callable[..., None]]:
        yield lambda *_: None

    def begun_at(_run: Any) -> datetime:
        return datetime.now(UTC) - timedelta(hours=world.begun_ago_h)

    monkeypatch.setattr(flow_module, "log_to_prefect", lambda: None)
    monkeypatch.setattr(flow_module, "get_run_logger", lambda: logging.getLogger("flows"))
    monkeypatch.setattr(flow_module, "shown_progress", no_progress)
    monkeypatch.setattr(
        flow_module, "create_table_artifact", lambda rows, key, description: world.tables.update({key: rows})
    )
    monkeypatch.setattr(flow_module, "current_run", lambda: SimpleNamespace(name="run"))
    monkeypatch.setattr(flow_module, "begun_at", begun_at)
    monkeypatch.setattr(flow_module, "leave_until", world.leave)
    monkeypatch.setattr(flow_module, "run_plan", world.build)
    monkeypatch.setattr(flow_module, "send_task", world.send)
    monkeypatch.setattr(flow_module, "pull_task", world.pull)
    monkeypatch.delenv("LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT", raising=False)
    return world


@pytest.fixture
def built(tmp_path: Path) -> str:
    """A workspace whose latest build is noted."""
    config = BuildConfig(videos=["a.mp4"], workspace=str(tmp_path / "ws"))
    noted = {"config": config.model_dump(mode="json"), "folder": str(tmp_path)}
    Workspace(config.workspace).write_json("run.json", noted)
    return config.workspace


def run(workspace: str, **parameters: Any) -> State[None]:
    return review_pairs.fn(workspace, document_root=Path("/srv"), poll_every_s=POLL_S, **parameters)


def test_once_the_reviews_are_in_it_builds_from_the_filter_on(world: World, built: str) -> None:
    state = run(built)
    assert (state.is_completed(), state.message) == (True, "4 task(s) are through; 3 rows in d")
    ((config, first),) = world.built
    assert (config.workspace, first) == (built, "filter")
    counts = {row["what"]: row["count"] for row in world.tables["review-pairs"]}
    assert (counts["tasks"], counts["decisions added"], counts["left out: skipped_annotation"]) == (4, 2, 1)


@pytest.mark.parametrize(
    ("waiting", "wants_second", "said"),
    [
        (3, 0, "of 4 task(s) 3 wait for a reviewer"),
        (0, 2, "of 4 task(s) 2 wait for a second reviewer"),
        (1, 2, "of 4 task(s) 1 wait for a reviewer and 2 wait for a second reviewer"),
    ],
)
def test_until_then_it_leaves_and_says_what_is_missing(
    world: World, built: str, waiting: int, wants_second: int, said: str
) -> None:
    world.waiting, world.wants_second = waiting, wants_second
    with pytest.raises(Pause):
        run(built)
    ((at, message),) = world.left
    assert message == said
    assert abs(at - datetime.now(UTC) - timedelta(seconds=POLL_S)) < timedelta(seconds=30)
    assert world.built == []


def test_the_last_look_is_at_the_deadline(world: World, built: str) -> None:
    world.waiting, world.begun_ago_h = 1, 2 - 10 / 3600
    with pytest.raises(Pause):
        run(built, deadline_h=2)
    assert world.left[0][0] - datetime.now(UTC) < timedelta(seconds=11)


def test_after_the_deadline_it_fails_by_name_and_builds_nothing(world: World, built: str) -> None:
    world.waiting, world.begun_ago_h = 1, 2.1
    state = run(built, deadline_h=2)
    assert (state.is_failed(), state.name) == (True, "TimedOut")
    assert state.message == "of 4 task(s) 1 wait for a reviewer: after 2 h; decisions so far are kept"
    assert (world.left, world.built) == ([], [])


def test_after_the_deadline_reviews_that_are_in_are_still_built(world: World, built: str) -> None:
    world.begun_ago_h = 99
    assert run(built, deadline_h=2).is_completed()


def test_a_server_that_is_away_is_waited_for_and_a_wrong_set_up_is_not(world: World, built: str) -> None:
    world.fault = UnavailableError("Label Studio is away")
    with pytest.raises(Pause):
        run(built)
    assert world.left[0][1] == "Label Studio is away"
    world.fault = SetupError("Label Studio refuses the token")
    state = run(built)
    assert (state.is_failed(), state.message) == (True, "Label Studio refuses the token")
    assert len(world.left) == 1


def test_a_workspace_in_use_is_waited_for(world: World, built: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def locked(*_: Any, **__: Any) -> None:
        with Workspace(built).locked(), Workspace(built).locked():
            pytest.fail("two at once")

    monkeypatch.setattr(flow_module, "run_plan", locked)
    with pytest.raises(Pause):
        run(built)
    assert "in use by another build" in world.left[0][1]


def test_the_root_of_local_files_comes_from_the_environment_unless_named(
    world: World, built: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = review_pairs.fn(built)
    assert told.is_failed()
    assert "document root" in str(told.message)
    monkeypatch.setenv("LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT", "/srv/files")
    review_pairs.fn(built, sample=10, double=5, seed=3)
    review_pairs.fn(built, url_prefix="https://cdn/x", video_root=Path("/srv"))
    (_, local, selection, double, _), (_, remote, *_) = world.sent
    assert (local.document_root, remote.document_root) == (Path("/srv/files"), None)
    assert (selection.sample_percent, selection.seed, double) == (10, 3, 5)


def test_without_a_build_there_is_nothing_to_review(world: World, tmp_path: Path) -> None:
    state = run(str(tmp_path / "none"))
    assert state.is_failed()
    assert "no run.json of a build in it" in str(state.message)
    assert world.sent == []


def test_limits_of_the_parameters_are_in_their_schema() -> None:
    properties = parameter_schema(review_pairs).model_dump()["properties"]
    assert properties["poll_every_s"]["minimum"] == 10
    assert properties["sample"]["exclusiveMinimum"] == 0
    assert (properties["sample"]["maximum"], properties["double"]["minimum"]) == (100, 0)


def test_prefect_stores_no_results() -> None:
    for task in (send_task, pull_task):
        assert task.cache_policy is NO_CACHE
        assert task.persist_result is False
