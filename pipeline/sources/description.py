"""What is known of a published dataset, one YAML file each in `datasets/sources`; anybody's own is one more."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.errors import ConfigError
from pipeline.resources import DATASETS

SOURCES = DATASETS / "sources"

Split = Literal["train", "validation", "test"]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Publication(_Part):
    """A file that somebody publishes. `files` are the names that it has in one place or another: one of them is enough.

    `url` is where it is published; whoever builds puts it beside the videos.
    """

    files: tuple[str, ...] = Field(min_length=1)
    url: str
    license: str = ""


class OfficialList(Publication):
    """The names of the videos of one split, one a line: a path or a file name, below a header or without one.

    Of a table the first column is read. `videos` is how many the owners say there are.
    """

    split: Split
    videos: int = Field(ge=1)


class Description(_Part):
    """A dataset as its owners publish it.

    Attributes:
        taxonomy: the file of datasets/taxonomies that tells classes from file names.
        lists: the official lists.
        optional_ending: what names of the lists end in and copies may leave out.
        copies_in: folders that hold further copies of videos that lie elsewhere in the release.
        glances: files of clicks.
        past_end_frames: by how many frames published clicks are known to lie past the end of their video.
        sentences: files of human sentences.
        truth: files of temporal ground truth, for evaluation alone.
        defects: what is known to be wrong, for people.
    """

    title: str
    homepage: str
    license: str
    citation: str
    taxonomy: str
    lists: tuple[OfficialList, ...] = Field(min_length=1)
    optional_ending: str = ""
    copies_in: tuple[str, ...] = ()
    glances: tuple[Publication, ...] = ()
    past_end_frames: int = Field(0, ge=0)
    sentences: tuple[Publication, ...] = ()
    truth: tuple[Publication, ...] = ()
    defects: tuple[str, ...] = ()


def load_description(name: str) -> tuple[str, Description]:
    """Return a description and its short name, by name of its file in `datasets/sources` or by path.

    Raises:
        ConfigError: there is no such file, or it breaks the shape of `Description`.
    """
    path = SOURCES / f"{name}.yaml"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        known = ", ".join(sorted(entry.stem for entry in SOURCES.glob("*.yaml")))
        raise ConfigError(f"sources.datasets: {name}: neither one of {known} nor a file")
    try:
        return path.stem, Description.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
        raise ConfigError(f"{path}: not the description of a dataset: {fault}") from None
