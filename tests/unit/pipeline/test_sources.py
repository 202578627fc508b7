"""The descriptions that come along, the recipes that use them, and the published lists of UCF-Crime."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from pipeline.config import SourcesConfig, load_config
from pipeline.sources.catalogue import load_catalogue, read_list
from pipeline.sources.description import SOURCES, load_description

REPOSITORY = Path(__file__).resolve().parents[3]
PUBLISHED = REPOSITORY.parent / "shared/data/annotations"


@pytest.mark.parametrize("recipe", ["vad-instruct50k.yaml", "vad-instruct50k-2026.yaml"])
def test_recipes_rehearse_the_paper(recipe: str) -> None:
    config = load_config(REPOSITORY / "datasets" / recipe, ["videos=[UCF_Crimes,XD-Violence]"])
    assert config.sources.datasets == ["ucf-crime", "xd-violence"]
    assert (config.clips.method, config.clips.splits) == ("sampler", ["train", "validation"])
    assert (config.lora.rank, config.lora.alpha, config.lora.batch_size, config.lora.epochs) == (64, 128, 128, 1)
    assert config.caption.model == config.lora.base
    # the paper trains on every training video
    assert (config.export.validation_fraction, config.export.test_fraction) == (0.0, 0.0)


@pytest.mark.parametrize(("name", "train", "test"), [("ucf-crime", 1610, 290), ("xd-violence", 3954, 800)])
def test_descriptions_hold_both_lists_and_where_they_are_published(name: str, train: int, test: int) -> None:
    _, description = load_description(name)
    assert {listed.split: listed.videos for listed in description.lists} == {"train": train, "test": test}
    assert all(listed.url for listed in description.lists)
    assert description.license
    assert description.citation


def test_every_description_is_one() -> None:
    assert sorted(load_description(path.stem)[0] for path in SOURCES.glob("*.yaml")) == ["ucf-crime", "xd-violence"]


@pytest.mark.skipif(not PUBLISHED.is_dir(), reason=f"no published lists in {PUBLISHED}")
def test_published_lists_of_ucf_crime_give_the_counts_of_the_paper() -> None:
    catalogue = load_catalogue(SourcesConfig(datasets=["ucf-crime"], annotations=[str(PUBLISHED)]))
    videos = catalogue.datasets["ucf-crime"].videos.values()
    counts = Counter((video.split, video.label == "Normal") for video in videos)
    assert counts == {("train", False): 810, ("train", True): 800, ("test", False): 140, ("test", True): 150}
    assert catalogue.datasets["ucf-crime"].remarks == {}
    assert [Path(path).name for path in catalogue.glances] == ["ucf_glance_annotations.csv"]
    # letters and digits alone tell all of them apart
    assert all(catalogue.find(f"x/{video.name.lower().replace('_', ' ')}.mp4") == video for video in videos)


def test_lists_are_read_with_folders_suffixes_headers_and_blanks_or_without(tmp_path: Path) -> None:
    table, lines = tmp_path / "a.csv", tmp_path / "a.txt"
    table.write_text('video-id,frames\n"v=a__#1 b",7\n', encoding="utf-16")
    lines.write_text("Abuse/Abuse001_x264.mp4\n\nTraining_Normal_Videos_Anomaly\\Normal_Videos001_x264.mp4  \n")
    assert read_list(table) == ["v=a__#1 b"]
    assert read_list(lines) == ["Abuse001_x264", "Normal_Videos001_x264"]
