"""The sample world's tables, read from `datasets/sample`."""

from __future__ import annotations

from typing import TypeVar

import yaml
from pydantic import TypeAdapter

from pipeline.resources import DATASETS
from pipeline.sample.geometry import Colour

_T = TypeVar("_T")


def load(name: str, shape: type[_T]) -> _T:
    """Return the values of `<name>.yaml`, in the given shape."""
    text = (DATASETS / "sample" / f"{name}.yaml").read_text(encoding="utf-8")
    return TypeAdapter(shape).validate_python(yaml.safe_load(text))


COLOURS = load("colours", dict[str, dict[str, Colour]])
"""Those that captions name: of clothes, and of paints of vehicles."""

PALETTE = load("palette", dict[str, tuple[Colour, ...]])
"""Those without a name."""
