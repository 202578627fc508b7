"""Which tests share a process of `make test-slow`, and which begin first."""

from __future__ import annotations

import pytest

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


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Group tests by file for `--dist loadgroup`, and put the longest files in front."""
    for item in items:
        item.add_marker(pytest.mark.xdist_group(_group(item)))
    rank = {name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: rank.get(_group(item), len(rank)))


def _group(item: pytest.Item) -> str:
    return STUDIO if item.path.stem.startswith(STUDIO) else item.path.stem
