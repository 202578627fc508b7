"""The API as an application of FastAPI: its routes, who may call them, and how refusals are told."""

from __future__ import annotations

import hmac
import logging
from http import HTTPStatus
from importlib.metadata import version
from typing import Annotated, Any
from urllib.parse import urlsplit

from fastapi import APIRouter, Depends, FastAPI, Request, Response, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import FileResponse, JSONResponse
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from flows.api import answers, uploads
from flows.api.addresses import resolve
from flows.api.faults import ApiFault
from flows.api.jobs import Job, Jobs, State
from flows.api.settings import LOOPBACK_HOSTS
from flows.api.streams import DEFAULT_S, is_stream
from pipeline.video.live import without_password

logger = logging.getLogger(__name__)

PREFIX = "/v1"

_Answers = dict[int | str, dict[str, Any]]
"""What is said of answers in the description, by status."""

_ABOUT = """Finds anomalies in videos and explains them. Send a video, or where it can be fetched, as a job; ask for the
job until its status is `done`; then take its result, its spans and their clips. Whatever is no success is answered
with `{"error": {"code", "message"}}`."""

_JOB_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file"],
                    "properties": {"file": {"type": "string", "format": "binary", "description": "the video"}},
                }
            },
            "application/json": {"schema": answers.VideoAddress.model_json_schema()},
        },
    }
}
_bearer = HTTPBearer(auto_error=False, description="the value of HOLMES_API_TOKEN on the server")


def make_api(jobs: Jobs) -> FastAPI:
    """Return the API of `jobs`, whose settings say who may call it."""
    api = FastAPI(
        title="Holmes Engine",
        description=_ABOUT,
        version=version("holmes-engine"),
        openapi_url=f"{PREFIX}/openapi.json",
        docs_url=None,  # FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
    )
    api.add_exception_handler(ApiFault, _tell_fault)
    api.add_exception_handler(HTTPException, _tell_http_fault)
    api.add_exception_handler(RequestValidationError, _tell_invalid)
    api.add_exception_handler(Exception, _tell_internal)
    api.include_router(_open_routes(jobs))
    api.include_router(_submit_routes(jobs))
    api.include_router(_read_routes(jobs))
    return api


def _faults(*statuses: int) -> _Answers:
    return {status: {"model": answers.FaultAnswer, "description": HTTPStatus(status).phrase} for status in statuses}


def _open_routes(jobs: Jobs) -> APIRouter:
    routes = APIRouter(prefix=PREFIX)

    @routes.get("/health", summary="Whether the server answers", tags=["server"])
    def health() -> answers.Health:
        """For load balancers and supervisors: it asks for no token."""
        states = [job.state for job in jobs.all()]
        return answers.Health(queued=states.count(State.QUEUED), running=states.count(State.RUNNING))

    return routes


def _guarded(jobs: Jobs) -> APIRouter:
    """Return a router below which every call needs the token."""
    token = jobs.settings.token

    def authorised(request: Request, given: Annotated[HTTPAuthorizationCredentials | None, Security(_bearer)]) -> None:
        if token is None:
            _check_own_machine(request)
        elif given is None or not hmac.compare_digest(given.credentials.encode(), token.encode()):
            message = "the header Authorization: Bearer TOKEN is missing or wrong"
            raise ApiFault(401, "unauthorized", message, {"WWW-Authenticate": "Bearer"})

    return APIRouter(
        prefix=f"{PREFIX}/jobs", tags=["jobs"], dependencies=[Depends(authorised)], responses=_faults(401, 404)
    )


def _submit_routes(jobs: Jobs) -> APIRouter:
    routes = _guarded(jobs)

    @routes.post(
        "", status_code=202, summary="Send a video", openapi_extra=_JOB_BODY,
        responses=_faults(400, 403, 408, 413, 415, 429),
    )  # fmt: skip
    async def submit(request: Request, response: Response) -> answers.JobAnswer:
        """Send a file as the field `file` of a form, or `{"url": ...}` as JSON; of a stream, `seconds` are recorded.

        After 429 wait for `Retry-After`.
        """
        body = uploads.Body(request)
        try:
            job = await _submitted(jobs, request.headers.get("content-type", ""), body)
        except (ApiFault, HTTPException):
            await body.drain()
            raise
        response.headers["Location"] = f"{PREFIX}/jobs/{job.job_id}"
        return answers.job_answer(jobs, job)

    @routes.delete("/{job_id}", status_code=204, summary="Give a job up, and remove its files")
    def delete(job_id: str) -> None:
        jobs.drop(jobs.get(job_id))

    return routes


