"""Make a Label Studio project for clicks out of the videos of a workspace, and add what came new.

A task is known by its `video_id`. Running again lists the tasks that are there and adds only the videos without one, so
that an interrupted run, or an import whose answer was lost, is mended by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from annotation.formats.foreign import IGNORE
from annotation.label_studio.click_interface import (
    INSTRUCTION,
    RATE_KEY,
    glance_classes,
    glance_config,
    read_interface,
)
from annotation.label_studio.client import StudioClient
from annotation.label_studio.kinds import ProjectKind, find_or_create
from annotation.label_studio.rate import player_rate
from annotation.label_studio.serving import Serving
from annotation.stage import read_timelines
from pipeline.config import VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.records import Video
from pipeline.taxonomy import AUTO
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

GLANCES = ProjectKind(
    noun="glances",
    note="labelstudio/glance_project.json",
    command="init-glance",
    description="One click on one frame inside every abnormal event.",
    instruction=INSTRUCTION,
)

Skipped = tuple[str, RecordError]
"""The id of a video without a task, and why it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectSummary:
    """What `init_glances` did: the project, and how many of its videos had a task, got one, or got none."""

    project_id: int
    url: str
    created: bool
    known: int
    added: int
    skipped: list[Skipped] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the line that a person reads."""
        made = "created" if self.created else "found"
        counts = f"{self.added} task(s) added, {self.known} there before, {len(self.skipped)} video(s) left out"
        return f"project {self.project_id} {made}: {counts}\n{self.url}"


def init_glances(
    workspace: Workspace,
    client: StudioClient,
    serving: Serving,
    *,
    project_id: int | None = None,
    title: str | None = None,
    taxonomy: str = AUTO,
    reading: VideoConfig | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ProjectSummary:
    """Create the project for a workspace's videos, or add the new ones to the project that is there.

    Args:
        workspace: a workspace whose videos are ingested.
        client: the server.
        serving: how the browser gets the videos.
        project_id: a project to add to; by default the workspace's own, made when there is none.
        title: title of a new project.
        taxonomy: which classes to offer, as `glance_classes` takes it.
        reading: workers and limits for reading the videos' timestamps.
        on_progress: called with the videos looked at and their number.

    Raises:
        SetupError: no videos, a project of another kind, or one whose interface takes no frame rate from its tasks.
        UnavailableError: as `StudioClient.explained`.
    """
    videos = sorted(workspace.videos.records(), key=lambda video: video.video_id)
    if not videos:
        raise SetupError(f"{workspace.url}: no ingested videos: a build, even one without clicks, ingests them")
    classes = glance_classes((video.label for video in videos if video.label), taxonomy)
    project, created = find_or_create(
        workspace, client, GLANCES, glance_config(classes), project_id=project_id, title=title
    )
    _check_interface(project, classes, f"project {project.id} of Label Studio at {client.url}")
    known = {str((task.data or {}).get("video_id")) for task in client.tasks(project.id)}
    new = [video for video in videos if video.video_id not in known]
    tasks: list[dict[str, Any]] = []
    served: list[str] = []
    skipped: list[Skipped] = []
    for done, (video, outcome) in enumerate(_make_tasks(new, serving, reading or VideoConfig()), start=1):
        if isinstance(outcome, RecordError):
            skipped.append((video.video_id, outcome))
        else:
            tasks.append(outcome)
            served.append(video.path)
        on_progress(done, len(new))
    serving.open_folders(client, project.id, served)
    client.add_tasks(project.id, tasks)
    return ProjectSummary(
        project_id=project.id,
        url=f"{client.url}/projects/{project.id}/data",
        created=created,
        known=len(videos) - len(new),
        added=len(tasks),
        skipped=skipped,
    )


def _check_interface(project: Any, classes: Iterable[str], where: str) -> None:
    interface = read_interface(project.label_config, where)
    if interface.rate != f"${RATE_KEY}":
        said = f'its Video has frameRate="{interface.rate}"' if interface.rate else "its Video names no frameRate"
        raise SetupError(f'{where}: {said}; clicks would be shifted: it has to be frameRate="${RATE_KEY}"')
    lacking = [name for name in [*classes, IGNORE] if name not in interface.labels]
    if lacking:
        logger.warning("%s: its interface has no label %s; add what annotators need", where, ", ".join(lacking))


def _make_tasks(
    videos: Sequence[Video], serving: Serving, reading: VideoConfig
) -> Iterator[tuple[Video, dict[str, Any] | RecordError]]:
    """Yield each video with its task; the rate comes from the file's own timestamps."""
    for video, timeline in zip(videos, read_timelines((video.path for video in videos), reading), strict=True):
        try:
            if isinstance(timeline, RecordError):
                raise timeline
            rate = player_rate(timeline)
            data = {"video": serving.address_of(video.path), "video_id": video.video_id, RATE_KEY: f"{rate:.12g}"}
        except RecordError as fault:
            yield video, fault
        else:
            yield video, {"data": data}
