"""Which tests share a process of `make test-slow`, and which begin first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadFileScheduling

STUDIO = "test_label_studio"
"""The files whose tests share one Label Studio server, which takes a minute to start."""

LONG = (
    STUDIO,
    "test_gpu_day",
    "test_prefect_flow",
    "test_synthesis_at_scale",
    "test_processes",
    "test_demo",
    "test_notebook",
    "test_lost_machine",
    "test_installed",
)
"""The files that take a minute and more, the longest first: none of them is then begun when all others are through."""


class ByFile(LoadFileScheduling):
    """Gives each process whole files, and those of `STUDIO` to one of them."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(Path(super()._split_scope(nodeid)))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile | None:
    """Share out files where that is asked for."""
    return ByFile(config, log) if config.getoption("dist") == "loadfile" else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest files in front."""
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(_group(item.path), len(rank)))


def _group(path: Path) -> str:
    return STUDIO if path.stem.startswith(STUDIO) else path.stem
