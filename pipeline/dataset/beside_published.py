"""A dataset's figures beside those that a paper tells of its own: rows for report, card and `stats.json`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from pipeline.published import PublishedDataset, PublishedSource, select_dataset
from pipeline.records import NORMAL, Glance, Video
from pipeline.tables import Table

_TEST = "test"
_CLIPS_AT_ONCE = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedFigure:
    """One figure, as text; `ours` is a dash where there is nothing to measure it on."""

    figure: str
    ours: str
    published: str
    where: str


def compare_with_published(
    name: str, stats: Mapping[str, Any], clips: pa.Table, videos: Table[Video], glances: Table[Glance]
) -> dict[str, Any] | None:
    """Return the title, the citation and the rows of the comparison; None where there is nothing to compare with.

    Videos, items and clicks are counted without the test split, which the published figures do not hold.

    Args:
        name: `auto`, `none` or the name of a published dataset.
        stats: as `DatasetStatistics.summary` returns them.
        clips: one row per clip of the dataset, with video_id, split and label.
        videos: all of the build.
        glances: all of the build.

    Raises:
        ConfigError: no published dataset has that name.
    """
    # Most footage is none that anybody has published, as its first video tells.
    first = next((video for video in videos.records() if video.video_id == clips.column("video_id")[0].as_py()), None)
    if select_dataset(name, [_names(first)] if first else []) is None:
        return None
    places = {video_id: place for place, video_id in enumerate(clips.column("video_id").unique().to_pylist())}
    used = [video for video in videos.records() if video.video_id in places]
    used.sort(key=lambda video: places[video.video_id])
    dataset = select_dataset(name, [_names(video) for video in used])
    if dataset is None:
        return None
    tested: set[str] = set()
    abnormal: dict[str, str] = {}
    for batch in clips.select(["video_id", "split", "label"]).to_batches(max_chunksize=_CLIPS_AT_ONCE):
        for video_id, split, label in zip(*(column.to_pylist() for column in batch.columns), strict=True):
            if split == _TEST:
                tested.add(video_id)
            if label != NORMAL:
                abnormal.setdefault(video_id, label)
    trained = [video for video in used if video.video_id not in tested]
    figures = [
        *(row for source in dataset.sources for row in _of_source(source, dataset, trained, abnormal)),
        *_of_dataset(dataset, stats, {video.video_id for video in trained}, glances.values("video_id")),
    ]
    return {"title": dataset.title, "citation": dataset.citation, "rows": [asdict(row) for row in figures]}


def _of_source(
    source: PublishedSource, dataset: PublishedDataset, videos: Sequence[Video], abnormal: Mapping[str, str]
) -> Iterator[ComparedFigure]:
    ours = [video for video in videos if dataset.source_of(*_names(video)) == source.title]
    classes = Counter(abnormal[video.video_id] for video in ours if video.video_id in abnormal)
    for side, count, published in (
        ("abnormal", classes.total(), source.abnormal_videos),
        ("normal", len(ours) - classes.total(), source.normal_videos),
    ):
        yield ComparedFigure(
            figure=f"{source.title}: {side} videos", ours=f"{count:,}", published=f"{published:,}", where=source.where
        )
    if source.class_videos is not None:
        for name, share in source.class_videos.shares().items():
            yield ComparedFigure(
                figure=f"{source.title}: share of {name}",
                ours=f"{classes[name] / classes.total():.1%}" if classes else "-",
                published=f"{share:.1%}",
                where=source.class_videos.where,
            )
    if source.mean_minutes is not None:
        mean_s = sum(video.duration_s for video in ours) / len(ours) if ours else None
        yield ComparedFigure(
            figure=f"{source.title}: minutes a video",
            ours="-" if mean_s is None else f"{mean_s / 60:.2f}",
            published=f"{source.mean_minutes.value:.2f}",
            where=source.mean_minutes.where,
        )


def _of_dataset(
    dataset: PublishedDataset, stats: Mapping[str, Any], trained: set[str], clicked: Iterable[str]
) -> Iterator[ComparedFigure]:
    clicks = Counter(video_id for video_id in clicked if video_id in trained)
    items = sum(counts["rows"] for split, counts in stats["splits"].items() if split != _TEST)
    sides = [side for side in (stats["answer_words"][name] for name in ("abnormal", "normal")) if side["count"]]
    answers = sum(side["count"] for side in sides)
    words = sum(side["count"] * side["mean"] for side in sides) / answers if answers else None
    for figure, ours, published in (
        (
            "clicks a video that has one",
            f"{clicks.total() / len(clicks):.2f}" if clicks else "-",
            dataset.clicks_per_video,
        ),
        ("questions and answers", f"{items:,}", dataset.items),
        ("words an answer", "-" if words is None else f"{words:.2f}", dataset.words_per_answer),
    ):
        told = f"{published.value:,.0f}" if published.value.is_integer() else f"{published.value:.2f}"
        yield ComparedFigure(figure=figure, ours=ours, published=told, where=published.where)


def _names(video: Video) -> tuple[str, str]:
    return Path(video.path).name, video.video_id
