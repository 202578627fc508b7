"""Files of annotation tools, damaged at random: an error names the file, and nothing lands outside the video."""

from __future__ import annotations

import io
import json
import random
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tool_files import (
    ACTIVITYNET,
    COCO_VID,
    CVAT_TAGS,
    CVAT_VIDEO,
    DATUMARO,
    EAF,
    ELAN_TABLE,
    REASONING,
    VIA,
    YOUTUBE_VIS,
)

from annotation.formats.foreign import ForeignGlance, Import
from annotation.formats.registry import AUTO, read_annotations
from annotation.formats.tables import to_table
from annotation.ground_truth import read_ground_truth
from annotation.resolve import resolve_glance, resolve_span
from annotation.video_index import VideoIndex
from pipeline.errors import DataError, RecordError
from pipeline.records import Video

ROUNDS = 300
LOBBY = Video(
    video_id="lobby", path="", sha256="", fps=25.0, num_frames=400, duration_s=16.0, width=64, height=48,
    codec="", label=None, split=None, source="test",
)  # fmt: skip


def mask() -> bytes:
    file = io.BytesIO()
    np.save(file, np.arange(400) % 7 == 3)
    return file.getvalue()


FILES: dict[str, tuple[str, object]] = {
    "cvat": ("a.xml", CVAT_VIDEO),
    "cvat tags": ("a.xml", CVAT_TAGS),
    "datumaro": ("lobby.json", DATUMARO),
    "via": ("a.json", VIA),
    "elan": ("a.eaf", EAF),
    "elan-table": ("lobby.txt", ELAN_TABLE),
    "activitynet": ("a.json", ACTIVITYNET),
    "coco-video": ("a.json", COCO_VID),
    "coco-video tracks": ("a.json", YOUTUBE_VIS),
    "vad-reasoning": ("a.jsonl", REASONING),
    "frame-masks": ("lobby.npy", mask()),
    "ground-truth": ("a.csv", "video,start,end,label\nlobby,0.5,1.5,Fighting\nlobby,00:00:01,00:01,Robbery\n"),
}
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
TEXT = re.compile(rb'"[^"\n]{0,40}"')
ODD_NUMBERS = tuple(
    b"-1 0 -0.0 399 400 16 1e999 1e-320 NaN Infinity 99999999999999999999999 1_0 0x1 null true [] {} 1,5".split()
)
ODD_TEXTS = tuple(rb'"" null 7 [] {} [[1]] "\ud800" "lobby" "Normal" "a/lobby.mp4"'.split())
ODD_BYTES = (b"", b"\n", b"\t", *b'< &x; ] } " ; , \x00 \xff\xfe \xef\xbb\xbf \xe2\x80\xa8'.split(b" "))


def _text(sample: object) -> str:
    return sample if isinstance(sample, str) else json.dumps(sample)


def damaged(rng: random.Random, content: bytes) -> bytes:
    """Return content with one to four values or stretches of bytes replaced, or cut short."""
    for _ in range(rng.randint(1, 4)):
        kind = rng.choice(("number", "number", "text", "bytes", "cut"))
        places = list((NUMBER if kind == "number" else TEXT).finditer(content))
        if kind in {"number", "text"} and places:
            place = rng.choice(places)
            odd = rng.choice(ODD_NUMBERS if kind == "number" else ODD_TEXTS)
            content = content[: place.start()] + odd + content[place.end() :]
        elif kind == "cut" and rng.random() < 0.3:
            content = content[: rng.randrange(len(content) + 1)]
        else:
            start = rng.randrange(len(content) + 1)
            odd = rng.choice((*ODD_BYTES, rng.randbytes(3)))
            content = content[:start] + odd + content[start + rng.choice((0, 1, 5, 40)) :]
    return content


def read(path: Path, format_name: str) -> Import:
    """Return what a file holds; nothing where the error names the file."""
    try:
        return read_annotations(path, format_name)
    except DataError as fault:
        said = str(fault)
    assert str(path) in said
    return Import(format=format_name)


def clicks(found: Import) -> Iterator[ForeignGlance]:
    yield from found.glances
    yield from filter(None, (span.middle() for span in found.spans))


@pytest.mark.parametrize("name", FILES)
def test_damaged(tmp_path: Path, name: str) -> None:
    rng = random.Random(name)
    file_name, sample = FILES[name]
    content = sample if isinstance(sample, bytes) else _text(sample).encode()
    path, index, placed = tmp_path / file_name, VideoIndex([LOBBY, replace(LOBBY, video_id="lobby cam")]), 0
    for attempt in range(ROUNDS):
        path.write_bytes(damaged(rng, content))
        found = read(path, AUTO if attempt % 2 else name.split(maxsplit=1)[0])
        to_table(found)
        "".join(map(str, found.faults)).encode()
        for click in clicks(found):
            with suppress(RecordError):
                glance = resolve_glance(click, index)
                assert 0 <= glance.frame_index < LOBBY.num_frames
                assert 0 <= glance.time_s < LOBBY.duration_s
                placed += 1
        for span in found.spans:
            with suppress(RecordError):
                event = resolve_span(span, index)
                assert 0 <= event.start_s < event.end_s <= LOBBY.duration_s
        with suppress(DataError):
            for events in read_ground_truth(path, index).events.values():
                assert all(0 <= event.start_frame < event.end_frame <= LOBBY.num_frames for event in events)
    assert placed > ROUNDS / 20, "the damage leaves too little to place"
