"""The JSON that the API answers with, as models that FastAPI writes into its OpenAPI description."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, Field

if TYPE_CHECKING:
    from flows.api.jobs import Job, Jobs


class Fault(BaseModel):
    """What was wrong."""

    code: str = Field(description="a name that never changes, for programs", examples=["queue_full"])
    message: str = Field(description="the value that was given and the limit that it broke, for people")


class FaultAnswer(BaseModel):
    """The body of every answer that is no success."""

    error: Fault


class Health(BaseModel):
    """That the server answers, and how busy it is."""

    status: Literal["ok"] = "ok"
    queued: int = Field(description="jobs that wait")
    running: int = Field(description="jobs that are worked on")


class Progress(BaseModel):
    """How far a job is."""

    step: str = Field(
        description="fetch (bytes), wait (for the model), score (snippets), explain (spans), clips (spans)"
    )
    done: int
    total: int = Field(description="0 where nobody knows")


class JobAnswer(BaseModel):
    """A job."""

    id: str
    status: Literal["queued", "running", "done", "failed"]
    video: str = Field(description="name of the upload, or the address without its password")
    created_at: datetime
    finished_at: datetime | None
    expires_at: datetime | None = Field(description="when a finished job and its files are removed")
    queue_position: int | None = Field(description="jobs before this one while it is queued")
    progress: Progress
    error: Fault | None = Field(description="why it failed")


class JobList(BaseModel):
    """All jobs that are kept, in the order of their coming."""

    jobs: list[JobAnswer]


class SpanAnswer(BaseModel):
    """An abnormal span, and where its clip and picture are; null where the clip could not be cut."""

    start_s: float
    end_s: float
    score: float = Field(description="highest anomaly score, in [0, 1]")
    answer: str | None = Field(description="what the video model says of it")
    confidence: float | None = Field(description="how probable the model finds Yes against No, in [0, 1]")
    consistent: bool
    clip: str | None
    thumbnail: str | None


class SpanList(BaseModel):
    """The spans of a job in time order."""

    spans: list[SpanAnswer]


class DetectedSpanAnswer(BaseModel):
    """A span as `holmes detect --json` prints it."""

    start_s: float
    end_s: float
    score: float
    answer: str | None
    confidence: float | None
    consistent: bool


class Scores(BaseModel):
    """The anomaly score of every snippet, and the time in its middle; empty without a sampler."""

    times_s: list[float]
    values: list[float]


class ResultAnswer(BaseModel):
    """What `holmes detect --json` prints for the video."""

    video: str
    fps: float
    duration_s: float
    is_anomaly: bool | None
    answer: str | None
    confidence: float | None
    consistent: bool
    lost: list[tuple[float, float]] = Field(description="stretches [start, end) in seconds without a picture")
    spans: list[DetectedSpanAnswer]
    scores: Scores


class VideoAddress(BaseModel):
    """A video to be fetched."""

    model_config = {"extra": "forbid"}

    url: str = Field(examples=["https://example.org/lobby.mp4"])
    seconds: float | None = Field(
        None, gt=0, examples=[30.0], description="of a stream (rtsp://): how much of it is looked at, 30 where not told"
    )


def job_answer(jobs: Jobs, job: Job) -> JobAnswer:
    """Return what is told of a job."""
    return JobAnswer.model_validate(
        {
            "id": job.job_id,
            "status": job.state.value,
            "video": job.name,
            "created_at": job.created_at,
            "finished_at": job.finished_at,
            "expires_at": jobs.expires_at(job),
            "queue_position": jobs.position(job),
            "progress": {"step": job.step.name, "done": job.step.done, "total": job.step.total},
            "error": None if job.fault is None else job.fault.as_json()["error"],
        }
    )


def span_answers(job: Job) -> SpanList:
    """Return the spans of a job that is done."""
    found = []
    for number, (span, clip) in enumerate(zip(job.result["spans"] if job.result else [], job.clips, strict=True)):
        place = f"/v1/jobs/{job.job_id}/spans/{number}"
        links = {"clip": f"{place}/clip.mp4", "thumbnail": f"{place}/thumbnail.jpg"} if clip else {}
        found.append({"clip": None, "thumbnail": None} | span | links)
    return SpanList.model_validate({"spans": found})
