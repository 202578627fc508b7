"""The right answers of HIVAU-70k as published: its instruction files, and its raw annotation.

Instructions are JSON Lines or a list; the released test file spells `anwser`, and `answer` is read too:

    {"id": 0, "type": "video", "task": "judgement", "video": "...", "prompt": "...", "anwser": "An anomaly exists, ..."}

The level is the folder of the video (`clips`, `events`, `videos`), else `type`; the right verdict, of the task
`judgement`, is what the reference answer says.

The raw annotation gives a reference for every sentence of a clip and every summary of an event or a video. Their ids
are `Abuse028_x264.video_summary`, `Abuse028_x264.events[0]` and `Abuse028_x264.clips[0][1]`; the right verdict, of
events and videos, is abnormal where the video has a label.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path, PureWindowsPath
from typing import Any

from annotation.formats.answer_rows import Place, id_of, read_rows, text_of
from annotation.formats.descriptions import is_hivau, read_hivau
from annotation.formats.foreign import ForeignSpan, SpanKind
from annotation.source import Source, show
from pipeline.errors import DataError
from pipeline.evaluate.answers import LEVELS, Reference
from pipeline.evaluate.answers_verdict import read_verdict
from pipeline.records import NORMAL
from pipeline.taxonomy import label_from_name

logger = logging.getLogger(__name__)

JUDGEMENT = "judgement"
"""HIVAU's task whose answer is a verdict."""

SUMMARY = "summary"
"""Task given here to the raw summaries of events and videos, which judge, describe and explain."""

CAPTION = "caption"

_ANSWER = ("anwser", "answer")
_QUESTION = ("prompt", "question")
_FOLDERS = {"clips": "clip", "events": "event", "videos": "video"}
_LEVEL_OF_KIND = {SpanKind.CLIP: "clip", SpanKind.EVENT: "event", SpanKind.VIDEO: "video"}
_ASKED_OF_RAW = {
    SUMMARY: "Are there any abnormal events in this video?",
    CAPTION: "Describe what happens in this video.",
}


def read_hivau_references(path: Path) -> list[Reference]:
    """Read the references of either form, in file order.

    Raises:
        DataError: the file has neither form, holds no reference, or, naming the place, one cannot be used.
    """
    source = Source(path)
    references = list(_raw(source) if _is_raw(source) else _instructions(source))
    if not references:
        raise DataError(f"{path}: no reference answers in it")
    return references


def _is_raw(source: Source) -> bool:
    # JSON Lines begin like an object too, but go on behind it
    if source.is_parquet or not source.text.lstrip().startswith("{"):
        return False
    try:
        return is_hivau(source.json)
    except DataError:
        return False


def _instructions(source: Source) -> Iterator[Reference]:
    for place, row in read_rows(source):
        task, video = text_of(place, row, ("task",)), text_of(place, row, ("video",))
        answer = text_of(place, row, _ANSWER).strip()
        if not answer:
            raise DataError(f"{place}: the reference answer is empty")
        is_anomaly = read_verdict(answer) if task == JUDGEMENT else None
        if task == JUDGEMENT and is_anomaly is None:
            raise DataError(f"{place}: a judgement is expected, but {show(answer)} says neither abnormal nor normal")
        yield Reference(
            id=id_of(place, row),
            level=_level(place, row, video),
            task=task,
            question=text_of(place, row, _QUESTION),
            answer=answer,
            label=_label(video, is_anomaly),
            is_anomaly=is_anomaly,
            video=video,
        )


def _level(place: Place, row: Mapping[str, Any], video: str) -> str:
    folders = PureWindowsPath(video).parts[:-1]
    level = next((_FOLDERS[name] for name in reversed(folders) if name in _FOLDERS), row.get("type"))
    if level not in LEVELS:
        raise DataError(f"{place}: type is {show(level)}, expected one of {', '.join(LEVELS)}")
    return str(level)


def _label(video: str, is_anomaly: bool | None) -> str | None:
    """Return the class that the video's name tells, where it does not contradict the verdict."""
    label = label_from_name(video)
    if is_anomaly is False:
        return NORMAL
    return None if is_anomaly and label == NORMAL else label


def _raw(source: Source) -> Iterator[Reference]:
    found = read_hivau(source)
    for fault in found.faults:
        logger.warning("left out: %s", fault)
    for span in found.spans:
        if span.sentence is None:
            continue
        task = CAPTION if span.kind is SpanKind.CLIP else SUMMARY
        # A fault-free span's place is its JSON path, which is the same in every copy of the file.
        path = span.place.split(f"$[{span.video!r}]", 1)[1]
        label = span.category or NORMAL
        yield Reference(
            id=f"{span.video}{path}",
            level=_LEVEL_OF_KIND[span.kind],
            task=task,
            question=_ASKED_OF_RAW[task],
            answer=span.sentence,
            label=label,
            is_anomaly=None if task == CAPTION else label != NORMAL,
            video=span.video,
            span_s=_part(span),
        )


def _part(span: ForeignSpan) -> tuple[float, float] | None:
    if span.kind is SpanKind.VIDEO or span.start_s is None or span.end_s is None:
        return None
    return span.start_s, span.end_s
