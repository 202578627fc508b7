"""Backends and formats by name: our own and those of other packages, all found by entry points.

A package offers one by a line in its `pyproject.toml`:

    [project.entry-points."holmes.captioners"]
    florence = "acme_vad.florence:make_captioner"

Ours are named plainly (`caption.backend: motion`), those of others with their package (`acme-vad:florence`).
What an entry point leads to:

holmes.captioners           a function of (CaptionConfig, VideoConfig, Workspace) that makes a `Captioner`
holmes.synthesizers         a function of (SynthesizeConfig, Workspace) that makes a `Synthesizer`
holmes.encoders             an `EncoderBackend` (pipeline.features.base)
holmes.annotation_formats   a `Format` (annotation.formats.base)
holmes.export_formats       an `ExportFormat` (pipeline.dataset.formats)
"""

from __future__ import annotations

import difflib
import importlib.metadata
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from pipeline.errors import ConfigError, SetupError

OURS = "holmes-engine"

CAPTIONERS = "holmes.captioners"
SYNTHESIZERS = "holmes.synthesizers"
ENCODERS = "holmes.encoders"
ANNOTATION_FORMATS = "holmes.annotation_formats"
EXPORT_FORMATS = "holmes.export_formats"
GROUPS = (CAPTIONERS, SYNTHESIZERS, ENCODERS, ANNOTATION_FORMATS, EXPORT_FORMATS)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plugin:
    """Something that a package offers, by the name that a configuration gives it."""

    name: str
    package: str
    version: str
    entry_point: importlib.metadata.EntryPoint

    def load(self) -> Any:
        """Import it and return what the entry point leads to.

        Raises:
            SetupError: the package cannot be imported, or holds no such thing.
        """
        try:
            return self.entry_point.load()
        except (ImportError, AttributeError) as fault:
            detail = f"{self.package} {self.version} offers {self.entry_point.value}, which fails: {fault}"
            raise SetupError(f"{self.name}: {detail}") from fault


@cache
def plugins(group: str) -> Mapping[str, Plugin]:
    """Return what is installed of a group by name, ours first, each part in the order of names."""
    found = {}
    for entry in importlib.metadata.entry_points(group=group):
        if entry.dist is None:
            continue
        package = _canonical(entry.dist.name)
        name = entry.name if package == OURS else f"{package}:{entry.name}"
        found[name] = Plugin(name=name, package=package, version=entry.dist.version, entry_point=entry)
    if not any(plugin.package == OURS for plugin in found.values()):
        raise SetupError(f"{OURS} is not installed in this Python, or by an older version: no {group}; run make setup")
    return dict(sorted(found.items(), key=lambda item: (item[1].package != OURS, item[0])))


def find_plugin(group: str, name: str) -> Plugin:
    """Return the plug-in of that name.

    Raises:
        ConfigError: there is none; it names the nearest, and for a package that is not installed says so.
    """
    known = plugins(group)
    package, colon, own = name.rpartition(":")
    plugin = known.get(f"{_canonical(package)}:{own}" if colon else name)
    if plugin is not None:
        return plugin
    if colon and not any(other.package == _canonical(package) for other in known.values()):
        raise ConfigError(f"no installed package {package!r} offers {group}; known are {', '.join(known)}")
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.0)[0]
    raise ConfigError(f"{name!r} is unknown; the nearest is {nearest}, known are {', '.join(known)}")


def _canonical(package: str) -> str:
    """Return a package's name in the one spelling that stands for all that pip takes for the same."""
    return re.sub(r"[-_.]+", "-", package).lower()
