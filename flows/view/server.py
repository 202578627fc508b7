"""The page of `holmes view` on a port of this machine: one file of HTML, a list of rows, clips, and decisions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from flows.view.items import ViewedPairs
from pipeline.errors import HolmesError

_PAGE = Path(__file__).with_name("view.html")
_JSON = "application/json"


def make_app(pairs: ViewedPairs, hosts: list[str]) -> Starlette:
    """Return the page as an ASGI application that answers to the given host names only, so that no other site can."""

    async def page(_request: Request) -> Response:
        return FileResponse(_PAGE, media_type="text/html")

    async def rows(_request: Request) -> Response:
        return JSONResponse(await run_in_threadpool(pairs.rows))

    async def clip(request: Request) -> Response:
        path = await run_in_threadpool(pairs.clip, request.path_params["pair_id"])
        return Response(status_code=404) if path is None else FileResponse(path)

    async def decide(request: Request) -> Response:
        # Forms of other sites cannot send this type without asking first.
        if request.headers.get("content-type") != _JSON:
            return JSONResponse({"error": f"a decision is sent as {_JSON}"}, 415)
        try:
            asked: Any = await request.json()
            said = [str(asked[key]) for key in ("pair_id", "decision", "answer")]
            await run_in_threadpool(pairs.decide, *said)
        except (ValueError, KeyError, TypeError):
            return JSONResponse({"error": "pair_id, decision and answer are expected"}, 422)
        except HolmesError as fault:
            return JSONResponse({"error": str(fault)}, 409)
        return JSONResponse({"decision": said[1]})

    return Starlette(
        routes=[
            Route("/", page), Route("/rows", rows), Route("/clips/{pair_id}", clip),
            Route("/decisions", decide, methods=["POST"]),
        ],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=hosts)],
    )  # fmt: skip
