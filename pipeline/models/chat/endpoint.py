"""One attempt over the network, and what its failure says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.config.language import EndpointConfig
from pipeline.models.chat.settings import Access


class AttemptError(Exception):
    """An attempt failed. `status` is None where nothing was answered; `body` is what was, empty where nothing came."""

    def __init__(self, what: str, *, status: int | None = None, body: str = "", wait_s: float | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.status = status
        self.body = body
        self.wait_s = wait_s
        """Seconds after which the endpoint asks to be called again."""

    @property
    def is_transient(self) -> bool:
        """Tell whether the same request may succeed later."""
        return self.status is None or self.status in (200, 408, 409, 429) or self.status >= 500


class Endpoint:
    """Sends requests, each once, and each on a connection of its own.

    HTTP/1.1 does not say which request a response belongs to. Where a server or proxy delivers one twice, a client that
    keeps connections open takes the copy for the answer to the next request, and every answer from there on for the
    wrong one. The text tells nothing of it, nor does an id, which some servers have the same for all answers.
    """

    def __init__(self, access: Access, config: EndpointConfig) -> None:
        from httpx2 import Limits
        from openai import AsyncOpenAI, DefaultAioHttpClient

        self._timeout_s = config.timeout_s
        # below zero: a connection is too old to be used again in the moment in which it becomes idle
        limits = Limits(max_connections=config.concurrency, keepalive_expiry=-1.0)
        self._client: AsyncOpenAI = AsyncOpenAI(
            # the package refuses to start without a key; a server that needs one will say so
            api_key=access.key or "no-key",
            base_url=access.base_url,
            timeout=config.timeout_s,
            max_retries=0,
            http_client=DefaultAioHttpClient(limits=limits),
        )

    async def post(self, body: Mapping[str, Any]) -> str:
        """Send a request to `/chat/completions` and return the body of the answer as it came.

        Raises:
            AttemptError: no answer, or one that is no success.
        """
        from httpx2 import Response
        from openai import APIError, APIStatusError

        try:
            async with asyncio.timeout(self._timeout_s):
                # The typed method would turn every message and answer into objects of the package first, at twice the
                # cost of all the rest.
                response = await self._client.post("/chat/completions", cast_to=Response, body=body)
        except TimeoutError:
            raise AttemptError(f"Request timed out after {self._timeout_s:g} s.") from None
        except APIStatusError as fault:
            raise AttemptError(
                f"HTTP {fault.status_code}: {fault.message}",
                status=fault.status_code,
                body=fault.response.text,
                wait_s=wait_asked_for(fault.response.headers),
            ) from None
        except APIError as fault:
            cause = f" ({fault.__cause__})" if fault.__cause__ else ""
            raise AttemptError(f"{fault.message}{cause}") from None
        return response.text

    async def close(self) -> None:
        """Close the connections."""
        await self._client.close()


def wait_asked_for(headers: Mapping[str, str]) -> float | None:
    """Return the seconds to wait that a response asks for: `retry-after-ms`, or `Retry-After` in seconds or as a date.

    A date is measured against the server's own clock where it tells it.
    """
    try:
        return max(0.0, float(headers["retry-after-ms"]) / 1000)
    except (KeyError, ValueError):
        pass
    asked = headers.get("retry-after")
    if asked is None:
        return None
    try:
        return max(0.0, float(asked))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(asked).timestamp()
    except ValueError:
        return None
    try:
        now = parsedate_to_datetime(headers["date"]).timestamp()
    except (KeyError, ValueError):
        now = time.time()
    return max(0.0, until - now)
