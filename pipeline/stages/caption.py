"""caption: from event clips to `Caption` rows, whatever captioner stands behind them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipeline.errors import RecordError
from pipeline.models.base import Captioner, CaptionRequest, Pays, Spending
from pipeline.needs import Keeping, Needs, Placed
from pipeline.records import Caption, Level, Reason, digest
from pipeline.schema import content_key
from pipeline.stages.base import Outcome, TableOnly, Travelling, Unit, in_step, outcome_of
from pipeline.workspace import Workspace


class CaptionStage(Travelling[CaptionRequest, Caption], TableOnly):
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
            if clip.level is not Level.CLIP:
                # The levels stage tells these by their clips.
                continue
            video, video_key = videos[clip.video_id]
            request = CaptionRequest(clip=clip, video=video)
            key = digest(content_key(clip), video_key, self._captioner.evidence_of(request))
            yield Unit(key=key, record_id=clip.clip_id, payload=request)

    def needs(self) -> Needs | None:
        return self._captioner.needs() if isinstance(self._captioner, Placed) else None

    def reads(self, payload: CaptionRequest) -> str:
        return payload.video.path

    def keep(self) -> None:
        if isinstance(self._captioner, Keeping):
            self._captioner.keep()

    def work(self, units: Iterable[Unit[CaptionRequest]], brief: None) -> Iterator[Outcome[Caption]]:  # noqa: ARG002
        for unit, caption in in_step(units, self._captioner.caption):
            if isinstance(caption, Caption) and not caption.text.strip():
                caption = RecordError(Reason.EMPTY_TEXT, f"{caption.captioner} gave no text")  # noqa: PLW2901
            yield outcome_of(unit.record_id, caption)

    def spent(self) -> Spending | None:
        return self._captioner.spent() if isinstance(self._captioner, Pays) else None
