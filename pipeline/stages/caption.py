"""caption: from event clips to `Caption` rows, whatever captioner stands behind them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from pipeline.errors import RecordError
from pipeline.models.base import Captioner, CaptionRequest, Evident, Pays, Spending
from pipeline.needs import Keeping, Needs, Placed
from pipeline.records import Caption, Level, Reason, Video, digest
from pipeline.schema import content_key
from pipeline.stages.base import Outcome, TableOnly, Travelling, Unit, in_step, outcome_of
from pipeline.workspace import Workspace

_VIDEOS_HELD = 256
"""The clips of a video mostly stand together."""


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
        videos = self._workspace.videos.lookup("video_id")

        @functools.lru_cache(maxsize=_VIDEOS_HELD)
        def video_of(video_id: str) -> tuple[Video, str]:
            video = videos.get(video_id)
            if video is None:
                raise RuntimeError(f"{video_id}: the video of a clip is gone; run the build again")
            return video, content_key(replace(video, label=None, split=None))

        for clip in self._workspace.clips.records():
            if clip.level is not Level.CLIP:
                # The levels stage tells these by their clips.
                continue
            video, video_key = video_of(clip.video_id)
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
