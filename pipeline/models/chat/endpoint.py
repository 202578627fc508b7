"""One attempt over the network, and what its failure says."""

from __future__ import annotations

import asyncio
import re
import time
from collections import deque
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from pipeline.models.chat.settings import Access

if TYPE_CHECKING:
    import ssl

    from openai import AsyncOpenAI

_ID = re.compile(r'"id"\s*:\s*"[^"]')

# Responses of a connection that are known again; a copy does not come much later than the original.
_SEEN = 16


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
    """Sends requests, each once, and each on a connection that no other request uses at the same time.

    HTTP/1.1 does not say which request a response belongs to. Where a server or proxy delivers one twice, a client that
    keeps connections open takes the copy for the answer to the next request, and every answer from there on for the
    wrong one. A connection to oneself lets one see it: the copy equals a response before it, id and all, and the
    connection is given up. One that brought a response without an id, e.g. an error, is not used again.
    """

    def __init__(self, access: Access, timeout_s: float) -> None:
        from httpx2 import create_ssl_context

        self._access = access
        self._timeout_s = timeout_s
        self._idle: list[_Line] = []
        # reading the certificates once takes as long as ten requests
        self._ssl = create_ssl_context()

    async def post(self, body: Mapping[str, Any]) -> str:
        """Send a request to `/chat/completions` and return the body of the answer as it came.

        Raises:
            AttemptError: no answer, or one that is no success.
        """
        line = self._idle.pop() if self._idle else _Line(self._access, self._timeout_s, self._ssl)
        try:
            text = await line.post(body)
        except BaseException:
            await line.close()
            raise
        if _ID.search(text):
            self._idle.append(line)
        else:
            await line.close()
        return text

    async def close(self) -> None:
        """Close the connections."""
        while self._idle:
            await self._idle.pop().close()


class _Line:
    """One connection."""

    def __init__(self, access: Access, timeout_s: float, context: ssl.SSLContext) -> None:
        from openai import AsyncOpenAI, DefaultAioHttpClient

        self._timeout_s = timeout_s
        self._client: AsyncOpenAI = AsyncOpenAI(
            # the package refuses to start without a key; a server that needs one will say so
            api_key=access.key or "no-key",
            base_url=access.base_url,
            timeout=timeout_s,
            max_retries=0,
            http_client=DefaultAioHttpClient(verify=context),
        )
        self._seen: deque[int] = deque(maxlen=_SEEN)

    async def post(self, body: Mapping[str, Any]) -> str:
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
        text = response.text
        seen = hash(text)
        if seen in self._seen:
            raise AttemptError("the response to another request came a second time")
        self._seen.append(seen)
        return text

    async def close(self) -> None:
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
