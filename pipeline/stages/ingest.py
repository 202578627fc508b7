"""ingest: from the files that a configuration names to `Video` rows."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import posixpath
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from difflib import SequenceMatcher
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import fsspec

from pipeline.config import IngestConfig, SourcesConfig, VideoConfig
from pipeline.errors import RecordError
from pipeline.needs import Needs
from pipeline.records import NORMAL, Reason, Video, digest, readable_id, told_spans
from pipeline.sources.catalogue import Catalogue
from pipeline.stages.base import Claiming, Outcome, Travelling, Unit, in_step
from pipeline.stages.listing import BadSource, Source
from pipeline.stages.official import list_videos
from pipeline.stages.zipped import is_zipped, stamp_of, unpack
from pipeline.storage import TEMPORARY
from pipeline.taxonomy import canonical, label_from_name, nearest_class
from pipeline.workspace import Workspace

if TYPE_CHECKING:
    from pipeline.video.probe import VideoFacts

logger = logging.getLogger(__name__)

# Manifests round their rates; a difference beyond this is a contradiction worth a warning.
FPS_TOLERANCE = 0.01

# "Fightning" is 0.94 like "Fighting"; classes that both exist, such as Robbery and Burglary, stay under 0.7.
SLIP_SIMILARITY = 0.8


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeJob:
    """A file to measure, or what is already known of it: its facts or its fault."""

    path: str
    verify: Literal["packets", "decode"]
    facts: VideoFacts | RecordError | None = None


class IngestStage(Travelling[Source | BadSource, Video], Claiming):
    """Probe every listed file in worker processes.

    A file's unit of work is its path, size and time of change, and its manifest row: untouched files are not read
    again. A file that moved is read again, and is the same video where its id is: nothing made from it is made again.
    """

    name = "ingest"
    record_type = Video

    def __init__(
        self,
        workspace: Workspace,
        entries: Iterable[str],
        config: IngestConfig,
        video: VideoConfig,
        *,
        catalogue: Catalogue | None = None,
        sources: SourcesConfig | None = None,
    ) -> None:
        self._workspace = workspace
        self._entries = list(entries)
        self._catalogue = catalogue
        self._sources = sources
        self._config = config
        self._video = video

    def identity(self) -> Mapping[str, Any]:
        return {"code": 8, **self._config.model_dump(include={"label_from_name", "verify", "max_lost"})}

    def units(self) -> Iterator[Unit[Source | BadSource]]:
        for source in list_videos(self._entries, self._catalogue, self._sources):
            if isinstance(source, BadSource):
                yield Unit(key=digest(source.name, source.fault.detail), record_id=source.name, payload=source)
            else:
                key = digest(asdict(source), file_state(source.path))
                yield Unit(key=key, record_id=source.video_id or source.path, payload=source)

    def needs(self) -> Needs | None:
        # What is fetched or unpacked beside a remote workspace lies on the machine that did so.
        return Needs() if self._workspace.storage.is_local else None

    def reads(self, payload: Source | BadSource) -> str:
        return "" if isinstance(payload, BadSource) or "://" in payload.path else payload.path

    def work(self, units: Iterable[Unit[Source | BadSource]], brief: None) -> Iterator[Outcome[Video]]:  # noqa: ARG002
        from pipeline.video.pool import VideoPool

        with VideoPool(self._video.workers, self._video.timeout_s, self._video.memory_mb) as pool:
            for unit, facts in in_step(units, lambda sources: pool.map(probe_file, map(self._job, sources))):
                try:
                    video = self._to_video(unit.payload, facts)
                except RecordError as fault:
                    yield Outcome(rejected=[(unit.record_id, fault)])
                else:
                    yield Outcome(rows=[video])

    def settle(self, outcomes: Iterable[Outcome[Video]]) -> Iterator[Outcome[Video]]:
        """Turn away whoever claims the id of a video before it: only here are all of them known."""
        holders = self._workspace.videos.arrow(["video_id", "path", "source"]).to_pylist()
        # Where there is no file, the row that names the video holds its id.
        taken = {row["video_id"]: row["path"] or row["source"] for row in holders}
        for outcome in outcomes:
            if not outcome.rows:
                yield outcome
                continue
            [video] = outcome.rows
            claimant = video.path or video.source
            holder = taken.setdefault(video.video_id, claimant)
            if holder == claimant:
                yield outcome
            else:
                detail = f"{video.source}: video_id {video.video_id} is already that of {holder}"
                yield Outcome(rejected=[(video.video_id, RecordError(Reason.DUPLICATE_VIDEO_ID, detail))])

    def _job(self, source: Source | BadSource) -> ProbeJob:
        if isinstance(source, BadSource):
            # A known fault takes the same way as the files, which keeps everything in order.
            return ProbeJob(path=source.name, verify=self._config.verify, facts=source.fault)
        if not source.path:
            return ProbeJob(path="", verify=self._config.verify, facts=_facts_without_footage(source))
        try:
            return ProbeJob(path=self._local_path(source.path), verify=self._config.verify)
        except RecordError as fault:
            return ProbeJob(path=source.path, verify=self._config.verify, facts=fault)

    def _local_path(self, path: str) -> str:
        if is_zipped(path):
            return str(unpack(path, self._workspace))
        if "://" not in path:
            return path
        # A remote video is fetched once into the workspace: seeking over the network is what decoders do worst.
        target = self._workspace.storage.local_path(f"videos/{digest(path)[:16]}/{posixpath.basename(path)}")
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            partial = target.with_name(f"{TEMPORARY}{target.name}")
            try:
                fs, remote = fsspec.core.url_to_fs(path)
                fs.get_file(remote, str(partial))
                partial.replace(target)
            except (OSError, ValueError, ImportError) as fault:
                # The probe that follows finds no file and rejects it; this line tells why.
                logger.warning("%s: cannot be fetched: %s", path, fault)
        return str(target)

    def _to_video(self, source: Source | BadSource, facts: VideoFacts | RecordError) -> Video:
        if isinstance(source, BadSource):
            raise source.fault
        # A person repairs the manifest's row, where there is one.
        place = source.path if source.path.startswith(source.place) else source.place
        if isinstance(facts, RecordError):
            raise facts if place == source.path else RecordError(facts.reason, f"{place}: {facts.detail}")
        if facts.lost_share > self._config.max_lost:
            cut_off = f"; {'; '.join(facts.remarks)}" if facts.missing_s else ""
            raise RecordError(
                Reason.TRUNCATED if facts.missing_s else Reason.DECODE_FAILED,
                f"{place}: {facts.lost_share:.1%} of its frames are lost{cut_off}; "
                f"ingest.max_lost={self._config.max_lost:g}",
            )
        if facts.lost:
            logger.warning("%s: no picture: %s", place, told_spans(facts.lost))
        video_id = source.video_id or readable_id(Path(source.name).stem, source.name, facts.sha256)
        path = source.path
        if path:
            path = self._local_path(path) if "://" in path else str(Path(path).absolute())
        for remark in facts.remarks:
            logger.warning("%s: %s", place, remark)
        _compare_claims(source, facts)
        return Video(
            video_id=video_id,
            path=path,
            sha256=facts.sha256,
            fps=facts.fps,
            num_frames=facts.num_frames,
            duration_s=facts.duration_s,
            width=facts.width,
            height=facts.height,
            codec=facts.codec,
            label=self._label(source),
            split=source.split,
            source=source.place,
            lost=json.dumps(facts.lost) if facts.lost else None,
            lost_frames=json.dumps(facts.lost_frames) if facts.lost else None,
        )

    def _label(self, source: Source) -> str | None:
        if source.label is not None:
            if source.label.casefold() == NORMAL.casefold():
                return NORMAL
            known = canonical(source.label)
            if known is None:
                _mention_likely_slip(source.place, source.label)
            return known or source.label
        return label_from_name(source.name) if self._config.label_from_name else None


def probe_file(job: ProbeJob) -> VideoFacts:
    """Measure one file; runs in a worker process."""
    from pipeline.video.probe import probe

    if isinstance(job.facts, RecordError):
        raise job.facts
    if job.facts is not None:
        return job.facts
    return probe(job.path, verify=job.verify)


def _facts_without_footage(source: Source) -> VideoFacts:
    """Return what the manifest says of a video without footage."""
    from pipeline.video.probe import VideoFacts

    fps, num_frames = source.claimed_fps, source.claimed_frames
    if not fps or not num_frames:
        raise ValueError(f"{source.place}: a source without a path needs num_frames and fps")
    return VideoFacts(
        fps=fps,
        num_frames=num_frames,
        duration_s=num_frames / fps,
        width=0,
        height=0,
        codec="",
        sha256=hashlib.sha256(f"{source.video_id} {num_frames} {fps!r}".encode()).hexdigest(),
    )


def _mention_likely_slip(place: str, label: str) -> None:
    """Say where a label is nearly that of a known class: any label is taken, a misspelt one as a class of its own."""
    nearest = nearest_class(label)
    if SequenceMatcher(None, label.casefold(), nearest.casefold()).ratio() >= SLIP_SIMILARITY:
        logger.warning("%s: label %r is no known class and is kept as it is; is %s meant?", place, label, nearest)


def _compare_claims(source: Source, facts: VideoFacts) -> None:
    """Say where a manifest contradicts the file; the file's own timestamps are believed."""
    if source.claimed_fps and abs(source.claimed_fps - facts.fps) > FPS_TOLERANCE * facts.fps:
        logger.warning(
            "%s: fps=%g in the manifest, %.3f measured in the file: measured is used",
            source.place, source.claimed_fps, facts.fps,
        )  # fmt: skip
    if source.claimed_frames is not None and source.claimed_frames != facts.num_frames:
        logger.warning(
            "%s: num_frames=%d in the manifest, %d in the file: the file's is used",
            source.place, source.claimed_frames, facts.num_frames,
        )  # fmt: skip


def file_state(path: str) -> tuple[int, int] | str:
    """Return size and time of change in nanoseconds of a local file, or what stands in for them."""
    if is_zipped(path):
        return stamp_of(path)
    if "://" in path:
        return "remote"
    try:
        stat = os.stat(path)  # noqa: PTH116 - follows links, and names with any bytes in them
    except OSError as fault:
        return type(fault).__name__
    return stat.st_size, stat.st_mtime_ns
