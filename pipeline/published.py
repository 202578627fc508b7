"""Figures that papers tell of their datasets and systems, to be read beside our own.

They are data in `datasets/published`: one file a dataset, and the rows of published tables in `results.yaml`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from pipeline.errors import ConfigError, SetupError
from pipeline.resources import DATASETS

PUBLISHED = DATASETS / "published"
RESULTS = "results"
AUTO, NONE = "auto", "none"

T = TypeVar("T")


class _Read(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class PublishedFigure(_Read):
    """A number, and the paper and section that it stands in."""

    value: float
    where: str


class ClassVideos(_Read):
    """Number of abnormal training videos of each class."""

    where: str
    counts: Mapping[str, int] = Field(min_length=1)

    def shares(self) -> dict[str, float]:
        """Return the share of each class in [0, 1]."""
        total = sum(self.counts.values())
        return {name: count / total for name, count in self.counts.items()}


class PublishedSource(_Read):
    """Footage that a dataset was made from; `name` finds its videos by their file names, blind to case."""

    title: str
    name: str
    abnormal_videos: int
    normal_videos: int
    where: str
    class_videos: ClassVideos | None = None
    mean_minutes: PublishedFigure | None = None

    def has(self, name: str) -> bool:
        """Tell whether a video's file name or id is one of this source."""
        return re.search(self.name, PurePosixPath(name).name, re.IGNORECASE) is not None


class PublishedDataset(_Read):
    """What a paper tells of its dataset."""

    title: str
    citation: str
    sources: tuple[PublishedSource, ...] = Field(min_length=1)
    clicks_per_video: PublishedFigure
    items: PublishedFigure
    words_per_answer: PublishedFigure

    def source_of(self, *names: str) -> str | None:
        """Return the title of the source that one of a video's names is of, None where of none."""
        return next((source.title for source in self.sources if any(map(source.has, names))), None)


class PublishedRow(BaseModel):
    """A row of a published table: numbers by the table's columns, those that the paper tells."""

    model_config = ConfigDict(extra="allow", frozen=True)
    __pydantic_extra__: dict[str, float]

    name: str
    where: str
    group: str | None = None

    @property
    def values(self) -> Mapping[str, float]:
        """What the row tells, by column."""
        return self.__pydantic_extra__


class PublishedTable(_Read):
    """A table of results; `sources` are titles of the footage that they were measured on."""

    title: str
    sources: tuple[str, ...]
    unit: Literal["percent", "fraction"]
    digits: int = Field(ge=0, le=6)
    note: str | None = None
    columns: Mapping[str, str] = Field(min_length=1)
    rows: tuple[PublishedRow, ...] = Field(min_length=1)


@functools.cache
def load_published_datasets() -> Mapping[str, PublishedDataset]:
    """Return the published datasets by name of their file.

    Raises:
        SetupError: naming the file that cannot be read or has another shape.
    """
    paths = (path for path in sorted(PUBLISHED.glob("*.yaml")) if path.stem != RESULTS)
    return {path.stem: _read(path.stem, PublishedDataset) for path in paths}


@functools.cache
def load_published_tables() -> Mapping[str, PublishedTable]:
    """Return the published tables by name. Raises: as `load_published_datasets`."""
    tables = _read(RESULTS, dict[str, PublishedTable])
    for name, table in tables.items():
        for row in table.rows:
            if unknown := row.values.keys() - table.columns.keys():
                raise SetupError(f"{PUBLISHED / RESULTS}.yaml: {name}: {row.name}: {sorted(unknown)} are no columns")
    return tables


def select_dataset(name: str, videos: Sequence[Sequence[str]]) -> PublishedDataset | None:
    """Return the published dataset of a name; for `auto` that whose sources hold every one of `videos`, if one does.

    Args:
        name: `auto`, `none`, or a file of `datasets/published`.
        videos: the names that each video goes by: file name, id.

    Raises:
        ConfigError: no such dataset.
    """
    known = load_published_datasets()
    if name == NONE:
        return None
    if name == AUTO:
        return next((one for one in known.values() if videos and all(one.source_of(*names) for names in videos)), None)
    if name not in known:
        raise ConfigError(f"export.published={name}: unknown; known are {', '.join([AUTO, NONE, *known])}")
    return known[name]


def sources_of(names: Iterable[str]) -> set[str | None]:
    """Return the titles of the known footage that videos of these file names are of; None stands for any other."""
    known = load_published_datasets().values()
    return {next(filter(None, (one.source_of(name) for one in known)), None) for name in names}


def _read(name: str, kind: type[T]) -> T:
    path = PUBLISHED / f"{name}.yaml"
    adapter: TypeAdapter[Any] = TypeAdapter(kind)
    try:
        found: T = adapter.validate_python(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
        raise SetupError(f"{path}: not published figures: {fault}") from None
    return found
