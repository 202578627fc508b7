"""Class names, aliases and labels read from file names."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import taxonomy
from pipeline.errors import ConfigError, SetupError

UCF_CRIME = [
    *("Abuse", "Arrest", "Arson", "Assault", "Burglary", "Explosion", "Fighting"),
    *("RoadAccidents", "Robbery", "Shooting", "Shoplifting", "Stealing", "Vandalism"),
]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *((f"{label}001_x264", label) for label in UCF_CRIME),
        ("Abuse/Abuse028_x264.mp4", "Abuse"),
        ("Fighting033_x264_570_841.mp4", "Fighting"),
        (r"C:\vad\Fighting\Fighting003_x264.mp4", "Fighting"),
        ("Normal_Videos_003_x264.mp4", "Normal"),
        ("Normal_Videos003_x264", "Normal"),
        ("Normal_Videos003", "Normal"),
        ("v=S-7rRLrxnVQ__#1_label_B4-0-0", "Riot"),
        ("v=JfLYNEsrTew__#1_label_G-0-0_52_431.mp4", "Explosion"),
        ("City.of.God.2002__#01-24-10_01-25-10_label_B2-0-0.mp4", "Shooting"),
        ("v=x__#1_label_B1-B2-G.mp4", "Fighting"),
        ("v=x__#1_label_A.mp4", "Normal"),
        ("Ped2_A01.mp4", None),
        ("Abuse/holiday.mp4", None),
        ("Camera001.mp4", None),
        ("", None),
    ],
)
def test_label_from_name(name: str, label: str | None) -> None:
    assert taxonomy.label_from_name(name) == label


@pytest.mark.parametrize(
    ("category", "name"),
    [
        ("fighting", "Fighting"),
        ("B1", "Fighting"),
        ("b6", "Car accident"),
        ("CarAccident", "Car accident"),
        ("Road Accidents", "RoadAccidents"),
        ("A", "Normal"),
        ("Nothing abnormal", "Normal"),
        ("biking", "Biking"),
        ("abnormal", "Abnormal"),
        ("Anomaly", "Abnormal"),
        ("Dancing", None),
        ("", None),
    ],
)
def test_canonical(category: str, name: str | None) -> None:
    assert taxonomy.canonical(category) == name


def test_one_taxonomy_accepts_its_own_classes_only() -> None:
    assert taxonomy.canonical("Riot", "xd-violence") == "Riot"
    assert taxonomy.canonical("Riot", "ucf-crime") is None
    with pytest.raises(ConfigError, match="'ucf' is unknown; known are auto, general, ucf-crime, walkway, xd-violence"):
        taxonomy.canonical("Riot", "ucf")


def test_every_class_can_be_put_into_words() -> None:
    for entries in taxonomy.load_taxonomies().values():
        for entry in entries.classes:
            assert len(entry.why) >= 3
            assert not entry.phrase.endswith(".")
    assert "dancing" in taxonomy.describe_class("Dancing").phrase.lower()
    assert taxonomy.describe_class("fighting") is taxonomy.find_class("Fighting", "ucf-crime")


def test_no_alias_means_two_classes_of_one_taxonomy() -> None:
    for entries in taxonomy.load_taxonomies().values():
        for entry in entries.classes:
            assert all(entries.find(name) is entry for name in (entry.name, *entry.aliases))


def test_nearest_class() -> None:
    assert taxonomy.nearest_class("Fihgting") == "Fighting"
    assert taxonomy.nearest_class("Jumpin", others=["Jumping"]) == "Jumping"


def test_a_broken_taxonomy_names_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mine.yaml").write_text("title: mine\nname_patterns: ['no group']\nclasses: []\n", encoding="utf-8")
    monkeypatch.setattr(taxonomy, "TAXONOMIES", tmp_path)
    taxonomy.load_taxonomies.cache_clear()
    try:
        with pytest.raises(SetupError, match=r"mine\.yaml: not a taxonomy"):
            taxonomy.load_taxonomies()
    finally:
        taxonomy.load_taxonomies.cache_clear()
