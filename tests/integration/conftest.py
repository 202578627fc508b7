"""Servers that several of these tests share: one first start with all its migrations, and copies of its database."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from studio_server import Studio, running_studio


@pytest.fixture(scope="session")
def first_studio(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """A Label Studio server as it is set up by default, which calls no loopback address."""
    with running_studio(tmp_path_factory.mktemp("studio")) as server:
        yield server


@pytest.fixture(scope="session")
def studio(first_studio: Studio) -> Studio:
    """The server of most tests; a module may have another one under this name."""
    return first_studio


@pytest.fixture(scope="session")
def calling_studio(first_studio: Studio, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Studio]:
    """Another server, for the same user and token, whose webhooks may call loopback addresses."""
    folder = tmp_path_factory.mktemp("calling-studio")
    with running_studio(folder, copy_of=first_studio, SSRF_PROTECTION_ENABLED="false") as server:
        yield server
