"""One attempt over the network, and what its failure says."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Any

from pipeline.config.language import EndpointConfig
from pipeline.models.chat.faults import AttemptError, failure_of, hidden_failure
from pipeline.models.chat.settings import Access


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
            **access.client_options(),
            timeout=config.timeout_s,
            max_retries=0,
            http_client=DefaultAioHttpClient(limits=limits),
        )

    async def post(self, body: Mapping[str, Any]) -> str:
        """Send a request to `/chat/completions` and return the body of the answer as it came.

        Raises:
            AttemptError: no answer, or one that is no success.
        """
        from aiohttp import ClientConnectorError
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
            headers = fault.response.headers
            raise failure_of(fault.status_code, fault.response.text, wait_asked_for(headers)) from None
        except APIError as fault:
            cause = f" ({fault.__cause__})" if fault.__cause__ else ""
            # httpx2's names for it do not tell a lost connection from one that never was
            was_sent = not (fault.__cause__ and isinstance(fault.__cause__.__cause__, ClientConnectorError))
            raise AttemptError(f"{fault.message}{cause}", was_sent=was_sent) from None
        text = response.text
        hidden = hidden_failure(text)
        if hidden is not None:
            raise hidden
        return text

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
