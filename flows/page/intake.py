"""Which videos the page takes, and where it keeps them: confined to one folder, measured in a process of their own."""

from __future__ import annotations

import logging
import shutil
import threading
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from pipeline.errors import DataError, RecordError
from pipeline.stages.listing import VIDEO_SUFFIXES
from pipeline.video.cut import ClipSpan, cut_clips
from pipeline.video.pool import VideoPool
from pipeline.video.probe import VideoFacts, probe

logger = logging.getLogger(__name__)

MIB = 1 << 20

_PROBE_TIMEOUT_S = 60.0
_PREVIEW_TIMEOUT_S = 1800.0
_MEMORY_MB = 2048
# What Chromium, Firefox and Safari all play; anything else is shown as an H.264 copy.
_SHOWN_CODECS = frozenset({"h264", "vp8", "vp9", "av1"})
_SHOWN_SUFFIXES = frozenset({".mp4", ".m4v", ".webm", ".mov"})

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a video may be at most: the size of its file in MiB, and its length."""

    max_mb: int = 500
    max_minutes: float = 60.0

    def check_file(self, name: str, num_bytes: int) -> None:
        """Raise DataError for a file that is too large, or whose name is not that of a video."""
        if Path(name).suffix.lower() not in VIDEO_SUFFIXES:
            raise DataError(f"{name}: not a video file that can be read here; take MP4, MOV, MKV, WebM or AVI")
        if num_bytes > self.max_mb * MIB:
            raise DataError(f"{name}: {num_bytes / MIB:.1f} MB are more than the {self.max_mb} MB that are taken here")


@dataclass(frozen=True, slots=True, kw_only=True)
class TakenVideo:
    """A video that has passed.

    Attributes:
        path: the file that is analysed.
        shown: the file that a browser plays; the same one wherever it can.
        name: how the person called it; never part of a path.
    """

    path: Path
    shown: Path
    name: str
    facts: VideoFacts


class Intake:
    """Takes uploads into a folder of their own each below `folder`, and forgets them with the visit they came with."""

    def __init__(self, folder: Path, limits: Limits) -> None:
        self.limits = limits
        self._folder = folder
        self._visits: dict[str, Path] = {}
        self._lock = threading.Lock()

    def take_upload(self, visit: str, uploaded: Path, name: str) -> TakenVideo:
        """Move an uploaded file into the folder of a visit and measure it; the visit's earlier video is removed.

        Raises:
            DataError: it breaks a limit or is no video; the message can be shown to the person, and nothing is kept.
        """
        folder = self._renewed(visit)
        path = folder / f"video{Path(name).suffix.lower()}"
        try:
            shutil.move(uploaded, path)
        except FileNotFoundError:
            raise DataError(f"{name}: the upload is gone; please upload it again") from None
        try:
            return self._checked(path, name, folder)
        except DataError:
            self.release(visit)
            raise

    def take_example(self, visit: str, path: Path, name: str) -> TakenVideo:
        """Measure a file of the offered folder for a visit; the file itself stays where it is.

        Raises:
            DataError: as `take_upload`.
        """
        return self._checked(path, name, self._renewed(visit))

    def folder_of(self, visit: str) -> Path | None:
        """Return where the files of a visit are, None where it has none."""
        with self._lock:
            return self._visits.get(visit)

    def release(self, visit: str) -> None:
        """Remove the files of a visit."""
        with self._lock:
            folder = self._visits.pop(visit, None)
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)

    def _renewed(self, visit: str) -> Path:
        self.release(visit)
        # A name that nobody can guess: whoever knows it may watch the video.
        folder = self._folder / uuid.uuid4().hex
        folder.mkdir(mode=0o700)
        with self._lock:
            self._visits[visit] = folder
        return folder

    def _checked(self, path: Path, name: str, folder: Path) -> TakenVideo:
        self.limits.check_file(name, path.stat().st_size)
        facts = measured(path, name, self.limits)
        return TakenVideo(path=path, shown=_shown(path, facts, folder), name=name, facts=facts)


def measured(path: Path, name: str, limits: Limits) -> VideoFacts:
    """Measure a file in a process of its own.

    Raises:
        DataError: it is no video, or too long; the message can be shown to the person.
    """
    facts = apart(probe, str(path), _PROBE_TIMEOUT_S)
    if isinstance(facts, RecordError):
        logger.info("%s refused: %s", path, facts)
        raise DataError(f"{name}: {named(facts.detail, path, name)}")
    minutes = facts.duration_s / 60
    if minutes > limits.max_minutes:
        raise DataError(f"{name}: {minutes:.1f} minutes are more than the {limits.max_minutes:g} that are taken here")
    return facts


def named(message: str, path: Path, name: str) -> str:
    """Return a message with the name that the person knows in the place of the file's path."""
    return message.removeprefix(f"{path}: ").replace(str(path), name)


def apart(work: Callable[[str], Result], path: str, timeout_s: float) -> Result | RecordError:
    """Return what `work` makes of a file in a process of its own, which may hang or crash."""
    with VideoPool(1, timeout_s, _MEMORY_MB) as pool:
        [made] = pool.map(work, [path], timeout_s=timeout_s)
    return made


def _shown(path: Path, facts: VideoFacts, folder: Path) -> Path:
    if facts.codec in _SHOWN_CODECS and path.suffix.lower() in _SHOWN_SUFFIXES:
        return path
    preview = partial(_write_preview, num_frames=facts.num_frames, out=folder / "shown.mp4")
    made = apart(preview, str(path), _PREVIEW_TIMEOUT_S)
    if isinstance(made, RecordError):
        # The frames may still be analysed: the player says that it cannot show them.
        logger.warning("%s: no copy that browsers play: %s", path, made)
        return path
    return made


def _write_preview(path: str, num_frames: int, out: Path) -> Path:
    """Write a whole video as H.264, at the very times that it has."""
    [made] = cut_clips(path, [ClipSpan(0, num_frames, out)])
    if isinstance(made, RecordError):
        raise made
    return made
