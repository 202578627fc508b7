"""Label Studio exports: what becomes a glance, what is named as a fault, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from annotation.formats.foreign import Import
from annotation.formats.registry import detect_format, read_annotations
from pipeline.errors import DataError
from pipeline.records import Reason


def region(start: Any, end: Any = None, labels: Any = ("Fighting",)) -> dict[str, Any]:
    ranges = [{"start": start, "end": start if end is None else end}]
    value = {"ranges": ranges, "timelinelabels": list(labels)}
    return {"value": value, "id": "r", "from_name": "events", "to_name": "video", "type": "timelinelabels"}


def annotation(*regions: Any, skipped: bool = False, by: Any = 1) -> dict[str, Any]:
    return {"id": 1, "completed_by": by, "result": list(regions), "was_cancelled": skipped}


def task(*annotations: Any, **data: Any) -> dict[str, Any]:
    data = {"video": "/data/local-files/?d=a/Fighting001_x264.mp4", "video_id": "Fighting001_x264", "fps": "25", **data}
    return {"id": 1, "annotations": list(annotations), "drafts": [], "predictions": [], "data": data}


def read(tmp_path: Path, payload: Any, **kwargs: Any) -> Import:
    path = tmp_path / "export.json"
    path.write_text(payload if isinstance(payload, str) else json.dumps(payload), encoding="utf-8")
    return read_annotations(path, **kwargs)


def test_a_click_is_counted_from_zero_at_the_rate_of_its_task(tmp_path: Path) -> None:
    found = read(tmp_path, [task(annotation(region(1), region(26, labels=["Robbery"]), by=7))])
    first, second = found.glances
    assert (first.frame_index, first.time_s, first.frame_rate) == (0, 0.0, 25.0)
    assert (second.frame_index, second.time_s, second.category, second.annotator) == (25, 1.0, "Robbery", "7")
    assert second.video == "Fighting001_x264"
    assert second.paths == ("/data/local-files/?d=a/Fighting001_x264.mp4",)
    assert second.place == "export.json: $[0].annotations[0].result[1]"
    assert found.faults == []


def test_a_drag_counts_at_its_middle_frame(tmp_path: Path) -> None:
    found = read(tmp_path, [task(annotation(region(10, 16)))])
    assert [glance.frame_index for glance in found.glances] == [12]
    assert found.notes == ["1 drag(s) over several frames: the middle frame is the glance"]


def test_several_ranges_of_a_region_are_several_glances(tmp_path: Path) -> None:
    both = region(3)
    both["value"]["ranges"].append({"start": 9, "end": 9})
    found = read(tmp_path, [task(annotation(both))])
    assert [glance.frame_index for glance in found.glances] == [2, 8]
    assert len({glance.place for glance in found.glances}) == 2


def test_only_submitted_annotations_count(tmp_path: Path) -> None:
    both = task(annotation(region(5), skipped=True), annotation(region(6), by=2), annotation(by=3))
    both["drafts"] = [{"result": [region(7)]}]
    both["predictions"] = [{"result": [region(8)]}, 7]
    found = read(tmp_path, [both, task()])
    assert [(glance.frame_index, glance.annotator) for glance in found.glances] == [(5, "2")]
    assert {fault.reason for fault in found.faults} == {Reason.SKIPPED_ANNOTATION}
    assert [(fault.place.removeprefix("export.json: $[0]."), fault.detail) for fault in found.faults] == [
        ("drafts[0]", "a draft that was not submitted"),
        ("annotations[0]", "skipped by annotator 1, with 1 region(s) that do not count"),
        ("annotations[2]", "submitted empty by annotator 3: neither a click nor a choice"),
    ]
    assert found.notes == ["2 prediction(s): made by a model, no glance"]


def test_normal_is_no_glance(tmp_path: Path) -> None:
    choice = {"value": {"choices": ["Normal"]}, "type": "choices", "from_name": "label"}
    found = read(tmp_path, [task(annotation(choice)), task(annotation(region(5, labels=["nothing abnormal"])))])
    assert found.glances == []
    assert found.faults == []
    assert "1 region(s) labelled Normal: no glance" in found.notes


def test_a_project_without_a_click_yet_is_no_error(tmp_path: Path) -> None:
    assert read(tmp_path, [task(), task()]).notes[0] == "no click in any of the tasks"
    assert len(read(tmp_path, [task(), task(annotation())]).faults) == 1


@pytest.mark.parametrize(
    ("bad", "reason", "detail"),
    [
        (region(0), Reason.FRAME_OUT_OF_RANGE, "frame 0: Label Studio counts frames from 1"),
        (region(-4), Reason.FRAME_OUT_OF_RANGE, "frame -4"),
        (region(9, 4), Reason.MALFORMED_ROW, "ends at frame 4, before its start at 9"),
        (region("x"), Reason.MALFORMED_ROW, "'x' is not a frame number"),
        (region(1.5), Reason.MALFORMED_ROW, "1.5 is not a frame number"),
        (region(True), Reason.MALFORMED_ROW, "True is not a frame number"),
        ({"type": "timelinelabels", "value": {}}, Reason.MALFORMED_ROW, "a region with ranges is expected"),
        ({"type": "timelinelabels", "value": {"ranges": [7]}}, Reason.MALFORMED_ROW, "start and end is expected"),
        (region("1_0"), Reason.MALFORMED_ROW, "'1_0' is not a frame number"),
        (region(4, labels=[None]), Reason.MALFORMED_ROW, "labels are expected, not timelinelabels=[None]"),
        ({"value": {"ranges": [], "labels": ["Fighting"]}}, Reason.MALFORMED_ROW, "a region with ranges is expected"),
        (
            {"value": {"ranges": [{"start": 4, "end": 4}], "labels": ["Fighting"]}},
            Reason.MALFORMED_ROW,
            "labels are expected, not timelinelabels=None",
        ),
        (None, Reason.MALFORMED_ROW, "a region with a value is expected, not None"),
        ({"type": "choices", "value": [3]}, Reason.MALFORMED_ROW, "a region with a value is expected"),
    ],
)
def test_a_bad_region_is_named_and_the_rest_goes_on(tmp_path: Path, bad: Any, reason: Reason, detail: str) -> None:
    found = read(tmp_path, [task(annotation(region(3), bad, region(5)))])
    assert [glance.frame_index for glance in found.glances] == [2, 4]
    (fault,) = found.faults
    assert fault.reason == reason
    assert fault.place == "export.json: $[0].annotations[0].result[1]"
    assert detail in fault.detail


def test_an_annotation_of_nobody_is_named(tmp_path: Path) -> None:
    found = read(tmp_path, [task(annotation(region(3), by=[1]), annotation(region(5), by=None))])
    assert [(glance.frame_index, glance.annotator) for glance in found.glances] == [(4, None)]
    assert [(fault.place, fault.detail) for fault in found.faults] == [
        ("export.json: $[0].annotations[0]", "completed_by: a user's address or number is expected, not [1]")
    ]
    flat = {"video": "a.mp4", "annotator": True, "lead_time": 1.0, "moments": [region(3)["value"]]}
    (fault,) = read(tmp_path, [flat]).faults
    assert (fault.place, fault.detail) == (
        "export.json: $[0]",
        "annotator: a user's address or number is expected, not True",
    )


def test_a_label_that_is_one_text_or_none_is_taken_as_it_is(tmp_path: Path) -> None:
    one, none, nameless = region(3), region(4, labels=[]), region(5)
    one["value"]["timelinelabels"] = "Robbery"
    del nameless["value"]["timelinelabels"]
    found = read(tmp_path, [task(annotation(one, none, nameless))])
    assert [glance.category for glance in found.glances] == ["Robbery", None, None]


def test_what_links_two_regions_is_no_fault(tmp_path: Path) -> None:
    link = {"type": "relation", "from_id": "r", "to_id": "r", "direction": "right"}
    assert read(tmp_path, [task(annotation(region(3), link))]).faults == []


def test_of_several_rates_the_one_that_a_pull_writes_counts(tmp_path: Path) -> None:
    found = read(tmp_path, [task(annotation(region(26)), frame_rate="50", fps="25")])
    assert [glance.frame_rate for glance in found.glances] == [25.0]
    assert found.notes == ["1 task(s) with several frame rates: the one called fps counts, else the first by name"]


@pytest.mark.parametrize("rate", ["5e-324", 1e300, "1001", 0.0009])
def test_a_rate_that_no_player_has_moves_no_click(tmp_path: Path, rate: Any) -> None:
    found = read(tmp_path, [task(annotation(region(26)), fps=rate)])
    assert found.glances == []
    assert [fault.reason for fault in found.faults] == [Reason.FRAME_RATE_CONFLICT]


def test_what_stands_beside_clicks_in_a_cell_is_named(tmp_path: Path) -> None:
    value, odd = region(3)["value"], region(4)["value"]
    odd["timelinelabelsx"] = odd.pop("timelinelabels")
    row = {"video": "a.mp4", "fps": "25", "annotator": 1, "lead_time": 1.0, "moments": [value, None, odd]}
    found = read(tmp_path, [row])
    assert [glance.frame_index for glance in found.glances] == [2]
    assert [fault.place for fault in found.faults] == ["export.json: $[0].moments[1]", "export.json: $[0].moments[2]"]


def test_a_task_without_a_video_or_with_a_false_rate_is_named(tmp_path: Path) -> None:
    nameless = task(annotation(region(3)))
    nameless["data"] = {"fps": "25", "note": "x"}
    found = read(
        tmp_path, [nameless, task(annotation(region(3)), fps="$fps"), task(annotation(region(4)), fps=0), task()]
    )
    assert found.glances == []
    assert [fault.reason for fault in found.faults] == [
        Reason.MALFORMED_ROW,
        Reason.FRAME_RATE_CONFLICT,
        Reason.FRAME_RATE_CONFLICT,
    ]
    assert "'$fps' is not a frame rate" in found.faults[1].detail


def test_a_task_without_a_rate_counts_at_the_given_one_or_says_so(tmp_path: Path) -> None:
    export = [task(annotation(region(13)), fps=""), task(annotation(region(13)))]
    silent, recorded = read(tmp_path, export).glances
    assert (silent.frame_index, silent.time_s, silent.frame_rate) == (12, None, None)
    assert recorded.frame_rate == 25.0
    assert "1 click(s) of tasks without a frame rate" in read(tmp_path, export).notes[0]
    given = read(tmp_path, export, frame_rate=24.0)
    assert [(glance.frame_rate, glance.time_s) for glance in given.glances] == [(24.0, 0.5), (25.0, 0.48)]
    assert given.notes == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("[]", "no tasks in the export"),
        ('[{"id": 1, "annotations": [{"id"', r"export\.json:1:33: not valid JSON: .*truncated"),
        ('[{"id": 1, "annotations": [{"crea', r"export\.json:1:\d+: not valid JSON: .*truncated"),
        ("[\n1,\n2}", r"export\.json:3:2: not valid JSON"),
        ("[" * 100_000, "not usable JSON|not valid JSON"),
        ('[{"data": {"video": "\\ud800.mp4"}, "annotations": []}]', "surrogates"),
        ("[1, 2]", "none of the known annotation formats"),
        ('[{"data": 3}]', "no Label Studio task in it"),
    ],
)
def test_unusable_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_text_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "export.json"
    path.write_bytes('[\n{"a": "Überfall"}]'.encode("latin-1"))
    with pytest.raises(DataError, match=r"export\.json:2: not UTF-8 text: byte 0xdc"):
        read_annotations(path)
    with pytest.raises(DataError, match="no such annotation file"):
        read_annotations(tmp_path / "missing.json")
    with pytest.raises(DataError, match="a folder without frame masks"):
        read_annotations(tmp_path)


def boxes(kind: str) -> dict[str, Any]:
    return {"type": kind, "value": {"x": 1, "y": 2, "width": 3, "height": 4, kind: ["car"]}, "from_name": "label"}


@pytest.mark.parametrize(
    ("export", "message"),
    [
        ([task(annotation(boxes("rectanglelabels")))], "another project type: found rectanglelabels"),
        ([task(annotation(boxes("labels"), boxes("textarea")))], "found labels, textarea"),
        ([{"id": 1, "data": {"image": "a.jpg"}, "annotations": [annotation()]}], "name no video"),
        ([{"image": "a.jpg", "annotator": 1, "label": [boxes("rectanglelabels")["value"]]}], "found rectanglelabels"),
        ([{"clip": "a.mp4", "annotator": 1, "decision": "accept", "lead_time": 1.0}], "without timeline labels"),
    ],
)
def test_other_project_types_are_refused(tmp_path: Path, export: Any, message: str) -> None:
    with pytest.raises(DataError, match=f"{message}.*TimelineLabels on a Video are expected"):
        read(tmp_path, export)


CSV_HEADER = '"annotation_id","annotator","moments","fps","id","lead_time","video"\r\n'


def cell(start: int) -> str:
    value = [{"ranges": [{"start": start, "end": start}], "timelinelabels": ["Fighting"]}]
    return json.dumps(value).replace('"', '""')


def test_a_bad_csv_row_in_the_middle_leaves_the_rest(tmp_path: Path) -> None:
    rows = [
        f'1,"3","{cell(4)}","10",1,2.0,"/data/upload/1/0a1b2c3d-x.mp4"\r\n',
        '2,"3","[{""ranges"": [{""start"": 3, ""timelinelabels""","10",1,2.0,"x.mp4"\r\n',
        '3,"3","","10"\r\n',
        f'4,"3","{cell(6)}","10",1,2.0,"x.mp4"\r\n',
    ]
    path = tmp_path / "export.csv"
    path.write_text(CSV_HEADER + "".join(rows), encoding="utf-8-sig", newline="")
    assert detect_format(path) == "label-studio"
    found = read_annotations(path)
    assert [(glance.frame_index, glance.place) for glance in found.glances] == [
        (3, "export.csv:2 moments[0]"),
        (5, "export.csv:5 moments[0]"),
    ]
    assert [(fault.place, fault.reason) for fault in found.faults] == [
        ("export.csv:3 moments", Reason.MALFORMED_ROW),
        ("export.csv:4", Reason.MALFORMED_ROW),
    ]
    assert found.faults[1].detail == "4 cells in a table of 7 columns"


