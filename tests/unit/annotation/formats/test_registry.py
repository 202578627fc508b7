"""Tables, temporal annotations and described videos, the way from a file to Parquet, and its way back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from annotation.formats.foreign import ForeignSpan, Import, SpanKind
from annotation.formats.parquet import import_to_parquet
from annotation.formats.registry import annotation_formats, detect_format, read_annotations
from pipeline.errors import ConfigError, DataError, SetupError
from pipeline.records import Reason


def read(tmp_path: Path, text: str, name: str = "file.txt", format_name: str = "auto") -> Import:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_annotations(path, format_name)


def frames(spans: list[ForeignSpan]) -> list[tuple[str, int | None, int | None, str | None]]:
    return [(span.video, span.start_frame, span.end_frame, span.category) for span in spans]


def test_glancevad_csv_with_a_bad_row_in_the_middle(tmp_path: Path) -> None:
    text = "video-id,glance\nAbuse001_x264,0\nAbuse001_x264,many\n\nAbuse002_x264,-3\n,9\na,1,2\nAbuse003_x264,86\n"
    found = read(tmp_path, text)
    assert found.format == "glancevad"
    assert [(g.video, g.frame_index, g.frame_rate, g.place) for g in found.glances] == [
        ("Abuse001_x264", 0, None, "file.txt:2"),
        ("Abuse003_x264", 86, None, "file.txt:8"),
    ]
    assert [(fault.place, fault.reason) for fault in found.faults] == [
        ("file.txt:3", Reason.MALFORMED_ROW),
        ("file.txt:5", Reason.FRAME_OUT_OF_RANGE),
        ("file.txt:6", Reason.MALFORMED_ROW),
        ("file.txt:7", Reason.MALFORMED_ROW),
    ]
    assert str(found.faults[1]) == "file.txt:5: frame_out_of_range: frame -3 is negative; frames count from 0"


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_our_glance_csv_has_optional_columns(tmp_path: Path, delimiter: str) -> None:
    text = "Video_ID,time_s,category,annotator\r\ncam 1/a.mp4,2.5,Robbery,ann\r\nb,,Robbery,ann\r\n"
    found = read(tmp_path, "\ufeff" + text.replace(",", delimiter))
    (glance,) = found.glances
    assert found.format == "glances"
    assert (glance.video, glance.time_s, glance.frame_index) == ("cam 1/a.mp4", 2.5, None)
    assert (glance.category, glance.annotator) == ("Robbery", "ann")
    assert found.faults[0].detail == "neither a frame nor a time is given"


def test_ground_truth_and_captions(tmp_path: Path) -> None:
    truth = read(
        tmp_path, "video_id,start_frame,end_frame_exclusive,category\na,180,300,Biking\na,9,9,Cart\na,1,,Cart\n"
    )
    assert truth.format == "ground-truth"
    assert frames(truth.spans) == [("a", 180, 300, "Biking")]
    assert [fault.reason for fault in truth.faults] == [Reason.FRAME_OUT_OF_RANGE, Reason.MALFORMED_ROW]
    text = 'video_id,start_s,end_s,sentence\na,0,2.5,"A man, running."\na,1,2,\na,5,4,Late.\n'
    captions = read(tmp_path, text)
    assert captions.format == "captions"
    (span,) = captions.spans
    assert (span.start_s, span.end_s, span.sentence, span.kind) == (0.0, 2.5, "A man, running.", SpanKind.CAPTION)
    assert [fault.reason for fault in captions.faults] == [Reason.EMPTY_TEXT, Reason.FRAME_OUT_OF_RANGE]


def test_ucf_crime_in_both_variants(tmp_path: Path) -> None:
    found = read(
        tmp_path,
        "Abuse028_x264.mp4  Abuse  165  240  -1  -1  \n"
        "Arson/Arson022_x264.mp4 8640 Arson 3500 4000 5000 6000\n"
        "Normal_Videos_003_x264.mp4  Normal  -1  -1  -1  -1  \n"
        "Arson023_x264.mp4 Arson three 4\n"
        "Arson024_x264.mp4  Arson  40  30  -1  -1\n"
        "Normal_Videos_004_x264.mp4  Normal  5  6  -1  -1\n",
    )
    assert found.format == "ucf-crime"
    assert frames(found.spans) == [
        ("Abuse028_x264.mp4", 165, 240, "Abuse"),
        ("Arson/Arson022_x264.mp4", 3500, 4000, "Arson"),
        ("Arson/Arson022_x264.mp4", 5000, 6000, "Arson"),
        ("Normal_Videos_003_x264.mp4", None, None, "Normal"),
    ]
    assert [span.num_frames for span in found.spans] == [None, 8640, 8640, None]
    assert [span.place for span in found.spans][1:3] == ["file.txt:2 pair 1", "file.txt:2 pair 2"]
    assert found.spans[3].kind == SpanKind.VIDEO
    assert [fault.place for fault in found.faults] == ["file.txt:4", "file.txt:5", "file.txt:6"]


def test_xd_violence_in_both_variants(tmp_path: Path) -> None:
    plain = read(tmp_path, "v=a__#1_label_B4-0-0 0 1517 1970 3038\nBad Boys.2003__#1_label_B2-G-0.mp4 5 6\nv=b 1 2 3\n")
    assert plain.format == "xd-violence"
    assert frames(plain.spans) == [
        ("v=a__#1_label_B4-0-0", 0, 1517, "Riot"),
        ("v=a__#1_label_B4-0-0", 1970, 3038, "Riot"),
        ("Bad Boys.2003__#1_label_B2-G-0.mp4", 5, 6, "Shooting"),
    ]
    assert "odd number of frames" in plain.faults[0].detail
    multi = read(
        tmp_path, "v=a__#1_label_B4-B1-0 B4 0 1517 B1 1970 3038\nv=b__#1_label_B6-0-0 B6 4 9\nv=c B1 3 4 5 6\n"
    )
    assert multi.format == "xd-violence"
    assert frames(multi.spans) == [
        ("v=a__#1_label_B4-B1-0", 0, 1517, "Riot"),
        ("v=a__#1_label_B4-B1-0", 1970, 3038, "Fighting"),
        ("v=b__#1_label_B6-0-0", 4, 9, "Car accident"),
    ]
    assert "1 class codes for 2 pairs" in multi.faults[0].detail


HIVAU: dict[str, Any] = {
    "Abuse028_x264": {
        "n_frames": 1412,
        "fps": 30.0,
        "label": ["Abuse"],
        "events": [[5.5, 8.0]],
        "clips": [[[5.5, 6.7], [6.7, 8.0]]],
        "clips_caption": [["A dog.", "A stick."]],
        "events_summary": ["An anomaly exists."],
        "video_summary": "A postman beats a dog.",
    }
}


def test_hivau(tmp_path: Path) -> None:
    found = read(tmp_path, json.dumps(HIVAU))
    assert found.format == "hivau"
    assert [(span.kind.value, span.start_s, span.end_s, span.sentence) for span in found.spans] == [
        ("video", 0.0, 1412 / 30, "A postman beats a dog."),
        ("event", 5.5, 8.0, "An anomaly exists."),
        ("clip", 5.5, 6.7, "A dog."),
        ("clip", 6.7, 8.0, "A stick."),
    ]
    assert {(span.category, span.frame_rate, span.num_frames) for span in found.spans} == {("Abuse", 30.0, 1412)}
    assert found.spans[3].place == "file.txt: $['Abuse028_x264'].clips[0][1]"


def test_hivau_with_faults_keeps_the_good_part(tmp_path: Path) -> None:
    good = HIVAU["Abuse028_x264"]
    videos = {
        "a": {**good, "label": [], "events": [[5.5, 8.0], [9, 7]], "events_summary": ["One.", "Two."]},
        "b": {**good, "clips_caption": [["only one"]]},
        "c": {**good, "fps": 0},
        "d": {**good, "events": 5},
        "e": [],
        "f": {**good, "clips": [[["x", 2], [1, 2, 3]]]},
    }
    found = read(tmp_path, json.dumps(videos))
    assert found.spans[0].category == "Normal"
    assert [fault.place.removeprefix("file.txt: $") for fault in found.faults] == [
        "['a'].events[1]",
        "['b'].clips_caption[0]",
        "['c']",
        "['d']",
        "['e']",
        "['f'].clips[0][0]",
        "['f'].clips[0][1]",
    ]
    assert [span.sentence for span in found.spans if span.video == "b" and span.kind is SpanKind.CLIP] == [None, None]


def test_uca_in_both_forms(tmp_path: Path) -> None:
    spoken = {
        "Abuse037_x264": {"duration": 59.88, "timestamps": [[1.2, 8.2], [60, 61.5]], "sentences": ["A car.", "B."]}
    }
    as_json = read(tmp_path, json.dumps(spoken))
    as_text = read(
        tmp_path,
        "Abuse037_x264 00:01.2 00:08.2 ##A car.\nno sentence here\nAbuse037_x264 01:00.0 00:01:01.5 ##B.\n"
        "Abuse037_x264 00:05.0 00:04.0 ##Backwards.\n",
    )
    assert (as_json.format, as_text.format) == ("uca", "uca")
    for found in (as_json, as_text):
        assert [(s.video, s.start_s, s.end_s, s.sentence, s.kind) for s in found.spans] == [
            ("Abuse037_x264", 1.2, 8.2, "A car.", SpanKind.CAPTION),
            ("Abuse037_x264", 60.0, 61.5, "B.", SpanKind.CAPTION),
        ]
    assert [fault.place for fault in as_text.faults] == ["file.txt:2", "file.txt:4"]


@pytest.mark.parametrize("text", ["{}", "hello", "a,b\n1,2\n", '{"a": {"b": 1}}', "video-id\nAbuse001_x264\n"])
def test_an_unknown_format_lists_the_known_ones(tmp_path: Path, text: str) -> None:
    with pytest.raises(
        DataError, match=r"file\.txt: the content has none of the known (.|\n)*label-studio: "
    ) as caught:
        read(tmp_path, text)
    assert all(name in str(caught.value) for name in annotation_formats())


@pytest.mark.parametrize("format_name", sorted(annotation_formats()))
def test_a_file_of_another_format_than_named_is_refused(tmp_path: Path, format_name: str) -> None:
    with pytest.raises(DataError, match=r"file\.txt: "):
        read(tmp_path, "hello world\nthis is\nno annotation\n", format_name=format_name)
    with pytest.raises(DataError, match=r"file\.txt: "):
        read(tmp_path, '{"a": {"b": 1}}', format_name=format_name)


def test_an_unknown_format_name_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'labelstudio' is unknown; the nearest is label-studio"):
        read(tmp_path, "x", format_name="labelstudio")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("glances.csv", "video,frame,time_s,category,annotator,fps\nd/a.mp4,5,,Robbery,me,25\nb,,1.5,,,\n"),
        ("truth.csv", "video_id,start_frame,end_frame,category\na,180,300,Biking\n"),
        ("ucf.txt", "Arson/Arson022_x264.mp4 8640 Arson 3500 4000 -1 -1\nNormal_Videos_1.mp4 Normal -1 -1 -1 -1\n"),
        ("hivau.json", json.dumps(HIVAU)),
    ],
)
def test_parquet_holds_all_that_the_file_says(tmp_path: Path, name: str, text: str) -> None:
    found = read(tmp_path, text, name)
    out = tmp_path / "deep" / "out.parquet"
    summary = import_to_parquet(tmp_path / name, "auto", out)
    assert summary.rows == len(found.glances) + len(found.spans)
    assert detect_format(out) == "holmes"
    again = read_annotations(out)
    assert not again.faults

    def facts(item: Any) -> Any:
        return {field: getattr(item, field) for field in item.__slots__ if field not in {"video", "paths"}}

    assert [facts(item) for item in (*again.glances, *again.spans)] == [
        facts(i) for i in (*found.glances, *found.spans)
    ]
    for before, after in zip((*found.glances, *found.spans), (*again.glances, *again.spans), strict=True):
        assert before.video in (after.video, *after.paths)


def test_parquet_columns(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("video-id,glance\nfolder/Abuse001_x264.mp4,299\n")
    summary = import_to_parquet(tmp_path / "g.csv", "glancevad", tmp_path / "out.parquet")
    assert str(summary) == "glancevad: 1 glances of 1 video(s), 0 fault(s)"
    (row,) = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert row == {
        "video_id": "Abuse001_x264",
        "frame_index": 299,
        "time_s": None,
        "category": None,
        "annotator": None,
        "origin": "g.csv:2",
        "frame_rate": None,
        "by_player": False,
        "last_frame": None,
        "num_frames": None,
        "is_exact": False,
        "paths": ["folder/Abuse001_x264.mp4"],
    }


def test_nothing_usable_writes_no_file(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("video-id,glance\nAbuse001_x264,x\n")
    summary = import_to_parquet(tmp_path / "g.csv", "auto", tmp_path / "out.parquet")
    assert (summary.rows, len(summary.faults)) == (0, 1)
    assert not (tmp_path / "out.parquet").exists()


def test_an_unwritable_target_is_the_callers_fault(tmp_path: Path) -> None:
    (tmp_path / "g.csv").write_text("video-id,glance\nAbuse001_x264,4\n")
    with pytest.raises(SetupError, match=r"out\.parquet: cannot be written"):
        import_to_parquet(tmp_path / "g.csv", "auto", tmp_path / "g.csv" / "out.parquet")


def test_foreign_parquet_files_are_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="neither glances nor spans"):
        read_annotations(tmp_path / "a.parquet")
    pq.write_table(pa.table({"video_id": ["a"], "frame_index": ["many"]}), tmp_path / "b.parquet")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_annotations(tmp_path / "b.parquet")
    (tmp_path / "c.parquet").write_bytes(b"PAR1 cut short")
    with pytest.raises(DataError, match="not a readable Parquet file"):
        read_annotations(tmp_path / "c.parquet")
    spans = {
        "video_id": ["a", "b", None],
        "start_s": [0.0, 2.0, 0.0],
        "end_s": [1.0, 1.0, 1.0],
        "kind": ["x", None, None],
    }
    pq.write_table(pa.table(spans), tmp_path / "d.parquet")
    found = read_annotations(tmp_path / "d.parquet")
    assert [fault.reason for fault in found.faults] == [
        Reason.MALFORMED_ROW,
        Reason.FRAME_OUT_OF_RANGE,
        Reason.MALFORMED_ROW,
    ]


@pytest.mark.parametrize(("delimiter", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16"), (";", "cp1252")])
def test_tables_that_spreadsheets_saved_are_read(tmp_path: Path, delimiter: str, encoding: str) -> None:
    tables = {
        "clicks": "Video ID,time_s,category,,\r\nTür,2\N{SINGLE LOW-9 QUOTATION MARK}5,Robbery,,\r\n,,,,\r\n",
        "truth": "video_id,start_s,end_s,category\r\nTür,0\N{SINGLE LOW-9 QUOTATION MARK}5,3,Robbery,,\r\n",
        "said": "video_id,start_s,end_s,sentence\r\nTür,0\N{SINGLE LOW-9 QUOTATION MARK}5,3,Ein Mann läuft.\r\n",
    }
    found = {}
    for name, text in tables.items():
        path = tmp_path / f"{name}.csv"
        saved = text.replace(",", delimiter).replace("\N{SINGLE LOW-9 QUOTATION MARK}", ",")
        path.write_bytes(saved.encode(encoding))
        found[name] = read_annotations(path)
    assert not any(one.faults for one in found.values())
    (click,), (event,), (said,) = found["clicks"].glances, found["truth"].spans, found["said"].spans
    assert (click.video, click.time_s, click.category) == ("Tür", 2.5, "Robbery")
    assert (event.video, event.start_s, event.end_s) == ("Tür", 0.5, 3.0)
    assert (said.start_s, said.sentence) == (0.5, "Ein Mann läuft.")


def test_a_number_that_may_have_thousands_is_none(tmp_path: Path) -> None:
    found = read(tmp_path, 'video_id,time_s\na,"1,234"\nb,"1,5"\n', "clicks.csv")
    assert [glance.time_s for glance in found.glances] == [1.5]
    assert "'1,234' is not a number of seconds" in found.faults[0].detail


def test_json_lines_are_called_so(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.jsonl: JSON Lines, of none of the known formats"):
        read(tmp_path, '{"video": "a", "answer": "x"}\n{"video": "b", "answer": "y"}\n', "a.jsonl")


def test_coco_is_no_export_of_label_studio(tmp_path: Path) -> None:
    coco = {"images": [{"id": 1}], "annotations": [{"id": 1, "image_id": 1, "bbox": [0, 0, 1, 1]}], "categories": []}
    with pytest.raises(DataError, match=r"coco\.json: COCO annotations of images, and no export of Label Studio"):
        read(tmp_path, json.dumps(coco), "coco.json", "label-studio")
