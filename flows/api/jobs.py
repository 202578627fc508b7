"""Jobs in memory: each is a video that waits, is looked at, and is kept for a while with what was found in it."""

from __future__ import annotations

import dataclasses
import logging
import math
import shutil
import threading
import time
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from flows.api.addresses import fetch
from flows.api.faults import ApiFault
from flows.api.settings import ApiSettings
from flows.api.streams import DEFAULT_S, is_stream, record
from flows.page.intake import apart, measured, named
from flows.page.working import AbandonedError, Step, Worker
from pipeline.errors import DataError, HolmesError, RecordError
from pipeline.infer.frames import open_footage
from pipeline.stages.listing import VIDEO_SUFFIXES
from pipeline.video.cut import ClipSpan, cut_clips
from pipeline.video.still import middle_still

if TYPE_CHECKING:
    from pipeline.infer.detection import Detection
    from pipeline.infer.detector import Detector

logger = logging.getLogger(__name__)

_CUT_TIMEOUT_S = 1800.0
_SWEEP_EVERY_S = 5.0
_TIMED_JOBS, _FIRST_GUESS_S = 8, 30.0
_RETRY_MAX_S = 3600
_WAITS = Step("wait", 0, 1)
_DELETED = ApiFault(410, "deleted", "the job was deleted")


class State(StrEnum):
    """Where a job is."""

    UPLOADING = "uploading"
    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"


@dataclass(slots=True, kw_only=True)
class Job:
    """A video and what becomes of it.

    Attributes:
        folder: where its files are; they go with the job.
        name: how the caller called the video; never part of a path.
        url: where it is to be fetched from; None for an upload.
        seconds: how much of it is taken where that is a stream.
        path: the video, until it was looked at.
        result: as `holmes detect --json` prints it.
        clips: file of every span; None where it could not be cut.
        fault: why it failed.
    """

    job_id: str
    folder: Path
    name: str = ""
    url: str | None = None
    seconds: float = DEFAULT_S
    path: Path | None = None
    state: State = State.UPLOADING
    created_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    finished_at: datetime | None = None
    step: Step = _WAITS
    result: dict[str, Any] | None = None
    clips: list[Path | None] = field(default_factory=list)
    fault: ApiFault | None = None
    abandoned: threading.Event = field(default_factory=threading.Event)

    def report(self, name: str, done: int, total: int) -> None:
        """Note how far the work is; raise AbandonedError where nobody wants it any more."""
        if self.abandoned.is_set():
            raise AbandonedError
        self.step = Step(name, done, total)


