"""Clips on disk, as frames or as what the vision tower made of them: done once, it need not be in a later epoch."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, from_numpy

from pipeline.models.clip_frames import ClipFrames
from pipeline.storage import describe_os_error, write_atomically

logger = logging.getLogger(__name__)

_FRAMES = "frames"


def black_frames(shape: Sequence[int]) -> NDArray[np.uint8]:
    """Return frames of a shape in the memory of one byte."""
    return np.lib.stride_tricks.as_strided(np.zeros(1, np.uint8), tuple(shape), (0,) * len(shape))


class FrameStore:
    """Clips by number, in a folder that may be shared by processes and outlive them."""

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Keep at most so many bytes, those of earlier runs counted in."""
        self._folder = folder
        self._left_bytes = most_bytes - sum(path.stat().st_size for path in folder.glob("*.safetensors"))

    def keep(self, number: int, clip: ClipFrames) -> None:
        """Write the frames of a clip, unless they are there, or there is no room for them."""
        self._write(number, clip, {_FRAMES: from_numpy(clip.frames)})

    def keep_features(self, number: int, clip: ClipFrames, features: tuple[Tensor, ...]) -> None:
        """Write what was made of a clip, under the same conditions."""
        self._write(number, clip, {f"{place:02d}": part.contiguous() for place, part in enumerate(features)})

    def find(self, number: int) -> ClipFrames | None:
        """Return the frames of a clip, None where they are not there or damaged."""
        found = self._read(number)
        return None if found is None else found[0]

    def find_features(self, number: int) -> tuple[ClipFrames, tuple[Tensor, ...]] | None:
        """Return a clip, its frames black, and what was made of it; None where it is not there or damaged."""
        return self._read(number)

    def _write(self, number: int, clip: ClipFrames, tensors: Mapping[str, Tensor]) -> None:
        path = self._path(number)
        size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
        if size > self._left_bytes or path.exists():
            return
        facts = {
            "indices": ",".join(map(str, clip.indices)),
            "clip_frames": str(clip.clip_frames),
            "fps": repr(clip.fps),
            "duration_s": repr(clip.duration_s),
            "shape": ",".join(map(str, clip.frames.shape)),
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, save(dict(tensors), metadata=facts))
        except OSError as fault:
            # Training does without: what is not kept is made again.
            logger.warning("%s: no more clips are kept: %s", self._folder, describe_os_error(fault))
            self._left_bytes = 0
        else:
            self._left_bytes -= size

    def _read(self, number: int) -> tuple[ClipFrames, tuple[Tensor, ...]] | None:
        path = self._path(number)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as file:
                facts = file.metadata()
                tensors = {name: file.get_tensor(name) for name in sorted(file.keys())}
        except (SafetensorError, OSError) as fault:
            logger.warning("%s: damaged, the clip is decoded again: %s", path, fault)
            path.unlink(missing_ok=True)
            return None
        frames = tensors.pop(_FRAMES, None)
        shape = tuple(map(int, facts["shape"].split(",")))
        clip = ClipFrames(
            frames=black_frames(shape) if frames is None else frames.numpy(),
            indices=tuple(map(int, facts["indices"].split(","))),
            clip_frames=int(facts["clip_frames"]),
            fps=float(facts["fps"]),
            duration_s=float(facts["duration_s"]),
        )
        return clip, tuple(tensors.values())

    def _path(self, number: int) -> Path:
        return self._folder / f"{number:08d}.safetensors"
