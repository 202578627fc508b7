"""Checkpoints of a training: one file each, there in full or not at all."""

from __future__ import annotations

import io
import logging
import pickle
import re
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import SetupError
from pipeline.storage import TEMPORARY, describe_os_error, write_atomically

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d{8})\.pt")


class Checkpoints:
    """The newest states of one training, in a folder of their own."""

    def __init__(self, folder: Path, keep: int, *, is_behind: bool = False) -> None:
        """With `is_behind` a state is copied to the host, and written while the training goes on."""
        self._folder = folder
        self._keep = keep
        self._thread = ThreadPoolExecutor(1, "checkpoint") if is_behind else None
        self._pending: Future[None] | None = None

    def steps(self) -> list[int]:
        """Return the steps that there is a checkpoint of, in order, after whatever is being written."""
        if self._pending is not None:
            wait([self._pending])
        return self._known()

    def _known(self) -> list[int]:
        if not self._folder.is_dir():
            return []
        return sorted(int(match[1]) for path in self._folder.iterdir() if (match := _NAME.fullmatch(path.name)))

    def write(self, step: int, state: dict[str, Any]) -> None:
        """Keep a state, then remove those that are too many.

        Raises:
            SetupError: it cannot be written, or the one before it could not; the checkpoints before that stay.
        """
        self.finish()
        if self._thread is None:
            self._write(step, state)
        else:
            # The training changes its tensors in place.
            self._pending = self._thread.submit(self._write, step, _on_host(state))

    def finish(self) -> None:
        """Wait for what is being written. Raises: SetupError, it cannot be."""
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def _write(self, step: int, state: dict[str, Any]) -> None:
        buffer = io.BytesIO()
        torch.save(state, buffer)
        path = self._path(step)
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            for remains in self._folder.glob(f"{TEMPORARY}*"):
                remains.unlink()
            write_atomically(path, buffer.getbuffer())
        except OSError as fault:
            kept = f"the one of step {known[-1]} stays" if (known := self._known()) else "there is none before it"
            raise SetupError(f"{path}: checkpoint not written, {kept}: {describe_os_error(fault)}") from None
        for old in self._known()[: -self._keep]:
            self._path(old).unlink()

    def newest(self, device: str) -> dict[str, Any] | None:
        """Return the newest state that can be read, None where there is none."""
        # torch saves from a processor by its number, and cannot load to one: a second machine's is `cpu:0`
        where = "cpu" if torch.device(device).type == "cpu" else device
        for step in reversed(self.steps()):
            try:
                state: dict[str, Any] = torch.load(self._path(step), map_location=where, weights_only=True)
            except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as fault:
                logger.warning("%s: damaged, the one before it is taken: %s", self._path(step), fault)
            else:
                return state
        return None

    def _path(self, step: int) -> Path:
        return self._folder / f"step-{step:08d}.pt"


def _on_host(value: Any) -> Any:
    """Return a state with copies of its tensors in the host's memory."""
    if isinstance(value, torch.Tensor):
        return value.detach().to("cpu", copy=True)
    if isinstance(value, dict):
        return {key: _on_host(part) for key, part in value.items()}
    return [_on_host(part) for part in value] if isinstance(value, list) else value
