"""Make a Label Studio project for reviews out of the pairs of a workspace, and add what came new.

A task is known by its pair and the hash of the answer that it shows, so that running again adds only what is not there
and mends an interrupted run. What people have worked on is never touched. The task of an answer that was made anew
since is taken away if nobody has, since a review of it would not count, and the new answer gets a task of its own.

Double review is the task's own `overlap`: the server hands such a task to a second person before it is done. Imports
take the overlap of the project, 1, so that it is set task by task afterwards; `reviews_wanted` in the task's data says
how many were meant.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from annotation.label_studio.client import StudioClient
from annotation.label_studio.kinds import ProjectKind, find_or_create
from annotation.label_studio.review_export import WANTED
from annotation.label_studio.review_interface import CLIP, INSTRUCTION, check_review_interface, review_config
from annotation.label_studio.serving import Serving
from pipeline.errors import ConfigError, RecordError
from pipeline.records import ReviewItem
from pipeline.review.items import ReviewItems, Selection, draw_sample, pairs_to_review
from pipeline.workspace import Workspace

REVIEWS = ProjectKind(
    noun="reviews",
    note="labelstudio/review_project.json",
    command="init-review",
    description="Accept, edit or reject answers about clips.",
    instruction=INSTRUCTION,
)

_SHOWN = ("pair_id", "clip_id", "video_id", "label", "task", "caption", "question", "answer", "answer_hash")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReviewProject:
    """What `open_reviews` did.

    Attributes:
        project_id: number of the project.
        url: where people open it.
        created: whether it was made just now.
        known: selected pairs whose answer of today has a task already.
        added: tasks added.
        doubled: tasks for which two people are asked, new and old.
        replaced: tasks taken away that nobody had worked on and whose answer was made anew.
        outdated: pairs whose older answer somebody has worked on; its task stays.
        gone: pairs with a task that the workspace no longer has; their tasks stay.
        skipped: pairs without a task, and why.
    """

    project_id: int
    url: str
    created: bool
    known: int
    added: int
    doubled: int
    replaced: int
    outdated: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)
    skipped: list[tuple[str, RecordError]] = field(default_factory=list)

    def __str__(self) -> str:
        """Return the lines that a person reads."""
        made = "created" if self.created else "found"
        lines = [
            f"project {self.project_id} {made}: {self.added} task(s) added, {self.known} there before, "
            f"{self.doubled} for two people, {len(self.skipped)} pair(s) left out"
        ]
        if self.replaced:
            lines.append(f"  note: {self.replaced} task(s) of answers that were made anew since: taken away")
        if self.outdated:
            lines.append(f"  note: {len(self.outdated)} task(s) worked on show an older answer: they stay")
        if self.gone:
            lines.append(f"  note: {len(self.gone)} task(s) are of pairs that this workspace has no more: they stay")
        return "\n".join([*lines, self.url])


def open_reviews(
    workspace: Workspace,
    client: StudioClient,
    serving: Serving,
    *,
    selection: Selection = Selection(),  # noqa: B008  (frozen)
    double_percent: float = 0.0,
    project_id: int | None = None,
    title: str | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> ReviewProject:
    """Create the project for reviews of a workspace's pairs, or add the new ones to the project that is there.

    Args:
        workspace: a workspace with pairs.
        client: the server.
        serving: how the browser gets the clips, or the source videos where clips are references.
        selection: which pairs, as for `holmes review export`.
        double_percent: share in [0, 100] of the selected pairs for two people, drawn by the selection's seed. A task
            that is there keeps what it was made with.
        project_id: a project to add to; by default the workspace's own, made when there is none.
        title: title of a new project.
        on_progress: called with the pairs looked at and their number.

    Raises:
        ConfigError: a share outside its range.
        DataError: nothing to review.
        SetupError: a project of another kind.
        UnavailableError: as `StudioClient.explained`.
    """
    if not 0 <= double_percent <= 100:
        raise ConfigError(f"double={double_percent}: a share in [0, 100] percent is expected")
    pair_ids = pairs_to_review(workspace, selection)
    items = ReviewItems(workspace)
    project, created = find_or_create(workspace, client, REVIEWS, review_config(), project_id=project_id, title=title)
    check_review_interface(project.label_config, f"project {project.id} of Label Studio at {client.url}")
    present = _look_over(client, list(client.tasks(project.id)), items)
    doubled = draw_sample(pair_ids, double_percent, "double review", selection.seed)
    tasks: list[dict[str, Any]] = []
    paths: list[str] = []
    skipped: list[tuple[str, RecordError]] = []
    known = 0
    for done, item in enumerate(filter(None, map(items.get, pair_ids)), start=1):
        if (item.pair_id, item.answer_hash) in present.keys:
            known += 1
        else:
            try:
                tasks.append(_task(workspace, item, serving, 2 if item.pair_id in doubled else 1))
                paths.append(item.clip_path)
            except RecordError as fault:
                skipped.append((item.pair_id, fault))
        on_progress(done, len(pair_ids))
    serving.open_folders(client, project.id, paths)
    client.add_tasks(project.id, tasks)
    return ReviewProject(
        project_id=project.id,
        url=f"{client.url}/projects/{project.id}/data",
        created=created,
        known=known,
        added=len(tasks),
        doubled=_ask_of_two(client, client.tasks(project.id)),
        replaced=present.replaced,
        outdated=present.outdated,
        gone=present.gone,
        skipped=skipped,
    )


@dataclass(slots=True)
class _Present:
    """The tasks of a project: their pairs and answers, and what is no longer true of them."""

    keys: set[tuple[str, str]] = field(default_factory=set)
    replaced: int = 0
    outdated: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)


def _look_over(client: StudioClient, tasks: Iterable[Any], items: ReviewItems) -> _Present:
    present = _Present()
    for task in tasks:
        data = task.data or {}
        pair_id, shown = str(data.get("pair_id")), str(data.get("answer_hash"))
        item = items.get(pair_id)
        if item is None:
            present.gone.append(pair_id)
        elif item.answer_hash == shown:
            present.keys.add((pair_id, shown))
        elif client.withdraw_task(task.id):
            present.replaced += 1
        else:
            present.outdated.append(pair_id)
    return present


def _task(workspace: Workspace, item: ReviewItem, serving: Serving, people: int) -> dict[str, Any]:
    address = serving.address_of(item.clip_path)
    is_own_file = item.clip_path == workspace.storage.path(workspace.clip_file(item.clip_id))
    # the player of a browser starts and stops by such a fragment; an address in a bucket would take it for a name
    if not is_own_file and address.startswith(("/", "http://", "https://")):
        address += f"#t={item.start_s:.3f},{item.end_s:.3f}"
    data: dict[str, Any] = {name: getattr(item, name) for name in _SHOWN}
    span = f"{item.start_s:.1f} s to {item.end_s:.1f} s"
    return {"data": data | {"conflict": item.conflict or "", CLIP: address, "span": span, WANTED: people}}


def _ask_of_two(client: StudioClient, tasks: Iterable[Any]) -> int:
    """Give every task that two people should see the overlap for it; return how many such tasks there are."""
    doubled = [task for task in tasks if (task.data or {}).get(WANTED) == 2]
    for task in doubled:
        if (task.overlap or 1) < 2:
            client.ask_of_several(task.id, 2)
    return len(doubled)
