"""caption: from event clips to `Caption` rows, whatever captioner stands behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipeline.errors import RecordError
from pipeline.models.base import Captioner, CaptionRequest, Evident, Pays, Spending
from pipeline.records import Caption, Reason, digest
from pipeline.schema import content_key
from pipeline.stages.base import Outcome, TableOnly, Unit, in_step, outcome_of
from pipeline.workspace import Workspace


class CaptionStage(TableOnly):
    """Ask the captioner for a sentence or a few about every clip."""

    name = "caption"
    record_type = Caption

    def __init__(self, workspace: Workspace, captioner: Captioner) -> None:
        self._workspace = workspace
        self._captioner = captioner

    def identity(self) -> Mapping[str, Any]:
        return {"code": 1, "captioner": self._captioner.name, **self._captioner.identity()}

    def units(self) -> Iterator[Unit[CaptionRequest]]:
        videos = {
            video.video_id: (video, content_key(replace(video, label=None, split=None)))
            for video in self._workspace.videos.records()
        }
        for clip in self._workspace.clips.records():
            video, video_key = videos[clip.video_id]
            request = CaptionRequest(clip=clip, video=video)
            key = digest(content_key(clip), video_key, self._captioner.evidence_of(request))
            yield Unit(key=key, record_id=clip.clip_id, payload=request)

    def sources(self) -> str | None:
        evidence = self._captioner.all_evidence() if isinstance(self._captioner, Evident) else None
        return (
            None
            if evidence is None
            else digest([table.digest() for table in (self._workspace.videos, self._workspace.clips)], evidence)
        )

    def run(self, units: Iterable[Unit[CaptionRequest]]) -> Iterator[Outcome[Caption]]:
        for unit, caption in in_step(units, self._captioner.caption):
            if isinstance(caption, Caption) and not caption.text.strip():
                caption = RecordError(Reason.EMPTY_TEXT, f"{caption.captioner} gave no text")  # noqa: PLW2901
            yield outcome_of(unit.record_id, caption)

    def spent(self) -> Spending | None:
        return self._captioner.spent() if isinstance(self._captioner, Pays) else None
