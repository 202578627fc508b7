"""Make a Label Studio project for clicks out of the videos of a workspace, and add what came new.

A task is known by its `video_id`. Running again lists the tasks that are there and adds only the videos without one, so
that an interrupted run, or an import whose answer was lost, is mended by the next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from annotation.foreign import IGNORE
from annotation.stage import timeline_of_file
from annotation.studio_client import ONE_TRY, StudioClient
from annotation.studio_interface import (
    INSTRUCTION,
    RATE_KEY,
    glance_classes,
    glance_config,
    read_interface,
)
from annotation.studio_rate import player_rate
from annotation.video_index import stem
from pipeline.config import VideoConfig
from pipeline.errors import RecordError, SetupError
from pipeline.records import Reason, Video, digest
from pipeline.taxonomy import AUTO
from pipeline.workspace import Workspace

logger = logging.getLogger(__name__)

PROJECT_FILE = "labelstudio/glance_project.json"
"""Where a workspace keeps which project of which server holds its tasks; no token is in it."""

Skipped = tuple[str, RecordError]
"""The id of a video without a task, and why it has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Serving:
    """How the browser gets the videos: as local files of the server, or from an address.

    Args:
        document_root: the folder that the server serves, LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT there.
        url_prefix: address that stands for `video_root`, http(s):// or that of a bucket such as s3://bucket/videos.
        video_root: the folder whose inner paths follow `url_prefix`.

    Raises:
        SetupError: neither or both ways are given.
    """

    document_root: Path | None = None
    url_prefix: str | None = None
    video_root: Path | None = None

    def __post_init__(self) -> None:
        if (self.document_root is None) == (self.url_prefix is None):
            raise SetupError("videos are served either as local files (document root) or from a URL prefix: name one")
        if (self.url_prefix is None) != (self.video_root is None):
            raise SetupError("a URL prefix and the folder of videos that it stands for belong together: name both")

    def address_of(self, video: Video) -> str:
        """Return what a task's data says of where the video is. A video at a URL keeps it.

        Raises:
            RecordError: NOT_A_FILE, the video lies outside the folder that is served.
        """
        if "://" in video.path:
            return video.path
        if self.document_root is not None:
            return f"/data/local-files/?d={quote(_inside(video, self.document_root))}"
        return f"{str(self.url_prefix).rstrip('/')}/{quote(_inside(video, Path(self.video_root or '')))}"


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
    project, created = _find_or_create(workspace, client, project_id, title, classes)
    _check_interface(project, classes, f"project {project.id} of Label Studio at {client.url}")
    known = {str((task.data or {}).get("video_id")) for task in client.tasks(project.id)}
    new = [video for video in videos if video.video_id not in known]
    tasks: list[dict[str, Any]] = []
    skipped: list[Skipped] = []
    for done, (video, outcome) in enumerate(_make_tasks(new, serving, reading or VideoConfig()), start=1):
        if isinstance(outcome, RecordError):
            skipped.append((video.video_id, outcome))
        else:
            tasks.append(outcome)
        on_progress(done, len(new))
    if serving.document_root is not None and tasks:
        _open_folders(client, project.id, serving.document_root, (v for v in new if "://" not in v.path))
    client.add_tasks(project.id, tasks)
    return ProjectSummary(
        project_id=project.id,
        url=f"{client.url}/projects/{project.id}/data",
        created=created,
        known=len(videos) - len(new),
        added=len(tasks),
        skipped=skipped,
    )


def glance_project(workspace: Workspace, client: StudioClient) -> int | None:
    """Return the project that holds this workspace's tasks on this server, None where none was made.

    Raises:
        SetupError: the note of it is of another server.
    """
    noted = workspace.read_json(PROJECT_FILE)
    if not isinstance(noted, dict) or not isinstance(noted.get("project"), int):
        return None
    if noted.get("url") != client.url:
        name = workspace.storage.path(PROJECT_FILE)
        raise SetupError(f"{name}: the project is on {noted.get('url')}, not on {client.url}: name a project")
    return int(noted["project"])


def existing_project(workspace: Workspace, client: StudioClient, project_id: int | None) -> int:
    """Return the project that is named, or else the one that was made for a workspace.

    Raises:
        SetupError: there is none, or it is on another server.
    """
    number = project_id if project_id is not None else glance_project(workspace, client)
    if number is None:
        raise SetupError(f"{workspace.url}: no project was made for it on {client.url}: run init-glance or name one")
    return number


def _find_or_create(
    workspace: Workspace, client: StudioClient, project_id: int | None, title: str | None, classes: Sequence[str]
) -> tuple[Any, bool]:
    number = project_id if project_id is not None else glance_project(workspace, client)
    if number is not None:
        return client.project(number), False
    title = title or f"Glances: {workspace.name}"
    # a run that ended between creating the project and noting it left one with this mark
    mark = f"holmes glances {digest(workspace.storage.root)[:16]}"
    found = [project for project in client.projects_titled(title) if mark in (project.description or "")]
    if found:
        project, created = client.project(found[0].id), False
    else:
        with client.explained("create a project"):
            project = client.sdk.projects.create(
                title=title,
                description=f"One click on one frame inside every abnormal event. {mark}",
                expert_instruction=INSTRUCTION,
                show_instruction=True,
                label_config=glance_config(classes),
                # Label Studio asks one person a task unless told otherwise; overlap is the user's choice
                maximum_annotations=1,
                request_options=ONE_TRY,
            )
        created = True
    workspace.write_json(PROJECT_FILE, {"url": client.url, "project": project.id})
    return project, created


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
    """Yield each video with its task; the rate comes from the file's own timestamps, read in worker processes."""
    from pipeline.video.pool import VideoPool

    with VideoPool(reading.workers, reading.timeout_s, reading.memory_mb) as pool:
        timelines = pool.map(timeline_of_file, (video.path for video in videos))
        for video, timeline in zip(videos, timelines, strict=True):
            if isinstance(timeline, RecordError) or timeline is None:
                yield video, timeline or RecordError(Reason.DECODE_FAILED, "no timestamps")
                continue
            try:
                rate = player_rate(timeline)
                data = {"video": serving.address_of(video), "video_id": video.video_id, RATE_KEY: f"{rate:.12g}"}
            except RecordError as fault:
                yield video, fault
                continue
            yield video, {"data": data}


def _open_folders(client: StudioClient, project_id: int, root: Path, videos: Iterable[Video]) -> None:
    """Connect the folders of the videos as local storage, without which the server hands out no file of them."""
    root = root.resolve()
    tops = {Path(_inside(video, root)).parts[0] for video in videos}
    with client.explained("list the local storages"):
        present = {storage.path for storage in client.sdk.import_storage.local.list(project=project_id)}
    for top in sorted(tops):
        path = str(root / top)
        if (root / top).is_file():
            raise SetupError(
                f"{path}: Label Studio serves no file that lies in its document root itself: use a subfolder"
            )
        if path not in present:
            with client.explained(f"connect {path} as local storage"):
                client.sdk.import_storage.local.create(
                    project=project_id,
                    path=path,
                    title=f"videos in {stem(top)}",
                    use_blob_urls=True,
                    request_options=ONE_TRY,
                )


def _inside(video: Video, root: Path) -> str:
    """Return the path of a video inside a folder, with forward slashes."""
    for path, folder in ((Path(video.path).absolute(), root.absolute()), (Path(video.path).resolve(), root.resolve())):
        if path.is_relative_to(folder):
            return path.relative_to(folder).as_posix()
    raise RecordError(Reason.NOT_A_FILE, f"{video.path} lies outside the folder that is served, {root}")
