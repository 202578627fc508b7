"""Talk to a Label Studio server through its SDK: who is asked, how often, and what a failure means.

The address and the token come from the environment and are never written anywhere. Reading requests are repeated by the
SDK a bounded number of times; writing ones never are, because a server that answered too late may have done the work.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from annotation.source import show
from pipeline.errors import SetupError, UnavailableError

if TYPE_CHECKING:
    from label_studio_sdk import LabelStudio

URL_VARIABLE = "LABEL_STUDIO_URL"
TOKEN_VARIABLE = "LABEL_STUDIO_API_KEY"  # noqa: S105 - the name of a variable

TIMEOUT_S = 60.0
"""Longest silence of the server within one answer."""

READ_RETRIES = 2
"""Repetitions of a reading request that failed for a reason that may pass."""

LISTINGS = 5
"""Listings of a project whose tasks change meanwhile, before giving up."""

TASKS_A_PAGE = 500
TASKS_A_POST = 250
"""Tasks or predictions of one request."""
TASKS_AN_EXPORT = 250
"""Tasks of one export request: their ids stand in its address, which servers limit to some kilobytes."""

MAX_WORDS_CHARS = 400
"""Longest quotation of what the server says: a page of HTML is no sentence."""

ONE_TRY = {"max_retries": 0}
"""Request options of calls that write."""


class StudioClient:
    """One server, as the user whose token is used.

    Args:
        url: address of the server; by default what `LABEL_STUDIO_URL` says.
        token: by default what `LABEL_STUDIO_API_KEY` says.

    Raises:
        SetupError: no address, no token, or a token that cannot be one.
    """

    def __init__(
        self,
        url: str | None = None,
        token: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        read_retries: int = READ_RETRIES,
    ) -> None:
        from label_studio_sdk import LabelStudio

        self.url = (url or _variable(URL_VARIABLE, "the server's address, such as http://127.0.0.1:8080")).rstrip("/")
        key = token or _variable(TOKEN_VARIABLE, "a token of Account & Settings")
        if not self.url.startswith(("http://", "https://")):
            raise SetupError(f"{URL_VARIABLE}: {show(self.url)} is no http:// or https:// address")
        if not key.isascii() or not key.isprintable() or " " in key:
            raise SetupError(f"{TOKEN_VARIABLE}: not a token: it holds blanks or characters that no token has")
        with self.explained("check the token"):
            self.sdk: LabelStudio = LabelStudio(
                base_url=self.url, api_key=key, timeout=timeout_s, max_retries=read_retries
            )

    @contextmanager
    def explained(self, act: str) -> Iterator[None]:
        """Turn every failure of the SDK inside into one of ours; `act` says what was tried, as in "list the tasks".

        Raises:
            SetupError: the server refuses the token or the request, or has no such thing.
            UnavailableError: the server cannot be reached, is too slow, fails, or answers what no Label Studio would.
        """
        import httpx
        import pydantic
        from label_studio_sdk.core.api_error import ApiError

        at = f"Label Studio at {self.url}"
        try:
            yield
        except ApiError as fault:
            raise self._refusal(fault.status_code, fault.body, act) from None
        except httpx.HTTPStatusError as fault:
            raise self._refusal(fault.response.status_code, fault.response.text, act) from None
        except httpx.TimeoutException:
            raise UnavailableError(f"{at} is too slow: no answer to: {act}") from None
        except (httpx.TransportError, httpx.InvalidURL) as fault:
            raise UnavailableError(f"{at} cannot be reached to {act}: {fault}") from None
        except (ValueError, pydantic.ValidationError, AttributeError, TypeError, KeyError) as fault:
            # the SDK takes answers on trust: what no Label Studio would say fails wherever it is first looked into
            what = f"{type(fault).__name__}: {show(str(fault))}"
            raise UnavailableError(f"{at} answered what cannot be read when asked to {act}: {what}") from None

    def project(self, project_id: int) -> Any:
        """Return a project. Raises as `explained`."""
        with self.explained(f"open project {project_id}"):
            project = self.sdk.projects.get(project_id)
            if not isinstance(project.label_config, str):
                raise ValueError(f"project {project_id} has no labelling interface")
            return project

    def projects_titled(self, title: str) -> list[Any]:
        """Return the projects with exactly this title. Raises as `explained`."""
        with self.explained("list the projects"):
            return [project for project in self.sdk.projects.list(title=title) if project.title == title]

    def tasks(self, project_id: int, *, with_annotations: bool = False) -> Iterator[Any]:
        """Yield the tasks of a project, page by page, in the order of their ids.

        Raises:
            UnavailableError: tasks were added or deleted during each of `LISTINGS` listings; otherwise as `explained`.
        """
        seen: set[int] = set()
        for _ in range(LISTINGS):
            totals = set()
            for items, total in self._pages(project_id, "all" if with_annotations else "task_only"):
                totals.add(total)
                for task in items:
                    if task.id not in seen:
                        seen.add(task.id)
                        yield task
            # a task deleted meanwhile moves another one onto a page that was already read
            if len(totals) == 1:
                return
        message = f"project {project_id} of Label Studio at {self.url} changed during each of {LISTINGS} listings"
        raise UnavailableError(f"{message}: ask again when nobody adds or deletes tasks")

    def _pages(self, project_id: int, fields: Any) -> Iterator[tuple[list[Any], int]]:
        """Yield each page of tasks with the number of all tasks."""
        from label_studio_sdk.core.api_error import ApiError

        page, total = 0, 1
        while page * TASKS_A_PAGE < total:
            page += 1
            with self.explained(f"list the tasks of project {project_id}, page {page}"):
                try:
                    answer = self.sdk.tasks.list(project=project_id, page=page, page_size=TASKS_A_PAGE, fields=fields)
                    items, total = list(answer.items or []), int(answer.response.total)
                except ApiError as fault:
                    # the last page is gone with its tasks
                    if fault.status_code != HTTPStatus.NOT_FOUND or page == 1:
                        raise
                    items, total = [], 0
            yield items, total

    def add_tasks(self, project_id: int, tasks: Sequence[dict[str, Any]]) -> None:
        """Import tasks, `{"data": ..., "predictions": ...}` each, in requests of `TASKS_A_POST`. Raises as `explained`.

        Not repeated on failure: what arrived is found by listing the tasks.
        """
        for start in range(0, len(tasks), TASKS_A_POST):
            part: Any = list(tasks[start : start + TASKS_A_POST])
            with self.explained(f"import {len(part)} tasks into project {project_id}"):
                self.sdk.projects.import_tasks(project_id, request=part, request_options=ONE_TRY)

    def add_predictions(self, project_id: int, predictions: Sequence[dict[str, Any]]) -> None:
        """Import predictions, `{"task": ..., "result": ..., "score": ..., "model_version": ...}` each.

        Raises as `explained`. Not repeated on failure: what arrived is found by listing the tasks.
        """
        for start in range(0, len(predictions), TASKS_A_POST):
            part: Any = list(predictions[start : start + TASKS_A_POST])
            with self.explained(f"import {len(part)} predictions into project {project_id}"):
                self.sdk.projects.import_predictions(project_id, request=part, request_options=ONE_TRY)

    def delete_prediction(self, prediction_id: int) -> None:
        """Delete a prediction; one that is gone already is no fault. Raises as `explained`."""
        from label_studio_sdk.core.api_error import ApiError

        with self.explained(f"delete prediction {prediction_id}"):
            try:
                self.sdk.predictions.delete(prediction_id, request_options=ONE_TRY)
            except ApiError as fault:
                if fault.status_code != HTTPStatus.NOT_FOUND:
                    raise

    def ask_of_several(self, task_id: int, people: int) -> None:
        """Have a task reviewed by so many people. Raises as `explained`."""
        with self.explained(f"ask {people} people about task {task_id}"):
            self.sdk.tasks.update(str(task_id), overlap=people, request_options=ONE_TRY)

    def withdraw_task(self, task_id: int) -> bool:
        """Delete a task unless somebody has worked on it, be it a draft or a skip; return whether it is gone.

        Raises:
            UnavailableError: as `explained`.
        """
        from label_studio_sdk.core.api_error import ApiError

        with self.explained(f"delete task {task_id}"):
            try:
                task = self.sdk.tasks.get(str(task_id))
                if task.annotations or task.drafts or task.total_annotations or task.cancelled_annotations:
                    return False
                self.sdk.tasks.delete(str(task_id), request_options=ONE_TRY)
            except ApiError as fault:
                if fault.status_code != HTTPStatus.NOT_FOUND:
                    raise
        return True

    def export(self, project_id: int, form: str = "JSON", task_ids: Sequence[int] = ()) -> bytes:
        """Return an export as the server writes it; `form` is JSON, JSON_MIN, CSV or TSV. No ids mean all tasks.

        Raises:
            UnavailableError: also where the export breaks off; otherwise as `explained`.
        """
        # the server reads `ids[]`, while the SDK's own argument says `ids`, and would fetch everything
        options: Any = {"additional_query_parameters": {"ids[]": [str(number) for number in task_ids]}}
        with self.explained(f"export project {project_id} as {form}"):
            chunks = self.sdk.projects.exports.download_sync(
                project_id, export_type=form, download_all_tasks=True, download_resources=False, request_options=options
            )
            return b"".join(chunks)

    def _refusal(self, status: int | None, body: Any, act: str) -> SetupError:
        at, words = f"Label Studio at {self.url}", _words(body)
        says = f"; it says: {words}" if words else ""
        if status in {401, 403}:
            said = f"{at} refuses the token in {TOKEN_VARIABLE} (HTTP {status})"
            return SetupError(f"{said}: it may be wrong, expired, of another server, or not allowed to {act}{says}")
        if status == HTTPStatus.NOT_FOUND:
            return SetupError(f"{at} has nothing there (HTTP 404): asked to {act}{says}")
        if status is None or status >= 500 or status in {408, 409, 429}:
            return UnavailableError(f"{at} fails (HTTP {status}): asked to {act}{says}")
        return SetupError(f"{at} refuses to {act} (HTTP {status}){says}")


def _words(body: Any) -> str:
    """Return what the server says of a refusal in its own words, on one line; empty where it says nothing."""
    if isinstance(body, str | bytes):
        # the SDK parses the answers of some calls only
        with suppress(ValueError, RecursionError):
            body = json.loads(body)
    if isinstance(body, dict):
        body = body.get("validation_errors") or body.get("detail") or body
    text = " ".join("; ".join(_sentences(body)).split())
    return text if len(text) <= MAX_WORDS_CHARS else f"{text[:MAX_WORDS_CHARS]}..."


def _sentences(said: Any) -> Iterator[str]:
    """Yield what each field is refused for, as Label Studio nests it: lists of texts in objects by field."""
    if isinstance(said, dict):
        for name, inner in said.items():
            where = "" if name == "non_field_errors" else f"{name}: "
            yield where + ", ".join(_sentences(inner))
    elif isinstance(said, list):
        for inner in said:
            yield from _sentences(inner)
    elif said is not None:
        yield said if isinstance(said, str) else show(said)


def _variable(name: str, meaning: str) -> str:
    value = os.environ.get(name, "").strip()
    if not value:
        raise SetupError(f"{name} is not set: {meaning}")
    return value
