"""Put the files of published datasets in order: official names, splits and classes, each video once."""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pipeline.config import SourcesConfig
from pipeline.errors import RecordError
from pipeline.records import Reason
from pipeline.sources.catalogue import HELD_OUT_FIRST, Catalogue, OfficialVideo, examples, stem
from pipeline.sources.description import SOURCES, load_description
from pipeline.stages.listing import BadSource, Source, list_sources
from pipeline.stages.zipped import is_zipped, size_of
from pipeline.taxonomy import load_taxonomies

logger = logging.getLogger(__name__)


def list_videos(
    entries: Iterable[str], catalogue: Catalogue | None = None, config: SourcesConfig | None = None
) -> Iterator[Source | BadSource]:
    """Yield the videos of a build: what its entries name, under the official lists of the datasets of `catalogue`.

    Raises: as `take_official`.
    """
    if not catalogue:
        return pass_undescribed(list_sources(entries))
    return take_official(list_sources(entries, zipped=True), catalogue, config or SourcesConfig())


def take_official(
    found: Iterable[Source | BadSource], catalogue: Catalogue, config: SourcesConfig
) -> Iterator[Source | BadSource]:
    """Yield the sources of a build in their order, those of published datasets under their official names.

    A video that lies there several times is taken once: best under its own name, then from the largest file, then
    unpacked. What is there twice, what is on no list and what is missing comes first, as one `BadSource` for each
    dataset and kind, which tells how many and names three.

    Raises:
        ConfigError: a file looks like one of a dataset whose lists are not at hand.
    """
    sources = list(found)
    official: dict[int, OfficialVideo] = {}
    files: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    unlisted: list[str] = []
    dropped: set[int] = set()
    for place, source in enumerate(sources):
        if isinstance(source, BadSource):
            continue
        video = catalogue.find(source.name)
        if video is not None:
            official[place] = video
            files[video.source, video.name].append(place)
            continue
        catalogue.check_lists(source.name)
        # what a manifest tells of is somebody's own footage
        if config.unlisted == "skip" and source.video_id is source.label is source.split is None:
            unlisted.append(source.name)
            dropped.add(place)
    copies: defaultdict[str, list[str]] = defaultdict(list)
    for (dataset, name), places in files.items():
        copies_in = {folder.casefold() for folder in catalogue.datasets[dataset].description.copies_in}
        best = min(places, key=lambda place: _rank(sources[place], name, copies_in, place))
        for place in places:
            if place != best:
                dropped.add(place)
                copies[dataset].append(sources[place].name)
    # where the owners name no validation videos, the fractions of the export may draw them from the training videos
    may_validate = {
        name: all(listed.split != "validation" for listed in dataset.description.lists)
        for name, dataset in catalogue.datasets.items()
    }
    # first of all: the log names the first faults alone
    yield from _remarks(catalogue, {name for _, name in files}, copies, unlisted)
    for place, source in enumerate(sources):
        if isinstance(source, Source) and place in official:
            source = _named(source, official[place], may_validate=may_validate[official[place].source])  # noqa: PLW2901
        if place not in dropped:
            yield source


def pass_undescribed(found: Iterable[Source | BadSource]) -> Iterator[Source | BadSource]:
    """Yield the sources as they are; say so where they bear names of published datasets that nobody has mentioned."""
    named: defaultdict[str, list[str]] = defaultdict(list)
    for source in found:
        if isinstance(source, Source) and source.split is None:
            for taxonomy, known in load_taxonomies().items():
                if known.name_patterns and known.label_of(stem(source.name)) is not None:
                    named[taxonomy].append(source.name)
        yield source
    described = {load_description(path.stem)[1].taxonomy: path.stem for path in sorted(SOURCES.glob("*.yaml"))}
    for taxonomy, names in named.items():
        if taxonomy in described:
            logger.warning(
                "%d files are named like those of %s (%s): without sources.datasets=[%s], its official test videos may "
                "be trained on", len(names), described[taxonomy], examples(names), described[taxonomy],
            )  # fmt: skip


def _rank(source: Source | BadSource, name: str, copies_in: set[str], place: int) -> tuple[bool, bool, int, bool, int]:
    path = source.path if isinstance(source, Source) else ""
    folders = {part.casefold() for part in PurePosixPath(source.name).parts[:-1]}
    return bool(folders & copies_in), stem(source.name) != name, -size_of(path), is_zipped(path), place


def _named(source: Source, video: OfficialVideo, *, may_validate: bool) -> Source:
    """Return a source as its dataset names it. With `may_validate`, training videos may be drawn for validation."""
    official = None if may_validate and video.split == "train" else video.split
    splits = {official, source.split}
    return replace(
        source,
        video_id=source.video_id or video.name,
        label=source.label or video.label,
        split=next((split for split in HELD_OUT_FIRST if split in splits), None),
    )


def _remarks(
    catalogue: Catalogue, found: set[str], copies: dict[str, list[str]], unlisted: list[str]
) -> Iterator[BadSource]:
    for name, dataset in catalogue.datasets.items():
        here = Counter(video.split for video in dataset.videos.values() if video.name in found)
        for kind, remark in dataset.remarks.items():
            yield _remark(f"{name}: {kind}", Reason.MALFORMED_ROW, remark, 0)
        if further := copies.get(name):
            detail = f"{len(further)} files hold a video that another file holds, e.g. {examples(further)}"
            yield _remark(f"{name}: copies", Reason.FURTHER_COPY, f"{name}: {detail}: each video is taken once", 0)
        for listed in dataset.description.lists:
            path = dataset.path_of(listed)
            if path is None:
                detail = f"{name}: the list of its {listed.videos} {listed.split} videos is not there, nor one of them"
                yield _remark(f"{name}: {listed.split}", Reason.FILE_MISSING, f"{detail}: {listed.url}", listed.videos)
                continue
            wanted = [video.name for video in dataset.videos.values() if video.split == listed.split]
            if missing := [video for video in wanted if video not in found]:
                detail = f"{len(missing)} of the {len(wanted)} {listed.split} videos of {Path(path).name} are not there"
                yield _remark(
                    f"{name}: {listed.split}", Reason.FILE_MISSING,
                    f"{name}: {detail}, {here[listed.split]} are; e.g. {examples(missing)}", len(missing),
                )  # fmt: skip
    if unlisted:
        detail = f"{len(unlisted)} files are on no list of {', '.join(catalogue.datasets)}, e.g. {examples(unlisted)}"
        cure = "left out; sources.unlisted=keep takes them"
        yield _remark("unlisted files", Reason.UNLISTED, f"{detail}: {cure}", 0)


def _remark(name: str, reason: Reason, detail: str, videos: int) -> BadSource:
    return BadSource(name=name, fault=RecordError(reason, detail), videos=videos)
