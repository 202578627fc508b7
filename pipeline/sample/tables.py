"""The files beside the videos: manifest, clicks, a Label Studio export, ground truth, captions and scenes."""

from __future__ import annotations

import csv
import io
import json
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from string import ascii_lowercase, ascii_uppercase, digits
from typing import Any

from pipeline.records import NORMAL
from pipeline.sample.definitions import load
from pipeline.sample.plan import FPS, VideoPlan
from pipeline.sample.shot import Shot
from pipeline.sample.words import place_and_light
from pipeline.storage import write_atomically

MANIFEST = "videos.csv"
LABEL_STUDIO = "label_studio.json"
GLANCES = "glance_annotations.csv"
GROUND_TRUTH = "ground_truth.csv"
CAPTIONS = "captions.csv"
SCENES = "scenes.csv"
TABLES = (MANIFEST, LABEL_STUDIO, GLANCES, GROUND_TRUTH, CAPTIONS, SCENES)

_TEMPLATE = load("label_studio_task", dict[str, dict[str, Any]])
_STARTED = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClickedEvent:
    """An event in frames, [start_frame, end_frame), with the frame on which an annotator clicked."""

    category: str
    start_frame: int
    end_frame: int
    glance_frame: int
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Clicked:
    """A video, its events, and in a sentence its place, its light and who and what is there at some time."""

    plan: VideoPlan
    events: tuple[ClickedEvent, ...]
    scene: str

    @classmethod
    def of(cls, plan: VideoPlan, shot: Shot, rng: Random) -> Clicked:
        """Round events to frames and click on a random frame in each."""
        clicked = []
        for event in shot.events:
            start, end = round(event.start_s * FPS), min(plan.num_frames, round(event.end_s * FPS))
            clicked.append(
                ClickedEvent(
                    category=event.category, start_frame=start, end_frame=end,
                    glance_frame=rng.randrange(start, end), sentence=event.sentence,
                )
            )  # fmt: skip
        scene = place_and_light(plan.kind, dark=bool(shot.night), indoor=shot.layout.indoor)
        there = [one.look.words for one in shot.people] + [one.words for one in shot.vehicles]
        if there:
            scene += f" In it are the {', the '.join(dict.fromkeys(there))}."
        return cls(plan=plan, events=tuple(clicked), scene=scene)

    @property
    def file(self) -> str:
        """The video file, relative to the manifest."""
        return f"videos/{self.plan.video_id}.mp4"

    @property
    def label(self) -> str:
        """The class of the first event, or Normal."""
        return self.events[0].category if self.events else NORMAL


def write_tables(out: Path, videos: Sequence[Clicked], seed: int) -> None:
    """Write all files beside the videos into the folder `out`."""
    events = [(video, event) for video in videos for event in video.events]
    _write_csv(
        out / MANIFEST,
        ("video_id", "file", "num_frames", "fps", "label", "split", "scene", "camera"),
        [
            (v.plan.video_id, v.file, v.plan.num_frames, FPS, v.label, v.plan.split, v.plan.scene, v.plan.camera)
            for v in videos
        ],
    )
    _write_csv(out / GLANCES, ("video-id", "glance"), [(v.plan.video_id, e.glance_frame) for v, e in events])
    _write_csv(
        out / GROUND_TRUTH,
        ("video_id", "start_frame", "end_frame_exclusive", "category"),
        [(v.plan.video_id, e.start_frame, e.end_frame, e.category) for v, e in events],
    )
    _write_csv(
        out / CAPTIONS,
        ("video_id", "start_s", "end_s", "sentence"),
        [(v.plan.video_id, e.start_frame / FPS, e.end_frame / FPS, e.sentence) for v, e in events],
    )
    _write_csv(
        out / SCENES,
        ("video_id", "start_s", "end_s", "sentence"),
        [(v.plan.video_id, 0.0, v.plan.duration_s, v.scene) for v in videos],
    )
    export = json.dumps(label_studio_export(videos, seed), ensure_ascii=False, separators=(",", ":"))
    write_atomically(out / LABEL_STUDIO, export.encode())


def label_studio_export(videos: Sequence[Clicked], seed: int) -> list[dict[str, Any]]:
    """Return the clicks as Label Studio 1.23 exports them: JSON, annotated tasks only, frames counted from 1."""
    rng = Random(f"{seed}:label-studio")
    return [_task(video, number, rng) for number, video in enumerate((v for v in videos if v.events), 1)]


def _task(video: Clicked, number: int, rng: Random) -> dict[str, Any]:
    opened = _STARTED + timedelta(minutes=3 * number, microseconds=rng.randrange(10**6))
    lead_time = round(rng.uniform(8, 60), 3)
    saved = opened + timedelta(seconds=lead_time)
    annotation = _TEMPLATE["annotation"] | {
        "id": number, "result": [_region(event, rng) for event in video.events], "created_at": _stamp(saved),
        "updated_at": _stamp(saved), "lead_time": lead_time, "result_count": len(video.events),
        "unique_id": str(uuid.UUID(int=rng.getrandbits(128), version=4)), "task": number,
    }  # fmt: skip
    data = {
        "video": f"/data/local-files/?d={video.file}", "video_id": video.plan.video_id, "rel_path": video.file,
        "fps": str(FPS),
    }  # fmt: skip
    return _TEMPLATE["task"] | {
        "id": number, "annotations": [annotation], "data": data, "created_at": _stamp(_STARTED),
        "updated_at": _stamp(saved), "inner_id": number,
    }  # fmt: skip


def _region(event: ClickedEvent, rng: Random) -> dict[str, Any]:
    frame = event.glance_frame + 1
    return _TEMPLATE["region"] | {
        "value": {"ranges": [{"start": frame, "end": frame}], "timelinelabels": [event.category]},
        "id": "".join(rng.choices(ascii_uppercase + ascii_lowercase + digits, k=10)),
    }


def _stamp(moment: datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _write_csv(path: Path, header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    write_atomically(path, text.getvalue().encode())
