"""What can go wrong when a model of transformers is loaded, and how to say it."""

from __future__ import annotations

from pathlib import Path

from pipeline.errors import SetupError

LOAD_FAULTS = (OSError, ValueError, ImportError, KeyError, RuntimeError)
"""What transformers raises for a model or processor that is not there, is malformed, or wants a package."""


def check_folder(model: str, setting: str) -> None:
    """Refuse a path that leads nowhere: the hub would answer that it makes a bad repository id.

    Raises:
        SetupError: there is no such folder; `setting` is what names the model in the configuration.
    """
    if model.startswith(("/", ".", "~")) and not Path(model).is_dir():
        raise SetupError(f"{setting}={model}: no such folder")


def first_line(fault: BaseException) -> str:
    """Return the first line of a fault's message that says something, or the fault's name."""
    lines = [line.strip() for line in str(fault).splitlines() if line.strip()]
    return lines[0] if lines else type(fault).__name__
