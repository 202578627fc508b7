"""Frames of clips on disk: what was decoded once need not be in a later epoch."""

from __future__ import annotations

import logging
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.models.clip_frames import ClipFrames
from pipeline.storage import describe_os_error, write_atomically

logger = logging.getLogger(__name__)


class FrameStore:
    """Frames of clips by number, in a folder that may be shared by processes and outlive them.

    A clip's frames, uint8, are smaller than what a frozen vision tower makes of them: of 16 frames of 320x240, 3.7 MB
    against 5.9 MB in bfloat16 for Qwen2.5-VL-7B and 8.4 MB for a ViT-L/14; so frames are kept, for every family alike.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        """Keep at most so many bytes, those of earlier runs counted in."""
        self._folder = folder
        self._left_bytes = most_bytes - sum(path.stat().st_size for path in folder.glob("*.safetensors"))

    def keep(self, clip: int, frames: ClipFrames) -> None:
        """Write the frames of a clip, unless they are there, or there is no room for them."""
        path = self._path(clip)
        if frames.frames.nbytes > self._left_bytes or path.exists():
            return
        facts = {
            "indices": ",".join(map(str, frames.indices)),
            "clip_frames": str(frames.clip_frames),
            "fps": repr(frames.fps),
            "duration_s": repr(frames.duration_s),
        }
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, save({"frames": frames.frames}, metadata=facts))
        except OSError as fault:
            # Training does without: what is not kept is decoded again.
            logger.warning("%s: no more frames are kept: %s", self._folder, describe_os_error(fault))
            self._left_bytes = 0
        else:
            self._left_bytes -= frames.frames.nbytes

    def find(self, clip: int) -> ClipFrames | None:
        """Return the frames of a clip, None where they are not there or damaged."""
        path = self._path(clip)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:
                facts = file.metadata()
                return ClipFrames(
                    frames=file.get_tensor("frames"),
                    indices=tuple(map(int, facts["indices"].split(","))),
                    clip_frames=int(facts["clip_frames"]),
                    fps=float(facts["fps"]),
                    duration_s=float(facts["duration_s"]),
                )
        except (SafetensorError, OSError) as fault:
            logger.warning("%s: damaged, the clip is decoded again: %s", path, fault)
            path.unlink(missing_ok=True)
            return None

    def _path(self, clip: int) -> Path:
        return self._folder / f"{clip:08d}.safetensors"
