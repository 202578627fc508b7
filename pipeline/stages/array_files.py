"""The .npy files of a stage, one per video."""

from __future__ import annotations

from collections.abc import Iterable
from functools import cached_property

from pipeline.workspace import Workspace


class ArrayFiles:
    """A folder of a workspace whose files belong to the rows of a table."""

    def __init__(self, workspace: Workspace, folder: str) -> None:
        self._storage = workspace.storage
        self._folder = folder

    @cached_property
    def _names(self) -> set[str]:
        return set(self._storage.list(self._folder))

    def has(self, path: str) -> bool:
        """Tell whether the file at a row's `path` was there when first asked."""
        return path.removeprefix(f"{self._folder}/") in self._names

    def sweep(self, wanted: Iterable[str]) -> None:
        """Remove every file but those at the paths `wanted`: of settings that are gone, and remains of killed runs."""
        kept = {path.removeprefix(f"{self._folder}/") for path in wanted}
        for name in self._storage.list(self._folder):
            if name not in kept:
                self._storage.remove(f"{self._folder}/{name}")
