"""Published figures: what the files hold, and by which names footage is known."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from pipeline import published
from pipeline.errors import ConfigError, SetupError
from pipeline.published import load_published_datasets, load_published_tables, select_dataset, sources_of
from pipeline.records import NORMAL
from pipeline.taxonomy import label_from_name

ANNOTATIONS = Path(__file__).resolve().parents[4] / "shared" / "data" / "annotations"
PAPER = "vad-instruct50k"


def test_the_paper_is_told_as_it_stands() -> None:
    dataset = load_published_datasets()[PAPER]
    videos = {source.title: (source.abnormal_videos, source.normal_videos) for source in dataset.sources}
    assert videos == {"UCF-Crime": (810, 800), "XD-Violence": (1905, 2032)}
    assert sum(map(sum, videos.values())) == 5547
    assert (dataset.clicks_per_video.value, dataset.items.value, dataset.words_per_answer.value) == (2.35, 51567, 44.83)
    for source in dataset.sources:
        if source.class_videos is not None:
            assert sum(source.class_videos.counts.values()) == source.abnormal_videos
            assert sum(source.class_videos.shares().values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("Abuse001_x264.mp4", "UCF-Crime"),
        ("roadaccidents021_x264", "UCF-Crime"),
        ("Normal_Videos_003_x264.mp4", "UCF-Crime"),
        ("Normal_Videos003_x264_0a1b2c3d", "UCF-Crime"),
        ("Fighting033_x264_570_841", "UCF-Crime"),
        ("UCF_Crimes/Videos/Abuse/Abuse001_x264.mp4", "UCF-Crime"),
        ("v=S-7rRLrxnVQ__#1_label_B4-0-0.mp4", "XD-Violence"),
        ("A.Beautiful.Mind.2001__00-01-45_00-02-50_label_A", "XD-Violence"),
        ("Abuse_of_power.mp4", None),
        ("cam01.mp4", None),
        ("my_label_Bus.mp4", None),
    ],
)
def test_footage_is_known_by_its_names(name: str, source: str | None) -> None:
    assert sources_of([name]) == {source}


@pytest.mark.skipif(not ANNOTATIONS.is_dir(), reason=f"no published lists at {ANNOTATIONS}")
def test_every_name_of_the_official_list_is_of_its_source_and_counted() -> None:
    with (ANNOTATIONS / "ucf-crime.training.csv").open() as file:
        names = [row["video-id"] for row in csv.DictReader(file)]
    ucf = load_published_datasets()[PAPER].sources[0]
    labels = [label_from_name(name) for name in names]
    assert sources_of(names) == {"UCF-Crime"}
    assert ucf.class_videos is not None
    assert {label: labels.count(label) for label in {*labels} - {NORMAL}} == ucf.class_videos.counts
    assert labels.count(NORMAL) == ucf.normal_videos


def test_a_dataset_is_compared_where_all_its_videos_are_of_the_sources_or_where_asked() -> None:
    ours, theirs = ("cam01.mp4", "cam01_x"), ("file.mp4", "Abuse001_x264_0a1b2c3d")
    assert select_dataset("auto", [theirs]) is load_published_datasets()[PAPER]
    assert select_dataset("auto", [theirs, ours]) is None
    assert select_dataset("auto", []) is None
    assert select_dataset("none", [theirs]) is None
    assert select_dataset(PAPER, [ours]) is load_published_datasets()[PAPER]
    with pytest.raises(ConfigError, match=r"export.published=paper: unknown; known are auto, none, vad-instruct50k"):
        select_dataset("paper", [ours])


def test_tables_are_told_as_they_stand() -> None:
    tables = load_published_tables()
    ucf = {row.name: row.values for row in tables["ucf-crime"].rows}
    assert ucf["GlanceVAD (I3D, clicks)"] == {"auc": 91.76, "auc_abnormal": 82.18}
    assert ucf["Holmes-VAD (ViT, clicks)"] == {"auc": 89.51}
    assert {row.group for row in tables["hivau-70k"].rows} == {"clip", "event", "video"}


def test_a_row_of_unknown_columns_and_a_file_of_another_shape_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(published, "PUBLISHED", tmp_path)
    row = "{name: A, where: B, auk: 1}"
    table = f"t: {{title: T, sources: [S], unit: percent, digits: 1, columns: {{auc: AUC}}, rows: [{row}]}}"
    (tmp_path / "results.yaml").write_text(table)
    with pytest.raises(SetupError, match=r"results.yaml: t: A: \['auk'\] are no columns"):
        load_published_tables.__wrapped__()
    (tmp_path / "mine.yaml").write_text("title: Mine\n")
    with pytest.raises(SetupError, match=r"mine.yaml: not published figures"):
        load_published_datasets.__wrapped__()
