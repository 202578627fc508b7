"""Whatever a file holds, reading it ends in an Import or a HolmesError, and resolving it in a RecordError at most."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotation.formats.foreign import Import
from annotation.formats.parquet import import_to_parquet
from annotation.formats.registry import annotation_formats, read_annotations
from annotation.resolve import resolve_glances
from annotation.video_index import VideoIndex
from pipeline.errors import HolmesError
from pipeline.records import Video

VIDEO = Video(
    video_id="a",
    path="a.mp4",
    sha256="",
    fps=25.0,
    num_frames=100,
    duration_s=4.0,
    width=64,
    height=48,
    codec="h264",
    label="Fighting",
    split=None,
    source="test",
)
TIMELINE = {"ranges": [{"start": 5, "end": 7}], "timelinelabels": ["Fighting"]}
EXPORT = [
    {
        "id": 1,
        "annotations": [
            {
                "id": 1,
                "completed_by": {"id": 1, "email": "a@b"},
                "result": [{"value": TIMELINE, "type": "timelinelabels"}],
            },
            {"id": 2, "completed_by": 2, "was_cancelled": True, "result": [{"value": TIMELINE}]},
        ],
        "drafts": [{"result": [{"value": TIMELINE}]}],
        "predictions": [7],
        "data": {"video": "/data/local-files/?d=a.mp4", "video_id": "a", "fps": "25"},
    }
]
EXPORT_MIN = [{"id": 1, "video": "a.mp4", "fps": 25, "annotator": 1, "lead_time": 1.5, "moments": [TIMELINE]}]
HIVAU = {
    "a": {
        "n_frames": 100,
        "fps": 25.0,
        "label": ["Fighting"],
        "events": [[0.5, 2.0]],
        "clips": [[[0.5, 1.0], [1.0, 2.0]]],
        "clips_caption": [["One.", "Two."]],
        "events_summary": ["An event."],
        "video_summary": "A video.",
    }
}
UCA = {"a": {"duration": 4.0, "timestamps": [[0.5, 2.0]], "sentences": ["One."]}}

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 10**400, 2**63]),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["", "a.mp4", "%ff", "?d=", "/data/local-files/?d=", "1e999", "[{", "timelinelabels"]),
)
JUNK = st.one_of(SCALARS, st.lists(SCALARS, max_size=3), st.dictionaries(st.text(max_size=5), SCALARS, max_size=3))


def places(node: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in a JSON tree."""
    keys = list(node) if isinstance(node, dict) else list(range(len(node))) if isinstance(node, list) else []
    return [(node, key) for key in keys] + [place for key in keys for place in places(node[key])]


@st.composite
def mutated(draw: Callable[..., Any], original: Any) -> Any:
    tree = copy.deepcopy(original)
    for _ in range(draw(st.integers(1, 4))):
        container, key = draw(st.sampled_from(places(tree) or [([None], 0)]))
        if draw(st.booleans()):
            container[key] = draw(JUNK)
        else:
            del container[key]
    return tree


def check(path: Path, format_name: str = "auto") -> None:
    """Read a file, keep it, read it back and resolve it; a HolmesError ends that, nothing else may."""
    try:
        found = read_annotations(path, format_name)
    except HolmesError:
        return
    assert isinstance(found, Import)
    resolve_glances(found.glances, VideoIndex([VIDEO]))
    out = path.with_suffix(".parquet")
    summary = import_to_parquet(path, format_name, out)
    if summary.rows:
        again = read_annotations(out)
        assert len(again.glances or again.spans) == summary.rows


FUZZ = settings(
    max_examples=50, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.mark.parametrize("original", [EXPORT, EXPORT_MIN, HIVAU, UCA], ids=["full", "min", "hivau", "uca"])
def test_mutated_json(tmp_path: Path, original: Any) -> None:
    @FUZZ
    @given(mutated(original))
    def attempt(tree: Any) -> None:
        path = tmp_path / "export.json"
        path.write_text(json.dumps(tree), encoding="utf-8")
        check(path)

    attempt()


CELL = '"' + json.dumps([TIMELINE]).replace('"', '""') + '"'
TABLES = [
    "video-id,glance\na,5\nb,6\n",
    "video_id,start_s,end_s,sentence\na,0,1.5,One.\n",
    "video_id,start_frame,end_frame_exclusive,category\na,1,20,Fighting\n",
    "Abuse028_x264  Abuse  165  240  -1  -1  \nArson/a.mp4 8640 Arson 3500 4000 -1 -1\n",
    "v=S-7rRLrxnVQ__#1_label_B4-0-0 0 1517 1970 3038\nv=b_label_G-0-0 G 4 5\n",
    "Abuse037_x264 00:01.2 00:08.2 ##A white car.\n",
    'annotation_id,annotator,moments,lead_time,video\r\n1,"1",' + CELL + ',1,"a.mp4"\r\n',
]


@pytest.mark.parametrize("original", TABLES)
def test_mutated_text(tmp_path: Path, original: str) -> None:
    @FUZZ
    @given(st.integers(0, len(original)), st.integers(0, 6), st.binary(max_size=5) | st.text(max_size=5))
    def attempt(start: int, length: int, patch: bytes | str) -> None:
        inserted = patch if isinstance(patch, bytes) else patch.encode("utf-8", "replace")
        path = tmp_path / "export.txt"
        path.write_bytes(original[:start].encode() + inserted + original[start + length :].encode())
        check(path)

    attempt()


@pytest.mark.parametrize("format_name", sorted(annotation_formats()))
def test_any_bytes_as_any_format(tmp_path: Path, format_name: str) -> None:
    @FUZZ
    @given(st.binary(max_size=60) | st.text(max_size=60).map(lambda text: text.encode("utf-8", "replace")))
    def attempt(content: bytes) -> None:
        path = tmp_path / "export.bin"
        path.write_bytes(content)
        check(path, format_name)

    attempt()