def test_a_csv_of_only_normal_videos_has_no_glance(tmp_path: Path) -> None:
    path = tmp_path / "export.csv"
    path.write_text(
        CSV_HEADER.replace("moments", "verdict") + '1,"3","Normal","10",1,2.0,"x.mp4"\r\n', encoding="utf-8"
    )
    assert read_annotations(path).glances == []
    path.write_text(CSV_HEADER, encoding="utf-8")
    with pytest.raises(DataError, match="no tasks in the export"):
        read_annotations(path)


def test_ten_thousand_tasks_are_read_whole(tmp_path: Path) -> None:
    export = json.dumps([task(annotation(region(n + 1), region(n + 9))) for n in range(10_000)])
    assert len(read(tmp_path, export).glances) == 20_000


@pytest.mark.parametrize(
    "said", ["Normal", ["Normal"], {"choices": ["Normal", "sure"]}, '{"choices":["Normal","sure"]}']
)
def test_a_choice_of_any_name_says_that_nothing_is_abnormal_in_a_flat_row_without_clicks(
    tmp_path: Path, said: Any
) -> None:
    row = {"video": "a.mp4", "fps": "25", "annotator": 1, "lead_time": 1.0}
    clicked = row | {"moments": [region(3)["value"]], "verdict": said}
    found = read(tmp_path, [row | {"verdict": said}, clicked, row | {"label": "Normal"}])
    assert [viewing.clicks for viewing in found.viewings] == [0, 1]
    assert [(fault.place, fault.reason) for fault in found.faults] == [("export.json: $[2]", Reason.SKIPPED_ANNOTATION)]


def test_regions_of_other_tools_are_counted_and_named(tmp_path: Path) -> None:
    def region(kind: str, value: dict[str, Any]) -> dict[str, Any]:
        return {"type": kind, "value": value}

    click = region("timelinelabels", {"ranges": [{"start": 5, "end": 5}], "timelinelabels": ["Fighting"]})
    box = region("videorectangle", {"sequence": [], "labels": ["Fighting"]})
    text, weather = region("textarea", {"text": ["a man"]}), region("choices", {"choices": ["Rain"]})
    results = [[click, box, box, text, weather], [box, region("choices", {"choices": ["Normal"]})]]
    tasks = [{"data": {"video": "a.mp4", "fps": 25}, "annotations": [{"result": result}]} for result in results]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(tasks))
    found = read_annotations(path)
    assert len(found.glances) == 1
    assert "regions of other tools were not read: 1 choices, 1 textarea, 3 videorectangle" in found.notes
