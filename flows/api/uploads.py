"""A video taken from the body of a call, written to disk as it comes and never beyond its limit."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from starlette.concurrency import run_in_threadpool
from starlette.datastructures import UploadFile
from starlette.requests import Request

from flows.api.faults import ApiFault
from flows.page.intake import MIB, Limits
from pipeline.errors import DataError

if TYPE_CHECKING:
    from starlette.types import Message

SILENCE_S = 30.0
"""Longest silence of a caller within a body."""

JSON_MAX_BYTES = 16_384
_FORM_MAX_BYTES = 65_536
"""What a form may hold beside its file."""

_NAME_MAX = 200
_DRAINED_BYTES, _DRAINED_S = 16 * MIB, 2.0
"""How much, and for how long, is read of what a refused caller goes on sending."""


class Body:
    """The body of a call, which comes piece by piece and may be given up on the way."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self._ended = False

    async def file(self, folder: Path, limits: Limits) -> tuple[Path, str]:
        """Write the field `file` of a form to `folder`; return where it is, and the name that it came with.

        Raises:
            ApiFault: 400 for another form, 408 for a caller who falls silent, 413 and 415 as of the limits.
            HTTPException: 400 for what is no form.
        """
        request = self._limited(limits.max_mb * MIB + _FORM_MAX_BYTES, f"{limits.max_mb} MB")
        async with request.form(max_files=1, max_fields=1, max_part_size=_FORM_MAX_BYTES) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile) or len(form) != 1:
                raise ApiFault(
                    400, "invalid_form", "a form with one field named file, which holds a video, is expected"
                )
            name, size = plain_name(file.filename or ""), file.size or 0
            if not size:
                raise ApiFault(400, "empty_file", f"{name}: zero bytes")
            try:
                limits.check_file(name, size)
            except DataError as fault:
                status, code = (413, "too_large") if size > limits.max_mb * MIB else (415, "not_a_video")
                raise ApiFault(status, code, str(fault)) from None
            path = folder / f"video{Path(name).suffix.lower()}"
            with path.open("wb") as out:
                await run_in_threadpool(shutil.copyfileobj, file.file, out, MIB)
        return path, name

    async def json(self) -> bytes:
        """Return a body that is expected to be JSON.

        Raises:
            ApiFault: 413 where it is too large, 408 for a caller who falls silent.
        """
        return await self._limited(JSON_MAX_BYTES, f"{JSON_MAX_BYTES} bytes of JSON").body()

    async def drain(self) -> None:
        """Read some of what is still to come: cut off at once, a refused caller would miss why."""
        left = _DRAINED_BYTES
        with anyio.move_on_after(_DRAINED_S):
            while left > 0 and not self._ended:
                left -= len((await self._receive()).get("body", b""))

    async def _receive(self) -> Message:
        message = await self._request.receive()
        self._ended = not message.get("more_body", False)
        return message

    def _limited(self, most: int, limit: str) -> Request:
        """Return the call with a body that ends in a fault beyond `most` bytes, in words `limit`, or in silence."""
        declared = self._request.headers.get("content-length", "")
        if declared.isdecimal() and int(declared) > most:
            size = f"{int(declared) / MIB:.1f} MB"
            raise ApiFault(413, "too_large", f"the body: {size} are more than the {limit} that are taken here")
        got = 0

        async def receive() -> Message:
            nonlocal got
            try:
                with anyio.fail_after(SILENCE_S):
                    message = await self._receive()
            except TimeoutError:
                raise ApiFault(408, "silent", f"the body: nothing came for {SILENCE_S:g} s") from None
            got += len(message.get("body", b""))
            if got > most:
                raise ApiFault(413, "too_large", f"the body: more came than the {limit} that are taken here")
            return message

        return Request(self._request.scope, receive)


def plain_name(name: str) -> str:
    """Return the last part of a path of any system as text to be shown, `video` where there is none."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(character for character in last if character.isprintable())[-_NAME_MAX:].strip() or "video"
