"""Features that others computed, read from .npy files as they are published for UCF-Crime and XD-Violence.

A video's features lie in one file `<name>.npy` of shape (T, D), (T, crops, D) or (crops, T, D), or in a file per crop
of shape (T, D): `<name>__0.npy` and so on, where UCF-Crime writes the first crop as `<name>.npy` (10 crops) and
XD-Violence all of them with a number (5 crops). <name> is the video's id or the stem of its file; `_x264` may be
missing or followed by `_i3d`, as some archives have it. The snippets are the features' own: usually 16 frames each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.config import FeaturesConfig
from pipeline.errors import ConfigError, RecordError, SetupError
from pipeline.features.base import (
    EncodedVideo,
    EncoderBackend,
    FeatureJob,
    FeatureStream,
    Floats,
    num_snippets,
    write_features,
)
from pipeline.records import Reason, Video, digest

_CROP = re.compile(r"^(?P<name>.+?)(?:__(?P<crop>\d+))?$")
_MOST_CROPS = 32
_SLACK = 0.1  # of the expected number of snippets: extractors treat the last frames of a video differently


class NpyEncoder:
    """Takes over features from folders."""

    name = "npy"

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = [Path(folder) for folder in folders]
        self._files: dict[str, dict[int, Path]] | None = None

    def identity(self) -> Mapping[str, Any]:
        """See `FeatureEncoder.identity`. Files count by name, size and time of change."""
        files = sorted(
            (path.name, path.stat().st_size, path.stat().st_mtime_ns)
            for crops in self._by_name().values()
            for path in crops.values()
        )
        return {"encoder": self.name, "version": 1, "files": digest(files)}

    def encode(self, jobs: Iterable[FeatureJob]) -> Iterator[EncodedVideo | RecordError]:
        for job in jobs:
            try:
                yield self._take_over(job)
            except RecordError as fault:
                yield fault

    def _take_over(self, job: FeatureJob) -> EncodedVideo:
        video = job.video
        crops = next((found for name in _names(video) if (found := self._by_name().get(name))), None)
        if crops is None:
            raise RecordError(Reason.NO_FEATURES, f"{video.video_id}: no .npy of that name in features.folders")
        expected = num_snippets(video.num_frames, job.stride_frames)
        features = _stacked([_read(crops[crop], expected) for crop in sorted(crops)], video.video_id)
        count = features.shape[1]
        if abs(count - expected) > max(2, _SLACK * expected):
            raise RecordError(
                Reason.BAD_FEATURES,
                f"{video.video_id}: {count} snippets; {video.num_frames} frames in steps of {job.stride_frames} are "
                f"{expected} (features.stride_frames)",
            )
        # Fitted at the end: the last snippet is repeated, or snippets beyond the video are left out.
        fitted = features[:, np.minimum(np.arange(expected), count - 1)]
        return write_features(job.path, expected, video.video_id, [fitted])

    def _by_name(self) -> dict[str, dict[int, Path]]:
        if self._files is None:
            self._files = {}
            for folder in self._folders:
                if not folder.is_dir():
                    raise ConfigError(f"features.folders: {folder}: no such folder")
                for path in sorted(folder.rglob("*.npy")):
                    match = _CROP.match(path.stem)
                    if match:
                        name = _plain(match["name"])
                        self._files.setdefault(name, {})[int(match["crop"] or 0)] = path
        return self._files


def _names(video: Video) -> list[str]:
    return [_plain(video.video_id), _plain(Path(video.path).stem)]


def _plain(name: str) -> str:
    return name.removesuffix("_i3d").removesuffix("_x264")


def _read(path: Path, expected: int) -> Floats:
    """Return one file's features, shape (crops, T, D)."""
    try:
        values: NDArray[Any] = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as fault:
        raise RecordError(Reason.BAD_FEATURES, f"{path}: {fault}") from None
    if values.dtype.kind not in "fiu" or values.ndim not in (2, 3) or not values.size:
        raise RecordError(
            Reason.BAD_FEATURES, f"{path}: {values.dtype} of shape {values.shape}; expected (T, D) or (T, crops, D)"
        )
    floats: Floats = values.astype(np.float32, copy=False)
    if values.ndim == 2:
        return floats[None]
    # Which of the first two axes is time is told by the length of the video; crops are few.
    if values.shape[1] <= _MOST_CROPS and abs(values.shape[0] - expected) <= abs(values.shape[1] - expected):
        return floats.swapaxes(0, 1)
    return floats


def _stacked(parts: list[Floats], video_id: str) -> Floats:
    shapes = {part.shape[1:] for part in parts}
    if len(shapes) > 1:
        raise RecordError(Reason.BAD_FEATURES, f"{video_id}: crops of different shapes: {sorted(shapes)}")
    return np.concatenate(parts)


def _no_stream(_: FeaturesConfig) -> FeatureStream:
    raise SetupError("features.encoder=npy: features that others computed cannot be computed for a new video")


NPY = EncoderBackend(make_encoder=lambda config, _: NpyEncoder(config.folders), make_stream=_no_stream)
