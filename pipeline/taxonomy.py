"""The known classes of abnormal events: their names in the wild, and what makes them abnormal, in words.

The classes are data, one YAML file a taxonomy in `datasets/taxonomies`; a file added there is known at once.
"""

from __future__ import annotations

import difflib
import functools
import re
from collections.abc import Iterable
from pathlib import Path, PureWindowsPath

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from pipeline.errors import ConfigError, SetupError
from pipeline.resources import DATASETS

TAXONOMIES = DATASETS / "taxonomies"

AUTO = "auto"
"""The taxonomy setting that accepts the classes of every file in `TAXONOMIES`."""


class ClassEntry(BaseModel):
    """One class of events.

    `phrase` is a noun phrase that completes "the video shows ..."; each of `why` is a clause that completes
    "this is abnormal because ..." (for the class Normal, "this is normal because ...").

    What claims the event in a text, and what only seems to, stands in `claims` and `denials`, in the form that
    `pipeline.quality.claims` tells. Classes of one `family` look alike in words: a fight and an assault. `includes`
    names families of events that one of this class may be made of: a riot of violence; `beside` those that often come
    with it: a robbery with blows.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    aliases: tuple[str, ...] = ()
    phrase: str = Field(min_length=1)
    why: tuple[str, ...] = Field(min_length=1)
    # Not dumped: texts are checked by them, not written, so that a new phrase remakes no answer.
    family: str = Field(default="", exclude=True)
    includes: tuple[str, ...] = Field(default=(), exclude=True)
    beside: tuple[str, ...] = Field(default=(), exclude=True)
    claims: tuple[str, ...] = Field(default=(), exclude=True)
    denials: tuple[str, ...] = Field(default=(), exclude=True)


class Taxonomy(BaseModel):
    """The classes of one dataset, and the patterns by which its file names tell a video's label."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    name_patterns: tuple[re.Pattern[str], ...]
    classes: tuple[ClassEntry, ...] = Field(min_length=1)

    @field_validator("name_patterns")
    @classmethod
    def _captures_label(cls, patterns: tuple[re.Pattern[str], ...]) -> tuple[re.Pattern[str], ...]:
        for pattern in patterns:
            if "label" not in pattern.groupindex:
                raise ValueError(f"{pattern.pattern!r} has no group named label")
        return patterns

    def find(self, category: str) -> ClassEntry | None:
        """Return the class with this name or alias, blind to case, spaces and punctuation."""
        key = _key(category)
        return next((entry for entry in self.classes if key in map(_key, (entry.name, *entry.aliases))), None)

    def label_of(self, stem: str) -> str | None:
        """Return the class name that a file name (without folders) tells."""
        for pattern in self.name_patterns:
            match = pattern.search(stem)
            entry = self.find(match["label"]) if match else None
            if entry is not None:
                return entry.name
        return None


@functools.cache
def load_taxonomies() -> dict[str, Taxonomy]:
    """Read every taxonomy, by name of its file without suffix, in alphabetical order.

    Raises:
        SetupError: naming the file that cannot be read or breaks the shape of `Taxonomy`.
    """
    return {path.stem: _read(path) for path in sorted(TAXONOMIES.glob("*.yaml"))}


def select_taxonomies(name: str = AUTO) -> tuple[Taxonomy, ...]:
    """Return the taxonomies that a `taxonomy` setting accepts: all for `auto`, one for its name.

    Raises:
        ConfigError: no such taxonomy; the message names those there are.
    """
    known = load_taxonomies()
    if name == AUTO:
        return tuple(known.values())
    if name not in known:
        raise ConfigError(f"taxonomy {name!r} is unknown; known are {', '.join([AUTO, *known])}")
    return (known[name],)


def find_class(category: str, taxonomy: str = AUTO) -> ClassEntry | None:
    """Return the class with this name or alias, of the first taxonomy that has it."""
    return _classes_by_key(taxonomy).get(_key(category))


def family_of(category: str) -> str:
    """Return the family of a class, empty where there is no such class or no words are known for it."""
    entry = find_class(category)
    return entry.family if entry else ""


def canonical(category: str, taxonomy: str = AUTO) -> str | None:
    """Return the taxonomy's own name for a category (`B1` and `fight` are `Fighting`), None where unknown."""
    entry = find_class(category, taxonomy)
    return entry.name if entry else None


def describe_class(category: str) -> ClassEntry:
    """Return what can be said of a category: the class of that name, or a general entry for an open one."""
    return find_class(category) or ClassEntry(
        name=category,
        phrase=f"an event of the kind {_spoken(category)}",
        why=(
            "it departs from what is usual in this place",
            "it does not fit the ordinary course of the scene",
            "it is not expected here and deserves attention",
        ),
    )


def label_from_name(name: str) -> str | None:
    """Return the label that a video's name or path tells in the way of a known dataset, else None.

    `Abuse001_x264.mp4` is Abuse, `Normal_Videos_003_x264` is Normal, `..._label_B4-0-0` is Riot.
    """
    # PureWindowsPath splits at both kinds of slashes: lists written on Windows hold backslashes
    stem = PureWindowsPath(name).name
    found = (taxonomy.label_of(stem) for taxonomy in load_taxonomies().values())
    return next((label for label in found if label is not None), None)


def nearest_class(category: str, others: Iterable[str] = (), taxonomy: str = AUTO) -> str:
    """Return the known class name, or the one of `others`, that is spelt most like `category`."""
    names = {_key(n): e.name for t in select_taxonomies(taxonomy) for e in t.classes for n in (e.name, *e.aliases)}
    names |= {_key(other): other for other in others}
    key = _key(category)
    return names[max(sorted(names), key=lambda name: difflib.SequenceMatcher(None, key, name).ratio())]


def _spoken(category: str) -> str:
    """Return `PersonFalling` or `person_falling` as "person falling"."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])|[_-]+", " ", category).strip().lower()


@functools.cache
def _classes_by_key(taxonomy: str) -> dict[str, ClassEntry]:
    classes: dict[str, ClassEntry] = {}
    for entries in select_taxonomies(taxonomy):
        for entry in entries.classes:
            for name in (entry.name, *entry.aliases):
                classes.setdefault(_key(name), entry)
    return classes


def _key(category: str) -> str:
    return "".join(char for char in category.casefold() if char.isalnum())


def _read(path: Path) -> Taxonomy:
    try:
        return Taxonomy.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, ValidationError) as fault:
        raise SetupError(f"{path}: not a taxonomy: {fault}") from None