class Jobs:
    """All jobs of a server, worked on by a few threads; the model is shared with whoever has the same worker."""

    def __init__(self, detector: Detector, worker: Worker, folder: Path, settings: ApiSettings) -> None:
        self.settings = settings
        self._detector = detector
        self._worker = worker
        self._folder = folder
        self._jobs: dict[str, Job] = {}
        self._waiting: deque[Job] = deque()
        self._took_s: deque[float] = deque(maxlen=_TIMED_JOBS)
        self._changed = threading.Condition()
        self._ended = False

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work on jobs while inside; what is not done by then is given up, and all files are removed."""
        threads = [
            threading.Thread(target=self._work, name=f"api-job-{number}", daemon=True)
            for number in range(self.settings.concurrent_jobs)
        ]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            with self._changed:
                self._ended = True
                for job in self._jobs.values():
                    job.abandoned.set()
                self._changed.notify_all()
            for thread in threads:
                thread.join(_SWEEP_EVERY_S)

    def admit(self) -> Job:
        """Return a new job whose video is still to come.

        Raises:
            ApiFault: 429 where as many wait as may.
        """
        with self._changed:
            waiting = sum(job.state in (State.UPLOADING, State.QUEUED) for job in self._jobs.values())
            if waiting >= self.settings.queue_size:
                each_s = sum(self._took_s) / len(self._took_s) if self._took_s else _FIRST_GUESS_S
                wait_s = min(max(1, math.ceil(each_s / self.settings.concurrent_jobs)), _RETRY_MAX_S)
                message = (
                    f"{waiting} jobs wait already, at most {self.settings.queue_size} may; try again in {wait_s} s"
                )
                raise ApiFault(429, "queue_full", message, {"Retry-After": str(wait_s)})
            # A name that nobody can guess, and the only part of a path that a job has.
            job_id = uuid.uuid4().hex
            job = self._jobs[job_id] = Job(job_id=job_id, folder=self._folder / job_id)
        job.folder.mkdir(mode=0o700)
        return job

    def enqueue(self, job: Job) -> None:
        """Have a job worked on, its name and its path or address being known."""
        with self._changed:
            job.state = State.QUEUED
            self._waiting.append(job)
            self._changed.notify()

    def get(self, job_id: str) -> Job:
        """Return a job that a caller may know of.

        Raises:
            ApiFault: 404 where there is none, or no longer.
        """
        with self._changed:
            self._sweep()
            job = self._jobs.get(job_id)
        if job is None or job.state is State.UPLOADING:
            raise ApiFault(404, "no_such_job", f"job {job_id[:64]}: there is none, or it was deleted")
        return job

    def all(self) -> list[Job]:
        """Return the jobs that callers may know of, in the order of their coming."""
        with self._changed:
            self._sweep()
            return [job for job in self._jobs.values() if job.state is not State.UPLOADING]

    def position(self, job: Job) -> int | None:
        """Return how many jobs are before this one in the queue; None where it does not wait."""
        with self._changed:
            return self._waiting.index(job) if job in self._waiting else None

    def expires_at(self, job: Job) -> datetime | None:
        """Return when a finished job will be gone."""
        return None if job.finished_at is None else job.finished_at + timedelta(seconds=self.settings.keep_s)

    def drop(self, job: Job) -> None:
        """Forget a job and its files; one that is worked on ends at its next step."""
        with self._changed:
            self._jobs.pop(job.job_id, None)
            if job in self._waiting:
                self._waiting.remove(job)
            job.abandoned.set()
        shutil.rmtree(job.folder, ignore_errors=True)

    def _sweep(self) -> None:
        """Forget what was kept long enough; the lock is held."""
        finished = sorted((job.finished_at, job.job_id) for job in self._jobs.values() if job.finished_at is not None)
        oldest = datetime.now(UTC) - timedelta(seconds=self.settings.keep_s)
        beyond = len(finished) - self.settings.keep_jobs
        for place, (finished_at, job_id) in enumerate(finished):
            if place < beyond or finished_at <= oldest:
                shutil.rmtree(self._jobs.pop(job_id).folder, ignore_errors=True)

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._ended:
                    self._changed.wait(_SWEEP_EVERY_S)
                    self._sweep()
                if self._ended:
                    return
                job = self._waiting.popleft()
                job.state = State.RUNNING
            started = time.monotonic()
            fault = self._outcome(job)
            with self._changed:
                job.fault = fault
                job.state = State.FAILED if fault else State.DONE
                job.finished_at = datetime.now(UTC)
                self._took_s.append(time.monotonic() - started)
            if job.abandoned.is_set():
                shutil.rmtree(job.folder, ignore_errors=True)

    def _outcome(self, job: Job) -> ApiFault | None:
        """Do a job; return why there is no result, if so."""
        try:
            self._do(job)
        except Exception as fault:  # noqa: BLE001 - told to the caller, and where it is ours to the log
            # the files of a deleted job go while they are being read
            return _DELETED if job.abandoned.is_set() else _fault_of(fault, job)
        finally:
            if job.path is not None:
                job.path.unlink(missing_ok=True)
        return None

    def _do(self, job: Job) -> None:
        limits = self.settings.limits
        if job.url is not None and is_stream(job.url):
            job.report("fetch", 0, 0)
            job.path = job.folder / "video.mkv"
            record(job.url, job.path, seconds=job.seconds, max_mb=limits.max_mb)
        elif job.url is not None:
            job.path = job.folder / f"video{_suffix_of(job.url)}"
            fetch(
                job.url, job.path, max_mb=limits.max_mb, allow_private=self.settings.allow_private,
                on_progress=partial(job.report, "fetch"),
            )  # fmt: skip
        path = job.path
        assert path is not None  # noqa: S101 - an upload was written before it was enqueued
        measured(path, job.name, limits)

        def detect() -> Detection:
            job.report("wait", 1, 1)
            return self._detector.detect(path, job.report)

        found = self._worker.do(detect)
        job.report("clips", 0, len(found.spans))
        job.clips = self._clips_of(job, path, found)
        job.report("clips", len(found.spans), len(found.spans))
        # The path on this machine is nobody's business.
        job.result = dataclasses.replace(found, video=job.name).as_json()

    def _clips_of(self, job: Job, path: Path, found: Detection) -> list[Path | None]:
        if not found.spans:
            return []
        footage = open_footage(path, "auto")
        frames = [footage.frames_of(span.start_s, span.end_s) for span in found.spans]
        spans = [ClipSpan(*bounds, job.folder / f"clip-{number}.mp4") for number, bounds in enumerate(frames)]
        made = apart(partial(_cut, spans=spans), str(path), _CUT_TIMEOUT_S)
        outcomes = [made] * len(spans) if isinstance(made, RecordError) else made
        for outcome in outcomes:
            if isinstance(outcome, RecordError):
                logger.warning("job %s: no clip: %s", job.job_id, outcome)
        return [None if isinstance(outcome, RecordError) else outcome for outcome in outcomes]


def _fault_of(fault: Exception, job: Job) -> ApiFault:
    """Return what is told of a failure."""
    if isinstance(fault, ApiFault):
        return fault
    status, code, message = 500, "internal", f"the analysis failed ({type(fault).__name__}); the server's log says more"
    if isinstance(fault, RecordError):
        status, code, message = 422, str(fault.reason), fault.detail
    elif isinstance(fault, DataError):
        status, code, message = 422, "video_refused", str(fault)
    elif isinstance(fault, HolmesError):
        code, message = "not_set_up", str(fault)
    else:
        logger.error("job %s failed", job.job_id, exc_info=fault)
    return ApiFault(status, code, message if job.path is None else named(message, job.path, job.name))


def _cut(path: str, spans: list[ClipSpan]) -> list[Path | RecordError]:
    """Write the clips of a video and beside each a picture of its middle."""
    made = cut_clips(path, spans)
    for clip in made:
        if isinstance(clip, Path):
            clip.with_suffix(".jpg").write_bytes(middle_still(clip))
    return made


def _suffix_of(url: str) -> str:
    suffix = Path(urlsplit(url).path).suffix.lower()
    return suffix if suffix in VIDEO_SUFFIXES else ".mp4"
