"""Builds that draw no figures, and commands that leave the log alone."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dataset_fixtures import _no_figures_unasked

from flows import cli

__all__ = ["_no_figures_unasked"]


@pytest.fixture
def log_as_before() -> Iterator[None]:
    """Take away the log handler that a command sets up: it writes to a stream that ends with the test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]


@pytest.fixture
def holmes_here(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], log_as_before: None
) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Call the command in this process, which saves the seconds that one of its own takes to start."""

    def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["holmes", *arguments])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, int(ended.value.code or 0), said.out, said.err)

    return run
