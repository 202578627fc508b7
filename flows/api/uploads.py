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
    from starlette.types import Message, Receive

SILENCE_S = 30.0
"""Longest silence of a caller within a body."""

JSON_MAX_BYTES = 16_384
_FORM_MAX_BYTES = 65_536
"""What a form may hold beside its file."""

_NAME_MAX = 200
_DRAINED_BYTES, _DRAINED_S = 16 * MIB, 2.0
"""How much, and for how long, is read of what a refused caller goes on sending: cut off at once, it would miss why."""


async def receive_file(request: Request, folder: Path, limits: Limits) -> tuple[Path, str]:
    """Write the field `file` of a form to `folder`; return where it is, and the name that it came with.

    Raises:
        ApiFault: 400 for another form, 408 for a caller who falls silent, 413 and 415 as of the limits.
        HTTPException: 400 for what is no form.
    """
    most = limits.max_mb * MIB + _FORM_MAX_BYTES
    body = Request(request.scope, _limited(request, most, f"the upload: more than {limits.max_mb} MB"))
    async with body.form(max_files=1, max_fields=1, max_part_size=_FORM_MAX_BYTES) as form:
        file = form.get("file")
        if not isinstance(file, UploadFile) or len(form) != 1:
            raise ApiFault(400, "invalid_form", "a form with one field named file, which holds a video, is expected")
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


async def receive_json(request: Request) -> bytes:
    """Return a body that is expected to be JSON.

    Raises:
        ApiFault: 413 where it is too large, 408 for a caller who falls silent.
    """
    return await Request(
        request.scope, _limited(request, JSON_MAX_BYTES, f"JSON of more than {JSON_MAX_BYTES} bytes")
    ).body()


async def drain(request: Request) -> None:
    """Read some of what is still to come of a body."""
    left = _DRAINED_BYTES
    with anyio.move_on_after(_DRAINED_S):
        while left > 0 and (message := await request.receive())["type"] == "http.request":
            left -= len(message.get("body", b""))
            if not message.get("more_body"):
                return


def plain_name(name: str) -> str:
    """Return the last part of a path of any system as text to be shown, `video` where there is none."""
    last = re.split(r"[/\\]", name)[-1]
    return "".join(character for character in last if character.isprintable())[-_NAME_MAX:].strip() or "video"


def _limited(request: Request, most: int, said: str) -> Receive:
    """Return what receives the body of a call as long as it has at most `most` bytes and keeps coming."""
    too_large = ApiFault(413, "too_large", f"{said} are not taken here")
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > most:
        raise too_large
    got = 0

    async def receive() -> Message:
        nonlocal got
        try:
            with anyio.fail_after(SILENCE_S):
                message = await request.receive()
        except TimeoutError:
            raise ApiFault(408, "silent", f"the body: nothing came for {SILENCE_S:g} s") from None
        got += len(message.get("body", b""))
        if got > most:
            raise too_large
        return message

    return receive
