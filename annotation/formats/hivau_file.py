"""HIVAU-70k's raw annotation as a file to write: clips, events and videos with their texts, an object a video.

What `read_hivau` reads of a file, `write_hivau` writes again byte for byte, as far as the file was written as the
published one is: four spaces, letters beyond ASCII escaped, every key in its place.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from annotation.formats.descriptions import PARTS
from annotation.formats.foreign import ForeignSpan, SpanKind
from annotation.formats.registry import read_annotations
from pipeline.dataset import layout
from pipeline.dataset.formats import ExportFormat
from pipeline.errors import ConfigError, DataError
from pipeline.records import NORMAL, Level, Task, Video
from pipeline.storage import write_atomically
from pipeline.workspace import Workspace, is_workspace

_PART_OF_TASK = {Task.JUDGE_EXPLAIN: "judgement", Task.DESCRIPTION: "description", Task.ANALYSIS: "analysis"}
_SLACK_S = 1e-3


def write_hivau(spans: Iterable[ForeignSpan], path: Path) -> int:
    """Write described spans of all levels and return the number of videos.

    Raises:
        DataError: naming the video whose frames and rate are not known, or whose clip belongs to no event.
    """
    videos: defaultdict[str, list[ForeignSpan]] = defaultdict(list)
    for span in spans:
        videos[span.video].append(span)
    content = {name: _entry(name, found) for name, found in videos.items()}
    if path.parent != Path():
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, json.dumps(content, indent=4).encode())
    return len(content)


def convert_to_hivau(source: Path, out: Path) -> int:
    """Write the described spans of an annotation file, such as one that `holmes import` made, in HIVAU's form.

    Raises:
        DataError: as `read_annotations` and `write_hivau`, or there is no described span.
    """
    spans = [span for span in read_annotations(source).spans if span.kind is not SpanKind.CAPTION]
    if not spans:
        raise DataError(f"{source}: no clips, events and videos with their texts in it")
    return write_hivau(spans, out)


def _entry(name: str, spans: list[ForeignSpan]) -> dict[str, Any]:
    events = sorted((s for s in spans if s.kind is SpanKind.EVENT), key=lambda span: span.event or 0)
    whole = next((span for span in spans if span.kind is SpanKind.VIDEO), None)
    known = next((span for span in spans if span.num_frames and span.frame_rate), None)
    if known is None:
        raise DataError(f"{name}: how many frames it has, and at which rate, is not known")
    clips: dict[int, list[ForeignSpan]] = {number: [] for number in range(len(events))}
    for clip in (span for span in spans if span.kind is SpanKind.CLIP):
        if clip.event not in clips:
            raise DataError(f"{clip.place}: a clip of event {clip.event}, of which {name} has {len(events)}")
        clips[clip.event].append(clip)
    return {
        "n_frames": known.num_frames,
        "fps": known.frame_rate,
        "label": [] if known.category == NORMAL else [known.category],
        "events": [[span.start_s, span.end_s] for span in events],
        "clips": [[[span.start_s, span.end_s] for span in group] for group in clips.values()],
        "clips_caption": [[span.sentence or "" for span in group] for group in clips.values()],
        "events_summary": [span.sentence or "" for span in events],
        "video_summary": (whole.sentence if whole else None) or "",
        "events_summary_split": [_split(span) for span in events],
        "video_summary_split": _split(whole) if whole else {},
    }


def _split(span: ForeignSpan) -> dict[str, str]:
    return {name: text for name in PARTS if (text := getattr(span, name)) is not None}


def _write_dataset(folder: Path, out: Path) -> int:
    if out.suffix != ".json":
        raise ConfigError(f"{out}: hivau is written to a .json file")
    if not is_workspace(folder.resolve().parent):
        raise DataError(f"{folder}: a dataset without its workspace: frames and rates of the videos stand there")
    videos = {video.video_id: video for video in Workspace(str(folder.resolve().parent)).videos.records()}
    spans: dict[str, dict[tuple[Any, ...], dict[str, Any]]] = {}
    for row in layout.read_rows(folder):
        place = (row["level"], row["start_s"], row["end_s"], row["label"])
        told = spans.setdefault(row["source_video"], {}).setdefault(place, {})
        told[row["task"]] = row["answer"]
        told["caption_of_clip"] = row["caption"]
    described = [span for name, told in spans.items() for span in _described(videos[name], told)]
    if not any(span.kind is SpanKind.EVENT for span in described):
        raise DataError(f"{folder}: no rows about events: build with synthesize.levels=[clip,event,video]")
    return write_hivau(described, out)


def _described(video: Video, told: Mapping[tuple[Any, ...], Mapping[str, str]]) -> list[ForeignSpan]:
    """Return the rows about one video as described spans; a clip belongs to the first event of its class around it."""
    events = sorted(place for place in told if place[0] == Level.EVENT)
    spans = []
    label = next((place[3] for place in told if place[0] == Level.VIDEO), video.label) or NORMAL
    for place in sorted(told):
        level, start_s, end_s, category = place
        texts = told[place]
        number: int | None = None
        if level == Level.EVENT:
            number = events.index(place)
        elif level == Level.CLIP:
            around = (n for n, event in enumerate(events) if _holds(event, place))
            number = next(around, None)
            if number is None:
                continue
        parts: dict[str, Any] = {part: texts[task] for task, part in _PART_OF_TASK.items() if task in texts}
        sentence = texts["caption_of_clip"] if level == Level.CLIP else parts.get("judgement")
        spans.append(
            ForeignSpan(
                video=video.video_id, start_s=start_s, end_s=end_s, category=label, sentence=sentence,
                kind=SpanKind(level), frame_rate=video.fps, num_frames=video.num_frames, event=number,
                place=f"{video.video_id}: {category}", **({} if level == Level.CLIP else parts),
            )
        )  # fmt: skip
    return spans


def _holds(event: tuple[Any, ...], clip: tuple[Any, ...]) -> bool:
    return bool(event[3] == clip[3] and event[1] - _SLACK_S <= clip[1] and clip[2] <= event[2] + _SLACK_S)


HIVAU_FILE = ExportFormat(title="HIVAU-70k's raw annotation: clips, events and videos", write=_write_dataset)
