"""Builds that draw no figures, and commands that leave the log alone."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from dataset_fixtures import _no_figures_unasked

__all__ = ["_no_figures_unasked"]


@pytest.fixture
def log_as_before() -> Iterator[None]:
    """Take away the log handler that a command sets up: it writes to a stream that ends with the test."""
    root = logging.getLogger()
    before = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = before[0], before[1]
