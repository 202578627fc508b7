"""Ask a Label Studio project to call the receiver of `annotation.label_studio.webhook`."""

from __future__ import annotations

from enum import StrEnum
from typing import Any
from urllib.parse import urlsplit

from annotation.label_studio.client import ONE_TRY, StudioClient
from annotation.label_studio.webhook import ACTIONS, PATH, SECRET_HEADER
from annotation.source import show
from pipeline.errors import SetupError


class Subscription(StrEnum):
    """What became of a project's webhook."""

    FOUND = "found"
    RENEWED = "renewed"
    MADE = "made"


def subscribe(client: StudioClient, project_id: int, url: str, secret: str) -> Subscription:
    """Have a project call `url` with the secret whenever somebody changes something; run again, nothing is doubled.

    Args:
        client: the server.
        project_id: the project.
        url: address of the receiver as the server reaches it.
        secret: kept on the server, where its administrators can read it.

    Raises:
        SetupError: no address of the receiver, or one that the server does not call; otherwise as
            `StudioClient.explained`.
    """
    from label_studio_sdk.core.api_error import ApiError

    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not parts.path.endswith(PATH):
        raise SetupError(f"{show(url)}: no address of the receiver, which ends with {PATH}: http://host:port{PATH}")
    # what happened, and no more: the pull reads the truth
    wanted: dict[str, Any] = {
        "headers": {SECRET_HEADER: secret},
        "actions": list(ACTIONS),
        "is_active": True,
        "send_for_all_actions": False,
        "send_payload": False,
    }
    with client.explained(f"list the webhooks of project {project_id}"):
        hooks = [hook for hook in client.sdk.webhooks.list(project=str(project_id)) if hook.url == url]
    if any(_says(hook, wanted) for hook in hooks):
        return Subscription.FOUND
    with client.explained(f"add a webhook to project {project_id}"):
        try:
            if hooks:
                client.sdk.webhooks.update(hooks[0].id, url=url, **wanted, request_options=ONE_TRY)
                return Subscription.RENEWED
            client.sdk.webhooks.create(url=url, project=project_id, **wanted, request_options=ONE_TRY)
        except ApiError as fault:
            if fault.status_code == 403 and not _refuses_the_token(fault.body):
                said = f"Label Studio at {client.url} refuses to call {show(url)}, an address of a private network"
                raise SetupError(f"{said}; started with SSRF_PROTECTION_ENABLED=false it does not") from None
            raise
    return Subscription.MADE


def _says(hook: Any, wanted: dict[str, Any]) -> bool:
    """Tell whether a webhook is as wanted; its actions come in any order."""
    return all(
        set(hook.actions or ()) == set(value) if key == "actions" else getattr(hook, key) == value
        for key, value in wanted.items()
    )


def _refuses_the_token(body: Any) -> bool:
    return "address" not in str(body).lower()
