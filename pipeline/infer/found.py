"""What was found in many videos, as a table that grows and is resumed: detection as a stage."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.errors import RecordError
from pipeline.infer.settings import DetectSettings
from pipeline.needs import Needs, needs_of_device
from pipeline.records import Record, digest
from pipeline.stages.base import Outcome, TableOnly, Travelling, Unit
from pipeline.stages.ingest import file_state

if TYPE_CHECKING:
    from pipeline.infer.detector import Detector

TABLE = "detect"

# They say where and how, not what is found.
_OPERATIONAL = frozenset({"device", "reconnect_s", "sampler", "model_path", "model_base", "trust_remote_code"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding(Record):
    """What was found in one video: `found` is the JSON object of `holmes detect --json`.

    `is_anomaly` is 1 or 0, None where nothing judges; `highest` is the highest score of a span, in [0, 1].
    """

    video: str
    is_anomaly: int | None
    answer: str | None
    spans: int
    highest: float | None
    found: str


class DetectStage(Travelling[str, Finding], TableOnly):
    """Detects in one video after the other; models are loaded with the first and kept."""

    name = TABLE
    record_type = Finding

    def __init__(self, settings: DetectSettings, videos: Sequence[str] = ()) -> None:
        self._settings = settings
        self._videos = videos
        self._detector: Detector | None = None

    def identity(self) -> Mapping[str, Any]:
        from pipeline.models.hf.model import source_identity
        from pipeline.sampler.model_io import weights_digest

        settings = self._settings
        kept = {name: value for name, value in asdict(settings).items() if name not in _OPERATIONAL}
        kept["proposal"] = settings.proposal.identity()
        kept["features"] = settings.features.identity()
        model = None if settings.model_path is None else source_identity(settings.source_of(settings.model_path))
        sampler = None if settings.sampler is None else weights_digest(Path(settings.sampler))
        return {"code": 1, **kept, "sampler": sampler, "model": model}

    def needs(self) -> Needs:
        return needs_of_device(self._settings.device)

    def reads(self, payload: str) -> str:
        return payload

    def units(self) -> Iterator[Unit[str]]:
        for video in self._videos:
            yield Unit(key=digest(video, file_state(video)), record_id=video, payload=video)

    def work(self, units: Iterable[Unit[str]], brief: None) -> Iterator[Outcome[Finding]]:  # noqa: ARG002
        from pipeline.infer.detector import Detector

        if self._detector is None:
            self._detector = Detector(self._settings)
        for unit in units:
            try:
                yield Outcome(rows=[_detect(self._detector, unit.payload)])
            except RecordError as fault:
                yield Outcome(rejected=[(unit.record_id, fault)])


def _detect(detector: Detector, video: str) -> Finding:
    found = detector.detect(video)
    return Finding(
        video=video,
        is_anomaly=None if found.is_anomaly is None else int(found.is_anomaly),
        answer=found.answer,
        spans=len(found.spans),
        highest=max((float(span.score) for span in found.spans), default=None),
        found=json.dumps(found.as_json(), ensure_ascii=False),
    )


def make_detect_stage(settings: DetectSettings) -> DetectStage:
    """Make the stage of a worker, which is sent its videos."""
    return DetectStage(settings)
