"""Bring reviews from a Label Studio project into the workspace, where the next build applies them.

The server's own JSON export is kept beside them as it came. Every decision is checked against the answer that the pair
has today and stored once, however often it is pulled. A decision stays after its annotation is deleted on the server,
and is named: to take one back, decide anew there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from annotation.label_studio.click_pull import fetch_tasks, store_export
from annotation.label_studio.client import StudioClient
from annotation.label_studio.kinds import chosen_project
from annotation.label_studio.review_export import ReviewExport, is_studio_export, read_review_export
from annotation.label_studio.review_gone import decisions_before, note_gone
from annotation.label_studio.review_interface import check_review_interface
from annotation.label_studio.review_project import REVIEWS
from annotation.source import show
from pipeline.errors import DataError, RecordError
from pipeline.records import Reason
from pipeline.review.items import ReviewItems
from pipeline.review.reviewers import ReviewStatistics, review_statistics
from pipeline.review.store import ReviewImport, keep_reviews, rows_of_files, stored_reviews
from pipeline.workspace import Workspace

EXPORT_FILE = "labelstudio/reviews.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class PulledReviews:
    """What came from a project or from files.

    Attributes:
        path: where it was read.
        export: what it says, with what was corrected and left out.
        imported: what was stored of it.
        statistics: of all reviews that the workspace holds now.
        gone: numbers of tasks that were deleted while they were fetched.
        deleted: decisions that an earlier pull brought and that the server has no more, a line each.
    """

    path: str
    export: ReviewExport
    imported: ReviewImport
    statistics: ReviewStatistics
    gone: tuple[int, ...] = ()
    deleted: tuple[str, ...] = ()

    @property
    def waiting(self) -> int:
        """Number of tasks that nobody has decided or skipped."""
        return self.export.waiting

    @property
    def wants_second(self) -> int:
        """Number of tasks for two people that one has decided."""
        return self.export.wants_second

    @property
    def remarks(self) -> list[str]:
        """What is wrong, corrected, left out, in conflict or deleted, a line each."""
        named = (*self.imported.faults, *self.export.left_out)
        return [*map(str, named), *self.export.corrected, *self.statistics.conflicts, *self.deleted]

    def __str__(self) -> str:
        """Return the lines that a person reads; `remarks` has the details."""
        export = self.export
        lines = [f"{self.path}: {self.imported}"]
        if export.tasks:
            lines.append(
                f"  {export.tasks} task(s): {export.waiting} waiting, {export.wants_second} waiting for a second "
                f"reviewer, {export.skipped} skipped; {len(export.corrected)} decision(s) corrected"
            )
        if self.gone:
            lines.append(f"  note: {len(self.gone)} task(s) were deleted meanwhile: {show(list(self.gone))}")
        lines += [f"  note: {note}" for note in export.notes]
        return "\n".join([*lines, *([str(self.statistics)] if self.statistics.reviewers else [])])

    def figures(self) -> dict[str, Any]:
        """Return the counts and the statistics, for a machine to read."""
        export, imported = self.export, self.imported
        return {
            "reviews": {
                "path": self.path,
                "tasks": export.tasks,
                "waiting": export.waiting,
                "wants_second": export.wants_second,
                "skipped": export.skipped,
                "added": imported.added,
                "outvoted": imported.outvoted,
                "known": imported.known,
                "undecided": imported.undecided,
                "faults": len(imported.faults),
                "left_out": len(export.left_out),
                "corrected": len(export.corrected),
                "deleted": len(self.deleted),
                "statistics": asdict(self.statistics),
            }
        }


def pull_reviews(
    workspace: Workspace,
    client: StudioClient,
    *,
    project_id: int | None = None,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> PulledReviews:
    """Fetch a project's reviews, by default the workspace's own, whole or not at all, and store what is new.

    The export goes to `EXPORT_FILE`. Takes the workspace's lock meanwhile. `on_progress` gets the number of tasks
    fetched, and of all.

    Raises:
        SetupError: no project, one of another kind, or another process at work in the workspace.
        DataError: the project has no tasks, or none of them is one for a review.
        UnavailableError: as `StudioClient.explained`, and where the server sends something else than tasks.
    """
    number = chosen_project(workspace, client, REVIEWS, project_id)
    where = f"project {number} of Label Studio at {client.url}"
    check_review_interface(client.project(number).label_config, where)
    export, gone = fetch_tasks(client, number, where, on_progress)
    if not export:
        raise DataError(f"{where}: no tasks in it: run {REVIEWS.command}")
    before = decisions_before(workspace, workspace.storage.local_path(EXPORT_FILE), client.url, number)
    path = store_export(workspace, EXPORT_FILE, export)
    found = ReviewExport()
    read_review_export(path, found)
    kept = _keep(workspace, str(path), found, gone)
    return replace(kept, deleted=tuple(note_gone(workspace, client.url, number, before, found)))


def import_review_files(workspace: Workspace, paths: Sequence[Path]) -> PulledReviews:
    """Store what is new in files of decided items and exports of Label Studio; takes the workspace's lock meanwhile.

    A file that cannot be read is a fault beside those of the rows.

    Raises:
        SetupError: another process at work in the workspace, or it cannot be written.
    """
    found = ReviewExport()
    for path in paths:
        if is_studio_export(path):
            try:
                read_review_export(path, found)
            except DataError as fault:
                found.rows.append((str(path), RecordError(Reason.UNREADABLE, str(fault))))
        else:
            found.rows += rows_of_files([path])
    return _keep(workspace, ", ".join(map(str, paths)), found, ())


def _keep(workspace: Workspace, path: str, export: ReviewExport, gone: tuple[int, ...]) -> PulledReviews:
    with workspace.locked():
        imported = keep_reviews(workspace, export.rows, ReviewItems(workspace).get)
    statistics = review_statistics(review for _, review in stored_reviews(workspace))
    return PulledReviews(path=path, export=export, imported=imported, statistics=statistics, gone=gone)
