"""Which official video a name means, whatever a copy has made of its spelling, and to which split it belongs."""

from __future__ import annotations

import glob
import os
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PureWindowsPath
from urllib.parse import unquote

from pipeline.config import SourcesConfig
from pipeline.errors import ConfigError, DataError
from pipeline.sources.description import Description, OfficialList, Publication, load_description
from pipeline.spreadsheet import decode
from pipeline.taxonomy import Taxonomy, load_taxonomies

HELD_OUT_FIRST = ("test", "validation", "train")
"""A video that stands in several lists belongs to the most held out one."""

_HEADERS = frozenset({"video-id", "video_id", "video", "name", "file"})
_SUFFIXES = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".mpg", ".npy")
_EXAMPLES = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class OfficialVideo:
    """A video of a published dataset: its name as the list spells it, its split, and its class where the name tells."""

    name: str
    source: str
    split: str
    label: str | None


def examples(names: Sequence[str]) -> str:
    """Return the first few of `names` for a message."""
    return ", ".join(names[:_EXAMPLES]) + (", ..." if len(names) > _EXAMPLES else "")


class PublishedDataset:
    """A description with the files that were found of it.

    Args:
        name: the short name.
        description: what is known of it.
        found: paths of the files that lie at hand, by lower-case file name.
    """

    def __init__(self, name: str, description: Description, found: dict[str, Path]) -> None:
        self.name = name
        self.description = description
        self._found = found
        taxonomies = load_taxonomies()
        if description.taxonomy not in taxonomies:
            known = ", ".join(taxonomies)
            raise ConfigError(f"sources.datasets: {name}: taxonomy {description.taxonomy!r} is none of {known}")
        self._taxonomy: Taxonomy = taxonomies[description.taxonomy]
        self.remarks: dict[str, str] = {}

    def path_of(self, published: Publication) -> Path | None:
        """Return where a published file lies, None where it is not at hand."""
        return next((self._found[name.lower()] for name in published.files if name.lower() in self._found), None)

    @property
    def missing_lists(self) -> list[OfficialList]:
        """The official lists that are not at hand."""
        return [listed for listed in self.description.lists if self.path_of(listed) is None]

    def is_named_like(self, name: str) -> bool:
        """Tell whether a file name has the form of this dataset's."""
        return self._taxonomy.label_of(stem(name)) is not None

    @cached_property
    def videos(self) -> dict[str, OfficialVideo]:
        """All videos of the lists by name, in the order of the lists.

        Names that differ in case or in the optional ending alone are one video, and one that stands in several lists
        belongs to the most held out of them: `remarks` says how many there are.
        """
        by_key: dict[str, OfficialVideo] = {}
        respelt: list[str] = []
        in_several: list[str] = []
        for listed in sorted(self.description.lists, key=lambda one: HELD_OUT_FIRST.index(one.split)):
            path = self.path_of(listed)
            names = [] if path is None else read_list(path)
            for name in names:
                key = self._spelling(name)
                held = by_key.get(key)
                if held is None:
                    by_key[key] = OfficialVideo(
                        name=name, source=self.name, split=listed.split, label=self._taxonomy.label_of(name)
                    )
                elif held.split != listed.split:
                    in_several.append(held.name)
                elif held.name != name:
                    respelt.append(name)
        if in_several:
            detail = f"{len(in_several)} videos stand in several lists, e.g. {examples(in_several)}"
            self.remarks["lists"] = f"{self.name}: {detail}: each belongs to test before validation before train"
        if respelt:
            detail = f"{len(respelt)} names of its lists differ from others in spelling alone, e.g. {examples(respelt)}"
            self.remarks["names"] = f"{self.name}: {detail}: each is one video"
        return {video.name: video for video in by_key.values()}

    def find(self, name: str) -> OfficialVideo | None:
        """Return the official video that a file or an annotation calls `name`, None for none or several."""
        spelt = stem(name)
        exact = self.videos.get(spelt)
        if exact is not None:
            return exact
        for spelling, index in zip((self._spelling, self._letters), self._indices, strict=True):
            same = index.get(spelling(spelt), [])
            if len(same) == 1:
                return same[0]
        return None

    @cached_property
    def _indices(self) -> tuple[dict[str, list[OfficialVideo]], dict[str, list[OfficialVideo]]]:
        spelt: defaultdict[str, list[OfficialVideo]] = defaultdict(list)
        letters: defaultdict[str, list[OfficialVideo]] = defaultdict(list)
        for video in self.videos.values():
            spelt[self._spelling(video.name)].append(video)
            letters[self._letters(video.name)].append(video)
        return spelt, letters

    def _spelling(self, name: str) -> str:
        """Return a name without case and optional ending."""
        return name.casefold().removesuffix(self.description.optional_ending.casefold())

    def _letters(self, name: str) -> str:
        """Return what is left of a name where signs are replaced, escaped or dropped: letters and digits."""
        return _letters(unquote(name)).removesuffix(_letters(self.description.optional_ending))


