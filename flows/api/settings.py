"""What the API takes, for how long it keeps it, and whom it answers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

from flows.page.intake import Limits
from pipeline.errors import SetupError

TOKEN_VARIABLE = "HOLMES_API_TOKEN"  # noqa: S105 - the name of a variable
TOKEN_LENGTH = 16
"""Characters that a token has at least."""

LOOPBACK_HOSTS = frozenset({"127.0.0.1", "localhost", "::1"})


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiSettings:
    """How the API serves.

    Attributes:
        limits: largest and longest video.
        queue_size: jobs that may wait, those that are being uploaded among them.
        concurrent_jobs: jobs that are worked on at a time; the model itself does one after the other.
        keep_s: seconds for which a finished job is kept.
        keep_jobs: finished jobs kept at most; beyond them the oldest one goes.
        allow_private: whether addresses of private networks and of this machine are fetched.
        token: what callers have to know; None asks for nothing, and then only this machine is answered.
    """

    limits: Limits = field(default_factory=Limits)
    queue_size: int = 16
    concurrent_jobs: int = 2
    keep_s: float = 3600.0
    keep_jobs: int = 200
    allow_private: bool = False
    token: str | None = None


def api_token(host: str) -> str | None:
    """Return the token in the environment; None where there is none and `host` is reached from this machine only.

    Raises:
        SetupError: there is none and other machines reach the API, or it is too short, or no header can carry it.
    """
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not token:
        if host in LOOPBACK_HOSTS:
            return None
        raise SetupError(
            f"--api on {host} is reached from other machines and needs a token in {TOKEN_VARIABLE}, "
            "such as of openssl rand -hex 20; --host 127.0.0.1 needs none"
        )
    if len(token) < TOKEN_LENGTH:
        raise SetupError(f"{TOKEN_VARIABLE}: {len(token)} characters, at least {TOKEN_LENGTH} are expected")
    if not token.isascii() or not token.isprintable() or " " in token:
        raise SetupError(f"{TOKEN_VARIABLE}: holds characters that no header carries")
    return token
