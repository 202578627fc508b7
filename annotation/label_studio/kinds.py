"""The two kinds of project that a workspace can have on a server, and where it is noted which they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from annotation.label_studio.client import ONE_TRY, StudioClient
from pipeline.errors import SetupError
from pipeline.records import digest
from pipeline.workspace import Workspace

MAX_TITLE_CHARS = 50
"""Longest title of a project that Label Studio takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectKind:
    """What a project is for.

    Attributes:
        noun: what people make in it, as its title says.
        note: file of a workspace that tells which project of which server holds its tasks; no token is in it.
        command: what makes one.
        description: what the list of projects says of it.
        instruction: what annotators read before they begin.
    """

    noun: str
    note: str
    command: str
    description: str
    instruction: str


def noted_project(workspace: Workspace, client: StudioClient, kind: ProjectKind) -> int | None:
    """Return the project that holds this workspace's tasks on this server, None where none was made.

    Raises:
        SetupError: the note of it is of another server.
    """
    noted = workspace.read_json(kind.note)
    if not isinstance(noted, dict) or not isinstance(noted.get("project"), int):
        return None
    if noted.get("url") != client.url:
        name = workspace.storage.path(kind.note)
        raise SetupError(f"{name}: the project is on {noted.get('url')}, not on {client.url}: name a project")
    return int(noted["project"])


def chosen_project(workspace: Workspace, client: StudioClient, kind: ProjectKind, project_id: int | None) -> int:
    """Return the project that was named, else the one that was made for the workspace.

    Raises:
        SetupError: there is neither.
    """
    number = project_id if project_id is not None else noted_project(workspace, client, kind)
    if number is None:
        raise SetupError(f"{workspace.url}: no project was made for it on {client.url}: run {kind.command} or name one")
    return number


def find_or_create(
    workspace: Workspace,
    client: StudioClient,
    kind: ProjectKind,
    label_config: str,
    *,
    project_id: int | None = None,
    title: str | None = None,
) -> tuple[Any, bool]:
    """Return a workspace's project, and whether it was made just now.

    Raises:
        SetupError: no such project, or a title longer than `MAX_TITLE_CHARS`; otherwise as `StudioClient.explained`.
    """
    if title is not None and len(title) > MAX_TITLE_CHARS:
        raise SetupError(f"title={title!r} has {len(title)} characters; Label Studio takes up to {MAX_TITLE_CHARS}")
    number = project_id if project_id is not None else noted_project(workspace, client, kind)
    if number is not None:
        return client.project(number), False
    title = title or _title(kind, workspace)
    # a run that ended between creating the project and noting it left one with this mark
    mark = f"holmes {kind.noun} {digest(workspace.storage.root)[:16]}"
    found = [project for project in client.projects_titled(title) if mark in (project.description or "")]
    if found:
        project, created = client.project(found[0].id), False
    else:
        with client.explained("create a project"):
            project = client.sdk.projects.create(
                title=title,
                description=f"{kind.description} {mark}",
                expert_instruction=kind.instruction,
                show_instruction=True,
                label_config=label_config,
                # Label Studio asks one person a task unless told otherwise; overlap is the user's choice
                maximum_annotations=1,
                request_options=ONE_TRY,
            )
        created = True
    workspace.write_json(kind.note, {"url": client.url, "project": project.id})
    return project, created


def _title(kind: ProjectKind, workspace: Workspace) -> str:
    """Name a project after its workspace, the end of whose name tells more where it is too long."""
    title = f"{kind.noun.capitalize()}: {workspace.name}"
    if len(title) <= MAX_TITLE_CHARS:
        return title
    opening = f"{kind.noun.capitalize()}: ..."
    return opening + workspace.name[len(opening) - MAX_TITLE_CHARS :].lstrip()
