"""Predictions and HIVAU-70k's references from files: what is read, and what is said of files that cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotation.formats.answer_rows import read_predictions
from annotation.formats.hivau_answers import read_hivau_references
from pipeline.errors import DataError

SHARED = Path(__file__).resolve().parents[5] / "shared/data/annotations/hivau70k_ucf_database_test.json"

INSTRUCTIONS: list[dict[str, Any]] = [
    {
        "id": 0, "type": "video", "task": "judgement", "video": "ucf-crime/videos/test/Abuse028_x264.mp4",
        "prompt": "Does the video contain an anomaly?", "anwser": "An anomaly exists, named \"Abuse\".",
    },
    {
        "id": 1, "type": "event", "task": "judgement", "video": "ucf-crime/events/test/Normal_Videos_003_x264_E0.mp4",
        "prompt": "Does the video contain an anomaly?", "answer": "No anomaly exists in the video.",
    },
    {
        "id": 2, "type": "clip", "task": "caption", "video": "Abuse028_x264_E0_C0.mp4",
        "prompt": "Describe the video.", "anwser": "A man beats a dog.",
    },
]  # fmt: skip
RAW: dict[str, Any] = {
    "Abuse028_x264": {
        "n_frames": 1412, "fps": 30.0, "label": ["Abuse"], "events": [[5.5, 8.0]], "clips": [[[5.5, 6.7], [7.0, 8.0]]],
        "clips_caption": [["A man beats a dog.", "The dog barks."]], "events_summary": ["An anomaly exists."],
        "video_summary": "An anomaly exists, a man beats a dog.",
    },
    "Normal_Videos_003_x264": {
        "n_frames": 900, "fps": 30.0, "label": [], "events": [[1.0, 2.0]], "clips": [[]], "clips_caption": [[]],
        "events_summary": ["No anomaly exists."], "video_summary": "No anomaly exists.",
    },
}  # fmt: skip


def write(tmp_path: Path, name: str, content: str | bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("p.jsonl", '{"id": "a", "prediction": "Yes, x"}\n\n{"id": 7, "answer": ""}\n'),
        ("p.jsonl", '\ufeff{"id": "a", "prediction": "Yes, x", "answer": "the right one"}\r\n{"id": 7, "answer": ""}'),
        ("p.json", '[{"id": "a", "prediction": "Yes, x"}, {"id": 7, "answer": ""}]'),
        ("p.csv", 'id,prediction\na,"Yes, x"\n7,\n'),
        ("p.csv", 'pair_id;answer\na;"Yes, x"\n7;""\n'),
    ],
)
def test_predictions_in_every_form(tmp_path: Path, name: str, content: str) -> None:
    assert read_predictions(write(tmp_path, name, content)) == {"a": "Yes, x", "7": ""}


def test_predictions_in_parquet(tmp_path: Path) -> None:
    path = tmp_path / "p.parquet"
    pq.write_table(pa.table({"id": ["a", "7"], "answer": ["Yes, x", ""]}), path)
    assert read_predictions(path) == {"a": "Yes, x", "7": ""}


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("p.jsonl", '{"id": "a", "answer": "x"}\n{"id": "b", "answer": ', r"p\.jsonl:2: not JSON"),
        ("p.jsonl", '{"id": "a", "answer": "x"}\n\n["b"]\n', r"p\.jsonl:3: an object is expected, not \['b'\]"),
        ("p.jsonl", b'{"id": "a", "answer": "x"}\n{"id": "b", "answer": "\xff"}\n', r"p\.jsonl:2: not UTF-8.*0xff"),
        ("p.jsonl", lines({"answer": "x"}), r"p\.jsonl:1: an id is expected"),
        ("p.jsonl", lines({"id": True, "answer": "x"}), r"p\.jsonl:1: an id is expected.*True"),
        ("p.jsonl", lines({"id": "a", "text": "x"}), r"p\.jsonl:1: none of prediction, answer among id, text"),
        ("p.jsonl", lines({"id": "a", "answer": None}), r"p\.jsonl:1: answer is None, text is expected"),
        ("p.jsonl", lines({"id": "a", "answer": ["x"]}), r"p\.jsonl:1: answer is \['x'\], text is expected"),
        ("p.jsonl", '{"id": "a", "answer": "\\ud800"}', r"p\.jsonl:1: answer holds half of a surrogate pair"),
        (
            "p.jsonl",
            lines({"id": 1, "answer": "x"}, {"id": "1", "answer": "y"}),
            r"p\.jsonl:2: the id '1' .*p\.jsonl:1",
        ),
        ("p.jsonl", "", r"p\.jsonl: the file is empty"),
        ("p.json", "[]", r"p\.json: no predictions in it"),
        ("p.csv", "id,prediction\n", r"p\.csv: no predictions in it"),
        ("p.csv", "id,text\na,x\n", r"p\.csv:2: none of prediction, answer among id, text"),
        ("p.parquet", "PAR1 and no more", r"p\.parquet: not a readable Parquet file"),
    ],
)
def test_bad_predictions_are_named(tmp_path: Path, name: str, content: str | bytes, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_predictions(write(tmp_path, name, content))


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.jsonl: no such"):
        read_predictions(tmp_path / "gone.jsonl")


@pytest.mark.parametrize("form", ["lines", "list"])
def test_instructions_as_released(tmp_path: Path, form: str) -> None:
    content = lines(*INSTRUCTIONS) if form == "lines" else json.dumps(INSTRUCTIONS)
    first, second, third = read_hivau_references(write(tmp_path, "test.jsonl", content))
    assert (first.id, first.level, first.task, first.label, first.is_anomaly) == (
        "0",
        "video",
        "judgement",
        "Abuse",
        True,
    )
    assert first.answer == 'An anomaly exists, named "Abuse".'
    assert (second.level, second.label, second.is_anomaly) == ("event", "Normal", False)
    assert (third.level, third.task, third.is_anomaly) == ("clip", "caption", None)
    assert third.question == "Describe the video."


def test_one_line_of_instructions_is_no_raw_annotation(tmp_path: Path) -> None:
    [only] = read_hivau_references(write(tmp_path, "one.jsonl", lines(INSTRUCTIONS[0])))
    assert only.task == "judgement"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"type": "scene", "video": "a.mp4"}, "type is 'scene', expected one of clip, event, video"),
        ({"anwser": " "}, "the reference answer is empty"),
        ({"anwser": "A man walks."}, "a judgement is expected"),
        ({"anwser": None}, "anwser is None"),
        ({"task": 3}, "task is 3"),
        ({"id": None}, "an id is expected"),
    ],
)
def test_bad_instructions_are_named(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = write(tmp_path, "test.jsonl", lines(INSTRUCTIONS[1], INSTRUCTIONS[0] | change))
    with pytest.raises(DataError, match=rf"test\.jsonl:2: {message}"):
        read_hivau_references(path)


def test_raw_annotation_by_level(tmp_path: Path) -> None:
    found = read_hivau_references(write(tmp_path, "raw.json", json.dumps(RAW)))
    assert [(one.id, one.level, one.task, one.label, one.is_anomaly, one.span_s) for one in found] == [
        ("Abuse028_x264.video_summary", "video", "summary", "Abuse", True, None),
        ("Abuse028_x264.events[0]", "event", "summary", "Abuse", True, (5.5, 8.0)),
        ("Abuse028_x264.clips[0][0]", "clip", "caption", "Abuse", None, (5.5, 6.7)),
        ("Abuse028_x264.clips[0][1]", "clip", "caption", "Abuse", None, (7.0, 8.0)),
        ("Normal_Videos_003_x264.video_summary", "video", "summary", "Normal", False, None),
        ("Normal_Videos_003_x264.events[0]", "event", "summary", "Normal", False, (1.0, 2.0)),
    ]


def test_a_file_of_neither_form(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"x\.json:1: none of task"):
        read_hivau_references(write(tmp_path, "x.json", '{"a": 1}'))
    with pytest.raises(DataError, match=r"e\.json: no reference answers"):
        read_hivau_references(write(tmp_path, "e.json", "[]"))


@pytest.mark.skipif(not SHARED.is_file(), reason="the published annotation is not at hand")
def test_the_published_test_annotation() -> None:
    from collections import Counter

    from pipeline.evaluate.answers import evaluate_answers

    references = read_hivau_references(SHARED)
    assert Counter(one.level for one in references) == {"clip": 762, "event": 337, "video": 251}
    found = evaluate_answers(references, {one.id: one.answer for one in references})
    assert found.metrics.judgement is not None
    # every published summary states a verdict, and 16 of them against the label of their video
    assert found.metrics.judgement.overall.unreadable == 0
    assert found.metrics.judgement.overall.correct == 588 - 16
    assert len(found.metrics.contradicted) == 16
