"""Fixtures of the unit tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.workspace import Workspace

REPOSITORY = Path(__file__).resolve().parents[2]


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """An empty workspace."""
    return Workspace(str(tmp_path / "workspace"))
