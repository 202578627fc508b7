"""Models that come with the engine, by name."""

from __future__ import annotations

from pathlib import Path

HOLMES_TINY = "holmes-tiny"
"""A video MLLM of a few million parameters that describes the generated sample world."""

_FOLDERS = {HOLMES_TINY: Path(__file__).parents[1] / "holmes_tiny"}


def find_model(name: str) -> str:
    """Return the folder of a bundled model; any other name, an id or a path, as it is."""
    folder = _FOLDERS.get(name)
    return name if folder is None else str(folder)
