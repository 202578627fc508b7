"""Pull whatever a workspace has on a server: clicks, reviews, or both."""

from __future__ import annotations

from collections.abc import Callable

from annotation.label_studio.click_project import GLANCES
from annotation.label_studio.click_pull import PullSummary, pull_glances
from annotation.label_studio.client import StudioClient
from annotation.label_studio.kinds import noted_project
from annotation.label_studio.review_interface import is_review_interface
from annotation.label_studio.review_project import REVIEWS
from annotation.label_studio.review_pull import PulledReviews, pull_reviews
from pipeline.errors import SetupError
from pipeline.workspace import Workspace


def pull_all(
    workspace: Workspace,
    client: StudioClient,
    *,
    project_id: int | None = None,
    tolerance_s: float = 1.0,
    on_progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> list[PullSummary | PulledReviews]:
    """Fetch the project that is named, which its interface tells the kind of, else all that the workspace has.

    Raises:
        SetupError: no project; otherwise as `pull_glances` and `pull_reviews`.
    """
    if project_id is not None:
        is_review = is_review_interface(client.project(project_id).label_config)
        glances, reviews = (None, project_id) if is_review else (project_id, None)
    else:
        glances, reviews = noted_projects(workspace, client)
    pulled: list[PullSummary | PulledReviews] = []
    if glances is not None:
        pulled.append(
            pull_glances(workspace, client, project_id=glances, tolerance_s=tolerance_s, on_progress=on_progress)
        )
    if reviews is not None:
        pulled.append(pull_reviews(workspace, client, project_id=reviews, on_progress=on_progress))
    return pulled


def noted_projects(workspace: Workspace, client: StudioClient) -> tuple[int | None, int | None]:
    """Return the projects that were made for a workspace, of clicks and of reviews.

    Raises:
        SetupError: there is neither.
    """
    glances, reviews = (noted_project(workspace, client, kind) for kind in (GLANCES, REVIEWS))
    if glances is None and reviews is None:
        commands = f"{GLANCES.command} or {REVIEWS.command}"
        raise SetupError(f"{workspace.url}: no project was made for it on {client.url}: run {commands}, or name one")
    return glances, reviews