class Catalogue:
    """The published datasets of a build."""

    def __init__(self, datasets: Sequence[PublishedDataset], folders: Sequence[Path]) -> None:
        self.datasets = {dataset.name: dataset for dataset in datasets}
        self._folders = folders

    def __bool__(self) -> bool:
        return bool(self.datasets)

    def find(self, name: str) -> OfficialVideo | None:
        """Return the official video that a file or an annotation calls `name`, with folders and suffix or without."""
        found = (dataset.find(name) for dataset in self.datasets.values())
        return next((video for video in found if video is not None), None)

    def check_lists(self, name: str) -> None:
        """Refuse a file of a dataset whose lists are not at hand: whether it is a test video is unknown.

        Raises:
            ConfigError: naming the list, where it is published, and where it may be put.
        """
        for dataset in self.datasets.values():
            if dataset.missing_lists and dataset.is_named_like(name):
                raise ConfigError(self._cure(dataset, dataset.missing_lists[0], name))

    @property
    def glances(self) -> list[str]:
        """The files of clicks at hand."""
        return self._files(lambda description: description.glances)

    @property
    def sentences(self) -> list[str]:
        """The files of human sentences at hand."""
        return self._files(lambda description: description.sentences)

    def past_end_frames(self, name: str) -> int:
        """Return by how many frames clicks on a video may lie past its end."""
        found = self.find(name)
        return self.datasets[found.source].description.past_end_frames if found else 0

    def _files(self, of: Callable[[Description], Iterable[Publication]]) -> list[str]:
        named = ((dataset, one) for dataset in self.datasets.values() for one in of(dataset.description))
        return [str(path) for dataset, one in named if (path := dataset.path_of(one)) is not None]

    def _cure(self, dataset: PublishedDataset, listed: OfficialList, name: str) -> str:
        folders = ", ".join(map(str, self._folders))
        return (
            f"{name}: named like a video of {dataset.name}, whose list of {listed.split} videos is not there: put "
            f"{' or '.join(listed.files)} ({listed.url}) into one of {folders}, or name its folder with "
            "--set sources.annotations=[FOLDER]"
        )


def load_catalogue(config: SourcesConfig, videos: Iterable[str] = ()) -> Catalogue:
    """Read the descriptions of a configuration and look for the files that they name.

    Args:
        config: the datasets, and the folders to search first.
        videos: the entries of `videos`: folders among them are searched too, and where folders, archives and
            manifests lie.

    Raises:
        ConfigError: a description is unknown or broken, or a folder is not there.
    """
    if not config.datasets:
        return Catalogue((), ())
    for folder in config.annotations:
        if not Path(folder).is_dir():
            raise ConfigError(f"sources.annotations: {folder}: no such folder")
    described = dict(map(load_description, config.datasets))
    # Path.glob refuses absolute patterns
    named = (entry for entry in videos if "://" not in entry)
    there = [Path(match) for entry in named for match in ([entry] if os.path.lexists(entry) else glob.glob(entry))]  # noqa: PTH207
    roots = [path for path in there if path.is_dir()]
    beside = list(dict.fromkeys(path.absolute().parent for path in there))
    wanted = {
        name.lower()
        for description in described.values()
        for one in (*description.lists, *description.glances, *description.sentences, *description.truth)
        for name in one.files
    }
    deep = [*map(Path, config.annotations), *roots, *(folder / "annotations" for folder in (*beside, Path()))]
    found: dict[str, Path] = {}
    for path in (*(path for folder in deep for path in _below(folder)), *(path for one in beside for path in _in(one))):
        if path.name.lower() in wanted:
            found.setdefault(path.name.lower(), path)
    datasets = [PublishedDataset(name, description, found) for name, description in described.items()]
    return Catalogue(datasets, [*deep, *beside])


def read_list(path: Path) -> list[str]:
    """Return the names of an official list without folders and suffixes, in its order.

    Raises:
        DataError: the file cannot be read, or holds no name.
    """
    try:
        lines = decode(path.read_bytes(), path).splitlines()
    except OSError as fault:
        raise DataError(f"{path}: the list cannot be read: {fault.strerror}") from None
    # a name may hold blanks and, where the header has one column, commas
    delimiter = next((mark for mark in ",\t;" if mark in lines[0]), None) if lines else None
    is_table = path.suffix.lower() in {".csv", ".tsv"}
    cells = (line.split(delimiter)[0] if is_table and delimiter else line for line in lines if line.strip())
    names = [stem(cell.strip().strip('"')) for cell in cells]
    if names and names[0].casefold() in _HEADERS:
        del names[0]
    if not names:
        raise DataError(f"{path}: an official list of videos is expected, and no name stands in it")
    return names


def stem(name: str) -> str:
    """Return a file name without folders and without the suffix of a video."""
    # lists write folders with either slash; names of films hold dots, so that suffixes are those of videos alone
    file = unicodedata.normalize("NFC", PureWindowsPath(name.strip()).name)
    suffix = next((suffix for suffix in _SUFFIXES if file.lower().endswith(suffix)), "")
    return file[: len(file) - len(suffix)]


def _letters(name: str) -> str:
    plain = unicodedata.normalize("NFKD", name.casefold())
    return "".join(char for char in plain if char.isascii() and char.isalnum())


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        folders.sort()
        yield from (Path(place) / name for name in sorted(files))


def _in(folder: Path) -> Iterator[Path]:
    try:
        yield from sorted(entry for entry in folder.iterdir() if entry.is_file())
    except OSError:
        return