def _read_routes(jobs: Jobs) -> APIRouter:
    routes = _guarded(jobs)

    @routes.get("", summary="All jobs")
    def list_jobs() -> answers.JobList:
        return answers.JobList(jobs=[answers.job_answer(jobs, job) for job in jobs.all()])

    @routes.get("/{job_id}", summary="How far a job is")
    def status(job_id: str) -> answers.JobAnswer:
        return answers.job_answer(jobs, jobs.get(job_id))

    @routes.get(
        "/{job_id}/result", summary="What was found", response_model=answers.ResultAnswer, responses=_faults(409)
    )
    def result(job_id: str) -> Response:
        return JSONResponse(_done(jobs, job_id).result)

    @routes.get("/{job_id}/spans", summary="The abnormal spans and where their clips are", responses=_faults(409))
    def spans(job_id: str) -> answers.SpanList:
        return answers.span_answers(_done(jobs, job_id))

    def file_of(job_id: str, number: int, suffix: str, media_type: str) -> Response:
        clips = _done(jobs, job_id).clips
        if not 0 <= number < len(clips):
            raise ApiFault(404, "no_such_span", f"span {number}: the job has {len(clips)} spans, counted from 0")
        clip = clips[number]
        if clip is None:
            raise ApiFault(404, "no_clip", f"span {number}: its clip could not be cut; the server's log says why")
        return FileResponse(clip.with_suffix(suffix), media_type=media_type)

    mp4: _Answers = {200: {"content": {"video/mp4": {}}, "description": "H.264 without sound"}, **_faults(409)}
    jpeg: _Answers = {200: {"content": {"image/jpeg": {}}, "description": "the middle of the span"}, **_faults(409)}

    @routes.get(
        "/{job_id}/spans/{number}/clip.mp4", summary="A span as a clip", response_class=FileResponse, responses=mp4
    )
    def clip(job_id: str, number: int) -> Response:
        return file_of(job_id, number, ".mp4", "video/mp4")

    @routes.get(
        "/{job_id}/spans/{number}/thumbnail.jpg", summary="A picture of a span", response_class=FileResponse,
        responses=jpeg,
    )  # fmt: skip
    def thumbnail(job_id: str, number: int) -> Response:
        return file_of(job_id, number, ".jpg", "image/jpeg")

    return routes


async def _submitted(jobs: Jobs, content_type: str, body: uploads.Body) -> Job:
    kind = content_type.partition(";")[0].strip().lower()
    if kind not in ("multipart/form-data", "application/json"):
        message = f"Content-Type {kind or 'none'}: multipart/form-data or application/json is expected"
        raise ApiFault(415, "unsupported_type", message)
    job = jobs.admit()
    try:
        if kind == "multipart/form-data":
            job.path, job.name = await body.file(job.folder, jobs.settings.limits)
        else:
            asked = _address_of(await body.json())
            job.url = asked.url
            # told at once; what counts is that it is asked again when the video is fetched
            await run_in_threadpool(resolve, job.url, allow_private=jobs.settings.allow_private)
            job.seconds = _seconds_of(asked, jobs.settings.limits.max_minutes)
            job.name = without_password(job.url)
    except BaseException:
        jobs.drop(job)
        raise
    jobs.enqueue(job)
    return job


def _address_of(body: bytes) -> answers.VideoAddress:
    try:
        return answers.VideoAddress.model_validate_json(body)
    except ValidationError:
        expected = '{"url": "https://..."}, with "seconds" for a stream,'
        raise ApiFault(400, "invalid_json", f"the body: a JSON object {expected} is expected") from None


def _seconds_of(asked: answers.VideoAddress, max_minutes: float) -> float:
    """Return how much is taken of a stream."""
    seconds = DEFAULT_S if asked.seconds is None else asked.seconds
    if asked.seconds is not None and not is_stream(asked.url):
        raise ApiFault(400, "invalid_request", "seconds: only a stream (rtsp://) has no end of its own")
    if seconds > 60 * max_minutes:
        raise ApiFault(400, "invalid_request", f"seconds: {seconds:g}, at most {60 * max_minutes:g} are taken here")
    return seconds


def _done(jobs: Jobs, job_id: str) -> Job:
    job = jobs.get(job_id)
    if job.state is State.FAILED and job.fault is not None:
        raise ApiFault(409, "job_failed", f"job {job_id} has no result: {job.fault.code}: {job.fault.message}")
    if job.state is not State.DONE:
        raise ApiFault(409, "not_done", f"job {job_id} is {job.state}: its status says how far it is")
    return job


def _check_own_machine(request: Request) -> None:
    """Refuse what a page of another site makes a browser of this machine ask: without a token nothing else tells."""
    origin = request.headers.get("origin")
    if request.url.hostname not in LOOPBACK_HOSTS or (origin and urlsplit(origin).netloc != request.url.netloc):
        raise ApiFault(
            403, "foreign_site", "without a token only this machine is answered, and no page of another site"
        )


def _tell_fault(_request: Request, fault: Exception) -> Response:
    assert isinstance(fault, ApiFault)  # noqa: S101 - it is registered for these alone
    return JSONResponse(fault.as_json(), fault.status, fault.headers)


def _tell_http_fault(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, HTTPException)  # noqa: S101 - it is registered for these alone
    codes = {404: "not_found", 405: "method_not_allowed"}
    message = f"{request.method} {request.url.path[:200]}: {fault.detail}"
    told = ApiFault(
        fault.status_code, codes.get(fault.status_code, "invalid_request"), message, dict(fault.headers or {})
    )
    return _tell_fault(request, told)


def _tell_invalid(request: Request, fault: Exception) -> Response:
    assert isinstance(fault, RequestValidationError)  # noqa: S101 - it is registered for these alone
    first = fault.errors()[0]
    place = ".".join(str(part) for part in first["loc"])
    return _tell_fault(
        request, ApiFault(422, "invalid_request", f"{place}: {first['msg']}, got {first['input']!r:.100}")
    )


def _tell_internal(request: Request, fault: Exception) -> Response:
    if not isinstance(fault, ClientDisconnect):
        logger.error("%s %s failed", request.method, request.url.path, exc_info=fault)
    return _tell_fault(request, ApiFault(500, "internal", f"{type(fault).__name__}; the server's log says more"))
