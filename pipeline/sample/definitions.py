"""The sample world's tables, read from `datasets/sample`."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import yaml
from pydantic import TypeAdapter

import pipeline
from pipeline.sample.geometry import Colour

_FOLDER = Path(pipeline.__file__).resolve().parents[1] / "datasets" / "sample"
_T = TypeVar("_T")


def load(name: str, shape: type[_T]) -> _T:
    """Return the values of `<name>.yaml`, in the given shape."""
    return TypeAdapter(shape).validate_python(yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8")))


COLOURS = load("colours", dict[str, dict[str, Colour]])
"""Those that captions name: of clothes, and of paints of vehicles."""

PALETTE = load("palette", dict[str, tuple[Colour, ...]])
"""Those without a name."""
