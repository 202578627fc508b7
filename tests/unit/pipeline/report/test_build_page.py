"""The page that a person looks at before training."""

from __future__ import annotations

import dataclasses
import io
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from dataset_fixtures import make_video
from PIL import Image

from pipeline.config import BuildConfig, ExportConfig
from pipeline.dataset.shortcuts import Shortcut
from pipeline.errors import DataError
from pipeline.records import NORMAL, InstructionPair
from pipeline.report.build_page import write_build_report
from pipeline.report.charts import draw_histogram
from pipeline.report.checks import check_dataset
from pipeline.report.examples import choose_examples
from pipeline.report.thumbnails import ThumbnailJob, make_thumbnail
from pipeline.stages.base import StageReport
from pipeline.stages.export import export_dataset
from pipeline.workspace import Workspace

Fill = Callable[..., Workspace]
CONFIG = BuildConfig(videos=["footage"]).model_dump(mode="json")
STAGES = [StageReport(stage="clips", made=12, kept=0, dropped=0, rows=12, rejected={"no_glance": 2}, seconds=1.5)]


class Tags(HTMLParser):
    """Collects the start tags of a page and what they point at."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.targets: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.targets += [value or "" for name, value in attrs if name in ("src", "srcset", "href", "action", "data")]


def test_page_and_facts(fill: Fill) -> None:
    workspace = fill(files=True)
    export_dataset(workspace, ExportConfig(validation_fraction=0.3), "encode")
    page = write_build_report(workspace, STAGES, CONFIG)
    assert page == workspace.storage.local_path("reports/build.html")
    html = page.read_text()
    tags = Tags(html)
    assert tags.tags.count("article") == 8
    assert tags.tags.count("img") == 8
    assert all(target.startswith("data:image/webp;base64,") for target in tags.targets)
    assert "http" not in re.sub(r'"data:[^"]*"|http-equiv', "", html)
    assert len(html) < 3_000_000
    assert "Lost stretches" not in html
    for text in ("Fighting", "Robbery", "Explosion", "ingest: truncated", "36 of 90 frames", "description", "1.5 s"):
        assert text in html
    facts = json.loads((page.parent / "build.json").read_text())
    assert facts["stages"][0]["rejected"] == {"no_glance": 2}
    assert facts["dataset_stats"]["rows"] == 24
    assert facts["dataset_stats"]["rejected"] == {"ingest": {"truncated": 1}}
    assert {"holmes-engine", "python", "pyarrow"} <= set(facts["versions"])


def test_text_of_others_never_becomes_markup(fill: Fill) -> None:
    attack = '<script>alert(1)</script>"><img src=x onerror=alert(2)>'

    def poison(record: Any) -> Any:
        name = "answer" if isinstance(record, InstructionPair) else "text"
        return dataclasses.replace(record, **{name: f"{getattr(record, name)} {attack}"})

    workspace = fill(reword=poison)
    captions = list(workspace.captions.records())
    workspace.captions.drop([f"caption-{number}" for number in range(len(captions))])
    workspace.captions.commit(["u"], [("u", poison(caption)) for caption in captions], [], "f" * 16)
    export_dataset(workspace, ExportConfig(), "encode")
    html = write_build_report(workspace, STAGES, CONFIG).read_text()
    tags = Tags(html)
    assert "script" not in tags.tags
    assert "x" not in tags.targets
    assert html.count("&lt;script&gt;alert(1)") > 16
    assert "frames &lt;b&gt;only" in html
    assert "No picture: " in html  # the clips of this build have no files: the page says so and stands


def test_examples_show_both_sides_and_every_class(fill: Fill) -> None:
    workspace = fill()
    export_dataset(workspace, ExportConfig(validation_fraction=0.3), "encode")
    examples = choose_examples(workspace.dataset_folder)
    assert len(examples) == 8
    assert {example.label for example in examples} == {"Fighting", "Robbery", "Explosion", NORMAL}
    assert {len(example.conversations) for example in examples} == {2}
    assert choose_examples(workspace.dataset_folder) == examples


def test_reference_clips_are_read_from_the_source(fill: Fill, write_clip: Callable[..., None], tmp_path: Path) -> None:
    workspace = fill()
    video = next(workspace.videos.records())
    source = tmp_path / "source.mp4"
    write_clip(source, num_frames=100)
    others = [("u", dataclasses.replace(v, path=str(source))) for v in workspace.videos.records()]
    workspace.videos.drop([f"ingest-{i}" for i in range(6)])
    workspace.videos.commit(["u"], others, [], "f" * 16)
    export_dataset(workspace, ExportConfig(), "reference")
    html = write_build_report(workspace, STAGES, CONFIG).read_text()
    assert video.video_id in html
    assert "No picture" not in html


def test_thumbnail_moves_and_marks_the_glance(write_clip: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / "clip.mp4"
    write_clip(path, num_frames=40)
    made = make_thumbnail(ThumbnailJob(path=str(path), start_s=0.0, end_s=4.0, glance_s=2.05))
    animation: Any = Image.open(io.BytesIO(made.animation))
    assert animation.n_frames in (12, 13)
    assert animation.size == (made.width, made.height) == (240, 180)
    edges = []
    for number in range(animation.n_frames):
        animation.seek(number)
        red, green, blue = animation.convert("RGB").getpixel((1, 60))
        edges.append(red > 180 and green > 140 and blue < 110)
    assert edges.count(True) == 1
    assert Image.open(io.BytesIO(made.still)).size == (240, 180)


def test_no_dataset_is_an_error(workspace: Workspace) -> None:
    with pytest.raises(DataError, match=r"stats\.json"):
        write_build_report(workspace, STAGES, CONFIG)


def stats(**changes: Any) -> dict[str, Any]:
    """Statistics of a dataset that gives no cause for concern."""
    sides = {side: {"count": 50, "median": 10.0, "mean": 40.0, "histogram": [50]} for side in ("abnormal", "normal")}
    counts = {"rows": 50, "abnormal_rows": 25, "normal_rows": 25, "clips": 25, "videos": 5}
    sound = {
        "labels": {label: {"rows": 50, "clips": 25, "videos": 5} for label in ("Fighting", NORMAL)},
        "splits": {"train": counts, "validation": counts},
        "clip_length_s": {"bin_edges": [0, 20], **sides},
        "answer_words": {"bin_edges": [0, 80], **sides},
        "openings": {"judge_explain/abnormal": {"rows": 50, "most_common": "Yes, the video shows", "share": 0.2}},
        "rejected": {},
        "warnings": [],
    }
    return sound | changes


SMALL = {"Fighting": {"rows": 8, "clips": 4, "videos": 1}, NORMAL: {"rows": 8, "clips": 6, "videos": 1}}
ONE_SIDED = {"train": {"rows": 9, "abnormal_rows": 9, "normal_rows": 0, "clips": 9, "videos": 3}}


@pytest.mark.parametrize(
    ("changes", "title", "words"),
    [
        ({"labels": SMALL}, "Class sizes", "Fighting 4"),
        ({"labels": {**SMALL, NORMAL: {"rows": 80, "clips": 40, "videos": 9}}}, "Balance", "91% of the clips"),
        ({"splits": ONE_SIDED}, "Splits", "nothing to validate on"),
        ({"splits": ONE_SIDED}, "Splits", "train holds nothing normal"),
        ({"warnings": ["all of it goes to test"]}, "Splits", "all of it goes to test"),
        ({"rejected": {"clips": {"no_glance": 30}}}, "Left out", "clips left out 30 of 80 as no_glance"),
        ({"openings": {"analysis/normal": {"rows": 50, "most_common": "The clip", "share": 0.8}}}, "Wording", "80%"),
    ],
)  # fmt: skip
def test_what_needs_attention_is_said(changes: dict[str, Any], title: str, words: str) -> None:
    checks = check_dataset(stats(**changes), {"clips": 50}, {"ann": 100})
    assert any(check.needs_attention and check.title == title and words in check.detail for check in checks)
    assert checks[0].needs_attention


@pytest.mark.parametrize(("key", "title"), [("clip_length_s", "Clip lengths"), ("answer_words", "Answer lengths")])
def test_lengths_that_give_the_label_away(key: str, title: str) -> None:
    skewed = stats()[key] | {"normal": {"count": 50, "median": 4.0, "mean": 15.0, "histogram": [50]}}
    found = [check for check in check_dataset(stats(**{key: skewed}), {}, {"ann": 1}) if check.needs_attention]
    assert [check.title for check in found] == [title]


def test_a_sound_dataset_needs_none() -> None:
    read = check_dataset(stats(), {"clips": 50}, {"rules": 90, "ann": 10})
    assert not any(check.needs_attention for check in read)
    unread = check_dataset(stats(), {"clips": 50}, {"rules": 100})
    assert [check.title for check in unread if check.needs_attention] == ["Review"]


def test_histogram_of_one_side_and_of_hostile_text() -> None:
    one_sided = {
        "bin_edges": [0, 1, 2],
        "abnormal": {"count": 3, "histogram": [1, 2], "median": 1.5},
        "normal": {"count": 0},
    }
    svg = draw_histogram(one_sided, title='<b> "x"', unit="s")
    assert svg.count("<path") == 1
    assert "<b>" not in svg


def test_the_footage_is_told_to_the_second(fill: Fill) -> None:
    workspace = fill()
    export_dataset(workspace, ExportConfig(), "encode")
    # twelve clips of 2 s
    html = write_build_report(workspace, STAGES, CONFIG).read_text()
    assert "24.0 s" in html
    assert "12 (0.007 hours)" in (workspace.dataset_folder / "README.md").read_text()


def test_shortcuts_are_named_and_few_videos_are_said_to_tell_nothing() -> None:
    def detail(videos: int, shortcuts: list[Shortcut]) -> tuple[str, bool]:
        labels = {label: {"rows": 50, "clips": 25, "videos": videos} for label in ("Fighting", NORMAL)}
        checks = check_dataset(stats(labels=labels), {}, {}, shortcuts)
        [check] = [check for check in checks if check.title == "Shortcuts"]
        return check.detail, check.needs_attention

    length = Shortcut(trait="length", auc=0.934, abnormal_videos=40, normal_videos=30, chance=0.0002)
    assert detail(40, [length]) == (
        "Length alone tells abnormal from normal: AUC 0.93 over 40 abnormal and 30 normal videos; by chance: 0.0002.",
        True,
    )
    assert detail(40, []) == ("No trait of clips and videos was seen to give labels away.", False)
    assert detail(9, []) == (
        "Fewer than 10 videos of a side: too few to tell whether a trait gives labels away.",
        False,
    )


def test_the_page_lists_what_recordings_lost(fill: Fill) -> None:
    lost = dataclasses.replace(make_video(0, "Fighting"), lost="[[1.5, 2.25], [9.0, 12.0]]", lost_frames="[[38, 57]]")
    workspace = fill(videos=[lost, make_video(1, NORMAL)], files=True)
    export_dataset(workspace, ExportConfig(validation_fraction=0.0), "encode")
    html = write_build_report(workspace, STAGES, CONFIG).read_text()
    _, section = html.split('<h2 id="lost">')
    told = section[: section.index("</section>")]
    assert f"<li>{lost.video_id}: 1.50 s to 2.25 s, 9.00 s to 12.00 s</li>" in told
    assert told.count("<li>") == 1
