"""Published rows below ours, in the form of the papers."""

from __future__ import annotations

import pytest

from flows.commands.published_tables import Measured, Published, chosen_table, table_lines, tables_as_json
from pipeline.published import load_published_tables


@pytest.mark.parametrize(
    ("published", "videos", "shown"),
    [
        (Published.AUTO, ["Abuse028_x264", "Normal_Videos_003_x264"], True),
        (Published.AUTO, ["Abuse028_x264", "cam01"], False),
        (Published.AUTO, ["v=a__#1_label_B4-0-0"], False),
        (Published.AUTO, [], False),
        (Published.ALWAYS, ["cam01"], True),
        (Published.NONE, ["Abuse028_x264"], False),
    ],
)
def test_a_table_is_shown_for_its_footage_or_where_asked(published: Published, videos: list[str], shown: bool) -> None:
    assert (chosen_table("ucf-crime", published, videos) is not None) is shown


def test_ours_stands_first_in_the_units_of_the_paper() -> None:
    table = load_published_tables()["ucf-crime"]
    ours = Measured(values={"auc": 0.9234, "auc_abnormal": None}, note="290 videos")
    lines = list(table_lines(table, [ours]))
    assert lines[1] == "UCF-Crime, AUC of frames in %"
    assert lines[2].split() == ["all", "videos", "abnormal", "only"]
    assert lines[3].split() == ["here", "92.34", "-", "290", "videos"]
    assert any(line.split()[:4] == ["Holmes-VAD", "(ViT,", "clicks)", "89.51"] for line in lines)
    found = tables_as_json({"ucf-crime": (table, [ours])})["ucf-crime"]
    assert found["here"] == [
        {"group": None, "measured_on": "290 videos", "auc": pytest.approx(92.34), "auc_abnormal": None}
    ]
    assert {"name": "Holmes-VAU", "group": None, "where": "arXiv 2412.06171", "auc": 88.96} in found["published"]


def test_texts_stand_level_by_level() -> None:
    table = load_published_tables()["hivau-70k"]
    values = {"bleu": 1.25, "cider": 0.5, "meteor": 0.2, "rouge_l": 0.4}
    ours = Measured(values=values, note="7 answers", group="event")
    lines = [line.split() for line in table_lines(table, [ours])]
    event = lines.index(["event"])
    assert lines[event + 1] == ["here", "1.250", "0.500", "0.200", "0.400", "7", "answers"]
    assert lines[event + 2][:3] == ["Holmes-VAU", "0.804", "1.519"]
